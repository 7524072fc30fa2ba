"""A writer that is killed at random moments, round after round, and what the store holds afterwards.

    python tests/history/kill_drill.py 500

Each round forks a writer, kills it with SIGKILL at a moment drawn at random (while it makes or upgrades the
store, between and within commits, at a checkpoint, while it closes), and then checks that the store opens,
is whole, holds every addition that was acknowledged, holds none twice, and nothing that nobody sent. The
next writer gives once more what may or may not have arrived, as a client that got no answer does.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import count, islice
from pathlib import Path

from eccos_aios.history import CallOutcome, HistoryStore, Outcome, Record, read_history
from eccos_aios.history.schema import APPLICATION_ID, STEPS

ROUNDS_PER_STORE = 5
LONGEST_LIFE_S = 0.12  # of a writer: what a few hundred commits and some checkpoints take
YOUNG_LIFE_S = (
    0.01  # what the making or upgrade of a store takes; the first round of each is cut off within it
)
TEXT = "How much is it? " * 200  # 3 KB: enough for the log to be copied into the store every second or so


@dataclass
class Tally:
    """What a run of rounds did and found."""

    rounds: int = 0
    killed: int = 0
    stores: int = 0
    before_first_addition: int = 0
    within_an_addition: int = 0
    acknowledged: int = 0
    stored_without_answer: int = 0
    given_again: int = 0


@dataclass
class Expected:
    """What one store was given, by id."""

    acknowledged: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)
    graded: dict[str, float] = field(default_factory=dict)


def record(identity: str) -> Record:
    output = Outcome(model_name="small", quality=0.5, prediction=identity)
    return Record(id=identity, query=f"{identity}: {TEXT}", outputs=(output,))


def outcome(identity: str) -> CallOutcome:
    return CallOutcome(call_id=identity, core="small", query=f"{identity}: {TEXT}", finished_s=1.0)


def additions(
    store: HistoryStore, chance: random.Random, fresh: count[int], again: list[str]
) -> Iterator[tuple[list[str], Callable[[], object]]]:
    """Additions without end, each as its ids and the act that makes it."""
    while True:
        kind = chance.choice(["record", "records", "calls", "call"])
        ids = [f"{kind[0]}{next(fresh)}" for _ in range(chance.randint(2, 60) if kind.endswith("s") else 1)]
        ids += [again.pop() for _ in range(min(len(again), 5)) if again[-1][0] == kind[0]]
        if kind[0] == "r":
            yield ids, lambda ids=ids: store.extend([record(identity) for identity in ids])
        else:
            yield ids, lambda ids=ids: store.append_outcomes([outcome(identity) for identity in ids])
            graded = ids[0]
            yield [f"quality of {graded}"], lambda graded=graded: store.give_quality(graded, 0.25)


def write(path: Path, pipe: int, seed: int, first: int, again: list[str]) -> None:
    """The writer's life: says on the pipe what it is about to add, then that it is there."""

    def say(word: str, ids: list[str]) -> None:
        os.write(pipe, (json.dumps([word, ids]) + "\n").encode())

    chance = random.Random(seed)
    fresh = count(first)
    while True:
        with HistoryStore(path) as store:
            for ids, add in islice(additions(store, chance, fresh, again), chance.randint(5, 80)):
                say("sent", ids)
                add()
                say("acknowledged", ids)


