"""The live page: static files, served by the kernel. uPlot draws its charts; its licence is beside it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from eccos_aios.hooks.asgi import HttpAnswer, Scope, route_path

# By the path below /eccos/: the file and its media type.
PAGE_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "uplot.js": ("uPlot.iife.min.js", "text/javascript; charset=utf-8"),
    "uplot.css": ("uPlot.min.css", "text/css; charset=utf-8"),
}
PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


def page_file(scope: Scope, name: str) -> HttpAnswer:
    """The answer to a request for a file of the page, one of `PAGE_FILES`."""
    if scope["method"] not in ("GET", "HEAD"):
        return HttpAnswer(405, {"error": "only GET, HEAD"}, {"allow": "GET, HEAD"})
    if name == "" and not route_path(scope).endswith("/"):
        return HttpAnswer(308, b"", {"location": "eccos/"})  # the page's links are relative to it
    file, media_type = PAGE_FILES[name]
    return HttpAnswer(200, _content(file), PAGE_HEADERS, media_type)


@cache
def _content(file: str) -> bytes:
    return files(__package__).joinpath(file).read_bytes()
