"""The offline batch: reading queries, keeping limits and quotas, and what is written."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eccos_aios.assign import WAITS
from eccos_aios.batch import Batch, Query, assign_batch, read_queries, summary, write_lines
from eccos_aios.core import Core, Price, read_manifest
from eccos_aios.errors import QueryError
from eccos_aios.history import Outcome, Record, read_history
from eccos_aios.predict import CallText, Estimates, Predictor, query_text
from eccos_aios.schedule import Requirements

FloatArray = NDArray[np.float64]
SHARED = Path(__file__).parents[2] / "shared" / "data"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CHEAP = Core(name="cheap", price=Price(input=1))
DEAR = Core(name="dear", price=Price(input=10))


class KnownQuality(Predictor):
    """Estimates that a test states: a quality per core, the call's own input tokens, no output."""

    def __init__(self, **quality: float) -> None:
        self.quality = quality

    def fit(self, history: Sequence[Record]) -> KnownQuality:
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        shape = (len(calls), len(cores))
        tokens = np.array([call.input_tokens for call in calls]).reshape(-1, 1)
        return Estimates(
            quality=np.tile([self.quality[name] for name in cores], (len(calls), 1)),
            input_tokens=np.broadcast_to(tokens, shape).astype(np.float64),
            output_tokens=np.zeros(shape),
            support=np.zeros(shape),
        )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "queries.jsonl"


def written(file: Path, *lines: dict[str, Any]) -> list[Query]:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_queries(file)


def queries(count: int, **needs: Any) -> list[Query]:
    return [
        Query(f"q{i}", CallText("text", 100.0), Requirements(100.0, **needs), f"q.jsonl:{i + 1}")
        for i in range(count)
    ]


def routed(batch: Sequence[Query], cores: Sequence[Core], *targets: float, **quality: float) -> Batch:
    quality = quality or {"cheap": 0.6, "dear": 0.9, "other": 0.5}
    return assign_batch([], cores, batch, targets, predictor=KnownQuality(**quality))


def chosen(batch: Batch, route: int = 0) -> list[str | None]:
    return [
        None if core == WAITS else batch.cores[core].name for core in batch.routings[route].assignment.core
    ]


def lines_of(batch: Batch, **options: Any) -> list[dict[str, Any]]:
    out = io.StringIO()
    write_lines(batch, out, **options)
    return [json.loads(line) for line in out.getvalue().splitlines()]


# Reading queries


def test_reads_what_a_query_asks_of_a_core(file: Path) -> None:
    plain, picture, limited = written(
        file,
        {"id": "a", "query": "Two and two?", "outputs": "never looked at"},
        {
            "id": 7,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}],
        },
        {
            "id": "c",
            "query": "Add.",
            "tools": [{"name": "add", "description": "adds"}],
            "llms": ["small", {"name": "large", "backend": "openai"}],
            "input_token_length": 87,
        },
    )
    assert (plain.id, plain.text, plain.source) == ("a", query_text("Two and two?"), f"{file}:1")
    assert plain.requirements == Requirements.of(plain.text)
    assert (picture.id, picture.text.text, picture.requirements.abilities) == (7, "What is this?", {"vision"})
    assert limited.requirements == Requirements(87.0, frozenset({"tools"}), frozenset({"small", "large"}))
    assert limited.text == query_text("Add.", [{"name": "add", "description": "adds"}]).with_tokens(87)


def test_what_is_null_or_empty_restricts_nothing(file: Path) -> None:
    (query,) = written(
        file, {"id": "a", "query": "q", "messages": None, "tools": [], "llms": [], "input_token_length": None}
    )
    assert query.requirements == Requirements.of(query.text)
    assert query.requirements.answer_tokens == 0


def test_room_for_the_answer_is_kept_where_a_query_says_how_long_it_may_be(file: Path) -> None:
    (query,) = written(file, {"id": "a", "query": "q", "max_new_tokens": 300})
    assert query.requirements == Requirements.of(query.text, answer_tokens=300.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "[]: must be a mapping of keys to values"),
        ('{"query": "q"}', "id: required, but absent"),
        ('{"id": 1.5, "query": "q"}', "id: 1.5: must be text or a whole number"),
        ('{"id": "a"}', "{'id': 'a'}: needs either query or messages"),
        ('{"id": "a", "messages": []}', "{'id': 'a', 'messages': []}: needs either query or messages"),
        (
            '{"id": "a", "query": "q", "messages": [{}]}',
            "{'id': 'a', 'query': 'q', 'messages': [{}]}: needs either",
        ),
        ('{"id": "a", "query": 5}', "query: 5: must be text"),
        ('{"id": "a", "messages": ["q"]}', "messages[0]: 'q': must be a mapping of keys to values"),
        ('{"id": "a", "query": "q", "tools": {}}', "tools: {}: must be a list"),
        (
            '{"id": "a", "query": "q", "llms": [{"backend": "x"}]}',
            "llms[0]: {'backend': 'x'}: must be the name of",
        ),
        ('{"id": "a", "query": "q", "llms": [5]}', "llms[0]: 5: must be the name of a core"),
        (
            '{"id": "a", "query": "q", "input_token_length": -1}',
            "input_token_length: -1: must be greater than or",
        ),
    ],
)
def test_a_bad_line_is_named_with_its_number_key_and_value(file: Path, line: str, message: str) -> None:
    file.write_text(f'{{"id": "good", "query": "q"}}\n{line}\n')
    with pytest.raises(QueryError) as caught:
        read_queries(file)
    assert str(caught.value).startswith(f"{file}:2: {message}")


