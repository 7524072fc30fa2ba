"""Which proxy is used, what it is sent, and what messages say of it: never a key or a password."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from eccos_aios.cli.main import main
from eccos_aios.collect.client import AttemptError, Client
from eccos_aios.collect.endpoint import Endpoint
from eccos_aios.errors import ConfigError, without_secrets
from eccos_aios.proxy import proxy_of

HTTPS, HTTP = "https://llm.example.org/v1", "http://llm.example.org/v1"
KEY = "sk-very-secret-0123456789"


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("environment", "url", "place"),
    [
        ({}, HTTPS, None),
        ({"https_proxy": ""}, HTTPS, None),
        ({"https_proxy": "http://proxy:3128"}, HTTPS, "proxy:3128"),
        ({"https_proxy": "http://proxy:3128/"}, HTTPS, "proxy:3128"),
        ({"https_proxy": "https://proxy"}, HTTPS, "proxy:443"),
        ({"HTTPS_PROXY": "proxy:3128"}, HTTPS, "proxy:3128"),
        ({"https_proxy": "proxy"}, HTTPS, "proxy:80"),
        ({"https_proxy": "lower:1", "HTTPS_PROXY": "upper:1"}, HTTPS, "lower:1"),
        ({"http_proxy": "proxy:1"}, HTTPS, None),
        ({"http_proxy": "proxy:1"}, HTTP, "proxy:1"),
        ({"all_proxy": "proxy:1"}, HTTPS, "proxy:1"),
        ({"ALL_PROXY": "proxy:1", "http_proxy": "other:2"}, HTTP, "other:2"),
        ({"https_proxy": "http://[fd00::1]:3128"}, HTTPS, "[fd00::1]:3128"),
        ({"https_proxy": "me:p@ss@proxy:1"}, HTTPS, "proxy:1"),
        ({"http_proxy": "proxy:1"}, "http://localhost:8000/v1", None),
        ({"http_proxy": "proxy:1"}, "http://127.0.0.2:8000/v1", None),
        ({"http_proxy": "proxy:1"}, "http://[::1]:8000/v1", None),
    ],
)
def test_the_environment_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, place: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_of(url)
    assert (found and found.place) == place


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", HTTPS, True),
        ("example.org", HTTPS, True),
        (".example.org", HTTPS, True),
        ("*.example.org", HTTPS, True),
        ("LLM.Example.ORG.", HTTPS, True),
        ("other.org, llm.example.org", HTTPS, True),
        ("other.org llm.example.org", HTTPS, True),
        ("ample.org", HTTPS, False),
        ("llm.example.org.evil", HTTPS, False),
        ("llm.example.org:443", HTTPS, True),
        ("llm.example.org:8443", HTTPS, False),
        ("llm.example.org:8443", "https://llm.example.org:8443/v1", True),
        ("10.0.0.0/8", "https://10.1.2.3/v1", True),
        ("10.0.0.0/8", "https://11.1.2.3/v1", False),
        ("10.1.2.3/8", "https://10.9.9.9/v1", True),
        ("10.1.2.3:443", "https://10.1.2.3/v1", True),
        ("fd00::/8", "https://[fd00::1]:8000/v1", True),
        ("fd00::1", "https://[fd00:0::1]/v1", True),
        ("[fd00::1]:8000", "https://[fd00::1]:8000/v1", True),
        ("10.0.0.0/99, , :, /", HTTPS, False),
        ("", HTTPS, False),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_is_read_whole(
    monkeypatch: pytest.MonkeyPatch, name: str, no_proxy: str, url: str, direct: bool
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv(name, no_proxy)
    assert (proxy_of(url) is None) is direct


@pytest.mark.parametrize(
    "value",
    [
        "ftp://me:swordfish@proxy:1",
        "http://me:swordfish@proxy:port",
        "http://me:sword/fish@proxy:1",
        "http://me:sword#fish@proxy:1",
        "http://",
        "http://[::1",
    ],
)
def test_a_wrong_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConfigError, match="https_proxy") as caught:
        proxy_of(HTTPS)
    assert "http://NAME:PASSWORD@HOST:PORT" in str(caught.value)
    assert "fish" not in str(caught.value)


def test_a_socks_proxy_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:swordfish@proxy")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"all_proxy: .*pip install 'httpx\[socks\]'") as caught:
        proxy_of(HTTPS)
    assert "fish" not in str(caught.value)


class FakeProxy:
    """Gives one answer to every request, and remembers their heads."""

    def __init__(self, answer: bytes) -> None:
        self.heads: list[str] = []
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, name="fake-proxy")
        self._thread.start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            connection, _ = self._server.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (more := connection.recv(65536)):
                    head += more
                if not head:
                    return
                self.heads.append(head.decode())
                connection.sendall(self._answer)

    def end(self) -> None:
        socket.create_connection(self._server.getsockname()).close()
        self._thread.join(10)
        self._server.close()


StartProxy = Callable[[bytes], FakeProxy]


@pytest.fixture
def proxy() -> Iterator[StartProxy]:
    started: list[FakeProxy] = []

    def start(answer: bytes) -> FakeProxy:
        started.append(FakeProxy(answer))
        return started[-1]

    yield start
    for each in started:
        each.end()


def status(line: str, body: str = "") -> bytes:
    return f"HTTP/1.1 {line}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def failure(url: str) -> AttemptError:
    client = Client(Endpoint(url, "m", KEY), timeout_s=10)
    with pytest.raises(AttemptError) as caught:
        client.complete({"model": "m", "messages": [], "max_tokens": 1})
    client.close()
    return caught.value


@pytest.mark.integration
def test_a_tunnel_carries_the_credentials_and_keeps_the_key_inside(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = proxy(status("407 Proxy Authentication Required"))
    monkeypatch.setenv("HTTPS_PROXY", f"someone:p%40ss@{through.place}")
    error = failure(HTTPS)
    (head,) = through.heads
    assert head.startswith("CONNECT llm.example.org:443 HTTP/1.")
    assert f"Proxy-Authorization: {basic('someone:p@ss')}\r\n" in head
    assert KEY not in head
    assert str(error) == f"the proxy {through.place} refuses the name and password that it was given (407)"
    assert (error.unreachable, error.may_cost) == (True, False)


@pytest.mark.integration
def test_a_proxy_that_asks_for_credentials_is_named(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = proxy(status("407 Proxy Authentication Required"))
    monkeypatch.setenv("all_proxy", through.place)
    assert f"the proxy {through.place} asks for a name and a password (407)" in str(failure(HTTPS))


@pytest.mark.parametrize("line", ["403 Forbidden swordfish", "502 Bad Gateway"])
@pytest.mark.integration
def test_a_tunnel_that_fails_is_the_proxys(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    through = proxy(status(line))
    monkeypatch.setenv("https_proxy", f"http://{through.place}")
    error = failure(HTTPS)
    assert str(error) == f"the proxy {through.place} refuses the connection with status {line[:3]}"
    assert (error.refused, error.unreachable, error.may_cost) == (False, True, False)


@pytest.mark.integration
def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        place = f"127.0.0.1:{nobody.getsockname()[1]}"
    monkeypatch.setenv("https_proxy", f"http://me:swordfish@{place}")
    error = failure(HTTPS)
    assert str(error).endswith(f"through the proxy {place})")
    assert "Connection refused" in str(error)
    assert (error.unreachable, "fish" in str(error)) == (True, False)


@pytest.mark.parametrize(
    ("given", "pair"),
    [("me:secret", "me:secret"), ("m%C3%A9:%25", "mé:%"), ("me", "me:"), ("me:p@ss", "me:p@ss")],
)
@pytest.mark.integration
def test_a_plain_request_goes_through_the_proxy_whole(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch, given: str, pair: str
) -> None:
    answer = {"choices": [{"message": {"content": "four"}}]}
    through = proxy(status("200 OK", json.dumps(answer)))
    monkeypatch.setenv("http_proxy", f"http://{given}@{through.place}")
    client = Client(Endpoint("http://llm.example.org:8000/v1", "m"), timeout_s=10)
    assert client.complete({"model": "m"}).text == "four"
    client.close()
    head = through.heads[0]
    assert head.startswith("POST http://llm.example.org:8000/v1/chat/completions HTTP/1.1\r\n")
    assert "Host: llm.example.org:8000\r\n" in head
    assert f"Proxy-Authorization: {basic(pair)}\r\n" in head


@pytest.mark.integration
def test_a_plain_request_that_the_proxy_refuses_is_the_proxys(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = proxy(status("407 Proxy Authentication Required"))
    monkeypatch.setenv("http_proxy", f"http://me:swordfish@{through.place}")
    error = failure(HTTP)
    assert f"the proxy {through.place} refuses" in str(error)
    assert (error.unreachable, "fish" in str(error)) == (True, False)


@pytest.mark.integration
def test_a_provider_that_repeats_the_key_does_not_show_it(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"error": {"code": "x" * 70 + f" bad {KEY}\nnow"}})
    through = proxy(status("401 Unauthorized", body))
    monkeypatch.setenv("http_proxy", through.place)
    message = str(failure(HTTP))
    assert KEY[:10] not in message
    assert "\n" not in message


@pytest.mark.integration
def test_a_user_in_an_address_is_sent_and_not_shown(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = proxy(status("500 Internal Server Error"))
    monkeypatch.setenv("http_proxy", through.place)
    client = Client(Endpoint("http://me:swordfish@llm.example.org/v1", "m"), timeout_s=10)
    with pytest.raises(AttemptError) as caught:
        client.complete({"model": "m"})
    client.close()
    assert "fish" not in str(caught.value)
    head = through.heads[0]
    assert f"Authorization: {basic('me:swordfish')}\r\n" in head
    assert head.startswith("POST http://llm.example.org/v1/chat/completions ")


@pytest.mark.integration
def test_collect_says_what_the_proxy_wants(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sums: Path
) -> None:
    through = proxy(status("407 Proxy Authentication Required"))
    core: dict[str, Any] = {"name": "m", "base_url": HTTPS, "price": {"input": 1, "output": 1}}
    (tmp_path / "cores.yaml").write_text(json.dumps({"cores": [core]}))
    arguments = ["collect", "--cores", str(tmp_path / "cores.yaml"), "--questions", str(sums), "--limit", "1"]
    arguments += ["--out", str(tmp_path / "history.jsonl"), "--retries", "0", "--yes", "--json"]
    monkeypatch.setenv("https_proxy", f"http://me:swordfish@{through.place}")
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "refuses the name and password" in done.output
    monkeypatch.setenv("https_proxy", "ftp://me:swordfish@proxy")
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "https_proxy" in done.output
    assert "swordfish" not in done.output


def test_without_httpx_collect_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sums: Path
) -> None:
    (tmp_path / "cores.yaml").write_text(json.dumps({"cores": [{"name": "m", "base_url": HTTPS}]}))
    arguments = ["collect", "--cores", str(tmp_path / "cores.yaml"), "--questions", str(sums)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "history.jsonl")])
    assert done.exit_code == 2
    assert done.stderr == "httpx is not installed: pip install 'eccos-aios[collect]'\n"
    assert not (tmp_path / "history.jsonl").exists()


def test_a_message_holds_no_password_and_no_key() -> None:
    shown = without_secrets("http://me:secret@host/v1 with sk-proj-abcdefgh12345678")
    assert shown == "http://…@host/v1 with sk-…"
