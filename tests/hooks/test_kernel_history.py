"""Outcomes and feedback on the embedded kernel: what reaches the store, and what never harms a call."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.config import EccosConfig
from eccos_aios.errors import ABSENT, HistoryError, UnknownCallError
from eccos_aios.history import CallOutcome, HistoryStore, OutcomeRecorder, Record
from eccos_aios.hooks import EccosScheduler
from eccos_aios.hooks.endpoints import _feedback_fault
from eccos_aios.predict import embedding_of, query_text
from eccos_aios.runtime.learner import Learner
from eccos_aios.sandbox import EmbeddedKernel, LLMQuery, SandboxCore, error_response

WAIT_S = 20.0
CALLS = 80
WRITER = "eccos-history-writer"


@pytest.fixture
def config(tmp_path: Path) -> EccosConfig:
    manifest = {
        "cores": [
            {"name": "small", "quota": 4, "price": {"input": 1, "output": 1}},
            {"name": "large", "quota": 4, "price": {"input": 9, "output": 9}},
        ]
    }
    (tmp_path / "cores.yaml").write_text(json.dumps(manifest))
    return EccosConfig(
        manifest=tmp_path / "cores.yaml",
        history=tmp_path / "history.db",
        quality_target=0.0,
        grace_s=0.2,
        call_timeout_s=5.0,
    )


def kernel_of(cores: list[SandboxCore], config: EccosConfig) -> EmbeddedKernel:
    def make(**params: Any) -> EccosScheduler:
        return EccosScheduler(**params, config=config, response=error_response)

    return EmbeddedKernel(cores, make, query_threads=32)


def refresh(kernel: EmbeddedKernel, config: EccosConfig) -> EccosScheduler:
    """The scheduler that a refresh makes, which takes over the running one's service."""
    first: Any = kernel.scheduler
    managers = (kernel.memory_manager, kernel.storage_manager, kernel.tool_manager)
    queues = [getattr(first, f"get_{kind}_syscall") for kind in ("llm", "memory", "storage", "tool")]
    following = EccosScheduler(
        kernel.llm,
        *managers,
        "console",
        *queues,
        config=config,
        response=error_response,
        service=first.service,
    )
    following.start()
    return following


def ask(kernel: EmbeddedKernel, text: str, agent: str = "agent", **query: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return kernel.query(agent, LLMQuery(messages=messages, **query)).result(WAIT_S)["response"]


def stored(config: EccosConfig) -> list[CallOutcome]:
    assert config.history is not None
    return list(HistoryStore(config.history, read_only=True).outcomes())


def records(config: EccosConfig) -> list[Record]:
    assert config.history is not None
    return list(HistoryStore(config.history, read_only=True).records())


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == WRITER]


def test_a_finished_call_is_in_the_store(cores: list[SandboxCore], config: EccosConfig) -> None:
    with kernel_of(cores, config) as kernel:
        scheduler: Any = kernel.scheduler
        assert ask(kernel, "how many cores?", agent="asker").error is None
        assert ask(kernel, "and named?", agent="other", llms=[{"name": "large"}]).error is None
        decisions = [decision.id for decision in scheduler.service.scheduler.decisions()]
    first, second = stored(config)
    assert [second.call_id, first.call_id] == decisions
    assert (first.core, first.agent, first.query, first.error) == ("small", "asker", "how many cores?", None)
    assert first.input_token_length == 3  # as the core counts 15 characters
    assert first.output_token_length
    assert first.token_source == "provider"
    assert first.cost_usd == pytest.approx((3 + first.output_token_length) / 1e6)
    assert first.latency_s is not None
    assert 0 < first.latency_s < WAIT_S
    assert (second.core, second.agent) == ("large", "other")
    assert scheduler.status()["history"] == {"path": "history.db", "recorded": 2, "dropped": 0}
    assert writers() == []


