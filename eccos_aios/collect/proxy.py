"""The proxy between this machine and an address, as the environment names it."""

from __future__ import annotations

import base64
import ipaddress
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from eccos_aios.errors import ConfigError

DEFAULT_PROXY_PORT = 80
DEFAULT_PORTS = {"http": 80, "https": 443}
AUTHENTICATION_REQUIRED = 407
REFUSED_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")  # what http.client says of a CONNECT


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy.

    Attributes
    ----------
    host : str
    port : int
    headers : dict of str to str
        Its credentials; never shown.
    """

    host: str
    port: int
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    def why_refused(self, status: int) -> str:
        """What to do about a proxy that answers with a status of its own."""
        place = f"the proxy {self.host}:{self.port}"
        if status != AUTHENTICATION_REQUIRED:
            return f"{place} refuses the connection with status {status}"
        given = "other credentials than it was given" if self.headers else "a name and a password"
        return f"{place} asks for {given} (407): write them as http://NAME:PASSWORD@{self.host}:{self.port}"

    def why_no_tunnel(self, error: BaseException) -> str | None:
        """The same of a tunnel that was not opened; None where the error is another."""
        found = REFUSED_TUNNEL.search(str(error))
        return self.why_refused(int(found[1])) if found else None


def proxy_of(scheme: str, host: str, port: int | None) -> Proxy | None:
    """The proxy for an address; None where it is reached directly.

    ``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy`` are read in both spellings. An entry of
    ``no_proxy`` is a name with all below it, an address, a network (``10.0.0.0/8``), each with or without
    a port, or ``*``. This machine itself is never asked through a proxy.

    Raises
    ------
    ConfigError
        The value is no address of an HTTP proxy.
    """
    named = urllib.request.getproxies_environment()
    key = scheme if named.get(scheme) else "all"
    given = named.get(key, "").strip()
    port = port or DEFAULT_PORTS[scheme]
    if not given or _is_local(host) or _is_excepted(host, port, named.get("no", "")):
        return None
    address = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(address)
        place = parts.hostname, parts.port or DEFAULT_PROXY_PORT
    except ValueError:
        parts, place = urlsplit(""), (None, 0)
    if parts.scheme != "http" or place[0] is None:
        allowed = "must be the address of an HTTP proxy, http://HOST:PORT or http://NAME:PASSWORD@HOST:PORT"
        raise ConfigError("environment", f"{key}_proxy", given, allowed)
    return Proxy(place[0], place[1], _credentials(parts.username, parts.password))


def _credentials(name: str | None, password: str | None) -> dict[str, str]:
    if name is None:
        return {}
    pair = f"{unquote(name)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _is_local(host: str) -> bool:
    address = _address(host)
    return host.lower().rstrip(".") == "localhost" or (address is not None and address.is_loopback)


def _is_excepted(host: str, port: int, no_proxy: str) -> bool:
    host = host.lower().strip("[]").rstrip(".")
    return any(_matches(entry, host, port) for entry in _entries(no_proxy))


def _entries(no_proxy: str) -> Iterator[str]:
    return (entry.lower() for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal() and ("]" in name or ":" not in name):
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    address = _address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    suffix = entry.removeprefix("*").strip(".")
    return bool(suffix) and (host == suffix or host.endswith(f".{suffix}"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