def round_of(
    path: Path, seed: int, longest_s: float, first: int, again: list[str]
) -> tuple[list[tuple[str, list[str]]], bool]:
    """Fork a writer and kill it; what it said, and whether it was alive until then."""
    life_s = random.Random(seed).uniform(0, longest_s)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            write(path, writing, seed, first, again)
        finally:
            os._exit(1)  # only an error leads here
    os.close(writing)
    said = listen(reading, time.monotonic() + life_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    said += rest(reading)
    lines = said.split(b"\n")[:-1]  # a line that the kill cut short was not said
    was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return [tuple(json.loads(line)) for line in lines], was_killed


def listen(pipe: int, until_s: float) -> bytes:
    """What is said until a moment; a writer whose pipe is full would stand still."""
    said = b""
    while (left_s := until_s - time.monotonic()) > 0:
        if select.select([pipe], [], [], left_s)[0]:
            said += os.read(pipe, 1 << 16)
    return said


def rest(pipe: int) -> bytes:
    """What a dead writer has said and nobody has heard."""
    with os.fdopen(pipe, "rb") as file:
        return file.read()


def check(path: Path, expected: Expected) -> set[str]:
    """The ids that the store holds, once it has been found to be as it must be."""
    if not path.exists():
        assert not expected.acknowledged
        return set()
    held = read_history(path)
    with HistoryStore(path, read_only=True) as store:
        calls = list(store.outcomes())
    ids = [found.id for found in held if found.id and found.id[0] == "r"] + [call.call_id for call in calls]
    assert len(ids) == len(set(ids)), "something is there twice"
    assert expected.acknowledged <= set(ids), "something acknowledged is missing"
    assert set(ids) <= expected.sent, "something is there that nobody sent"
    for found in held:
        assert found == (record(found.id) if found.id[0] == "r" else outcome_record(found.id)), "changed"
    graded = {call.call_id for call in calls if call.quality is not None}
    assert set(expected.graded) <= graded, "an acknowledged quality is missing"
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return set(ids)


def outcome_record(identity: str) -> Record:
    return outcome(identity).model_copy(update={"quality": 0.25}).record()


def old_store(path: Path) -> None:
    """A store as version 1 left it, so that upgrades are cut off too."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        for statement in STEPS[0]:
            raw.execute(statement)
        raw.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        raw.execute("PRAGMA user_version = 1")


def run(rounds: int, folder: Path, seed: int = 0) -> Tally:
    """Kill writers `rounds` times; raises AssertionError at the first store that is not as it must be."""
    tally = Tally()
    while tally.rounds < rounds:
        path = folder / f"history-{tally.stores}.db"
        tally.stores += 1
        if tally.stores % 3 == 0:
            old_store(path)
        expected = Expected()
        again: list[str] = []
        for turn in range(min(ROUNDS_PER_STORE, rounds - tally.rounds)):
            longest_s = LONGEST_LIFE_S if turn else YOUNG_LIFE_S
            said, was_killed = round_of(path, seed + tally.rounds, longest_s, tally.rounds * 1_000_000, again)
            assert was_killed, "the writer failed before it was killed"
            acknowledged = set[str]()
            sent = set[str]()
            for word, ids in said:
                if ids[0].startswith("quality of "):
                    if word == "acknowledged":
                        expected.graded[ids[0].removeprefix("quality of ")] = 0.25
                    continue
                (acknowledged if word == "acknowledged" else sent).update(ids)
            tally.rounds += 1
            tally.killed += was_killed
            tally.before_first_addition += not said
            tally.within_an_addition += bool(said) and said[-1][0] == "sent"
            tally.acknowledged += len(acknowledged - expected.acknowledged)
            tally.given_again += len(sent & expected.sent)
            given_before = set(expected.sent)
            expected.acknowledged |= acknowledged
            expected.sent |= sent
            held = check(path, expected)
            for batch in (set(ids) - given_before for word, ids in said if word == "sent"):
                assert batch <= held or not batch & held, "half a batch is there"
            tally.stored_without_answer += len(held & (sent - acknowledged))
            unanswered = sorted(sent - acknowledged)
            again = unanswered[-20:] + sorted(acknowledged)[-20:]
        for file in folder.glob(f"{path.name}*"):
            file.unlink()
    return tally


if __name__ == "__main__":
    place = Path(tempfile.mkdtemp(prefix="kill-drill-"))
    began = time.monotonic()
    try:
        done = run(int(sys.argv[1]) if len(sys.argv) > 1 else 500, place)
    finally:
        shutil.rmtree(place)
    print(json.dumps({**asdict(done), "seconds": round(time.monotonic() - began, 1)}))