def test_a_call_that_fails_has_one_outcome_of_its_last_attempt(
    cores: list[SandboxCore], config: EccosConfig
) -> None:
    with kernel_of(cores, config) as kernel:
        cores[0].fail("500")
        assert ask(kernel, "elsewhere then").error is None
        assert ask(kernel, "nowhere else", llms=[{"name": "small"}]).status_code == 502
        assert "not all available" in ask(kernel, "never sent", llms=[{"name": "absent"}]).error
    made_up_for, failed = stored(config)
    assert (made_up_for.core, made_up_for.error) == ("large", None)
    assert (failed.core, failed.error, failed.cost_usd) == ("small", "http_502", None)


def test_a_call_that_is_cut_off_by_the_stop_has_an_outcome_too(
    cores: list[SandboxCore], config: EccosConfig
) -> None:
    cores[0].fail("hang")
    with kernel_of(cores, config) as kernel:
        waiting = kernel.query("agent", LLMQuery(messages=[{"role": "user", "content": "hello?"}]))
        while not kernel.scheduler.service.scheduler.decisions():  # type: ignore[attr-defined]
            assert not waiting.done()
        kernel.scheduler.stop()
        assert waiting.result(WAIT_S)["response"].status_code == 503
        cores[0].heal()
    (cut_off,) = stored(config)
    assert (cut_off.core, cut_off.error, cut_off.latency_s) == ("small", "StoppedError", None)


def test_texts_are_left_out_where_the_config_says_so(
    cores: list[SandboxCore], config: EccosConfig, tmp_path: Path
) -> None:
    with kernel_of(cores, config.model_copy(update={"store_text": False})) as kernel:
        ask(kernel, "my secret question")
        kernel.scheduler.give_quality(0.5, agent="agent")  # type: ignore[attr-defined]
    (outcome,) = stored(config)
    assert (outcome.query, outcome.query_length, outcome.quality) == ("", len("my secret question"), 0.5)
    assert outcome.embedding == embedding_of(Record(query="my secret question", outputs=()))
    assert all(b"secret" not in file.read_bytes() for file in tmp_path.glob("history.db*"))


def test_feedback_right_after_the_answer_is_in_the_store(
    cores: list[SandboxCore], config: EccosConfig
) -> None:
    with kernel_of(cores, config) as kernel:
        scheduler: Any = kernel.scheduler
        for number in range(20):
            ask(kernel, f"question {number}", agent=f"agent-{number}")
            assert scheduler.give_quality(number / 20, agent=f"agent-{number}")
        by_id = scheduler.service.scheduler.decisions()[0].id
        assert scheduler.give_quality(0.25, call=by_id) == by_id
        newest = scheduler.service.scheduler.decisions()[1]
        assert scheduler.give_quality(0.75, call=newest.call) == newest.id
        qualities = {record.query: record.outputs[0].quality for record in records(config)}
    expected = {f"question {number}": number / 20 for number in range(18)}
    assert qualities == {**expected, "question 18": 0.75, "question 19": 0.25}


@pytest.mark.parametrize("history", ["history.db", None])
def test_feedback_on_what_is_not_known_says_so(
    cores: list[SandboxCore], config: EccosConfig, history: str | None
) -> None:
    config = config.model_copy(update={"history": history and config.manifest.parent / history})
    with kernel_of(cores, config) as kernel:
        ask(kernel, "hello")
        scheduler: Any = kernel.scheduler
        for meant in ({"call": "no-such-id"}, {"call": 10**9}, {"agent": "nobody"}):
            with pytest.raises(UnknownCallError, match=f"{next(iter(meant))}: "):
                scheduler.give_quality(0.5, **meant)
        with pytest.raises(ValueError, match=r"quality: 1\.5"):
            scheduler.give_quality(1.5, agent="agent")
        with pytest.raises(ValueError, match="either call or agent"):
            scheduler.give_quality(0.5)


