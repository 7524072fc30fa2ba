"""Router: quotas, targets and budgets hold; every call has a core or the reason why not."""

from __future__ import annotations

import builtins
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios import Core, Manifest, Price, Router, Routing
from eccos_aios.history import Record
from eccos_aios.predict import CallText, Estimates, Predictor, call_text, query_text
from eccos_aios.requirements import Requirements
from eccos_aios.router import NO_QUOTA_LEFT

SMALL = Core(name="small", price=Price(input=1))
LARGE = Core(name="large", price=Price(input=10))
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


class Stated(Predictor):
    """Estimates that a test states: qualities, and 100 input tokens for every call."""

    def __init__(self, quality: Any) -> None:
        self.quality = np.asarray(quality, dtype=float)
        self.calls: list[CallText] = []

    def fit(self, history: Sequence[Record]) -> Stated:
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        self.calls = list(calls)
        shape = (len(calls), len(cores))
        quality = np.broadcast_to(self.quality, shape) if self.quality.ndim < 2 else self.quality
        return Estimates(quality, np.full(shape, 100.0), np.zeros(shape), np.ones(shape))


def routed(count: int = 10, **asked: Any) -> Routing:
    router = Router([SMALL, LARGE], Stated([0.6, 0.9]))
    return router.route([f"question {number}" for number in range(count)], **asked)


def test_a_target_is_met_at_least_cost() -> None:
    routing = routed(quality_target=0.75)
    assert routing.met
    assert routing.per_core == {"small": 5, "large": 5}
    assert routing.predicted_quality == pytest.approx(0.75)
    assert routing.predicted_cost == pytest.approx(5 * 0.0001 + 5 * 0.001)
    assert routing.lower_bound <= routing.predicted_cost + 1e-12
    assert routing.gap == pytest.approx(0.0, abs=1e-6)
    assert routing.quality_price == pytest.approx(0.0009 / 0.3)
    assert routing.slot_prices == {"small": 0.0, "large": 0.0}


def test_a_target_out_of_reach_gives_the_best_quality_and_no_bound() -> None:
    routing = routed(quality_target=0.95)
    assert not routing.met
    assert routing.cores == ["large"] * 10
    assert math.isinf(routing.lower_bound)
    assert math.isnan(routing.gap)


def test_a_budget_is_held_at_the_best_quality() -> None:
    routing = routed(budget=0.0046)
    assert routing.met
    assert routing.per_core == {"small": 6, "large": 4}
    assert routing.predicted_cost <= 0.0046 + 1e-12


def test_a_manifests_quota_holds_and_one_given_takes_its_place() -> None:
    manifest = Manifest(cores=(SMALL.model_copy(update={"quota": 4}), LARGE.model_copy(update={"quota": 3})))
    router = Router(manifest, Stated([0.6, 0.9]))
    routing = router.route(["a question"] * 10, quality_target=0.5)
    assert routing.per_core == {"small": 4, "large": 3}
    assert routing.cores[7:] == [None] * 3
    assert {call.reason for call in routing[7:]} == {NO_QUOTA_LEFT}
    assert {call.reason for call in routing[:7]} == {None}
    assert router.route(["a question"] * 10, quality_target=0.5, quotas={"small": 9}).per_core == {
        "small": 9,
        "large": 1,
    }
    assert router.route(["a question"] * 4, quality_target=0.5, quotas={"small": 0}).per_core["small"] == 0


def test_a_call_that_no_core_may_take_says_why() -> None:
    blind = Core(name="blind", supports=frozenset({"json"}))
    calls = [{"messages": [{"role": "user", "content": [IMAGE]}]}, "a question"]
    seeing, asked = Router([blind], Stated([0.9])).route(calls, quality_target=0.5)
    assert (seeing.core, seeing.quality, seeing.cost) == (None, None, None)
    assert seeing.reason is not None and "blind: does not support vision" in seeing.reason
    assert not seeing.estimates["blind"].allowed
    assert (asked.core, asked.reason) == ("blind", None)