# Limits and quotas


def test_a_query_goes_to_the_cheapest_core_that_is_good_enough() -> None:
    batch = routed(queries(4), [CHEAP, DEAR], 0.5, 0.85)
    assert chosen(batch, 0) == ["cheap"] * 4
    assert chosen(batch, 1).count("dear") == 4
    assert [route.assignment.met for route in batch.routings] == [True, True]


@pytest.mark.parametrize(
    ("barred", "needs"),
    [
        (CHEAP.model_copy(update={"supports": frozenset({"json"})}), {"abilities": frozenset({"tools"})}),
        (CHEAP.model_copy(update={"context_window": 99}), {}),
        (CHEAP, {"cores": frozenset({"dear", "elsewhere"})}),
    ],
)
def test_hard_limits_hold_whatever_it_costs(barred: Core, needs: dict[str, Any]) -> None:
    assert chosen(routed(queries(3, **needs), [barred, DEAR], 0.0)) == ["dear"] * 3


def test_a_quota_is_the_number_of_queries_that_a_core_may_take() -> None:
    cores = [CHEAP.model_copy(update={"quota": 2}), DEAR.model_copy(update={"quota": 1})]
    batch = routed(queries(5), cores, 0.0, 0.9)
    for route in range(2):
        assert sorted(str(core) for core in chosen(batch, route)) == [
            "None",
            "None",
            "cheap",
            "cheap",
            "dear",
        ]


def test_a_core_without_a_quota_is_unlimited() -> None:
    batch = routed(queries(50), [CHEAP.model_copy(update={"quota": 3}), DEAR], 0.0)
    assert (chosen(batch).count("cheap"), chosen(batch).count("dear")) == (3, 47)


def test_a_target_out_of_reach_gives_the_best_quality_and_says_so() -> None:
    (target,) = summary(routed(queries(3), [CHEAP, DEAR], 0.99))["targets"]
    assert target["met"] is False
    assert target["predicted_quality"] == pytest.approx(0.9)
    assert target["per_core"] == {"cheap": 0, "dear": 3}


def test_a_query_that_no_core_may_take_stays_and_is_told_why() -> None:
    batch = routed([*queries(1), *queries(1, abilities=frozenset({"vision"}))], [CHEAP.model_copy(
        update={"supports": frozenset()})], 0.5)  # fmt: skip
    assert chosen(batch) == ["cheap", None]
    (refusal,) = batch.refused
    assert refusal.startswith("q.jsonl:1: ")
    assert "cheap: does not support vision" in refusal


def test_a_query_that_names_only_strangers_is_bad_input() -> None:
    with pytest.raises(
        QueryError, match=r"q\.jsonl:1: llms: \['gtp'\]: names no core of the manifest; they are cheap, dear"
    ):
        routed(queries(1, cores=frozenset({"gtp"})), [CHEAP, DEAR], 0.5)


@pytest.mark.parametrize("count", [0, 1])
def test_without_a_history_a_batch_goes_to_the_dearest_core_and_no_target_counts_as_met(count: int) -> None:
    batch = assign_batch([], [CHEAP, DEAR], queries(count), [0.2, 0.5])
    assert chosen(batch, 1) == ["dear"] * count
    assert [target["met"] for target in summary(batch)["targets"]] == [False, False]
    assert set(batch.seconds) == {"fit", "predict", "solve"}


# What is written


def test_a_line_per_query_and_target_in_input_order() -> None:
    lines = lines_of(routed(queries(2), [CHEAP, DEAR], 0.5, 0.9))
    assert [(line["id"], line["quality_target"], line["core"]) for line in lines] == [
        ("q0", 0.5, "cheap"),
        ("q0", 0.9, "dear"),
        ("q1", 0.5, "cheap"),
        ("q1", 0.9, "dear"),
    ]
    assert lines[0] == {
        "id": "q0",
        "quality_target": 0.5,
        "core": "cheap",
        "predicted_quality": 0.6,
        "predicted_cost": pytest.approx(100 / 1e6),
    }


