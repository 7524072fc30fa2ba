"""Proxies as the environment names them, and keys that stay out of messages."""

from __future__ import annotations

import base64
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from eccos_aios.collect.client import AttemptError, Client
from eccos_aios.collect.endpoint import Endpoint
from eccos_aios.collect.proxy import Proxy, proxy_of
from eccos_aios.errors import ConfigError, without_secrets

PAIR = base64.b64encode(b"someone:p@ss").decode()


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class RefusingProxy:
    """Answers every request with one status, and remembers their heads."""

    def __init__(self, status: str) -> None:
        self.heads: list[str] = []
        self._status = status
        self._ear = socket.create_server(("127.0.0.1", 0))
        self.port = self._ear.getsockname()[1]
        threading.Thread(target=self._serve, name="refusing-proxy", daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._ear.accept()
            except OSError:
                return
            with peer:
                head = b""
                while b"\r\n\r\n" not in head and (more := peer.recv(4096)):
                    head += more
                self.heads.append(head.decode())
                peer.sendall(f"HTTP/1.1 {self._status}\r\nContent-Length: 0\r\n\r\n".encode())

    def close(self) -> None:
        self._ear.close()


@pytest.fixture(params=["407 Proxy Authentication Required", "403 Forbidden"])
def refusing(request: pytest.FixtureRequest) -> Iterator[RefusingProxy]:
    proxy = RefusingProxy(request.param)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_gets_its_credentials_and_a_refusal_is_named(
    monkeypatch: pytest.MonkeyPatch, refusing: RefusingProxy, scheme: str
) -> None:
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://someone:p%40ss@127.0.0.1:{refusing.port}")
    client = Client(Endpoint(f"{scheme}://llm.example.org/v1", "m", "sk-secret-key"))
    with pytest.raises(AttemptError) as raised:
        client.complete({})
    client.close()
    assert f"Proxy-Authorization: Basic {PAIR}" in refusing.heads[0]
    if scheme == "https":
        assert refusing.heads[0].startswith("CONNECT llm.example.org:443")
        assert "sk-secret-key" not in refusing.heads[0]
        assert f"127.0.0.1:{refusing.port}" in str(raised.value)
    else:
        assert refusing.heads[0].startswith("POST http://llm.example.org/v1/chat/completions")
    assert ("407" in str(raised.value)) or ("403" in str(raised.value))
    assert "p@ss" not in str(raised.value)


@pytest.mark.parametrize(
    ("variable", "value", "found"),
    [
        ("https_proxy", "http://proxy:3128", Proxy("proxy", 3128)),
        ("HTTPS_PROXY", "proxy:3128", Proxy("proxy", 3128)),
        ("all_proxy", "http://proxy", Proxy("proxy", 80)),
        ("http_proxy", "http://proxy:3128", None),
    ],
)
def test_the_environment_names_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, found: Proxy | None
) -> None:
    monkeypatch.setenv(variable, value)
    assert proxy_of("https", "llm.example.org", None) == found


@pytest.mark.parametrize(
    ("no_proxy", "host", "excepted"),
    [
        ("*", "llm.example.org", True),
        ("example.org", "llm.example.org", True),
        (".example.org", "llm.example.org", True),
        ("*.example.org", "llm.example.org", True),
        ("ample.org", "llm.example.org", False),
        ("llm.example.org:443", "llm.example.org", True),
        ("llm.example.org:8443", "llm.example.org", False),
        ("10.0.0.0/8, other", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("[fd00::1]:443", "fd00::1", True),
        ("", "127.0.0.1", True),
        ("", "localhost", True),
        ("", "llm.example.org", False),
    ],
)
def test_no_proxy_is_read_whole(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, host: str, excepted: bool
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_of("https", host, None) is None) is excepted


@pytest.mark.parametrize(
    "value", ["socks5://me:secret@proxy:1080", "https://me:secret@proxy", "http://me:secret@h:x"]
)
def test_what_is_no_http_proxy_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("https_proxy", value)
    with pytest.raises(ConfigError, match="https_proxy") as raised:
        proxy_of("https", "llm.example.org", None)
    assert "secret" not in str(raised.value)


def test_a_message_holds_no_password_and_no_key() -> None:
    shown = without_secrets("http://me:secret@host/v1 with sk-proj-abcdefgh12345678")
    assert shown == "http://…@host/v1 with sk-…"
