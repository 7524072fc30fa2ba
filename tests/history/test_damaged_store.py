"""A store that is damaged is said to be, in one line, and stays as it is."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from eccos_aios.cli.main import main
from eccos_aios.errors import HistoryError
from eccos_aios.history import CallOutcome, Change, HistoryStore, Outcome, Record

SECRET = "what nobody else may read"
Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "h.db"
    with HistoryStore(path) as store:
        outcome = Outcome(model_name="a", quality=0.5, output_token_length=3, latency_s=0.5)
        store.extend(Record(id=f"r{n}", query=f"{SECRET} {n}", outputs=(outcome,)) for n in range(200))
        store.append_outcomes(
            CallOutcome(call_id=f"c{n}", core="b", query=SECRET, cost_usd=0.1, quality=0.5)
            for n in range(200)
        )
        for n in range(20):
            store.give_quality(f"c{n}", 0.9)
        store.note_changes([Change("a", "c5", -0.5, 0.0)])
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path))


def sql(*statements: str) -> Damage:
    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            for statement in statements:
                raw.execute(statement)

    return damage


def cut(length: int) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[:length])


def content(data: bytes) -> Damage:
    return lambda path: path.write_bytes(data)


DAMAGES: dict[str, Damage] = {
    "cut to nothing": cut(0),
    "cut within the header": cut(50),
    "cut after a page": cut(4096),
    "cut in the middle": cut(30_000),
    "a byte": content(b"x"),
    "garbage": content(b"garbage" * 1000),
    "a header and no more": content(b"SQLite format 3\0"),
    "a header and garbage": content(b"SQLite format 3\0" + b"\xff" * 9000),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "no feedback": sql("DROP TABLE feedback"),
    "no outcomes": sql("DROP TABLE outcomes"),
    "no records": sql("DROP TABLE records"),
    "a column less": sql("ALTER TABLE outcomes DROP COLUMN quality"),
    "a newer version": sql("PRAGMA user_version = 99"),
    "of something else": sql("PRAGMA application_id = 5"),
    "a core that is none": sql("UPDATE outcomes SET core = x'ff00' WHERE seq = 3"),
    "a quality in words": sql("UPDATE outcomes SET quality = 'high' WHERE seq = 99"),
    "a quality without end": sql("UPDATE outcomes SET quality = 9e999 WHERE seq = 99"),
    "feedback in words": sql("UPDATE feedback SET quality = 'high'"),
    "seconds in words": sql("UPDATE outcomes SET latency_s = 'long'"),
    "a cost of bytes": sql("UPDATE outcomes SET cost_usd = x'00'"),
    "tokens in words": sql("UPDATE outcomes SET output_token_length = 'many'"),
    "a record that is no JSON": sql("UPDATE records SET body = '{' WHERE seq = 4"),
    "a record of bytes": sql("UPDATE records SET body = x'ff00' WHERE seq = 4"),
    "a record that is a list": sql("UPDATE records SET body = '[1]' WHERE seq = 4"),
    "a record that is a number": sql("UPDATE records SET body = '5' WHERE seq = 4"),
    "outputs that are none": sql("""UPDATE records SET body = '{"query": "q", "outputs": null}'"""),
    "an output without a name": sql("""UPDATE records SET body = '{"query": "q", "outputs": [{"model_name": 5}]}'"""),
    "an output of text": sql("""UPDATE records SET body = '{"query": "q", "outputs": ["a"]}'"""),
}  # fmt: skip
ONLY_READ = {
    "tools that are no JSON": sql("UPDATE outcomes SET tools = '{'"),
    "tools of bytes": sql("UPDATE outcomes SET tools = x'ff'"),
    "tools without end": sql(f"UPDATE outcomes SET tools = '{'[' * 100_000}'"),
    "a text that is not UTF-8": sql(f"UPDATE outcomes SET query = cast(x'ff' || '{SECRET}' AS TEXT)"),
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def assert_refused(done: Result, path: Path, before: bytes | None) -> None:
    assert done.exit_code == 2, (done.exception, done.output)
    assert isinstance(done.exception, SystemExit)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(str(path))
    assert SECRET not in line
    assert before is None or path.read_bytes() == before
    assert not list(path.parent.glob("*.partial"))


def damaged(path: Path, damage: Damage) -> bytes | None:
    damage(path)
    return path.read_bytes() if path.is_file() else None


@pytest.mark.parametrize("damage", DAMAGES)
def test_stats_say_so(path: Path, damage: str) -> None:
    before = damaged(path, DAMAGES[damage])
    assert_refused(run("history", "stats", path), path, before)
    assert_refused(run("history", "stats", path, "--json"), path, before)


@pytest.mark.parametrize("damage", [*DAMAGES, *ONLY_READ])
def test_an_export_says_so_and_leaves_nothing(path: Path, damage: str) -> None:
    before = damaged(path, {**DAMAGES, **ONLY_READ}[damage])
    out = path.with_name("out.jsonl")
    out.write_text("what was there before")
    assert_refused(run("history", "export", path, "--out", out), path, before)
    assert out.read_text() == "what was there before"


@pytest.mark.parametrize("damage", [*DAMAGES, *ONLY_READ])
def test_an_import_from_it_says_so(path: Path, damage: str) -> None:
    before = damaged(path, {**DAMAGES, **ONLY_READ}[damage])
    assert_refused(run("history", "import", path.with_name("new.db"), path), path, before)


@pytest.mark.parametrize(
    "damage",
    ["a byte", "garbage", "a header and no more", "a header and garbage", "cut within the header", "a folder", "a newer version", "of something else"],
)  # fmt: skip
def test_an_import_into_it_says_so_and_writes_nothing(path: Path, damage: str) -> None:
    before = damaged(path, DAMAGES[damage])
    lines = path.with_name("more.jsonl")
    lines.write_text('{"query": "q", "outputs": [{"model_name": "a", "quality": 1}]}\n')
    assert_refused(run("history", "import", path, lines), path, before)


def test_any_flipped_bytes_are_read_or_named(path: Path) -> None:
    pristine, draw = path.read_bytes(), random.Random(5)
    refused = 0
    for turn in range(60):
        data = bytearray(pristine)
        for _ in range((1, 20, 300)[turn % 3]):
            data[draw.randrange(0, len(data) if turn % 2 else 12_288)] = draw.randrange(256)
        for file in path.parent.glob("h.db*"):
            file.unlink()
        path.write_bytes(data)
        for command in (("stats", path), ("export", path, "--out", path.with_name("out.jsonl"))):
            done = run("history", *command)
            if done.exit_code:
                assert_refused(done, path, None)
                refused += 1
    assert refused > 20


@pytest.mark.parametrize("damage", ["lost = 'all'", "won = 9e999", "core = x'ff'", "since = x'ff'"])
def test_changes_that_are_none_are_not_applied(path: Path, damage: str) -> None:
    sql(f"UPDATE changes SET {damage}")(path)
    with HistoryStore(path, read_only=True) as store, pytest.raises(HistoryError, match="changes"):
        store.records_until(store.mark())


def test_a_file_out_of_reach_is_named(path: Path, tmp_path: Path) -> None:
    if os.name != "posix" or os.geteuid() == 0:
        pytest.skip("root may read everything")
    path.chmod(0)
    assert_refused(run("history", "stats", path), path, None)
    folder = tmp_path / "closed"
    folder.mkdir()
    shutil.copy(path, folder) if os.access(path, os.R_OK) else None
    folder.chmod(0)
    try:
        for command in (("stats", folder / "h.db"), ("import", folder / "h.db", path)):
            assert run("history", *command).exit_code == 2
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("name", ["x" * 5000 + ".db", "no/such/folder/h.db"])
def test_a_name_that_no_file_can_have_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    lines = tmp_path / "more.jsonl"
    lines.write_text("")
    for command in (("stats", path), ("export", path, "--out", tmp_path / "o"), ("import", path, lines), ("import", tmp_path / "n.db", path)):  # fmt: skip
        done = run("history", *command)
        assert done.exit_code == 2, done.exception
        assert len(done.stderr.splitlines()) == 1