def test_a_query_that_found_no_room_has_null_and_still_its_estimates() -> None:
    batch = routed(queries(2), [CHEAP.model_copy(update={"quota": 1})], 0.5)
    waiting = next(line for line in lines_of(batch, with_estimates=True) if line["core"] is None)
    assert (waiting["predicted_quality"], waiting["predicted_cost"]) == (None, None)
    assert waiting["estimates"] == {
        "cheap": {"quality": 0.6, "cost": pytest.approx(1e-4), "output_tokens": 0.0}
    }


def test_the_summary_adds_up() -> None:
    batch = routed(queries(3), [CHEAP, DEAR], 0.5, 0.9)
    told = json.loads(json.dumps(summary(batch), allow_nan=False))
    assert told["queries"] == 3
    assert [target["per_core"] for target in told["targets"]] == [
        {"cheap": 3, "dear": 0},
        {"cheap": 0, "dear": 3},
    ]
    assert [target["predicted_cost"] for target in told["targets"]] == pytest.approx([3e-4, 3e-3])
    for target in told["targets"]:
        cost, bound = target["predicted_cost"], target["lower_bound"]
        assert bound <= cost * (1 + 1e-9)
        assert target["gap"] == pytest.approx((cost - bound) / bound)


def test_figures_that_do_not_exist_are_null() -> None:
    batches = routed([], [CHEAP], 0.5), routed(queries(1), [CHEAP], 0.99)
    (nothing,), (beyond,) = (
        json.loads(json.dumps(summary(batch), allow_nan=False))["targets"] for batch in batches
    )
    assert nothing["predicted_quality"] is None
    assert (beyond["met"], beyond["lower_bound"], beyond["gap"]) == (False, None, None)


# Recorded outcomes: four fifths of the queries as history, one fifth to route


class Recalled(Predictor):
    """Estimates that were made before, so that a batch is fitted once only."""

    def __init__(self, estimates: Estimates) -> None:
        self.estimates = estimates

    def fit(self, history: Sequence[Record]) -> Recalled:
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        return self.estimates


@dataclass
class Fold:
    """A part of a data set, routed at several targets, and once under quotas."""

    batch: Batch
    under_quotas: Batch
    quality: FloatArray  # recorded, (queries, cores); NaN where nobody asked

    def delivered(self, route: int) -> FloatArray:
        core = self.batch.routings[route].assignment.core
        return self.quality[np.arange(len(core)), core]

    def of_cheapest_core(self) -> FloatArray:
        return self.quality[:, self.batch.estimated.candidates.cost.mean(axis=0).argmin()]


def fold_of(
    records: Sequence[Record], cores: Sequence[Core], part: set[str], targets: Sequence[float]
) -> Fold:
    asked = [record for record in records if record.query in part]
    column = {core.name: position for position, core in enumerate(cores)}
    quality = np.full((len(asked), len(cores)), np.nan)
    batch = []
    for row, record in enumerate(asked):
        text = query_text(record.query, record.tools)
        batch.append(Query(str(record.id), text, Requirements(text.input_tokens), f"queries:{row}"))
        for outcome in record.outputs:
            quality[row, column[outcome.model_name]] = outcome.graded_quality
    whole = assign_batch([record for record in records if record.query not in part], cores, batch, targets)
    fair_share = math.ceil(len(batch) / len(cores))
    limited = [core.model_copy(update={"quota": fair_share}) for core in cores]
    return Fold(
        whole, assign_batch([], limited, batch, [0.5], predictor=Recalled(whole.estimated.estimates)), quality
    )


# Data set, queries, parts that are asked in turn, targets. All 821 queries of tools12 are asked, each once:
# fewer are too few to tell two cores apart.
RECORDED = [("tools12", 821, (0, 1), (0.0, 0.86, 0.88)), ("qa9", 800, (0,), (0.0, 0.6, 0.65))]


@pytest.fixture(scope="module", params=RECORDED, ids=[name for name, *_ in RECORDED])
def folds(request: pytest.FixtureRequest) -> list[Fold]:
    name, most, parts, targets = request.param
    if not (SHARED / f"{name}.jsonl.gz").is_file():
        pytest.skip(f"no recorded outcomes at ../shared/data/{name}.jsonl.gz")
    records = read_history(SHARED / f"{name}.jsonl.gz")
    cores = read_manifest(SHARED / f"{name}.cores.yaml").cores
    texts = np.random.default_rng(0).permutation(np.array(sorted({record.query for record in records})))[
        :most
    ]
    kept = set(texts.tolist())
    records = [record for record in records if record.query in kept]
    return [fold_of(records, cores, set(texts[part::2].tolist()), targets) for part in parts]


def test_recorded_queries_are_all_placed(folds: list[Fold]) -> None:
    assert all((route.assignment.core != WAITS).all() for fold in folds for route in fold.batch.routings)


