"""Splits, a test file, the mix of single cores, plans in the replay, and figures that need no hindsight."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.bench import Options, replay_history, replay_splits, replay_test, results_of
from eccos_aios.bench.figures import OverSplits
from eccos_aios.bench.fold import held_out, splits
from eccos_aios.bench.fold_estimates import FoldEstimates
from eccos_aios.bench.mix import Mix, shares, upper_hull
from eccos_aios.cli.main import main
from eccos_aios.core import Core, Price
from eccos_aios.history import Outcome, Record

pytestmark = pytest.mark.usefixtures("few_trees")

NAMES = ("small", "other", "large")
CORES = (
    Core(name="small", price=Price(input=0.1, output=0.1)),
    Core(name="other", price=Price(input=0.2, output=0.2)),
    Core(name="large", price=Price(input=10, output=10)),
)


def history(count: int = 160, seed: int = 0) -> list[Record]:
    """Small cores are right three times in four, on calls that nothing in the text tells."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        outputs = []
        for name in NAMES:
            right = bool(random.random() < (0.95 if name == "large" else 0.75))
            outputs.append(
                Outcome(
                    model_name=name,
                    correctness=right,
                    input_token_length=20,
                    output_token_length=20,
                    latency_s=1.0 if name == "small" else 3.0,
                    prediction="right" if right else f"no, says {name}",
                )
            )
        query = f"question {number // 2} of {seed}"  # every query twice
        made.append(Record(query=query, outputs=tuple(outputs), input_token_length=20))
    return made


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 50), st.integers(2, 4), st.sampled_from([None, 3, 20]))
def test_a_split_never_learns_a_query_that_it_measures(seed: int, count: int, learned: int | None) -> None:
    for fold in splits(history(40), CORES, count, seed, learned):
        assert len(fold.history) == (20 if learned is None else learned)
        queries = {record.query for record in fold.records}
        assert queries
        assert not queries & {record.query for record in fold.history}
        assert len(fold.calls) == len(fold.truth.quality)


def test_the_spread_over_splits_is_nadeau_and_bengios() -> None:
    values = np.array([0.1, 0.3, 0.2, np.nan])
    figure = OverSplits(ratio=0.5).figure(values)
    assert figure.value == pytest.approx(0.2)
    assert figure.se == pytest.approx(0.1 * (1 / 3 + 0.5) ** 0.5)
    assert figure.high - figure.value == pytest.approx(
        4.302653 * figure.se
    )  # Student's, 2 degrees of freedom
    assert figure.undefined == 0.25


def test_the_hull_holds_no_core_that_a_mix_of_others_beats() -> None:
    quality = np.array([0.5, 0.6, 0.9, 0.8, 0.4])
    cost = np.array([1.0, 5.0, 6.0, 9.0, 2.0])
    hull = upper_hull(quality, cost)
    assert hull.tolist() == [0, 2]
    assert shares(quality, hull, 0.7) == pytest.approx([0.5, 0, 0.5, 0, 0])
    assert shares(quality, hull, 0.1) == pytest.approx([1, 0, 0, 0, 0])
    assert shares(quality, hull, 1.0) == pytest.approx([0, 0, 1, 0, 0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 9)), min_size=1, max_size=7))
def test_every_core_lies_below_the_hull(cores: list[tuple[float, float]]) -> None:
    quality, cost = np.array(cores).T
    hull = upper_hull(quality, cost)
    assert quality[hull[-1]] == quality.max()
    assert cost[hull[0]] == cost.min()
    for core in range(len(cores)):
        at = np.interp(cost[core], cost[hull], quality[hull])
        assert quality[core] <= at + 1e-9


def test_the_mix_delivers_the_means_of_its_shares() -> None:
    fold = held_out(history(), history(60, seed=1), CORES, 0)
    estimates = FoldEstimates(fold)
    quota = np.full(3, len(fold.calls))
    mix = Mix()
    least, best = mix.promise_range(estimates, quota)
    middle = next(iter(mix.at(estimates, quota, [(least + best) / 2])))
    assert middle.delivered is not None and middle.quality is not None
    hull = upper_hull(
        *(np.nanmean(values, axis=0) for values in (estimates.past.quality, estimates.past.cost))
    )
    share = shares(np.nanmean(estimates.past.quality, axis=0), hull, (least + best) / 2)
    assert middle.quality[0] == pytest.approx((least + best) / 2)
    assert middle.delivered.quality.mean() == pytest.approx(fold.truth.quality.mean(axis=0) @ share)
    assert middle.delivered.cost.mean() == pytest.approx(fold.truth.cost.mean(axis=0) @ share)


