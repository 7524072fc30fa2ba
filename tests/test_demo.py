"""The demo measures what it says: real grading, real cores, nothing known beforehand."""

from __future__ import annotations

import json
import random
import re
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from eccos_aios.cli.demo import demo
from eccos_aios.cli.demo_table import print_result
from eccos_aios.cli.table import dollars
from eccos_aios.collect.generated import CATEGORIES, LEVELS, is_right, make_questions
from eccos_aios.core import read_manifest
from eccos_aios.demo.made_up_cores import record, wrong_answer
from eccos_aios.demo.plot import draw
from eccos_aios.demo.result import DemoResult
from eccos_aios.demo.run import run_demo
from eccos_aios.demo.scenario import generated_scenario
from eccos_aios.errors import InputError
from eccos_aios.history import read_history

QUESTIONS = 12
RECORDS = 144


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    out = tmp_path_factory.mktemp("demo")
    threads = set(threading.enumerate())
    scenario = replace(generated_scenario(QUESTIONS, RECORDS, seed=3), time_scale=0.1)
    steps: list[tuple[str, int, int]] = []
    result = run_demo(scenario, out, seed=3, on_step=lambda *step: steps.append(step))
    assert set(threading.enumerate()) <= threads
    for run in ("FIFO", "ECCOS"):
        counts = sorted(done for name, done, total in steps if name == run and total == QUESTIONS)
        assert counts == list(range(QUESTIONS + 1))
    return result


def test_each_scheduler_answers_every_question(result: DemoResult) -> None:
    for run in (result.fifo, result.eccos):
        assert run.calls == QUESTIONS
        assert sum(core.calls for core in run.cores) == QUESTIONS


def test_fifo_is_what_its_first_core_alone_gives(result: DemoResult) -> None:
    first = result.alone[0]
    assert [core.calls for core in result.fifo.cores] == [QUESTIONS, 0, 0]
    assert result.fifo.quality == pytest.approx(first.quality)
    assert result.fifo.cost_usd_per_1000 == pytest.approx(first.cost_usd_per_1000)


def test_eccos_keeps_every_quota_and_pays_less(result: DemoResult) -> None:
    assert all(core.max_in_flight <= core.quota for core in result.eccos.cores)
    assert result.eccos.cost_usd_per_1000 < result.fifo.cost_usd_per_1000
    assert result.eccos.decision_ms_p50 is not None


def test_what_was_learned_from_is_not_asked(result: DemoResult) -> None:
    out = Path(result.out)
    learned = [past.query for past in read_history(out / "history.jsonl.gz")]
    asked = [json.loads(line)["query"] for line in (out / "questions.jsonl").read_text().splitlines()]
    assert (len(learned), len(asked)) == (RECORDS, QUESTIONS)
    assert not set(learned) & set(asked)
    assert read_manifest(out / "cores.yaml").names == ("large", "medium", "small")


def test_the_table_and_the_files_agree(result: DemoResult, capsys: pytest.CaptureFixture[str]) -> None:
    print_result(result)
    printed = capsys.readouterr().out
    written = json.loads((Path(result.out) / "results.json").read_text())
    assert written["eccos"]["quality"] == result.eccos.quality
    assert f"{result.eccos.quality:.1%}" in printed
    assert f"{dollars(result.fifo.cost_usd_per_1000)} ± " in printed
    assert [run["policy"] for run in written["others"]] == ["SmartRouting", "all to medium", "all to large"]
    for run in ("FIFO", "SmartRouting", "all to medium", "all to large"):
        assert f"against {run}: " in printed


def test_the_plot_is_written(result: DemoResult) -> None:
    pytest.importorskip("matplotlib")
    assert result.plot is not None
    assert Path(result.plot).read_bytes().startswith(b"\x89PNG")


def test_one_core_for_every_call_gives_what_it_recorded_and_keeps_its_quota(result: DemoResult) -> None:
    for run in result.others[1:]:
        alone = next(each for each in result.alone if run.policy == f"all to {each.name}")
        (use,) = run.cores
        assert (use.calls, run.quality) == (QUESTIONS, pytest.approx(alone.quality))
        assert run.cost_usd_per_1000 == pytest.approx(alone.cost_usd_per_1000)
        assert use.max_in_flight <= use.quota