@pytest.mark.parametrize("history", ["history.db", None])
def test_feedback_reaches_the_debt_and_whoever_learns_once_for_each_call(
    cores: list[SandboxCore], config: EccosConfig, history: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[Record] = []
    monkeypatch.setattr(Learner, "learn", lambda _, record: known.append(record))
    config = config.model_copy(update={"history": history and config.manifest.parent / history})
    with kernel_of(cores, config) as kernel:
        scheduler: Any = kernel.scheduler
        ask(kernel, "what is it worth?")
        (decision,) = scheduler.service.scheduler.decisions()
        scheduler.give_quality(0.2, call=decision.id)
        owed = scheduler.status()["quality_owed"]
        scheduler.give_quality(0.2, agent="agent")
        assert scheduler.status()["quality_owed"] == owed
        scheduler.give_quality(0.3, call=decision.call)
        assert scheduler.status()["quality_owed"] == pytest.approx(owed - 0.1)
        assert scheduler.service.scheduler.decisions()[0].quality == 0.3
    assert [(record.id, record.query) for record in known] == [(decision.id, "what is it worth?")] * 3
    assert [record.outputs[0].quality for record in known] == [0.2, 0.2, 0.3]
    assert known[0].outputs[0].model_name == decision.core


def test_feedback_on_a_call_in_flight_is_refused(cores: list[SandboxCore], config: EccosConfig) -> None:
    cores[0].fail("hang")
    with kernel_of(cores, config) as kernel:
        scheduler: Any = kernel.scheduler
        waiting = kernel.query("agent", LLMQuery(messages=[{"role": "user", "content": "hello?"}]))
        while not scheduler.service.scheduler.decisions():
            assert not waiting.done()
        with pytest.raises(UnknownCallError, match="no finished call"):
            scheduler.give_quality(0.5, call=scheduler.service.scheduler.decisions()[0].call)
        cores[0].heal()
        assert waiting.result(WAIT_S)["response"].error is None


def test_what_a_kernel_recorded_can_be_rated_after_its_restart(
    cores: list[SandboxCore], config: EccosConfig
) -> None:
    with kernel_of(cores, config) as kernel:
        ask(kernel, "long ago")
    with kernel_of(cores, config) as kernel:
        kernel.scheduler.give_quality(1.0, agent="agent")  # type: ignore[attr-defined]
    assert [record.query for record in records(config)] == ["long ago"]


@pytest.mark.parametrize("change", [{}, {"store_text": False}, {"history": "other.db"}], ids=str)
def test_a_refresh_under_load_loses_no_outcome(
    cores: list[SandboxCore], config: EccosConfig, change: dict[str, Any]
) -> None:
    changed = config.model_copy(update=change)
    if "history" in change:
        changed = config.model_copy(update={"history": config.manifest.parent / change["history"]})
    for core in cores:
        core.latency_s = 0.01
    with kernel_of(cores, config) as kernel, ThreadPoolExecutor(24) as agents:
        first: Any = kernel.scheduler
        answers = [
            agents.submit(ask, kernel, f"question {number}", f"agent-{number}") for number in range(CALLS)
        ]
        for number, refreshed in enumerate((changed, config, changed)):
            answers[number * CALLS // 4].result(WAIT_S)
            kernel.scheduler = refresh(kernel, refreshed)
            assert len(writers()) == 1
        assert {answer.result(WAIT_S).error for answer in answers} == {None}
        first.stop()
        assert first.status()["history"]["recorded"] == CALLS
    paths = {path for each in (config, changed) if (path := each.history) is not None}
    kept = [outcome for path in paths for outcome in HistoryStore(path, read_only=True).outcomes()]
    assert len(kept) == len({outcome.call_id for outcome in kept}) == CALLS
    assert writers() == []


def test_feedback_is_learned_at_once(cores: list[SandboxCore], config: EccosConfig) -> None:
    with kernel_of(cores, config) as kernel:
        scheduler: Any = kernel.scheduler
        calls = [query_text(f"question {number} of arithmetic") for number in range(4)]
        before = scheduler.service.scheduler.predictor.predict(calls, ["small"]).quality
        for number in range(8):
            ask(kernel, f"question {number} of arithmetic", agent="asker", llms=[{"name": "small"}])
            scheduler.give_quality(0.0, agent="asker")
        assert scheduler.service.learner.settle(WAIT_S)
        assert (scheduler.service.scheduler.predictor.predict(calls, ["small"]).quality < before - 0.1).all()
        assert scheduler.status()["learning"]["learned"] == 8
    assert not any(thread.name == "eccos-learner" for thread in threading.enumerate())


def test_sixty_grades_of_one_call_count_once_also_over_restarts(
    cores: list[SandboxCore], config: EccosConfig
) -> None:
    call = [query_text("something else altogether")]

    def quality_of(scheduler: Any) -> float:
        return float(scheduler.service.scheduler.predictor.predict(call, ["small"]).quality[0, 0])

    with kernel_of(cores, config) as kernel:
        scheduler: Any = kernel.scheduler
        for number in range(12):
            ask(kernel, f"question {number} of arithmetic", agent="asker", llms=[{"name": "small"}])
            scheduler.give_quality(1.0, agent="asker")
        assert scheduler.service.learner.settle(WAIT_S)
        good, owed = quality_of(scheduler), scheduler.status()["quality_owed"]
        victim = scheduler.service.scheduler.decisions()[0].id
        scheduler.give_quality(0.0, call=victim)
        assert scheduler.service.learner.settle(WAIT_S)
        once, owed_once = quality_of(scheduler), scheduler.status()["quality_owed"]
        for _ in range(60):
            scheduler.give_quality(0.0, call=victim)
        assert scheduler.service.learner.settle(WAIT_S)
        assert quality_of(scheduler) == pytest.approx(once, abs=1e-6)
        assert once > good - 0.2
        assert scheduler.status()["quality_owed"] == owed_once
        assert scheduler.status()["learning"]["learned"] == 12
        scheduler.give_quality(1.0, call=victim)
        assert scheduler.service.learner.settle(WAIT_S)
        assert quality_of(scheduler) == pytest.approx(good, abs=1e-6)
        assert scheduler.status()["quality_owed"] == owed
        scheduler.give_quality(0.0, call=victim)
    with kernel_of(cores, config) as kernel:
        assert quality_of(kernel.scheduler) > once - 0.1
    assert config.history is not None
    with HistoryStore(config.history, read_only=True) as store:
        assert store.changes() == []


def test_a_writer_that_is_poisoned_goes_on_and_says_nothing_is_wrong(
    cores: list[SandboxCore], config: EccosConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HistoryStore.append_outcomes

    def moody(store: HistoryStore, outcomes: Iterable[CallOutcome]) -> int:
        batch = list(outcomes)
        if any(outcome.query == "poison" for outcome in batch):
            raise SystemExit(1)
        return real(store, batch)

    monkeypatch.setattr(HistoryStore, "append_outcomes", moody)
    with kernel_of(cores, config) as kernel:
        scheduler: Any = kernel.scheduler
        for text in ("before", "poison", "after"):
            assert ask(kernel, text).error is None
        scheduler.give_quality(0.5, agent="agent")
        assert scheduler.health()["healthy"]
        assert scheduler.status()["history"] == {"path": "history.db", "recorded": 2, "dropped": 1}
    assert [outcome.query for outcome in stored(config)] == ["before", "after"]


def test_a_refresh_learns_anew_only_from_another_history(
    cores: list[SandboxCore], config: EccosConfig
) -> None:
    with kernel_of(cores, config) as kernel:
        scheduler: Any = kernel.scheduler
        learned = scheduler.service.scheduler.predictor
        kernel.scheduler = refresh(kernel, config.model_copy(update={"max_wait_s": 0.5}))
        assert scheduler.service.scheduler.predictor is learned
        other = config.manifest.parent / "other.db"
        kernel.scheduler = refresh(kernel, config.model_copy(update={"history": other}))
        assert scheduler.service.scheduler.predictor is not learned


def test_a_kernel_that_starts_again_after_a_stop_goes_on_writing(
    cores: list[SandboxCore], config: EccosConfig
) -> None:
    with kernel_of(cores, config) as kernel:
        ask(kernel, "before")
        stopped: Any = kernel.scheduler
        stopped.stop()
        assert writers() == []
        kernel.scheduler = refresh(kernel, config)
        ask(kernel, "after")
        stopped.stop()  # AIOS may stop a scheduler that it has stopped before
        ask(kernel, "after that")
    assert [outcome.query for outcome in stored(config)] == ["before", "after", "after that"]


def test_a_store_that_cannot_be_written_costs_outcomes_and_no_call(
    cores: list[SandboxCore],
    config: EccosConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(store: HistoryStore, outcomes: Iterable[CallOutcome]) -> int:
        raise HistoryError(str(store.path), "", ABSENT, "the store cannot be used: disk is full")

    monkeypatch.setattr(HistoryStore, "append_outcomes", full)
    monkeypatch.setattr(
        "eccos_aios.runtime.outcome_log.OutcomeRecorder", partial(OutcomeRecorder, capacity=2)
    )
    monkeypatch.setattr("eccos_aios.runtime.outcome_log.FLUSH_S", 0.01)
    with kernel_of(cores, config) as kernel:
        scheduler: Any = kernel.scheduler
        assert {ask(kernel, f"question {number}").error for number in range(10)} == {None}
        with pytest.raises(HistoryError, match="cannot be written at the moment"):
            scheduler.give_quality(0.5, agent="agent")
        assert scheduler.status()["history"]["dropped"] >= 6
    assert scheduler.status()["history"] == {"path": "history.db", "recorded": 0, "dropped": 10}
    assert caplog.text.count("an outcome is not stored") == 1


def test_an_outcome_that_cannot_be_made_costs_no_call(
    cores: list[SandboxCore], config: EccosConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmakeable(*_: object) -> CallOutcome:
        raise ValueError("nobody foresaw this")

    monkeypatch.setattr("eccos_aios.hooks.scheduler.outcome_of", unmakeable)
    with kernel_of(cores, config) as kernel:
        assert ask(kernel, "hello").error is None
        scheduler: Any = kernel.scheduler
        scheduler.stop()
        assert scheduler.status()["history"]["dropped"] == 1


def test_a_store_that_cannot_be_opened_stops_the_start(cores: list[SandboxCore], config: EccosConfig) -> None:
    assert config.history is not None
    config.history.write_text("this is no database, and it is longer than the header of one would be" * 20)
    with pytest.raises(HistoryError, match=r"history\.db: is not a history store"):
        kernel_of(cores, config)


def test_a_history_that_is_only_read_is_said_to_be(
    cores: list[SandboxCore], config: EccosConfig, caplog: pytest.LogCaptureFixture
) -> None:
    history = config.manifest.parent / "history.jsonl"
    history.write_text("")
    caplog.set_level("INFO")
    with kernel_of(cores, config.model_copy(update={"history": history})) as kernel:
        ask(kernel, "hello")
        assert kernel.scheduler.status()["history"] == {"recorded": 0, "dropped": 0}  # type: ignore[attr-defined]
    assert caplog.text.count("this kernel's outcomes are not stored") == 1
    assert history.read_text() == ""


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ([], "must name one call, or one agent"),
        ({"quality": 1}, "must name one call, or one agent"),
        ({"call": 1, "agent": "a", "quality": 1}, "must name one call, or one agent"),
        ({"call": 1, "quality": 1, "qualty": 1}, "'qualty': unknown key"),
        ({"call": 1.5, "quality": 1}, "call: 1.5"),
        ({"call": True, "quality": 1}, "call: True"),
        ({"call": "", "quality": 1}, "call: ''"),
        ({"agent": 5, "quality": 1}, "agent: 5"),
        ({"agent": "a"}, "quality: None"),
        ({"agent": "a", "quality": "1"}, "quality: '1'"),
        ({"agent": "a", "quality": True}, "quality: True"),
        ({"agent": "a", "quality": 1.01}, "quality: 1.01"),
        ({"agent": "a", "quality": float("nan")}, "quality: nan"),
    ],
)
def test_a_wrong_feedback_is_named(body: Any, told: str) -> None:
    assert told in str(_feedback_fault(body))


@pytest.mark.parametrize(
    "body", [{"call": 1, "quality": 0}, {"call": "id", "quality": 0.5}, {"agent": "a", "quality": 1.0}]
)
def test_a_right_feedback_is_none(body: Any) -> None:
    assert _feedback_fault(body) is None
