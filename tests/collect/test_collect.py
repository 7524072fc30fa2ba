"""The collection end to end, against sandbox cores that count for themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from eccos_aios.cli.collect import collect
from eccos_aios.collect.ask import Backoff
from eccos_aios.collect.endpoint import endpoints
from eccos_aios.collect.formats import read_questions
from eccos_aios.collect.journal import Journal
from eccos_aios.collect.plan import make_plan
from eccos_aios.collect.run import GIVE_UP_AFTER, Collection, CollectionResult
from eccos_aios.core import read_manifest
from eccos_aios.errors import EccosError
from eccos_aios.history import read_history
from eccos_aios.sandbox import FaultKind, Reply, SandboxCore

SUMS = 40
QUICK = Backoff(attempts=12, first_s=0.02, most_s=0.05, after_timeout_s=0.3)

Start = Callable[..., SandboxCore]
WriteManifest = Callable[..., Path]


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tmp_path / "history.jsonl"


def run(manifest_file: Path, questions: Path, history: Path, **more: Any) -> CollectionResult:
    """A collection with short pauses."""
    manifest = read_manifest(manifest_file)
    journal = Journal(history)
    try:
        plan = make_plan(manifest, read_questions([questions]), journal, more.pop("max_output_tokens", 100))
        where = endpoints(manifest, str(manifest_file))
        return Collection(plan, where, journal, **{"backoff": QUICK, **more}).run()
    finally:
        journal.close()


def command(*arguments: object) -> Result:
    return CliRunner().invoke(collect, [str(part) for part in arguments])


def test_every_core_answers_every_question_within_its_quota(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    right, wrong = start("right", latency_s=0.005), start("wrong", lambda _: Reply("7 apples"))
    manifest = write_manifest(right, wrong, quota=3, price={"input": 1.0, "output": 2.0})
    threads = set(threading.enumerate())
    ran = command("--cores", manifest, "--questions", sums, "--out", history, "--json")
    assert (ran.exit_code, json.loads(ran.stdout)["ended"]) == (0, "complete")
    assert (right.requests, wrong.requests) == (SUMS, SUMS)
    assert right.max_in_flight <= 3
    assert wrong.max_in_flight <= 3
    records = read_history(history)
    assert len(records) == SUMS
    assert {record.query for record in records} == {f"What is {n} + {n + 1}?" for n in range(SUMS)}
    for record in records:
        outcomes = {outcome.model_name: outcome for outcome in record.outputs}
        assert outcomes["right"].graded_quality == 1.0
        assert outcomes["wrong"].graded_quality == float(record.query == "What is 3 + 4?")
        assert (outcomes["right"].input_token_length, outcomes["right"].output_token_length) == (10, 20)
        assert (outcomes["right"].latency_s or 0) >= 0.005
    assert json.loads(ran.stdout)["cores"]["right"]["cost_usd"] == pytest.approx(SUMS * 50e-6)
    assert {thread for thread in threading.enumerate() if thread.name.startswith("collect-")} <= threads


def test_the_quota_is_used(start: Start, write_manifest: WriteManifest, sums: Path, history: Path) -> None:
    all_there = threading.Barrier(4, timeout=20)
    core = start("core", lambda request: (all_there.wait(), Reply("1"))[1])
    assert run(write_manifest(core, quota=4), sums, history).ended == "complete"
    assert core.max_in_flight == 4


@pytest.mark.parametrize("kind", ["500", "429", "cut", "malformed", "empty"])
def test_what_may_pass_is_tried_again_within_the_quota(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path, kind: FaultKind
) -> None:
    core = start("core")
    core.fail(kind, share=0.4, seed=1)
    collected = run(write_manifest(core, quota=4), sums, history)
    assert (collected.ended, collected.tallies[0].failed) == ("complete", 0)
    assert core.requests > SUMS
    assert core.max_in_flight <= 4
    assert len(read_history(history)) == SUMS


def test_a_hanging_core_is_left_and_asked_again(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    core = start("core")
    core.fail("hang", share=0.1, seed=1)
    collected = run(write_manifest(core), sums, history, timeout_s=0.2)
    assert collected.ended == "complete"
    assert core.requests > SUMS
    assert core.max_in_flight <= 4


def test_a_bad_request_is_not_repeated_and_not_recorded(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    core = start("core")
    core.fail("400")
    collected = run(write_manifest(core), sums, history)
    assert (collected.ended, collected.tallies[0].failed, core.requests) == ("incomplete", SUMS, SUMS)
    assert read_history(history) == []
    core.heal()
    assert run(write_manifest(core), sums, history).ended == "complete"


def test_a_core_that_refuses_the_key_is_left_while_others_go_on(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    locked, open_ = start("locked"), start("open")
    locked.fail("401")
    collected = run(write_manifest(locked, open_, quota=2), sums, history)
    assert (collected.ended, open_.requests) == ("incomplete", SUMS)
    assert locked.requests < SUMS
    assert "401" in collected.tallies[0].stopped


def test_a_dead_core_is_given_up(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    core = start("core")
    manifest = write_manifest(core, quota=1)
    core.stop()
    collected = run(manifest, sums, history, backoff=Backoff(2, 0.01, 0.01))
    assert (collected.ended, collected.tallies[0].failed) == ("incomplete", GIVE_UP_AFTER)


def test_a_core_that_was_never_reached_is_not_waited_for(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    gone, there = start("gone"), start("there")
    manifest = write_manifest(gone, there, quota=1)
    address = gone.base_url.removeprefix("http://").removesuffix("/v1")
    gone.stop()
    pauses = []

    class Counted(Backoff):
        def pause_s(self, *_: object) -> float:
            pauses.append(1)
            return 0.0

    refused = run(manifest, sums, history, backoff=Counted(20)).tallies[0]
    assert refused.failed >= GIVE_UP_AFTER
    assert len(pauses) <= refused.failed + 1  # each was tried twice, not twenty times
    assert there.requests == SUMS
    assert address in refused.stopped


@pytest.mark.parametrize("max_usd", [0.0, 0.001, 0.01, 0.02])
def test_the_budget_holds_even_if_every_answer_is_as_long_as_can_be(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path, max_usd: float
) -> None:
    core = start("core", lambda request: Reply("1", input_tokens=100, output_tokens=request["max_tokens"]))
    manifest = write_manifest(core, quota=8, price={"input": 1.0, "output": 10.0})
    collected = run(manifest, sums, history, max_usd=max_usd)
    assert collected.ended == "budget"
    spent = core.stats["input_tokens"] * 1e-6 + core.stats["output_tokens"] * 10e-6
    assert spent <= max_usd
    assert spent == pytest.approx(collected.cost_usd)
    # What is left would not pay for one more call at its most: input is at most 1 000 tokens here.
    assert max_usd - spent < 1000e-6 + 100 * 10e-6


def test_the_budget_counts_what_was_spent_before_and_what_may_be_on_the_bill(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    core = start("core", lambda request: Reply("1", input_tokens=100, output_tokens=100))
    manifest = write_manifest(core, price={"input": 1.0, "output": 10.0})
    assert run(manifest, sums, history, max_usd=0.01).ended == "budget"
    requests = core.requests
    assert run(manifest, sums, history, max_usd=0.01).ended == "budget"
    assert core.requests == requests > 0
    core.fail("cut")
    collected = run(manifest, sums, history, max_usd=0.02)
    assert collected.ended == "budget"
    assert collected.unknown_usd > 0
    assert requests * 1100e-6 + collected.unknown_usd <= 0.02
    assert core.requests - requests < 10


def test_free_cores_go_on_when_the_budget_is_used_up(
    start: Start, write_manifest: WriteManifest, sums: Path, tmp_path: Path, history: Path
) -> None:
    free, dear = start("free"), start("dear")
    manifest = write_manifest(free, dear)
    content = json.loads(manifest.read_text())
    content["cores"][1]["price"] = {"output": 1000.0}
    manifest.write_text(json.dumps(content))
    collected = run(manifest, sums, history, max_usd=0.05)
    assert (collected.ended, free.requests, dear.requests) == ("budget", SUMS, 0)


class Background:
    """``eccos-aios collect`` in a process of its own."""

    def __init__(self, *arguments: object) -> None:
        main = "from eccos_aios.cli.main import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", main, "collect", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, number: int) -> int:
        os.kill(self.process.pid, number)
        self.process.communicate(timeout=30)
        return self.process.returncode


def stepping_core(start: Start, stop_at: int) -> tuple[SandboxCore, threading.Event, threading.Event]:
    """A core that says when request number `stop_at` has come, and holds that one until it may go on."""
    reached, go_on, counted = threading.Event(), threading.Event(), iter(range(1, 10**6))

    def reply(request: dict[str, Any]) -> Reply:
        if next(counted) == stop_at:
            reached.set()
            go_on.wait(30)
        return Reply("1", input_tokens=1, output_tokens=1)

    return start("core", reply), reached, go_on


def test_killed_at_any_moment_it_goes_on_where_it_stopped(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    core, reached, go_on = stepping_core(start, stop_at=20)
    arguments = ("--cores", write_manifest(core, quota=1), "--questions", sums, "--out", history)
    background = Background(*arguments)
    assert reached.wait(30)
    assert background.end(signal.SIGKILL) == -signal.SIGKILL
    go_on.set()
    # A slot asks on only when its answer is on the disk.
    before = read_history(history)
    assert len(before) == 19
    with history.open("ab") as file:
        file.write(b'{"id": "cut off", "query": "wh')
    asked = core.requests
    assert command(*arguments).exit_code == 0
    assert core.requests - asked == SUMS - len(before)
    records = read_history(history)
    assert len(records) == len({record.id for record in records}) == SUMS
    assert all(len(record.outputs) == 1 for record in records)


def test_interrupted_it_keeps_what_is_under_way(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    core, reached, go_on = stepping_core(start, stop_at=10)
    arguments = ("--cores", write_manifest(core, quota=1), "--questions", sums, "--out", history, "--json")
    background = Background(*arguments)
    assert reached.wait(30)
    os.kill(background.process.pid, signal.SIGINT)
    line = background.process.stderr.readline()  # type: ignore[union-attr]
    assert "waiting for 1 calls under way" in line
    go_on.set()
    out, _ = background.process.communicate(timeout=30)
    assert (background.process.returncode, json.loads(out)["ended"]) == (130, "interrupted")
    assert len(read_history(history)) == core.requests == 10


def test_interrupted_twice_it_ends_at_once(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    core, reached, go_on = stepping_core(start, stop_at=10)
    background = Background(
        "--cores", write_manifest(core, quota=1), "--questions", sums, "--out", history, "--json"
    )
    assert reached.wait(30)
    os.kill(background.process.pid, signal.SIGTERM)
    assert background.process.stderr.readline()  # type: ignore[union-attr]
    assert background.end(signal.SIGTERM) == 130
    go_on.set()
    assert len(read_history(history)) == 9


def test_a_core_more_is_asked_alone(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    one, two = start("one"), start("two")
    run(write_manifest(one), sums, history)
    run(write_manifest(one, two), sums, history)
    assert (one.requests, two.requests) == (SUMS, SUMS)
    records = read_history(history)
    assert len(records) == SUMS
    assert all(len(record.outputs) == 2 for record in records)


@pytest.mark.parametrize(("name", "head"), [("h.jsonl.gz", b"\x1f\x8b"), ("h.json", b"["), ("h.jsonl", b"{")])
def test_the_history_has_the_form_that_its_name_asks_for(
    start: Start, write_manifest: WriteManifest, sums: Path, tmp_path: Path, name: str, head: bytes
) -> None:
    core, history = start("core"), tmp_path / name
    for _ in range(2):
        run(write_manifest(core), sums, history)
        assert history.read_bytes().startswith(head)
        assert len(read_history(history)) == core.requests == SUMS


def test_records_of_others_are_kept_as_they_are(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    other = {"query": "q", "outputs": [{"model_name": "m", "quality": 0.5}], "note": "mine"}
    history.write_text(json.dumps(other))
    run(write_manifest(start("core")), sums, history)
    assert json.loads(history.read_text().splitlines()[0]) == other
    assert len(read_history(history)) == SUMS + 1


def test_a_plan_asks_nothing_and_writes_nothing(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    core = start("core")
    manifest = write_manifest(core, price={"input": 1.0, "output": 2.0}, quota=3)
    ran = command("--cores", manifest, "--questions", sums, "--out", history, "--dry-run", "--json")
    plan = json.loads(ran.stdout)["plan"]
    assert (ran.exit_code, plan["to_ask"], plan["cores"]["core"]["quota"]) == (0, SUMS, 3)
    assert 0 < plan["expected_usd"] < plan["most_usd"]
    assert (core.requests, history.exists()) == (0, False)


def test_a_history_is_written_by_one_collection_at_a_time(history: Path) -> None:
    journal = Journal(history)
    with pytest.raises(EccosError, match="another collection writes to it"):
        Journal(history)
    journal.close()
    Journal(history).close()


def test_a_history_that_is_none_is_left_alone(history: Path) -> None:
    history.write_text('{"query": "q"}\n')
    with pytest.raises(EccosError, match=r"history.jsonl:1: outputs: required"):
        Journal(history)
    assert history.read_text() == '{"query": "q"}\n'


def test_cores_are_asked_only_what_suits_them(
    start: Start, write_manifest: WriteManifest, tmp_path: Path, history: Path
) -> None:
    tool = {"name": "area.of", "parameters": {"type": "dict", "properties": {"side": {"type": "float"}}}}
    asked = {
        "question": "Area of a square of side 3?",
        "tools": [tool],
        "answer": {"area.of": {"side": [3.0]}},
        "grader": "tool_call",
    }
    long = {"question": "word " * 2000, "answer": "x", "grader": "contains"}
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(question) + "\n" for question in (asked, long)))
    seen: list[dict[str, Any]] = []

    def reply(request: dict[str, Any]) -> Reply:
        seen.append(request)
        return Reply(None, [{"name": request["tools"][0]["function"]["name"], "arguments": {"side": 3}}])

    collected = run(write_manifest(start("core", reply), context_window=2000), questions, history)
    assert (collected.ended, len(seen)) == ("complete", 1)
    function = seen[0]["tools"][0]["function"]
    assert (function["name"], function["parameters"]["type"]) == ("area_of", "object")
    assert function["parameters"]["properties"]["side"]["type"] == "number"
    (record,) = read_history(history)
    assert record.outputs[0].graded_quality == 1
    assert record.tools == [tool]
    plain = run(write_manifest(start("plain"), supports=["json"]), questions, history)
    assert plain.tallies[0].total == 1


def test_texts_may_be_left_out(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    manifest = write_manifest(start("core"))
    assert command("--cores", manifest, "--questions", sums, "--out", history, "--no-text").exit_code == 0
    assert "The answer is" not in history.read_text()
    assert len(read_history(history)) == SUMS


def test_the_built_in_questions_are_asked_by_name(
    start: Start, write_manifest: WriteManifest, history: Path
) -> None:
    core = start("core")
    arguments = ("--questions", "builtin", "--limit", 30, "--out", history, "--json")
    ran = command("--cores", write_manifest(core, quota=16), *arguments)
    result = json.loads(ran.stdout)
    assert (ran.exit_code, result["questions"], core.requests) == (0, 30, 30)
    assert len({record.category for record in read_history(history)}) > 2


def test_a_budget_needs_prices(
    start: Start, write_manifest: WriteManifest, sums: Path, history: Path
) -> None:
    core = start("core")
    arguments = ("--questions", sums, "--out", history, "--max-usd", 1, "--json")
    ran = command("--cores", write_manifest(core), *arguments)
    assert isinstance(ran.exception, EccosError)
    assert "cores[0].price: required by --max-usd" in str(ran.exception)
    assert command("--cores", write_manifest(core, price={"input": 0}), *arguments).exit_code == 0
