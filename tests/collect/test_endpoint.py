"""Where a core answers, and that its key goes there and nowhere else."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from eccos_aios.collect.ask import Asker, Backoff
from eccos_aios.collect.budget import Budget
from eccos_aios.collect.client import Answer, AttemptError, Client
from eccos_aios.collect.endpoint import Endpoint, endpoints
from eccos_aios.core import Core, Manifest
from eccos_aios.errors import ConfigError
from eccos_aios.sandbox import Reply, SandboxCore

KEY = "sk-very-secret"
BODY = {"model": "m", "messages": [], "max_tokens": 1}


def manifest(**keys: Any) -> Manifest:
    return Manifest(cores=(Core(**{"name": "core", **keys}),))


def found(asked: Manifest, **more: Any) -> Endpoint:
    (endpoint,) = endpoints(asked, "cores.yaml", **more).values()
    return endpoint


def aios(tmp_path: Path, model: dict[str, Any], **api_keys: str) -> Path:
    config = tmp_path / "aios" / "config" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(yaml.safe_dump({"llms": {"models": [model]}, "api_keys": api_keys}))
    return tmp_path


def test_the_manifest_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    checkout = aios(tmp_path, {"name": "core", "backend": "vllm", "hostname": "http://other/v1"})
    endpoint = found(manifest(base_url="http://here/v1", api_key_env="MY_KEY"), aios=checkout)
    assert endpoint == Endpoint("http://here/v1", "core", KEY)


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ({"backend": "vllm", "hostname": "http://gpu:8091/v1"}, "http://gpu:8091/v1"),
        ({"backend": "sglang", "hostname": "http://gpu:8091/v1/"}, "http://gpu:8091/v1"),
        ({"backend": "ollama", "hostname": "http://gpu:11434"}, "http://gpu:11434/v1"),
        ({"backend": "ollama"}, "http://localhost:11434/v1"),
    ],
)
def test_aios_knows_its_cores(tmp_path: Path, model: dict[str, Any], url: str) -> None:
    assert found(manifest(), aios=aios(tmp_path, {"name": "core", **model})) == Endpoint(url, "core")


def test_aios_knows_the_keys_of_its_providers(tmp_path: Path) -> None:
    checkout = aios(tmp_path, {"name": "core", "backend": "openai"}, openai=KEY)
    assert found(manifest(), aios=checkout) == Endpoint("https://api.openai.com/v1", "core", KEY)


def test_a_gateway_serves_what_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY", KEY)
    endpoint = found(manifest(), base_url="http://gateway/v1/", api_key_env="GATEWAY")
    assert endpoint == Endpoint("http://gateway/v1", "core", KEY)


def test_litellm_names_say_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    endpoint = found(manifest(name="groq/llama-3.1-8b-instant"))
    assert endpoint == Endpoint("https://api.groq.com/openai/v1", "llama-3.1-8b-instant", KEY)
    assert found(manifest(name="ollama/qwen3:4b")) == Endpoint("http://localhost:11434/v1", "qwen3:4b")


def test_a_core_without_an_address_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cores\[0\].base_url: core 'meta/x' has no address"):
        found(manifest(name="meta/x"))


@pytest.mark.parametrize(
    ("backend", "key"), [("huggingface", "backend: 'huggingface'"), ("vllm", "hostname")]
)
def test_an_aios_core_that_cannot_be_asked_is_named(tmp_path: Path, backend: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        found(manifest(), aios=aios(tmp_path, {"name": "core", "backend": backend}))


def test_a_key_that_is_not_set_is_named_but_no_key_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigError, match="variable MY_KEY that is to hold a key is not set"):
        found(manifest(base_url="http://here/v1", api_key_env="MY_KEY"))
    with pytest.raises(ConfigError) as caught:  # someone wrote the key where its variable belongs
        found(manifest(base_url="http://here/v1", api_key_env=KEY))
    assert KEY not in str(caught.value)
    assert KEY not in repr(Endpoint("http://here/v1", "core", KEY))


class OneAnswer:
    """A server that gives one raw answer to one request, and keeps the request."""

    def __init__(self, status: str, body: str, headers: str = "") -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._answer = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        self.request = b""
        self._thread = threading.Thread(target=self._serve, name="one-answer")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}/v1"

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        with connection:
            while json.dumps(BODY).encode() not in self.request:
                self.request += connection.recv(65536)
            connection.sendall(self._answer)

    def end(self) -> None:
        self._thread.join(10)
        self._server.close()


def asked(server: OneAnswer, key: str | None = None) -> Any:
    client = Client(Endpoint(server.url, "m", key), timeout_s=10)
    try:
        return client.complete(BODY)
    finally:
        client.close()
        server.end()


def test_the_key_is_sent_as_bearer_token() -> None:
    message = {"role": "assistant", "content": [{"type": "text", "text": "fo"}, {"text": "ur"}]}
    server = OneAnswer("200 OK", json.dumps({"choices": [{"message": message}]}))
    answer = asked(server, KEY)
    assert f"Authorization: Bearer {KEY}".encode() in server.request
    assert server.request.startswith(b"POST /v1/chat/completions ")
    assert (answer.text, answer.input_tokens, answer.output_tokens) == ("four", None, None)


def test_an_error_repeats_neither_the_key_nor_the_question() -> None:
    error = {"error": {"message": f"wrong key {KEY}", "code": "invalid_api_key"}}
    server = OneAnswer("401 Unauthorized", json.dumps(error))
    with pytest.raises(AttemptError) as caught:
        asked(server, KEY)
    assert (str(caught.value), caught.value.refused) == (
        "status 401 (invalid_api_key): the key is refused",
        True,
    )


@pytest.mark.parametrize(
    ("status", "is_transient"),
    [
        ("400 Bad Request", False),
        ("401 Unauthorized", False),
        ("404 Not Found", False),
        ("301 Moved", False),
        ("408 Request Timeout", True),
        ("429 Too Many Requests", True),
        ("500 Internal Server Error", True),
        ("503 Service Unavailable", True),
    ],
)
def test_which_statuses_may_pass(status: str, is_transient: bool) -> None:
    with pytest.raises(AttemptError) as caught:
        asked(OneAnswer(status, "sorry", "Retry-After: 7\r\n"))
    assert (caught.value.is_transient, caught.value.retry_after_s, caught.value.may_cost) == (
        is_transient,
        7.0,
        False,
    )


@pytest.mark.parametrize("body", ["", "{", "[]", '{"choices": []}', '{"choices": [{"message": null}]}'])
def test_an_answer_that_is_no_completion_may_pass_and_may_cost(body: str) -> None:
    with pytest.raises(AttemptError) as caught:
        asked(OneAnswer("200 OK", body))
    assert (caught.value.is_transient, caught.value.may_cost) == (True, True)


def test_a_refused_connection_costs_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
    with pytest.raises(AttemptError) as caught:
        Client(Endpoint(url, "m")).complete(BODY)
    assert (caught.value.is_transient, caught.value.may_cost) == (True, False)


def test_a_parameter_that_a_model_refuses_is_sent_otherwise() -> None:
    sent: list[dict[str, Any]] = []

    class Reasoner(Client):
        """As OpenAI's reasoning models: takes no temperature, and max_completion_tokens alone."""

        def complete(self, body: Any) -> Answer:
            sent.append(body)
            for parameter in ("max_tokens", "temperature"):
                if parameter in body:
                    raise AttemptError("status 400", status=400, may_cost=False, parameter=parameter)
            return Answer("4", None, 1, 1, 0.1)

    client = Reasoner(Endpoint("http://here/v1", "m"))
    asker = Asker(Core(name="core"), client, Budget(), Backoff())
    body = {"model": "m", "messages": [], "max_tokens": 7, "temperature": 0}
    assert asker.ask(body).answer.text == "4"
    assert sent[-1] == {"model": "m", "messages": [], "max_completion_tokens": 7}
    asker.ask(body)
    assert len(sent) == 4  # what was learned stays known


