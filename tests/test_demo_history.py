"""The demo on a history: the records asked, their quality, and the notes on missing figures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from eccos_aios.cli.demo_table import print_result
from eccos_aios.cli.main import main
from eccos_aios.core import Core, Price
from eccos_aios.demo.plot import draw
from eccos_aios.demo.recorded import recorded_scenario
from eccos_aios.demo.result import DemoResult
from eccos_aios.demo.run import run_demo
from eccos_aios.demo.scenario import Scenario
from eccos_aios.errors import EccosError
from eccos_aios.history import Outcome, Record, read_history

CORES = """cores:
  - {name: dear, quota: 3, price: {input: 5, output: 15}, context_window: 4000}
  - {name: cheap, quota: 2, price: {input: 0.1, output: 0.4}, base_url: "http://localhost:1/v1"}
"""
TOOL = {"name": "author/add", "description": "adds", "parameters": {"type": "object", "properties": {}}}

Write = Callable[..., Path]


def past(number: int, *, cores: tuple[str, ...] = ("dear", "cheap"), **fields: object) -> Record:
    """A call that the dear core answers well, the cheap one only where it is about sums."""
    topic = ("sum", "proof")[number % 2]
    quality = {"dear": 0.9, "cheap": 0.8 if topic == "sum" else 0.1}
    outcome = {"input_token_length": 40, "output_token_length": 20, "latency_s": 0.002, **fields}
    return Record(
        id=str(number),
        query=f"The {topic} number {number}, if you please",
        tools=[TOOL] if number % 3 == 0 else None,
        outputs=tuple(Outcome(model_name=name, quality=quality.get(name, 0.5), **outcome) for name in cores),
    )


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "cores.yaml"
    path.write_text(CORES)
    return path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(records: list[Record], name: str = "past.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(record.model_dump_json(exclude_none=True) + "\n" for record in records))
        return path

    return write


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    folder = tmp_path_factory.mktemp("demo")
    (folder / "cores.yaml").write_text(CORES)
    lines = [past(number).model_dump_json() for number in range(60)]
    (folder / "past.jsonl").write_text("\n".join(lines))
    scenario = recorded_scenario(
        folder / "past.jsonl", folder / "cores.yaml", questions=12, quality_target=0.75
    )
    return run_demo(replace(scenario, time_scale=0.05), folder / "out", source="past.jsonl")


def test_quality_and_cost_are_those_recorded_of_the_core_that_was_chosen(result: DemoResult) -> None:
    assert result.fifo.qualities == [0.9] * 12
    assert result.fifo.cost_usd_per_1000 == pytest.approx((40 * 5 + 20 * 15) / 1000)
    calls = {use.name: use.calls for use in result.eccos.cores}
    assert sum(calls.values()) == 12
    assert result.eccos.qualities.count(0.9) == calls["dear"]
    assert result.eccos.cores[1].cost_usd == pytest.approx(calls["cheap"] * (40 * 0.1 + 20 * 0.4) / 1e6)
    assert result.eccos.errors == result.fifo.errors == 0
    assert result.eccos.cost_usd_per_1000 < result.fifo.cost_usd_per_1000


def test_what_was_asked_was_not_learned_and_the_manifest_holds(result: DemoResult) -> None:
    out = Path(result.out)
    learned = {record.query for record in read_history(out / "history.jsonl.gz")}
    asked = {json.loads(line)["query"] for line in (out / "questions.jsonl").read_text().splitlines()}
    assert (len(learned), len(asked), learned & asked) == (48, 12, set())
    written = (out / "cores.yaml").read_text()
    assert "context_window: 4000" in written
    assert "base_url" not in written
    assert all(use.max_in_flight <= use.quota for use in result.eccos.cores)


def test_long_latencies_run_faster_and_the_factor_is_a_whole_part(write: Write, manifest: Path) -> None:
    slow = recorded_scenario(write([past(number, latency_s=60) for number in range(60)]), manifest)
    assert 1 / slow.time_scale == pytest.approx(round(1 / slow.time_scale))
    assert slow.time_scale <= 0.2
    quick = recorded_scenario(write([past(number) for number in range(60)]), manifest)
    assert quick.time_scale == 1


def test_the_target_follows_the_best_core_of_what_is_learned(write: Write, manifest: Path) -> None:
    history = write([past(number) for number in range(60)])
    assert recorded_scenario(history, manifest).quality_target == pytest.approx(0.95 * 0.9, abs=0.006)
    assert recorded_scenario(history, manifest, quality_target=0.4).quality_target == 0.4


def test_records_that_lack_a_core_are_learned_from_and_never_asked(write: Write, manifest: Path) -> None:
    lacking = {f"The sum number {number}, if you please" for number in range(0, 60, 2)}
    records = [past(n, cores=("dear",) if n % 2 == 0 else ("dear", "cheap", "other")) for n in range(60)]
    scenario = recorded_scenario(write(records), manifest, questions=20)
    assert lacking.isdisjoint(record.query for record in scenario.asked)
    assert lacking <= {record.query for record in scenario.past}
    assert [outcome.model_name for outcome in scenario.asked[0].outputs] == ["dear", "cheap"]
    assert any(note.startswith("30 records without") for note in scenario.notes)


def test_unknown_tokens_and_latencies_are_filled_in_and_noted(write: Write, manifest: Path) -> None:
    unknown = [past(n, latency_s=None, output_token_length=None, input_token_length=None) for n in range(40)]
    scenario = recorded_scenario(write(unknown), manifest, questions=10)
    filled = scenario.asked[0].outputs[0]
    assert (filled.latency_s, filled.output_token_length) == (0.5, 256)
    assert filled.input_token_length
    assert sum("in 20 of 20 outcomes" in note for note in scenario.notes) == 3
    some = recorded_scenario(write([past(0), *unknown[1:]]), manifest, questions=10)
    assert {outcome.output_token_length for record in some.asked for outcome in record.outputs} == {20}


def test_a_core_that_the_history_does_not_know_is_left_out(write: Write, tmp_path: Path) -> None:
    wider = tmp_path / "wider.yaml"
    wider.write_text(CORES + "  - {name: newcomer}\n")
    scenario = recorded_scenario(write([past(number) for number in range(40)]), wider)
    assert [core.name for core in scenario.cores] == ["dear", "cheap"]
    assert any("newcomer" in note for note in scenario.notes)


@pytest.mark.parametrize(
    ("records", "questions", "fault"),
    [
        ([past(n, cores=("x", "y")) for n in range(40)], None, "has no core of .*its cores are x, y"),
        ([past(n) for n in range(5)], None, "has 5 different queries .*needs 12"),
        (
            [past(n, cores=("dear",)) for n in range(40)] + [past(41)],
            None,
            "fewest outcomes is 'cheap' \\(1\\)",
        ),
        ([past(7)] * 40, None, "has 1 different queries"),
        ([past(n) for n in range(40)], 40, "--questions: 40: must be 39 at most"),
    ],
)
def test_a_history_that_does_not_suffice_is_refused(
    write: Write, manifest: Path, records: list[Record], questions: int | None, fault: str
) -> None:
    with pytest.raises(EccosError, match=fault):
        recorded_scenario(write(records), manifest, questions=questions)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--history", "past.jsonl"], "--history needs --cores"),
        (["--cores", "cores.yaml"], "--cores needs --history"),
        (
            ["--history", "past.jsonl", "--cores", "cores.yaml", "--records", "9"],
            "--records counts generated",
        ),
        (
            ["--history", "past.jsonl", "--cores", "cores.yaml", "--out", "."],
            "cores.yaml would be overwritten",
        ),
        (["--quality-target", "1.5"], "1.5 is not in the range"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(
    write: Write, manifest: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], fault: str
) -> None:
    monkeypatch.chdir(write([past(number) for number in range(40)]).parent)
    run = CliRunner().invoke(main, ["demo", *arguments])
    assert run.exit_code == 2
    assert fault in run.stderr
    assert run.stderr.count("\n") == 1


def test_any_number_of_cores_and_free_ones_are_shown(
    result: DemoResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use = result.fifo.cores[0]
    named = [f"a-core-with-quite-a-long-name-of-its-own-{number}" for number in range(12)]

    def with_cores(run: object) -> object:
        uses = [use.model_copy(update={"name": name, "cost_usd": 0.0}) for name in named]
        return run.model_copy(update={"cores": uses})  # type: ignore[attr-defined]

    alone = [result.alone[0].model_copy(update={"name": name, "cost_usd_per_1000": 0.0}) for name in named]
    many = result.model_copy(
        update={"fifo": with_cores(result.fifo), "eccos": with_cores(result.eccos), "alone": alone}
    )
    pytest.importorskip("matplotlib")
    assert draw(many, tmp_path / "many.png")
    print_result(many)
    printed = capsys.readouterr().out
    assert "no prices to compare" in printed
    assert len(re.findall("a-core-with", printed)) == 12


def test_a_call_that_no_core_may_take_is_an_error_of_quality_0(tmp_path: Path) -> None:
    core = Core(name="tiny", price=Price(), context_window=1)
    records = [past(number, cores=("tiny",)) for number in range(4)]
    result = run_demo(Scenario((core,), records[2:], records[:2], 0.5, time_scale=0.05), tmp_path)
    assert (result.eccos.errors, result.eccos.quality) == (2, 0.0)
    assert (result.fifo.errors, result.fifo.quality) == (0, 0.5)
