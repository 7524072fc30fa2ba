"""Authorisation of requests to the ``/eccos`` endpoints, by their peer and headers only."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from eccos_aios.hooks.asgi import HttpAnswer, Scope, headers_of

WILDCARDS = frozenset({"", "*", "0.0.0.0", "::", "[::]"})  # of a server's host: they name no address
LONGEST_SHOWN = 80  # characters of a header that an answer shows
DEFAULT_PORTS = {"http": 80, "https": 443}
REMEDY = "set scheduler.eccos.token and send it as Authorization: Bearer TOKEN"

# Headers by which proxies name the client that they forward for; there is no complete list. A request from
# this machine has no reason to carry any of these.
FORWARDING = re.compile(
    r"forward"
    r"|(^|-)(via|prox(y|ied)[a-z]*)(-|$)"
    r"|(^|-)[a-z]*(ip|addr|address)s?$"
    r"|(^|-)(real|client|remote|source|origin(al|ating)?|cluster|connecting|end-?user|peer)-(ip|host|addr|"
    r"address|port|for|uri|url|proto|scheme|user)(-|$)"
    r"|^(cf|cdn|cdn-loop|fastly|fly|akamai|ali|incap|sucuri|tailscale|ngrok|front-end-https|ssl-client)(-|$)"
    r"|^x-(envoy|vercel|nf|amz|amzn|azure|appengine|appgw|goog|arr|original|originating|rewrite|real|host|"
    r"scheme|url-scheme|ssl|server|http-host-override|coming-from|traefik|cloud|cdn|edge|accel|varnish|"
    r"haproxy|squid|request-start|queue-start)(-|$)"
)


def refusal(scope: Scope, token: str | None, hosts: Collection[str] = ()) -> HttpAnswer | None:
    """The refusal of a request; None if it is authorised.

    With a configured token, a request that carries it is authorised. Without one, the request must come
    from this machine, not from a page of another origin, and through no proxy: a proxy's requests come over
    loopback too, and a page can send requests from its visitor's browser (by DNS rebinding, which the Host
    header reveals).

    Parameters
    ----------
    scope : mapping
        The request, by the ASGI protocol.
    token : str or None
        The configured one.
    hosts : collection of str
        Names, beside those of loopback, that the Host header may have.
    """
    headers = list(headers_of(scope))
    if token is not None:
        if _has_token(scope, token):
            return None
        reason = "this needs the token of scheduler.eccos.token, sent as Authorization: Bearer TOKEN"
        return HttpAnswer(401, {"error": reason}, {"www-authenticate": 'Bearer realm="eccos"'})
    fault = _fault(scope, headers, hosts)
    return None if fault is None else HttpAnswer(403, {"error": f"{fault}: {REMEDY}"})


def _has_token(scope: Scope, token: str) -> bool:
    given = [bytes(value) for name, value in scope["headers"] if bytes(name).lower() == b"authorization"]
    if len(given) != 1:
        return False
    scheme, _, sent = given[0].strip().partition(b" ")
    wanted = token.strip().encode("utf-8", "surrogatepass")
    return hmac.compare_digest(sent.strip(), wanted) and scheme.lower() == b"bearer"


def _fault(scope: Scope, headers: list[tuple[str, str]], hosts: Collection[str]) -> str | None:
    client = scope.get("client")
    peer = str(client[0]) if client else None
    if not is_loopback(peer):
        return f"without a token only this machine may ask, and this comes from {_shown(peer or 'elsewhere')}"
    for name, _ in headers:
        if FORWARDING.search(name.replace("_", "-")):
            return f"without a token no proxy may ask, and this carries the header {_shown(name)}"
    named = [value for name, value in headers if name == "host"]
    host = _host_of(named[0]) if len(named) == 1 else None
    if host is None or not (host == "localhost" or is_loopback(host) or host in hosts):
        found = _shown(named[0]) if named else "nothing"
        return f"without a token the Host header must name this machine, and this says {found}"
    sites = [value.lower() for name, value in headers if name == "sec-fetch-site"]
    origins = [value for name, value in headers if name == "origin"]
    if any(site not in ("same-origin", "none") for site in sites) or not all(
        _is_same(origin, named[0], str(scope.get("scheme", "http"))) for origin in origins
    ):
        return "without a token no page of another origin may ask"
    return None


def is_loopback(host: str | None) -> bool:
    """Whether it is a loopback address: 127.0.0.0/8, ::1, or an IPv4 one mapped to IPv6."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and bool(mapped.is_loopback))


def host_names(configured: Any) -> frozenset[str]:
    """The host names of a server by its configured host; none if that is a wildcard."""
    name = str(configured or "").strip().lower().strip("[]")
    return frozenset() if name in WILDCARDS else frozenset({name})


def _host_of(header: str) -> str | None:
    """The name or address in a Host header; None if it is malformed."""
    found = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?", header.lower())
    return None if found is None else found[1] or found[2]


def _is_same(origin: str, host: str, scheme: str) -> bool:
    """Whether an Origin header names the address that the request goes to."""
    try:
        asked, given = urlsplit(f"{scheme}://{host.lower()}"), urlsplit(origin.lower())
        ports = [parts.port or DEFAULT_PORTS.get(parts.scheme) for parts in (asked, given)]
    except ValueError:
        return False
    plain = not (given.path or given.query or given.fragment or "@" in given.netloc)
    return plain and (asked.scheme, asked.hostname) == (given.scheme, given.hostname) and ports[0] == ports[1]


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…")