def test_calls_come_as_texts_messages_or_with_their_requirements() -> None:
    tools = [{"name": "add", "description": "adds"}]
    messages = [{"role": "user", "content": "Add."}]
    predictor = Stated([0.6, 0.9])
    only_large = Requirements(10, cores=frozenset({"large"}))
    routing = Router([SMALL, LARGE], predictor).route(
        [
            "Add.",
            query_text("Add."),
            {"messages": messages, "tools": tools},
            {"query": "Add.", "tools": tools},
            ("Add.", only_large),
        ],
        quality_target=0.5,
    )
    with_tools = call_text(messages, tools)
    assert predictor.calls == [
        query_text("Add."),
        query_text("Add."),
        with_tools,
        with_tools,
        query_text("Add."),
    ]
    assert routing.cores == ["small"] * 4 + ["large"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "neither is given"),
        ({"quality_target": 0.5, "budget": 1.0}, "both are given"),
        ({"quality_target": 1.5}, "1.5"),
        ({"budget": -1.0}, "-1.0"),
        (
            {"quality_target": 0.5, "quotas": {"medium": 1}},
            "'medium': must name one of the cores: small, large",
        ),
        ({"quality_target": 0.5, "quotas": {"small": -1}}, "small: -1"),
        ({"quality_target": 0.5, "quotas": {"small": 1.5}}, "small: 1.5"),
    ],
)
def test_a_wrong_request_names_the_value(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        routed(**asked)


@pytest.mark.parametrize(
    ("calls", "kind", "message"),
    [
        ("a single question", TypeError, "calls: must be a sequence"),
        ([3], TypeError, r"calls\[0\]: int"),
        ([("q", "r")], TypeError, r"calls\[0\]: a tuple"),
        (["q", {"tools": []}], ValueError, r"calls\[1\]: \['tools'\]: must have either messages or query"),
    ],
)
def test_a_wrong_call_is_named(calls: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Router([SMALL], Stated([0.5])).route(calls, quality_target=0.5)


def test_wrong_cores_seconds_or_estimates_are_named() -> None:
    with pytest.raises(ValueError, match="cores: none given"):
        Router([], Stated([]))
    with pytest.raises(ValueError, match="'small': two cores have this name"):
        Router([SMALL, SMALL], Stated([0.5, 0.5]))
    with pytest.raises(ValueError, match="seconds: large: absent"):
        Router([SMALL, LARGE], Stated([0.5, 0.5]), seconds={"small": 1.0})
    with pytest.raises(ValueError, match=r"Stated: quality of call 1 of 2 on core 'large': 1.5"):
        Router([SMALL, LARGE], Stated([0.5, 1.5])).route(["a", "b"], quality_target=0.5)


def test_of_cores_that_cost_the_same_the_fastest_is_taken() -> None:
    twin = SMALL.model_copy(update={"name": "twin"})
    router = Router([SMALL, twin], Stated([0.9, 0.9]), seconds={"small": 3.0, "twin": 0.5})
    routing = router.route(["a question"], quality_target=0.5)
    assert (routing[0].core, routing[0].seconds) == ("twin", 0.5)
    assert routing.to_dicts()[0]["predicted_seconds"] == 0.5


def test_a_batch_of_no_calls_is_routed() -> None:
    routing = routed(0, quality_target=0.5)
    assert (len(routing), list(routing), routing.cores, routing.met) == (0, [], [], False)
    assert routing.predicted_cost == 0


def test_dictionaries_are_ready_for_json() -> None:
    router = Router([SMALL.model_copy(update={"quota": 1})], Stated([0.6]))
    placed, left = json.loads(
        json.dumps(router.route(["a", "b"], quality_target=0.5).to_dicts(estimates=True))
    )
    estimates = {"small": {"quality": 0.6, "cost": 0.0001, "input_tokens": 100.0, "output_tokens": 0.0}}
    assert placed == {
        "core": "small",
        "reason": None,
        "predicted_quality": 0.6,
        "predicted_cost": 0.0001,
        "estimates": estimates,
    }
    assert left == {
        "core": None,
        "reason": NO_QUOTA_LEFT,
        "predicted_quality": None,
        "predicted_cost": None,
        "estimates": estimates,
    }


def test_a_frame_has_a_row_per_call() -> None:
    pytest.importorskip("pandas")
    frame = routed(3, quality_target=0.5).to_frame()
    assert list(frame.columns) == ["core", "reason", "predicted_quality", "predicted_cost"]
    assert list(frame["core"]) == ["small"] * 3
    assert len(routed(0, quality_target=0.5).to_frame()) == 0


def test_without_pandas_a_frame_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pandas(name: str, *args: Any, **options: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(ImportError, match="needs pandas: pip install"):
        routed(1, quality_target=0.5).to_frame()


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    calls=st.integers(1, 12),
    cores=st.integers(1, 4),
    asked=st.sampled_from(["quality_target", "budget"]),
)
def test_whatever_is_asked_quotas_and_requirements_hold(
    seed: int, calls: int, cores: int, asked: str
) -> None:
    rng = np.random.default_rng(seed)
    manifest = [
        Core(
            name=f"core {number}", quota=int(rng.integers(1, 5)), price=Price(input=float(rng.integers(0, 9)))
        )
        for number in range(cores)
    ]
    names = [core.name for core in manifest]
    named = [
        frozenset(rng.choice(names, size=int(rng.integers(1, cores + 1))).tolist()) for _ in range(calls)
    ]
    router = Router(manifest, Stated(rng.random((calls, cores))))
    goal = float(rng.random()) if asked == "quality_target" else float(rng.random() * 0.005)
    routing = router.route([("q", Requirements(1, cores=only)) for only in named], **{asked: goal})
    for core in manifest:
        assert core.quota is not None and routing.per_core[core.name] <= core.quota
    for call, only in zip(routing, named, strict=True):
        assert (call.core is None) == (call.reason is not None)
        assert call.core is None or call.core in only
    placed = [call for call in routing if call.core is not None]
    assert placed
    assert routing.predicted_cost == pytest.approx(sum(call.cost or 0.0 for call in placed))
    assert routing.predicted_quality == pytest.approx(np.mean([call.quality for call in placed]))
    reached = (
        routing.predicted_quality >= goal if asked == "quality_target" else routing.predicted_cost <= goal
    )
    assert routing.met == reached
    if routing.met:
        assert routing.lower_bound <= routing.predicted_cost + 1e-12
