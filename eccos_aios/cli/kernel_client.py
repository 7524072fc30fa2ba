"""KernelClient: asks a kernel's ``/eccos`` endpoints, with the standard library alone."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from eccos_aios.errors import EccosError

DEFAULT_TOKEN_ENV = "ECCOS_TOKEN"
TIMEOUT_S = 5.0
LONGEST_ANSWER = 16 * 1024 * 1024  # bytes
LOCAL = ("localhost", "127.0.0.1", "::1")


class KernelUnreachableError(EccosError):
    """The kernel does not answer; it may later."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would carry the token elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


class KernelClient:
    """Reads what a kernel reports.

    Parameters
    ----------
    url : str
        Of the kernel, such as ``http://127.0.0.1:8000``.
    token_env : str, optional
        Name of the environment variable that holds the token. Default: `DEFAULT_TOKEN_ENV`, which may be
        unset.

    Raises
    ------
    EccosError
        The address is not one of HTTP, or the named variable is not set.
    """

    def __init__(self, url: str, token_env: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EccosError(f"--url: {url!r}: must be http://HOST:PORT or https://HOST:PORT")
        self.url = url.rstrip("/")
        token = os.environ.get(token_env or DEFAULT_TOKEN_ENV, "").strip()
        if token_env and not token:
            raise EccosError(f"--token-env: {token_env!r}: this environment variable is not set")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        # A kernel refuses, without a token, what comes through a proxy.
        proxies = [urllib.request.ProxyHandler({})] if parts.hostname in LOCAL else []
        self._opener = urllib.request.build_opener(_NoRedirect, *proxies)

    def status(self) -> dict[str, Any]:
        """The body of ``GET /eccos/status``; errors as `get`."""
        return self.get("status")

    def decisions(self, limit: int) -> list[dict[str, Any]]:
        """The last decisions, the newest first; errors as `get`."""
        found = self.get(f"decisions?limit={limit}").get("decisions", [])
        return [each for each in found if isinstance(each, dict)]

    def get(self, endpoint: str) -> dict[str, Any]:
        """The body of an endpoint.

        Raises
        ------
        KernelUnreachableError
            No answer, or one that says that it cannot serve now (status 5xx).
        EccosError
            The kernel refuses, or something else answers there.
        """
        address = f"{self.url}/eccos/{endpoint}"
        try:
            request = urllib.request.Request(address, headers=self._headers)
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                body = json.loads(answer.read(LONGEST_ANSWER))
        except urllib.error.HTTPError as error:
            kind = KernelUnreachableError if error.code >= 500 else EccosError
            raise kind(f"{address}: status {error.code}: {_reason(error)}") from error
        except json.JSONDecodeError as error:
            raise EccosError(f"{address}: what answers there is not ECCOS") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise KernelUnreachableError(f"{address}: no answer: {reason}") from error
        if not isinstance(body, dict):
            raise EccosError(f"{address}: what answers there is not ECCOS")
        return body


def _reason(error: urllib.error.HTTPError) -> str:
    """What the kernel says about an error."""
    try:
        said = json.loads(error.read(LONGEST_ANSWER))["error"]
    except (OSError, ValueError, KeyError, TypeError):
        return "there is no ECCOS" if error.code == 404 else error.reason
    return str(said)
