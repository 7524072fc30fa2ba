"""``eccos-aios history``: what scripts read, and one line on stderr with exit 2 on bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from eccos_aios.cli.main import main
from eccos_aios.history import CallOutcome, HistoryStore, read_history
from eccos_aios.predict import embedding_of

LINE = {"id": "a", "query": "q", "outputs": [{"model_name": "small", "quality": 0.5, "latency_s": 2.0}]}


@dataclass
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main(["history", *map(str, arguments)], prog_name="eccos-aios")
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps(LINE) + "\n" + json.dumps({**LINE, "id": "b"}) + "\n")
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def test_import_stats_export_for_machines(run: Run, source: Path, store: Path, tmp_path: Path) -> None:
    imported = run("import", store, source, source, "--json")
    assert (imported.code, imported.err) == (0, "")
    assert json.loads(imported.out) == {
        "store": str(store),
        "stored": 2,
        "duplicates": 2,
        "conflicts": 0,
        "bad_records": 0,
    }
    with HistoryStore(store) as opened:
        opened.append_outcomes([CallOutcome(call_id="c", core="small", query="q", cost_usd=0.25)])
    figures = json.loads(run("stats", store, "--json").out)
    assert (figures["records"], figures["calls"], figures["graded_calls"]) == (2, 1, 0)
    assert figures["cores"] == {
        "small": {
            "graded": 2,
            "quality": 0.5,
            "output_tokens": None,
            "latency_s": 2.0,
            "calls": 1,
            "failed": 0,
            "cost_usd": 0.25,
        }
    }
    out = tmp_path / "out.jsonl.gz"
    exported = run("export", store, "--out", out, "--json")
    assert json.loads(exported.out) == {"out": str(out), "records": 2, "ungraded_calls": 1}
    assert read_history(out) == read_history(source)


def test_what_people_read(run: Run, source: Path, store: Path, tmp_path: Path) -> None:
    assert run("import", store, source).out == f"2 records added to {store}, 0 were in it already\n"
    source.write_text(json.dumps({**LINE, "query": "other"}))
    assert "1 of them have other content under the same id" in run("import", store, source).out
    with HistoryStore(store) as opened:
        opened.append_outcomes(
            [CallOutcome(call_id="c", core="a-core-of-a-long-name-" + "x" * 40, query="q")]
        )
    printed = run("stats", store).out
    assert "2 records; 1 calls, 0 of known" in printed
    assert "0.500" in printed
    assert "x" not in "".join(line[-40:] for line in printed.splitlines()[2:]), "a name stands in the figures"
    assert "1 calls left out" in run("export", store, "--out", tmp_path / "out.jsonl").out


def test_text_can_be_left_out(run: Run, source: Path, store: Path) -> None:
    assert run("import", store, source, "--no-store-text").code == 0
    assert [record.query for record in read_history(store)] == ["", ""]


def test_bad_records_stop_the_import_or_are_counted(run: Run, source: Path, store: Path) -> None:
    with source.open("a") as file:
        file.write('{"query": "q"}\n')
    stopped = run("import", store, source)
    assert (stopped.code, stopped.out) == (2, "")
    assert stopped.err == f"{source}:3: outputs: required, but absent\n"
    skipped = run("import", store, source, "--skip-bad-records", "--json")
    assert (skipped.code, json.loads(skipped.out)["bad_records"]) == (0, 1)
    assert skipped.err.startswith("bad records left out: 1, the first: ")


@pytest.mark.parametrize("command", [("stats",), ("export", "--out", "out.jsonl")])
@pytest.mark.parametrize(("content", "reason"), [(None, "cannot be read: No such file"), (b"{}\n" * 9, "is not a history store")])  # fmt: skip
def test_what_is_no_store_is_refused_in_one_line(
    run: Run, store: Path, command: tuple[str, ...], content: bytes | None, reason: str
) -> None:
    if content is not None:
        store.write_bytes(content)
    ran = run(command[0], store, *command[1:])
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"{store}: {reason}")
    assert ran.err.count("\n") == 1


def test_arguments_in_the_wrong_order_harm_nothing(run: Run, source: Path, store: Path) -> None:
    content = source.read_bytes()
    ran = run("import", source, store)
    assert (ran.code, source.read_bytes()) == (2, content)
    assert "is not a history store" in ran.err
    assert not store.exists()


def test_a_file_that_cannot_be_read_leaves_no_store_behind(run: Run, store: Path, source: Path) -> None:
    ran = run("import", store, source, source.with_name("missing.jsonl"))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith("missing.jsonl: cannot be read: No such file or directory\n")
    assert not store.exists()


def test_an_import_without_text_keeps_an_embedding(run: Run, source: Path, store: Path) -> None:
    assert run("import", store, source, "--no-store-text").code == 0
    assert [(record.query, record.embedding) for record in HistoryStore(store, read_only=True).records()] == [
        ("", embedding_of(given)) for given in read_history(source)
    ]


def test_help_shows_how_to_call_each(run: Run) -> None:
    for command in ("import", "export", "stats"):
        printed = run(command, "--help").out
        assert f"\n    eccos-aios history {command} " in printed
        assert "--json" in printed
        assert f"\n  {command} " in run("--help").out