def test_the_refused_parameter_is_read_from_the_error() -> None:
    error = {"error": {"message": "…", "code": "unsupported_parameter", "param": "max_tokens"}}
    with pytest.raises(AttemptError) as caught:
        asked(OneAnswer("400 Bad Request", json.dumps(error)))
    assert (caught.value.parameter, caught.value.is_transient) == ("max_tokens", False)


def test_a_server_without_tls_is_named_and_costs_nothing() -> None:
    with SandboxCore("m") as core:
        place = core.base_url.removeprefix("http://").removesuffix("/v1")
        with pytest.raises(AttemptError) as caught:
            Client(Endpoint(f"https://{place}/v1", "m", KEY), timeout_s=10).complete(BODY)
    assert str(caught.value).startswith("connection failed: ")
    assert str(caught.value).endswith(f"({place})")
    assert (caught.value.unreachable, caught.value.may_cost) == (True, False)


def test_a_closed_client_sends_nothing_and_says_so() -> None:
    with SandboxCore("m") as core:
        client = Client(Endpoint(core.base_url, "m"), timeout_s=10)
        assert client.complete(BODY).text
        client.close()
        with pytest.raises(AttemptError, match="the client is closed") as caught:
            client.complete(BODY)
    assert (core.requests, caught.value.may_cost) == (1, False)


def test_closing_a_client_ends_the_requests_under_way() -> None:
    received, released = threading.Event(), threading.Event()

    def hold(request: dict[str, Any]) -> Reply:
        received.set()
        released.wait(30)
        return Reply("late")

    failures: list[AttemptError] = []

    def ask(client: Client) -> None:
        try:
            client.complete(BODY)
        except AttemptError as error:
            failures.append(error)

    with SandboxCore("m", hold) as core:
        client = Client(Endpoint(core.base_url, "m"), timeout_s=60)
        thread = threading.Thread(target=ask, args=(client,), name="asking")
        thread.start()
        assert received.wait(10)
        assert client.under_way == 1
        client.close()
        thread.join(10)
        assert not thread.is_alive()
        released.set()
    assert [(error.may_cost, error.timed_out) for error in failures] == [(True, False)]
    assert client.under_way == 0
