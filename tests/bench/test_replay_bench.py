"""The replay: folds that do not leak, policies that keep quotas, figures that can be checked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.bench import replay_history, results_of, write_report
from eccos_aios.bench.curves import (
    RESAMPLES,
    cost_at_quality,
    curves_of,
    means,
    quality_at_cost,
    quality_if_spent,
)
from eccos_aios.bench.fold import fold_numbers, recorded_truth
from eccos_aios.bench.policy import in_turn
from eccos_aios.cli.main import main
from eccos_aios.core import Core, Price
from eccos_aios.history import Outcome, Record

pytestmark = pytest.mark.usefixtures("few_trees")

CORES = (
    Core(name="cheap", price=Price(input=0.1, output=0.1)),
    Core(name="dear", price=Price(input=10, output=10)),
    Core(name="unrecorded", price=Price(input=0.0, output=0.0)),
)


def history(records: int = 120) -> list[Record]:
    """Hard calls that only the dear core answers, and easy ones that both do."""
    made = []
    for number in range(records):
        hard = number % 3 == 0
        query = f"prove theorem {number} of topology" if hard else f"say hello to guest {number}"
        outputs = (
            Outcome(model_name="cheap", correctness=not hard, output_token_length=50),
            Outcome(model_name="dear", correctness=True, input_token_length=200),
        )
        made.append(Record(query=query, outputs=outputs, input_token_length=100))
    return made


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abcdef"), min_size=8, max_size=40), st.integers(0, 5))
def test_records_of_one_query_are_in_one_fold(queries: list[str], seed: int) -> None:
    records = [Record(query=query, outputs=()) for query in [*queries, "x", "y"]]
    fold = fold_numbers(records, 2, seed)
    for query in set(queries):
        assert (
            len({int(number) for number, record in zip(fold, records, strict=True) if record.query == query})
            == 1
        )
    assert set(fold) == {0, 1}


def test_costs_are_those_of_the_recorded_tokens_and_unknown_is_nan() -> None:
    truth = recorded_truth(history(1), CORES)
    assert truth.cost[0, :2] == pytest.approx([(100 + 50) * 0.1e-6, (200 + 256) * 10e-6])
    assert truth.quality[0, :2].tolist() == [0, 1]
    assert np.isnan(truth.quality[0, 2])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_in_turn_holds_quotas_and_fills_them(data: st.DataObject) -> None:
    calls, cores = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    quota = np.array(data.draw(st.lists(st.integers(0, 5), min_size=cores, max_size=cores)))
    core = in_turn(random.random((calls, cores)), quota, np.ones((calls, cores), dtype=bool))
    taken = np.bincount(core[core >= 0], minlength=cores)
    assert (taken <= quota).all()
    assert taken.sum() == min(calls, quota.sum())


def test_eccos_learns_what_the_cheap_core_can_do() -> None:
    replay = replay_history(history(), CORES, 3, ["eccos", "oracle", "best-single"], targets=(0.6, 0.95))
    best = {
        (row.policy, row.quotas): row
        for row in replay.outcomes
        if row.level == 0.95 or row.policy == "best-single"
    }
    eccos, single = best["eccos", False], best["best-single", False]
    assert np.nanmean(eccos.quality) > 0.93
    assert np.nanmean(eccos.cost) < 0.5 * np.nanmean(single.cost)
    assert np.nanmean(eccos.cost) >= 0.99 * np.nanmean(best["oracle", False].cost)


def test_no_policy_sends_a_call_where_nothing_is_recorded_or_breaks_a_quota() -> None:
    replay = replay_history(history(60), CORES, 3, targets=(0.9,))
    assert {row.policy for row in replay.outcomes} >= {
        "eccos",
        "eccos-r",
        "eccos-t",
        "smart",
        "balance",
        "length",
    }
    for row in replay.outcomes:
        assert not (row.core == 2).any()
        assert np.isfinite(row.quality[row.core >= 0]).all()
        if row.quotas:
            assert max((row.core == column).sum() for column in range(3)) < 60


def test_same_seed_same_replay() -> None:
    first, second = (replay_history(history(30), CORES, 2, ["random", "smart"], seed=4) for _ in range(2))
    for before, after in zip(first.outcomes, second.outcomes, strict=True):
        assert (before.core == after.core).all()


def test_intervals_hold_the_value_and_are_paired() -> None:
    replay = replay_history(history(), CORES, 3, ["best-single", "first"], quotas=(False,))
    curve = curves_of(replay).find("best-single")
    assert curve is not None
    assert curve.quality.shape == (RESAMPLES + 1, 1)
    weights = np.array([[1.0, 1.0], [2.0, 0.0]])
    assert means(weights, [np.array([0.2, np.nan]), np.array([1.0, 0.0])]).tolist() == [
        [0.2, 0.5],
        [0.2, 1.0],
    ]
    points = results_of(replay)["points"]
    for point in points:
        assert point["quality"]["low"] <= point["quality"]["value"] <= point["quality"]["high"]


def test_curves_are_read_between_their_points() -> None:
    quality, cost = np.array([0.6, 0.8, 0.7]), np.array([1.0, 3.0, 5.0])
    assert cost_at_quality(quality, cost, 0.7) == pytest.approx(2.0)
    assert cost_at_quality(quality, cost, 0.5) == pytest.approx(1.0)
    assert np.isnan(cost_at_quality(quality, cost, 0.9))
    assert quality_at_cost(quality, cost, 2.0) == pytest.approx(0.7)
    assert quality_at_cost(quality, cost, 9.0) == pytest.approx(0.8)
    assert quality_if_spent(quality, cost, 4.0) == pytest.approx(0.75)
    assert quality_if_spent(quality, cost, 9.0) == pytest.approx(0.7)
    assert np.isnan(quality_at_cost(quality, cost, 0.5))


def test_report_is_json_without_nan_and_two_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    replay = replay_history(history(60), CORES, 2, ["eccos-r", "smart", "first"], targets=(0.6, 0.9))
    written = write_report(results_of(replay), tmp_path)
    results = json.loads(written[0].read_text(), parse_constant=pytest.fail)
    assert {headline["policy"] for headline in results["headlines"]} == {"eccos-r"}
    assert results["headlines"][0]["gap_closed"]["value"] is None  # no oracle was played
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in written[1:])
    assert len(written) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policies", "eccos,best"], "'best': must be among"),
        (["--folds", "50"], "folds: 50: must be from 2 to the 6"),
        (["--cores", "other.yaml"], "no outcome of any core of the manifest"),
    ],
)
def test_bad_input_ends_with_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("h.jsonl").write_text("\n".join(record.model_dump_json() for record in history(6)))
    Path("cores.yaml").write_text("cores: [{name: cheap, price: {input: 1, output: 1}}]")
    Path("other.yaml").write_text("cores: [{name: other, price: {input: 1, output: 1}}]")
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--history", "h.jsonl", "--cores", "cores.yaml", "--out", "o", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_command_writes_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "h.jsonl").write_text("\n".join(record.model_dump_json() for record in history(12)))
    (tmp_path / "cores.yaml").write_text("cores: [{name: cheap, price: {input: 1, output: 1}}]")
    arguments = ["--history", str(tmp_path / "h.jsonl"), "--cores", str(tmp_path / "cores.yaml")]
    more = ["--folds", "2", "--policies", "first,smart", "--out", str(tmp_path / "out"), "--json"]
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments, *more])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["records"] == 12
    assert (tmp_path / "out" / "results.json").is_file()


def test_a_replay_as_a_frame_has_a_row_per_policy_and_level() -> None:
    pytest.importorskip("pandas")
    replay = replay_history(history(60), CORES[:2], 2, ["eccos", "best-single"], targets=[0.5, 0.9])
    frame = replay.to_frame()
    points = results_of(replay)["points"]
    assert len(frame) == len(points)
    assert {"policy", "quotas", "quality.value", "quality.low", "quality.high", "cost.se"} <= set(
        frame.columns
    )
    assert list(frame["quality.value"]) == [point["quality"]["value"] for point in points]
