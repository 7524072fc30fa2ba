"""The store: what was acknowledged stays, once, and can be read by anyone at any time."""

from __future__ import annotations

import gc
import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.errors import HistoryError
from eccos_aios.history import (
    AddResult,
    CallOutcome,
    HistoryStore,
    Outcome,
    ReadReport,
    Record,
    read_history,
    store_file,
)
from eccos_aios.history.schema import APPLICATION_ID, STEPS, VERSION, is_store
from eccos_aios.history.store import BATCH

SECRET = "the_launch_code_is_0000"


def record(identity: str | None, query: str = "q", quality: float = 1.0, **more: Any) -> Record:
    return Record(id=identity, query=query, outputs=(Outcome(model_name="small", quality=quality),), **more)


def call(identity: str, **more: Any) -> CallOutcome:
    return CallOutcome(**{"call_id": identity, "core": "small", "query": "q", "finished_s": 7.5, **more})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def store(path: Path) -> Iterator[HistoryStore]:
    with HistoryStore(path) as store:
        yield store


def raw(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.integration
def test_what_was_appended_is_read_in_its_order_by_a_later_process(path: Path) -> None:
    given = [record("b"), record(None, category="sums"), record("a", tools=[{"name": "add"}])]
    with HistoryStore(path) as store:
        assert [store.extend([one]).stored for one in given] == [1] * 3
    program = f"from eccos_aios.history import read_history; print(read_history({str(path)!r}) == {given!r})"
    program = f"from eccos_aios.history import Outcome, Record\n{program}"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "True\n"


def test_a_record_is_stored_once_by_id_or_else_by_content(store: HistoryStore) -> None:
    given = [record("a"), record("a"), record("a", quality=0.0), record(None), record(None), record("b")]
    assert store.extend(given) == AddResult(stored=3, duplicates=3, conflicts=1)
    assert list(store.records()) == [record("a"), record(None), record("b")]


def test_a_call_and_a_record_share_one_space_of_ids(store: HistoryStore) -> None:
    store.append_outcomes([call("seen", quality=1.0)])
    store.extend([record("imported")])
    assert not store.extend([record("seen")]).stored
    assert not store.append_outcomes([call("imported")])
    assert [found.id for found in store.records()] == ["imported", "seen"]


def test_a_batch_is_stored_whole_or_not_at_all(store: HistoryStore) -> None:
    bad = record("bad").model_copy(update={"tools": [{"name": "\ud800"}]})
    with pytest.raises(HistoryError, match=r"history\.db: record: 'bad': holds what JSON cannot"):
        store.extend([*(record(str(n)) for n in range(BATCH)), record("with the bad one"), bad])
    assert store.record_count() == BATCH
    assert store.extend([record("after it")]).stored


def test_every_field_of_an_outcome_comes_back(store: HistoryStore) -> None:
    full = call(
        "1",
        agent="planner",
        tools=[{"name": "add", "parameters": {"deep": [1, None]}}],
        input_token_length=93,
        output_token_length=0,
        token_source="provider",
        latency_s=0.1,
        cost_usd=1e-7,
        error="http_503",
        quality=0.25,
    )
    bare = call("2", query="nul \0 and ✓")
    assert [store.append_outcomes([one]) for one in (full, bare, full)] == [1, 1, 0]
    assert list(store.outcomes()) == [full, bare]


def test_only_calls_of_known_quality_become_records(store: HistoryStore) -> None:
    store.append_outcomes([call("a", latency_s=2.0), call("b"), call("c", quality=0.5)])
    store.give_quality("a", 1)
    expected = Outcome(model_name="small", quality=1.0, latency_s=2.0)
    assert [found.id for found in store.records()] == ["a", "c"]
    assert next(store.records()).outputs == (expected,)
    assert store.record_count() == 2


def test_the_quality_that_is_given_last_counts(store: HistoryStore) -> None:
    store.append_outcomes([call("a", quality=1.0)])
    for quality in (0.25, 0.75):
        store.give_quality("a", quality)
    (found,) = store.records()
    assert found.outputs[0].quality == 0.75


@pytest.mark.parametrize("quality", [1.01, -0.01, float("nan"), float("inf"), True, "1", None])
def test_a_quality_out_of_range_is_refused_by_name(store: HistoryStore, quality: Any) -> None:
    store.append_outcomes([call("a")])
    with pytest.raises(HistoryError, match=r"quality: .*: must be a number from 0 to 1") as caught:
        store.give_quality("a", quality)
    assert caught.value.key == "quality"
    assert store.record_count() == 0


@pytest.mark.parametrize("identity", ["nobody", "", "\ud800", 7, "record"])
def test_feedback_on_what_is_no_call_is_refused_by_name(store: HistoryStore, identity: Any) -> None:
    store.extend([record("record")])
    store.append_outcomes([call("a")])
    with pytest.raises(HistoryError) as caught:
        store.give_quality(identity, 0.5)
    assert caught.value.key == "call_id"


def test_the_latest_call_of_an_agent(store: HistoryStore) -> None:
    store.append_outcomes([call("1", agent="a"), call("2", agent="b"), call("3", agent="a")])
    assert (store.latest_call("a"), store.latest_call("b")) == ("3", "2")
    with pytest.raises(HistoryError, match="agent: 'c': there is no finished call of this agent"):
        store.latest_call("c")


@pytest.mark.parametrize("field", ["call_id", "core", "query", "agent", "tools"])
def test_an_outcome_takes_what_an_agent_really_sent(store: HistoryStore, field: str) -> None:
    half = "half a pair: \ud83d"
    value: Any = [{half: [half, 1]}] if field == "tools" else half
    assert store.append_outcomes([CallOutcome(**{"call_id": "1", "core": "small", field: value})])
    assert "half a pair: ?" in str(getattr(next(store.outcomes()), field))


def test_tools_that_are_no_json_are_kept_as_text(store: HistoryStore) -> None:
    store.append_outcomes(
        [call("1", tools=[{"name": "add", (1, 2): {"path": Path("x"), "bound": float("inf")}}])]
    )
    (found,) = store.outcomes()
    assert found.tools == [{"name": "add", "(1, 2)": {"path": "x", "bound": float("inf")}}]


@pytest.mark.parametrize(
    ("field", "value"),
    [("quality", 2.0), ("latency_s", -1.0), ("cost_usd", float("nan")), ("error", "no: two words"), ("token_source", "guessed"), ("core", "")],
)  # fmt: skip
def test_an_outcome_refuses_what_cannot_be(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        call("1", **{field: value})


def test_text_that_is_to_be_left_out_never_reaches_the_disk(path: Path) -> None:
    answer = Outcome(model_name="small", quality=0.5, output_token_length=3, prediction={"said": SECRET})
    asked = Record(id="r", query=SECRET, outputs=(answer,), tools=[{"name": SECRET}], category="sums")
    with HistoryStore(path, store_text=False, embed=lambda record: f"length:{len(record.query):04}") as store:
        assert store.extend([asked]).stored
        assert not store.extend([asked]).stored
        assert not store.extend([record("r", query="other")]).stored
        store.append_outcomes([call("c", query=SECRET, tools=[{"name": SECRET}], quality=1.0)])
        store.give_quality("c", 0.5)
        on_disk = b"".join(file.read_bytes() for file in path.parent.iterdir())
        found = list(store.records())
        assert store.stats().without_text == 2
    assert SECRET.encode() not in on_disk + path.read_bytes()
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    assert digest.encode() in on_disk
    assert [(one.query, one.query_hash, one.query_length, one.tools) for one in found] == [
        ("", digest, len(SECRET), None)
    ] * 2
    assert (found[0].category, found[0].outputs[0].output_token_length) == ("sums", 3)
    assert found[0].outputs[0].prediction is None
    assert [one.embedding for one in found] == [f"length:{len(SECRET):04}"] * 2


def test_stats_sum_up_records_and_calls(store: HistoryStore) -> None:
    outputs = (
        Outcome(model_name="small", correctness=True, output_token_length=10),
        Outcome(model_name="large", correctness=True, quality=0.25, latency_s=2.0),
    )
    store.extend([Record(query="q", outputs=outputs)])
    store.append_outcomes(
        [
            call("1", cost_usd=0.5, output_token_length=30),
            call("2", cost_usd=0.25, error="TimeoutError"),
            call("3", core="idle"),
        ]
    )
    store.give_quality("1", 0.5)
    figures = store.stats()
    assert (figures.records, figures.calls, figures.graded_calls) == (1, 3, 1)
    assert figures.schema_version == VERSION
    assert list(figures.cores) == ["idle", "large", "small"]
    small, large, idle = (figures.cores[name] for name in ("small", "large", "idle"))
    assert (small.graded, small.quality, small.output_tokens, small.latency_s) == (2, 0.75, 20.0, None)
    assert (small.calls, small.failed, small.cost_usd) == (2, 1, 0.75)
    assert (large.graded, large.quality, large.latency_s, large.calls) == (1, 0.25, 2.0, 0)
    assert (idle.graded, idle.quality, idle.calls) == (0, None, 1)


# Openings


def test_a_store_is_told_by_content_whatever_its_name(path: Path) -> None:
    with HistoryStore(path) as store:
        store.extend([record("a")])
    assert read_history(path.rename(path.with_suffix(".sqlite"))) == [record("a")]


def test_a_bad_row_can_be_skipped_and_is_reported(path: Path) -> None:
    with HistoryStore(path) as store:
        store.extend([record("a"), record("b")])
    raw(path, """UPDATE records SET body = '{"query": 1, "outputs": []}' WHERE id = 'a'""")
    with pytest.raises(HistoryError, match=r"history\.db: record 1: query: 1: must be text"):
        read_history(path)
    report = ReadReport()
    assert read_history(path, skip_bad_records=True, report=report) == [record("b")]
    assert len(report.faults) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"query": "q", "outputs": []}\n' * 99, "not a history store: the file is not an SQLite database"),
        (b"SQLite format 3\0" + b"\xff" * 4096, "not a history store: the file is not an SQLite database"),
        (b"\0" * 4096, "not a history store: the file is not an SQLite database"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_stays(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    for read_only in (True, False):
        with pytest.raises(HistoryError) as caught:
            HistoryStore(path, read_only=read_only)
        assert str(caught.value) == f"{path}: is {reason}"
    with pytest.raises(HistoryError, match="is not a history store"):
        read_history(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE notes (text)", "PRAGMA user_version = 3", "PRAGMA application_id = 9"]
)
def test_another_programs_database_is_refused_and_stays(path: Path, statement: str) -> None:
    raw(path, statement, "VACUUM")
    content = path.read_bytes()
    with pytest.raises(HistoryError, match=r"history\.db: is an SQLite file, but not a history store"):
        HistoryStore(path)
    assert path.read_bytes() == content


def test_a_damaged_store_says_so_when_it_is_read(path: Path) -> None:
    with HistoryStore(path) as store:
        store.extend(record(str(n), query="q" * 3000) for n in range(20))
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(HistoryError, match=r"history\.db: the store cannot be used: "):
        read_history(path)


def test_a_newer_store_asks_for_the_upgrade_of_the_program(path: Path) -> None:
    HistoryStore(path).close()
    raw(path, f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(HistoryError, match=rf"schema version: {VERSION + 1}: is newer .*upgrade eccos-aios"):
        read_history(path)


def test_absent_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"gone\.db: cannot be read: No such file"):
        read_history(tmp_path / "gone.db")
    with pytest.raises(HistoryError, match=r"there is no folder .*nowhere"):
        HistoryStore(tmp_path / "nowhere" / "history.db")
    with pytest.raises(HistoryError, match="is a folder, not a history store"):
        HistoryStore(tmp_path)


def test_a_reader_cannot_write(path: Path) -> None:
    HistoryStore(path).close()
    with pytest.raises(HistoryError, match="was opened read-only"):
        HistoryStore(path, read_only=True).extend([record("a")])


def test_a_store_in_a_folder_where_nothing_can_be_written_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HistoryStore(path) as store:
        store.extend([record("a")])
    monkeypatch.setattr(os, "access", lambda *where: False)
    assert read_history(path) == [record("a")]
    assert list(path.parent.iterdir()) == [path]


# Versions

VERSION_1 = (
    "PRAGMA journal_mode = WAL",
    "CREATE TABLE records (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, content_hash BLOB NOT NULL UNIQUE, body TEXT NOT NULL)",
    "CREATE TABLE outcomes (seq INTEGER PRIMARY KEY, call_id TEXT NOT NULL UNIQUE, core TEXT NOT NULL, query TEXT NOT NULL, "
    "tools TEXT, agent TEXT NOT NULL, input_token_length INTEGER, output_token_length INTEGER, token_source TEXT, "
    "latency_s REAL, cost_usd REAL, error TEXT, quality REAL, finished_s REAL NOT NULL, query_hash TEXT, query_length INTEGER)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    "PRAGMA user_version = 1",
    """INSERT INTO records VALUES (1, 'r', x'00', '{"query":"old","outputs":[{"model_name":"small","quality":0.5}]}')""",
    "INSERT INTO outcomes (call_id, core, query, agent, quality, finished_s) VALUES ('a', 'small', 'q', 'x', 1.0, 1.0)",
    "INSERT INTO outcomes (call_id, core, query, agent, finished_s) VALUES ('b', 'small', 'q', 'x', 2.0)",
)  # fmt: skip


@pytest.mark.parametrize("read_only", [True, False])
def test_a_store_of_version_1_is_brought_to_this_version_with_all_it_holds(
    path: Path, read_only: bool
) -> None:
    raw(path, *VERSION_1)
    HistoryStore(path, read_only=read_only).close()
    with HistoryStore(path) as store:
        store.give_quality("b", 0.25)
        assert store.stats().schema_version == VERSION
        assert [(found.query, found.outputs[0].quality) for found in store.records()] == [
            ("old", 0.5),
            ("q", 1.0),
            ("q", 0.25),
        ]
        assert store.latest_call("x") == "b"
        store.append_outcomes([call("c", query_hash="00", embedding="kind:AAAA", quality=1.0)])
        assert [found.embedding for found in store.records()] == [None, None, None, "kind:AAAA"]


def test_an_upgraded_store_has_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    raw(path, *VERSION_1[:5])
    tables = []
    for name in (path, tmp_path / "new.db"):
        HistoryStore(name).close()
        with closing(sqlite3.connect(name)) as connection:
            found = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
            tables.append([(name, "".join((sql or "").split())) for name, sql in found])
    assert tables[0] == tables[1]


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw(path, *VERSION_1)
    monkeypatch.setattr(
        "eccos_aios.history.schema.STEPS", (*STEPS[:1], (*STEPS[1], "CREATE TABLE records (twice)"))
    )
    with pytest.raises(HistoryError, match="table records already exists"):
        HistoryStore(path)
    monkeypatch.undo()
    with HistoryStore(path) as store:
        assert len(list(store.records())) == 2


@pytest.mark.parametrize("cut_off", [b"", None])
def test_a_store_whose_making_was_cut_off_is_empty_and_is_completed(
    path: Path, cut_off: bytes | None
) -> None:
    if cut_off is None:
        raw(
            path, "PRAGMA journal_mode = WAL"
        )  # the first thing that is written, and the tables still missing
    else:
        path.write_bytes(cut_off)
    assert read_history(path) == []
    with HistoryStore(path) as store:
        assert store.extend([record("a")]).stored


@pytest.mark.integration
def test_a_journal_that_a_killed_writer_left_is_rolled_back_also_by_a_reader(path: Path) -> None:
    with HistoryStore(path) as store:
        store.extend([record("a")])
    raw(path, "PRAGMA journal_mode = DELETE")
    program = (
        "import os, sqlite3, sys\n"
        "writer = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "writer.execute('PRAGMA cache_size = 1')\n"
        "writer.execute('BEGIN IMMEDIATE')\n"
        "for n in range(99): writer.execute('INSERT INTO records (content_hash, body) VALUES (?, ?)', (str(n), 'x' * 4096))\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert path.with_name("history.db-journal").exists()
    assert read_history(path) == [record("a")]


# Side by side


def test_many_may_make_the_same_store_at_once(path: Path) -> None:
    together = threading.Barrier(8)

    def make(number: int) -> bool:
        together.wait()
        with HistoryStore(path) as store:
            return store.extend([record(str(number))]).stored

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(make, range(8)))
    assert {found.id for found in read_history(path)} == {str(number) for number in range(8)}


def test_readers_see_a_growing_beginning_while_one_writes(store: HistoryStore, path: Path) -> None:
    total = 300
    stop = threading.Event()

    def read(reader: HistoryStore) -> tuple[int, int]:
        """How often it read, and how many records it saw last."""
        seen = reads = 0
        while not stop.is_set() or not reads:
            ids = [found.id for found in reader.records()]
            assert ids == [str(n) for n in range(len(ids))]
            assert len(ids) >= seen
            seen, reads = len(ids), reads + 1
        return reads, seen

    readers = [HistoryStore(path, read_only=True) for _ in range(3)]
    with ThreadPoolExecutor(4) as pool:
        reading = [pool.submit(read, reader) for reader in [*readers, store]]
        try:
            for first in range(0, total, 5):
                assert store.extend(record(str(n)) for n in range(first, first + 5)).stored == 5
        finally:
            stop.set()
        assert all(done.result()[0] >= 1 for done in reading)
    assert len(read_history(path)) == total


def test_a_reader_keeps_what_was_there_when_it_began(store: HistoryStore) -> None:
    store.extend(record(str(n)) for n in range(3))
    begun = store.records()
    assert next(begun).id == "0"
    store.extend([record("later")])
    assert [found.id for found in begun] == ["1", "2"]
    assert store.record_count() == 4


def test_writers_wait_for_each_other(path: Path) -> None:
    def write(writer: int) -> int:
        with HistoryStore(path) as store:
            return sum(store.extend([record(f"{writer}-{n}")]).stored for n in range(25))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, range(4))) == 100
    assert len(read_history(path)) == 100


def test_a_store_that_another_writer_does_not_let_go_of_says_so(
    store: HistoryStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eccos_aios.history.schema.BUSY_S", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other, HistoryStore(path) as impatient:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError, match="another writer has held the store"):
            impatient.extend([record("a")])
        other.execute("ROLLBACK")
        assert impatient.extend([record("a")]).stored


@pytest.mark.integration
def test_another_process_sees_what_is_written_after_it_has_closed_the_store(path: Path) -> None:
    """A second opening in this process must not make others believe that nobody uses the store."""
    alias = path.with_suffix("")
    alias.symlink_to(path)

    def elsewhere(what: str) -> str:
        program = (
            f"from eccos_aios.history import HistoryStore\nwith HistoryStore({str(path)!r}) as s: {what}"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    with HistoryStore(path) as store:
        store.append_outcomes([call("first")])
        HistoryStore(path, read_only=True).close()
        assert is_store(alias)
        elsewhere("pass")
        store.append_outcomes([call("second")])
        assert elsewhere("print([each.call_id for each in s.outcomes()])") == "['first', 'second']"


def test_what_the_garbage_collector_closes_while_a_store_is_opened_stops_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def collecting(*given: Any, **named: Any) -> sqlite3.Connection:
        gc.collect()  # as any allocation may
        return connect(*given, **named)

    with HistoryStore(path) as store:
        store.extend([Record(query="a", outputs=())])
        monkeypatch.setattr(sqlite3, "connect", collecting)
        abandoned: list[Any] = [store.records()]
        next(abandoned[0])
        abandoned.append(abandoned)
        del abandoned
        reading = threading.Thread(target=lambda: list(store.records()), daemon=True)
        reading.start()
        reading.join(10.0)
        assert not reading.is_alive()
    assert not store_file._is_held(str(path.resolve()))