@pytest.fixture
def short_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves of few targets, where their number is not the point."""
    monkeypatch.setattr("eccos_aios.bench.policy.STEPS", 13)


@pytest.mark.usefixtures("short_curves")
def test_plans_beat_routing_where_answers_tell_more_than_questions() -> None:
    options = Options(
        names=["eccos", "mix", "best-single", "oracle"], quotas=(False,), plans="agree", max_calls=1.5
    )
    results = results_of(replay_splits(history(240), CORES, 2, options, jobs=1))
    bound, plans = results["plans"]
    assert bound["extra_calls"] <= 0.55
    assert 0.0 < bound["quality_gain"]["value"] < plans["quality_gain"]["value"]
    assert plans["quality_gain"]["value"] > 0.02
    assert plans["gap_closed"]["value"] > plans["routing_gap_closed"]["value"]
    assert 1.0 < plans["extra_calls"] < 2.0
    assert 3.0 < plans["seconds"] < 6.0  # the other core is slower than the small one
    own = next(row for row in results["headlines"] if row["policy"] == "eccos-plans-unbounded")
    assert own["single_cost_share"]["value"] < 0.8
    assert own["mean_over_mix"]["value"] > 0.01
    assert abs(own["mean_promise"]["value"]) < 0.06


def test_every_curve_has_sixty_levels_at_least_between_least_and_best_promise() -> None:
    replay = replay_history(history(80), CORES, 2, ["eccos", "mix", "oracle"], quotas=(False,))
    for policy in ("eccos", "mix", "oracle"):
        rows = [row for row in replay.outcomes if row.policy == policy and row.purpose == "curve"]
        assert len(rows) >= 60
        promised = [float(np.nanmean(row.promised_quality)) for row in rows]
        assert promised == sorted(promised)


@pytest.mark.integration
def test_splits_depend_on_the_seed_alone() -> None:
    options = Options(names=["eccos", "smart"], targets=(0.7, 0.9))
    first, second = (
        results_of(replay_splits(history(60), CORES, 2, options, jobs=jobs, seed=3)) for jobs in (1, 2)
    )
    assert first == second
    assert first["splits"] == 2
    assert first["learned"] == 30


def test_a_test_file_is_measured_whole_and_the_history_not_at_all() -> None:
    test = history(50, seed=1)
    replay = replay_test(history(), test, CORES, Options(names=["best-single", "mix"], quotas=(False,)))
    single = next(row for row in replay.outcomes if row.policy == "best-single")
    assert replay.records == len(single.core) == 50
    assert replay.learned == 160
    large = [record.outputs[2].graded_quality for record in test]
    assert single.quality.tolist() == large


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--splits", "2", "--test", "h.jsonl"], "give one of them"),
        (["--train-records", "5"], "needs --splits"),
        (["--splits", "2", "--train-records", "99"], "train_records: 99: must be from 1 to 9"),
        (["--splits", "2", "--train-records", "9"], "leave no record to measure"),
        (["--plans", "agree", "--max-calls-per-query", "0.5"], "0.5 is not in the range"),
    ],
)
def test_wrong_schemes_are_refused_in_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, history(10))
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--history", "h.jsonl", "--cores", "cores.yaml", "--out", "o", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("short_curves")
def test_the_commands_table_shows_plans_promises_and_the_corner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "220")
    write(tmp_path, history(100))
    arguments = ["bench", "--history", "h.jsonl", "--cores", "cores.yaml", "--out", "o", "--test", "h.jsonl"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--plans", "agree", "--policies", "eccos,smart,mix,best-single,oracle"])
    assert ended.value.code == 0
    shown = capsys.readouterr()
    for heading in ("over the mix at worst", "unreachable: cost", "asked smart + 1", "extra calls per call"):
        assert heading in shown.out
    assert "100 of 100 queries are in the history, too" in shown.err
    results = json.loads((tmp_path / "o" / "results.json").read_text(), parse_constant=pytest.fail)
    assert {row["policy"] for row in results["headlines"]} == {
        "eccos",
        "eccos-plans",
        "eccos-plans-unbounded",
    }
    assert results["headlines"][0]["corner"]["value"] >= 1.0 - 1e-9


def write(folder: Path, records: list[Record]) -> None:
    (folder / "h.jsonl").write_text("\n".join(record.model_dump_json() for record in records))
    lines = [
        f"{{name: {core.name}, price: {{input: {core.price.input}, output: {core.price.output}}}}}"
        for core in CORES
        if core.price
    ]
    (folder / "cores.yaml").write_text(f"cores: [{', '.join(lines)}]")