def test_cost_and_delivered_quality_rise_with_the_target(folds: list[Fold]) -> None:
    costs = [sum(fold.batch.routings[route].assignment.cost for fold in folds) for route in range(3)]
    qualities = [np.nanmean(np.concatenate([fold.delivered(route) for fold in folds])) for route in range(3)]
    assert costs[0] < costs[1] < costs[2]
    assert qualities[0] < qualities[1] < qualities[2]


def test_a_high_target_delivers_more_than_the_cheapest_core(folds: list[Fold]) -> None:
    delivered = np.nanmean(np.concatenate([fold.delivered(-1) for fold in folds]))
    cheapest = np.nanmean(np.concatenate([fold.of_cheapest_core() for fold in folds]))
    assert delivered > cheapest + 0.02


def test_tight_quotas_hold_and_still_place_every_query(folds: list[Fold]) -> None:
    for fold in folds:
        core = fold.under_quotas.routings[0].assignment.core
        assert (core != WAITS).all()
        assert (np.bincount(core) <= math.ceil(len(core) / len(fold.under_quotas.cores))).all()


def test_a_budget_buys_the_best_quality_that_it_can() -> None:
    cores = [CHEAP, DEAR]
    predictor = KnownQuality(cheap=0.6, dear=0.9)
    # 100 input tokens: 0.0001 dollars at the cheap core, 0.001 at the dear one.
    batch = assign_batch([], cores, queries(10), [], budgets=[0.001, 0.0046, 1.0], predictor=predictor)
    told = summary(batch)["targets"]
    assert [target["budget_usd"] for target in told] == [0.001, 0.0046, 1.0]
    assert [target["per_core"]["dear"] for target in told] == [0, 4, 10]
    assert all(target["predicted_cost"] <= target["budget_usd"] + 1e-12 for target in told)
    assert "quality_target" not in told[0]


def test_dual_prices_tell_what_more_would_be_worth() -> None:
    limited = CHEAP.model_copy(update={"quota": 4})
    told = summary(routed(queries(10), [limited, DEAR], 0.5))["targets"][0]["dual_prices"]
    assert told["slot"]["cheap"] == pytest.approx(0.0009)
    assert told["slot"]["dear"] == pytest.approx(0.0)


def answered(count: int) -> list[Record]:
    """Two small cores that fail on different calls, and a dear one that does not."""
    made = []
    for number in range(count):
        outputs = []
        for name, wrong in (("a", number % 5 == 0), ("b", number % 5 == 1), ("dear", False)):
            answer = f"no, says {name}" if wrong else "right"
            outputs.append(
                Outcome(model_name=name, correctness=not wrong, output_token_length=10, prediction=answer)
            )
        made.append(Record(query=f"question {number * 7919}", outputs=tuple(outputs)))
    return made


def test_a_planned_line_names_the_stages_and_their_first_core() -> None:
    cores = [Core(name="a", price=Price(input=1)), Core(name="b", price=Price(input=1)), DEAR]
    batch = assign_batch(answered(200), cores, queries(40), [0.5, 0.9], plans="agree", max_calls=3.0)
    lines = lines_of(batch, with_estimates=True)
    assert len(lines) == 80
    assert {line["plan"]["kind"] for line in lines if line["quality_target"] == 0.5} == {"single"}
    assert "agree" in {line["plan"]["kind"] for line in lines if line["quality_target"] == 0.9}
    for line in lines:
        assert line["core"] == line["plan"]["cores"][0]
        assert ("else" in line["plan"]) == (line["plan"]["kind"] != "single")
        assert 0 <= line["predicted_quality"] <= 1 and line["predicted_cost"] > 0
        assert set(line["estimates"]) == {"a", "b", "dear"}
    asked = summary(batch)["targets"][1]
    assert sum(asked["per_plan"].values()) == sum(asked["per_core"].values()) == 40
    assert 1.2 < asked["calls_per_query"] <= 3.0
    few = assign_batch(answered(200), cores, queries(40), [0.9], plans="agree", max_calls=1.2)
    assert summary(few)["targets"][0]["calls_per_query"] <= 1.2 + 1e-6


def test_plans_hold_the_quotas_of_all_their_cores() -> None:
    cores = [Core(name="a", price=Price(input=1)), Core(name="b", price=Price(input=1)), DEAR]
    limited = [cores[0], cores[1].model_copy(update={"quota": 9}), DEAR.model_copy(update={"quota": 3})]
    batch = assign_batch(answered(200), limited, queries(20), [1.0], plans="agree", max_calls=3.0)
    routing = batch.planned[0]
    use = routing.estimates.use[np.arange(20), routing.routing.assignment.core].sum(axis=0)
    assert use[1] <= 9 + 1e-6
    assert use[2] <= 3 + 1e-6
    assert any(line["plan"]["kind"] == "agree" for line in lines_of(batch))