def test_smart_routing_follows_its_own_rule_on_the_past_records(result: DemoResult) -> None:
    smart = result.others[0]
    assert sum(use.calls for use in smart.cores) == QUESTIONS
    assert smart.cost_usd_per_1000 < result.fifo.cost_usd_per_1000
    assert sum(smart.costs_usd) / QUESTIONS * 1000 == pytest.approx(smart.cost_usd_per_1000)


@pytest.mark.parametrize(
    ("questions", "records", "said"),
    [
        (5, 24, ["24 past records: too few", "5 questions: quality is known to 20 points at best"]),
        (5, 0, ["no past records: ECCOS and SmartRouting know nothing"]),
    ],
)
def test_what_so_little_cannot_tell_is_said(
    questions: int, records: int, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = replace(generated_scenario(questions, records), time_scale=0.1)
    result = run_demo(scenario, tmp_path)
    for words in said:
        assert any(note.startswith(words) for note in result.notes)
    print_result(result)
    assert "no difference that 5 questions can tell" in capsys.readouterr().out


def test_without_matplotlib_it_is_asked_for_by_name(
    result: DemoResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert draw(result, tmp_path / "demo.png") is None
    print_result(result.model_copy(update={"plot": None}))
    assert "pip install 'eccos-aios[plot]'" in capsys.readouterr().out


def test_the_command_prints_json_alone(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--questions", "2", "--records", "24", "--json"]
    run = CliRunner().invoke(demo, arguments, catch_exceptions=False)
    assert run.exit_code == 0
    assert json.loads(run.stdout)["eccos"]["calls"] == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/out.*cannot be written"):
        run_demo(generated_scenario(1, 1), tmp_path / "file" / "out")


def test_questions_are_many_different_and_of_every_kind() -> None:
    questions = make_questions(600, seed=1)
    assert len({question.text for question in questions}) == 600
    kinds = {(question.category, question.level) for question in questions}
    assert kinds == {(category, level) for category in CATEGORIES for level in range(LEVELS)}
    assert questions == make_questions(600, seed=1)


def test_truths_are_true() -> None:
    for question in make_questions(400, seed=2):
        if product := re.fullmatch(r"(?:What is|Multiply) (\d+) (?:×|by) (\d+)[?.]", question.text):
            assert int(question.truth) == int(product[1]) * int(product[2])
        if reverse := re.fullmatch(r"Write the word “(\w+)” backwards.", question.text):
            assert question.truth == "".join(reversed(reverse[1]))


def test_a_slip_is_never_right() -> None:
    rng = random.Random(0)
    for question in make_questions(600, seed=4):
        assert is_right(f"The answer is {question.truth}.", question.truth)
        assert not is_right(f"The answer is {wrong_answer(question.truth, rng)}.", question.truth)


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("6 × 7 is 42.", "42", True),
        ("42 is 6 × 7", "42", False),
        ("It makes 1,234,567!", "1234567", True),
        ("−5", "-5", True),
        ("It is 42", "2", False),
        ("It falls on a *Monday*.", "Monday", True),
        ("monday", "Monday", True),
        ("Monday, no: Tuesday", "Monday", False),
        ("Blue Monday", "day", False),
        ("That is 3 March 2021.", "3 March 2021", True),
        ("That is 13 March 2021.", "3 March 2021", False),
        (None, "42", False),
        ("", "42", False),
    ],
)
def test_grading(answer: str | None, truth: str, right: bool) -> None:
    assert is_right(answer, truth) is right


def test_recorded_outcomes_do_not_depend_on_what_else_is_asked() -> None:
    question = make_questions(5, seed=0)[3]
    again = next(q for q in make_questions(5, seed=0) if q == question)
    assert record(question, 0, seed=9) == record(again, 0, seed=9)
    assert record(question, 0, seed=9) != record(question, 0, seed=10)
