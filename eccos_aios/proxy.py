"""The proxy between this machine and an address, as the environment names it.

httpx reads the environment too, but sends loopback addresses to the proxy, knows no networks in ``no_proxy``
(``10.0.0.0/8``), and shows a proxy's password in its errors.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import re
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from eccos_aios.errors import ABSENT, ConfigError

DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
AUTHENTICATION_REQUIRED = 407
ALLOWED = "must be the address of a proxy, http://HOST:PORT or http://NAME:PASSWORD@HOST:PORT"


@dataclass(frozen=True)
class Proxy:
    """A proxy.

    Attributes
    ----------
    place : str
        ``host:port``, for messages.
    url : str
        With its credentials; never shown.
    """

    place: str
    url: str = field(repr=False)

    def explain(self, status: int) -> str:
        """What to do about a status with which the proxy itself answers."""
        if status != AUTHENTICATION_REQUIRED:
            return f"the proxy {self.place} refuses the connection with status {status}"
        if "@" in self.url:
            return f"the proxy {self.place} refuses the name and password that it was given (407)"
        return (
            f"the proxy {self.place} asks for a name and a password (407): "
            f"write them as http://NAME:PASSWORD@{self.place}"
        )


def proxy_of(url: str) -> Proxy | None:
    """The proxy for an address; None if it is reached directly.

    ``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy`` are read in both spellings. An entry of
    ``no_proxy`` is a name with all names below it, an address, a network (``10.0.0.0/8``), each with or
    without a port, or ``*``. Loopback addresses are never reached through a proxy.

    Raises
    ------
    ConfigError
        The value is not the address of a proxy, or of one that needs a package that is not installed.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    named = urllib.request.getproxies_environment()
    key = parts.scheme if named.get(parts.scheme) else "all"
    given = named.get(key, "").strip()
    if not given or _is_loopback(host) or _is_excepted(host, port, named.get("no", "")):
        return None
    return _parse(given, f"{key}_proxy")


def _parse(given: str, variable: str) -> Proxy:
    address = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if host is None or parts.scheme not in DEFAULT_PORTS:
        raise ConfigError("environment", variable, _without_credentials(given), ALLOWED)
    if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ConfigError("environment", variable, ABSENT, "a SOCKS proxy needs pip install 'httpx[socks]'")
    return Proxy(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", address)


def _without_credentials(given: str) -> str:
    """All but the part before the last ``@``: a password may hold any sign where it is not well-formed."""
    _, at, place = given.rpartition("@")
    return f"…@{place}" if at else given


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host.lower().rstrip(".") == "localhost" or (address is not None and address.is_loopback)


def _is_excepted(host: str, port: int, no_proxy: str) -> bool:
    host = host.lower().strip("[]").rstrip(".")
    return any(_matches(entry.lower(), host, port) for entry in re.split(r"[,\s]+", no_proxy) if entry)


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
