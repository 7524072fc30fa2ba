"""What clients of a sandbox core, and tests that judge its counters, rely on."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from eccos_aios.sandbox import FaultKind, Reply, RetryHeader, SandboxCore

MESSAGES = [{"role": "user", "content": "What is six times seven?"}]
TOOL = {"type": "function", "function": {"name": "multiply", "parameters": {"type": "object"}}}


def reply(request: dict[str, Any]) -> Reply:
    if request.get("tools"):
        return Reply(None, [{"name": "multiply", "arguments": {"a": 6, "b": 7}}])
    return Reply("It is 42.", output_tokens=5, input_tokens=11)


@pytest.fixture
def core() -> Iterator[SandboxCore]:
    with SandboxCore("small", reply) as started:
        yield started


def post(core: SandboxCore, **body: Any) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", core.port, timeout=10)
    try:
        connection.request(
            "POST", "/v1/chat/completions", json.dumps({"model": core.name, "messages": MESSAGES, **body})
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def completion(core: SandboxCore, **body: Any) -> Any:
    status, content = post(core, **body)
    assert status == 200
    return json.loads(content)


def until(happened: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(500):
        if happened():
            return
        tick.wait(0.01)
    pytest.fail("did not happen within 5 s")


def sandbox_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("sandbox-core")]


def test_text_comes_with_its_usage(core: SandboxCore) -> None:
    body = completion(core)
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "It is 42."}
    assert body["usage"] == {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}


def test_tool_calls_come_in_the_format_of_openai(core: SandboxCore) -> None:
    choice = completion(core, tools=[TOOL])["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    [call] = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "multiply"
    assert json.loads(call["function"]["arguments"]) == {"a": 6, "b": 7}


def test_json_is_json_when_asked_for(core: SandboxCore) -> None:
    body = completion(core, response_format={"type": "json_object"})
    assert json.loads(body["choices"][0]["message"]["content"]) == {"answer": "It is 42."}


def test_a_stream_holds_the_same_answer(core: SandboxCore) -> None:
    _, content = post(core, stream=True, stream_options={"include_usage": True})
    events = [line.removeprefix("data: ") for line in content.decode().split("\n\n") if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]]
    assert "".join(pieces) == "It is 42."
    assert chunks[-1]["usage"]["completion_tokens"] == 5


def test_models_and_stats_are_served(core: SandboxCore) -> None:
    completion(core)
    connection = http.client.HTTPConnection("127.0.0.1", core.port, timeout=10)
    connection.request("GET", "/v1/models")
    assert json.loads(connection.getresponse().read())["data"][0]["id"] == "small"
    connection.request("GET", "/stats")  # over the same connection: it was kept alive
    assert json.loads(connection.getresponse().read()) == {
        "name": "small",
        "in_flight": 0,
        "max_in_flight": 1,
        "requests": 1,
        "by_status": {"200": 1},
        "input_tokens": 11,
        "output_tokens": 5,
    }
    connection.close()


@pytest.mark.parametrize("body", [b"not json", b"[]", b"{}"])
def test_a_bad_request_is_refused(core: SandboxCore, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", core.port, timeout=10)
    connection.request("POST", "/v1/chat/completions", body)
    assert connection.getresponse().status == 400
    connection.close()


def test_a_burst_is_counted_at_its_height() -> None:
    together = threading.Barrier(40)

    def meet(request: dict[str, Any]) -> Reply:
        together.wait(20)
        return Reply("here")

    with SandboxCore("busy", meet) as core, ThreadPoolExecutor(40) as pool:
        statuses = list(pool.map(lambda _: post(core)[0], range(40)))
        assert statuses == [200] * 40
        assert core.max_in_flight == 40
        assert core.in_flight == 0


def test_one_caller_is_never_counted_twice(core: SandboxCore) -> None:
    for _ in range(200):
        post(core)
    assert core.max_in_flight == 1


@pytest.mark.parametrize("status", ["500", "429", "400", "401", "402", "403", "404", "413", "503", "529"])
def test_a_failing_core_answers_its_status_until_healed(core: SandboxCore, status: FaultKind) -> None:
    core.fail(status)
    assert post(core)[0] == int(status)
    core.heal()
    assert post(core)[0] == 200
    assert core.stats["by_status"] == {status: 1, "200": 1}


def test_a_cut_connection_gives_no_answer(core: SandboxCore) -> None:
    core.fail("cut")
    with pytest.raises(http.client.RemoteDisconnected):
        post(core)
    assert core.in_flight == 0


def test_malformed_and_empty_bodies(core: SandboxCore) -> None:
    core.fail("malformed")
    with pytest.raises(json.JSONDecodeError):
        completion(core)
    core.fail("empty")
    assert post(core) == (200, b"")


def test_hung_requests_are_answered_once_healed(core: SandboxCore) -> None:
    core.fail("hang")
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(post, core) for _ in range(3)]
        until(lambda: core.in_flight == 3)
        assert not any(answer.done() for answer in answers)
        core.heal()
        assert [answer.result(10)[0] for answer in answers] == [200] * 3


def test_a_client_that_hangs_up_frees_the_core(core: SandboxCore) -> None:
    core.fail("hang")
    connection = http.client.HTTPConnection("127.0.0.1", core.port, timeout=10)
    connection.request("POST", "/v1/chat/completions", json.dumps({"messages": MESSAGES}))
    until(lambda: core.in_flight == 1)
    connection.close()
    until(lambda: core.in_flight == 0)
    assert core.stats["by_status"] == {"gone": 1}


def test_a_share_of_faults_strikes_that_share_and_the_same_requests_again(core: SandboxCore) -> None:
    def statuses() -> list[int]:
        core.fail("500", share=0.3, seed=7)
        return [post(core)[0] for _ in range(100)]

    first = statuses()
    assert 20 <= first.count(500) <= 40
    assert statuses() == first


@pytest.mark.parametrize(
    ("kind", "code"),
    [("filter", "content_filter"), ("window", "context_length_exceeded"), ("404", "model_not_found")],
)
def test_a_refusal_says_why_as_providers_do(core: SandboxCore, kind: FaultKind, code: str) -> None:
    core.fail(kind)
    status, content = post(core)
    assert (status, json.loads(content)["error"]["code"]) == (404 if kind == "404" else 400, code)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_a_word(core: SandboxCore, stream: bool) -> None:
    core.fail("null")
    if stream:
        _, content = post(core, stream=True)
        events = [
            json.loads(line[6:]) for line in content.decode().split("\n\n") if line and "DONE" not in line
        ]
        assert not any(event["choices"][0]["delta"].get("content") for event in events)
        assert events[-1]["choices"][0]["finish_reason"] == "length"
    else:
        choice = completion(core)["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (None, "length")


def test_a_redirect_leads_to_itself(core: SandboxCore) -> None:
    core.fail("redirect")
    connection = http.client.HTTPConnection("127.0.0.1", core.port, timeout=10)
    for _ in range(2):
        connection.request("POST", "/v1/chat/completions", json.dumps({"messages": MESSAGES}))
        response = connection.getresponse()
        response.read()
        assert (response.status, response.getheader("Location")) == (307, "/v1/chat/completions")
    connection.close()


def test_a_trickle_ends_when_it_is_healed(core: SandboxCore) -> None:
    core.fail("trickle")
    connection = http.client.HTTPConnection("127.0.0.1", core.port, timeout=10)
    connection.request("POST", "/v1/chat/completions", json.dumps({"messages": MESSAGES}))
    response = connection.getresponse()
    assert (response.status, response.read(2), core.in_flight) == (200, b"  ", 1)
    core.heal()
    assert json.loads(response.read())["choices"][0]["message"]["content"] == "It is 42."
    connection.request("GET", "/v1/models")  # over the same connection
    assert connection.getresponse().status == 200
    connection.close()


def test_a_trickle_whose_client_hangs_up_is_over(core: SandboxCore) -> None:
    core.fail("trickle")
    connection = http.client.HTTPConnection("127.0.0.1", core.port, timeout=10)
    connection.request("POST", "/v1/chat/completions", json.dumps({"messages": MESSAGES}))
    connection.getresponse().close()
    connection.close()
    until(lambda: core.in_flight == 0)
    assert core.stats["by_status"] == {"gone": 1}


def test_connections_are_refused_until_healed_at_the_same_port(core: SandboxCore) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", core.port, timeout=10)
    kept.request("GET", "/v1/models")
    kept.getresponse().read()
    port = core.port
    core.fail("refused", everywhere=True)
    with pytest.raises(ConnectionRefusedError):
        post(core)
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        kept.request("GET", "/v1/models")
        kept.getresponse()
    core.fail("500")
    assert (post(core)[0], core.port) == (500, port)
    core.fail("refused")
    core.stop()
    assert sandbox_threads() == []
    core.start()
    assert post(core)[0] == 200


@pytest.mark.parametrize("kind", ["500", "401", "hang", "empty", "null", "redirect", "malformed", "cut"])
def test_the_list_of_models_fails_where_it_is_told_to(core: SandboxCore, kind: FaultKind) -> None:
    def models() -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", core.port, timeout=0.5)
        try:
            connection.request("GET", "/v1/models")
            response = connection.getresponse()
            return b"%d %b" % (response.status, response.read())
        except (OSError, http.client.HTTPException):
            return b"nothing"
        finally:
            connection.close()

    well = models()
    core.fail(kind)
    assert models() == well
    core.fail(kind, everywhere=True)
    assert models() != well
    core.heal()
    assert models() == well


@pytest.mark.parametrize(
    ("header", "value"),
    [("Retry-After", "2"), ("retry-after-ms", "1500"), ("x-ratelimit-reset-requests", "1.5s")],
)
def test_a_busy_core_says_when_to_come_back(core: SandboxCore, header: RetryHeader, value: str) -> None:
    core.fail("429", retry_after_s=1.5, retry_header=header)
    connection = http.client.HTTPConnection("127.0.0.1", core.port, timeout=10)
    connection.request("POST", "/v1/chat/completions", json.dumps({"messages": MESSAGES}))
    response = connection.getresponse()
    assert (response.status, response.getheader(header)) == (429, value)
    connection.close()


def test_the_requests_of_each_call_are_counted(core: SandboxCore) -> None:
    for text, times in (("first", 1), ("second", 3)):
        for _ in range(times):
            post(core, messages=[{"role": "user", "content": text}])
    assert core.requests_by_text == {"first": 1, "second": 3}
    core.reset_counts()
    assert core.requests_by_text == {}


def test_the_texts_that_are_told_apart_are_bounded(
    core: SandboxCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eccos_aios.sandbox.server.REMEMBERED_TEXTS", 2)
    for text in ("a", "b", "c", "d", "a"):
        post(core, messages=[{"role": "user", "content": text}])
    assert core.requests_by_text == {"a": 2, "b": 1, "": 2}


def test_a_request_whose_client_is_gone_is_not_held_against_a_quota(core: SandboxCore) -> None:
    core.fail("hang")
    for _ in range(20):
        connection = http.client.HTTPConnection("127.0.0.1", core.port, timeout=10)
        connection.request("POST", "/v1/chat/completions", json.dumps({"messages": MESSAGES}))
        until(lambda: core.in_flight > 0)
        connection.close()
    assert core.max_in_flight == 1


def test_several_faults_strike_one_request_each(core: SandboxCore) -> None:
    core.fail(("500", "429", "empty"), share=0.5)
    statuses = [post(core)[0] for _ in range(120)]
    assert 120 - statuses.count(200) >= 30
    assert {500, 429, 200} == set(statuses)


def test_a_fault_that_does_not_exist_is_refused(core: SandboxCore) -> None:
    with pytest.raises(ValueError, match="kind: '418': must be one of 500"):
        core.fail("418")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be one, or several of those that strike single requests"):
        core.fail(("500", "refused"))
    with pytest.raises(ValueError, match="share: 2"):
        core.fail("500", share=2)
    with pytest.raises(ValueError, match="retry_after_s: -1"):
        core.fail("429", retry_after_s=-1)
    with pytest.raises(ValueError, match="retry_header: 'Later': must be one of Retry-After"):
        core.fail("429", retry_header="Later")  # type: ignore[arg-type]


@pytest.mark.parametrize("hangs", [True, False], ids=["hung", "waiting"])
def test_stop_ends_what_is_under_way_and_leaves_no_thread(hangs: bool) -> None:
    core = SandboxCore("slow", reply, latency_s=3600).start()
    if hangs:
        core.fail("hang")
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(post, core) for _ in range(4)]
        until(lambda: core.in_flight == 4)
        core.stop()
        for answer in answers:
            assert isinstance(answer.exception(10), ConnectionError)
    assert core.in_flight == 0
    assert sandbox_threads() == []


def test_stop_ends_idle_connections() -> None:
    core = SandboxCore("small", reply).start()
    connection = http.client.HTTPConnection("127.0.0.1", core.port, timeout=10)
    connection.request("GET", "/v1/models")
    connection.getresponse().read()
    core.stop()
    assert sandbox_threads() == []
    connection.close()
    core.stop()
    with pytest.raises(RuntimeError, match="is not started"):
        _ = core.base_url
