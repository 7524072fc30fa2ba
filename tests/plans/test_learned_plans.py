"""Plans learned from recorded answers: replay, selection, estimates, and routing within a bound on calls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.assign import WAITS, ResourceProblem, solve_resources
from eccos_aios.core import Core, Price
from eccos_aios.history import Outcome, Record
from eccos_aios.plans import (
    AnswerPlan,
    PlanEstimates,
    PlanPredictor,
    PlanProgress,
    RecordedAnswers,
    best_within,
    candidate_plans,
    recorded_answers,
    replay_plans,
    route_plans,
    select_plans,
)
from eccos_aios.plans.answers import FollowedPlans
from eccos_aios.plans.plan import stages_of
from eccos_aios.plans.selection import plans_to_explore, selection_optimism
from eccos_aios.predict import Estimates, query_text
from eccos_aios.predict.dataset import outcomes_of
from eccos_aios.verify import AnswerCheck

pytestmark = pytest.mark.usefixtures("few_trees")

NAMES = ("small", "other", "large")
FOUR = (*NAMES, "last")
CORES = (
    Core(name="small", price=Price(input=0.1, output=0.1)),
    Core(name="other", price=Price(input=0.1, output=0.1)),
    Core(name="large", price=Price(input=10, output=10)),
)


def records(count: int, *, with_answers: bool = True, seed: int = 0) -> list[Record]:
    """The small cores are right four times in five, and wrong each in its own way; the large one is right."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        outputs = []
        for name in NAMES:
            right = name == "large" or random.random() < 0.8
            answer = "right" if right else f"wrong, says {name}"
            outputs.append(
                Outcome(
                    model_name=name,
                    correctness=right,
                    input_token_length=20,
                    output_token_length=20,
                    latency_s={"small": 1.0, "other": 2.0, "large": 5.0}[name],
                    prediction=answer if with_answers else None,
                )
            )
        made.append(Record(query=f"question {number}", outputs=tuple(outputs), input_token_length=20))
    return made


cells = st.lists(st.tuples(st.booleans(), st.sampled_from([None, "x", "y"])), min_size=4, max_size=4)


@settings(max_examples=100, deadline=None)
@given(cells)
def test_a_replay_follows_the_rules_of_the_running_plan(row: list[tuple[bool, str | None]]) -> None:
    checks = {name: AnswerCheck(ok, key if ok else None) for name, (ok, key) in zip(FOUR, row, strict=True)}
    numbers = {"x": 0, "y": 1}
    answers = RecordedAnswers(
        FOUR,
        quality=np.array([[0.1, 0.2, 0.3, 0.4]]),
        cost=np.array([[1.0, 10.0, 100.0, 1000.0]]),
        seconds=np.array([[1.0, 2.0, 5.0, 7.0]]),
        passes=np.array([[checks[name].passes for name in FOUR]]),
        key=np.array([[numbers.get(checks[name].key or "", -1) for name in FOUR]]),
        known=np.ones((1, 4), dtype=bool),
        followed=FollowedPlans.of([Record(query="", outputs=())]),
    )
    plans = [*candidate_plans(FOUR, "agree"), AnswerPlan.agree(*FOUR), AnswerPlan.agree(*reversed(FOUR))]
    outcomes = replay_plans(answers, plans)
    for number, plan in enumerate(plans):
        progress = PlanProgress(plan)
        while (core := progress.next_core()) is not None:
            progress.answered(core, checks[core])
        assert progress.final is not None
        assert outcomes.quality[0, number] == answers.quality[0, FOUR.index(progress.final)]
        asked = [FOUR.index(core) for core in progress.asked]
        assert outcomes.cost[0, number] == answers.cost[0, asked].sum()
        assert outcomes.calls[0, number] == len(asked)
        stages = {
            stage
            for core, stage in zip(plan.every_core, stages_of(plan), strict=True)
            if core in progress.asked
        }
        assert outcomes.middle[0, number] == ("middle" in stages)
        assert outcomes.last[0, number] == ("last" in stages)


def test_the_cores_of_a_stage_answer_side_by_side() -> None:
    history = records(200)
    answers = recorded_answers(history, CORES)
    outcomes = replay_plans(answers, [AnswerPlan.agree("small", "other", "large")])
    disagree = outcomes.calls[:, 0] == 3
    assert 0.2 < disagree.mean() < 0.5
    assert set(outcomes.seconds[disagree, 0]) == {2.0 + 5.0}
    assert set(outcomes.seconds[~disagree, 0]) == {2.0}


def test_an_outcome_is_unknown_where_one_of_the_cores_is() -> None:
    record = records(1)[0]
    history = [record.model_copy(update={"outputs": record.outputs[:2]})]
    plans = [
        AnswerPlan.single("large"),
        AnswerPlan.check("small", "large"),
        AnswerPlan.check("small", "other"),
    ]
    assert np.isnan(replay_plans(recorded_answers(history, CORES), plans).quality).tolist() == [
        [True, True, False]
    ]


def test_agreement_of_two_small_cores_is_learned_and_saves_money() -> None:
    predictor = PlanPredictor(CORES, "agree").fit(records(300))
    assert AnswerPlan.agree("small", "other", "large") in predictor.plans_
    test = records(200, seed=1)
    calls = [query_text(record.query) for record in test]
    estimates = predictor.estimate_plans(calls)
    outcomes = replay_plans(recorded_answers(test, CORES), estimates.plans)
    rows = np.arange(len(test))
    chosen = {}
    for name, limit in (("plans", 3.0), ("one", 1.0)):
        routing = route_plans(
            estimates, allowed=~np.isnan(outcomes.quality), quality_target=0.95, max_calls=limit
        )
        plan = routing.assignment.core
        chosen[name] = outcomes.quality[rows, plan].mean(), outcomes.cost[rows, plan].mean()
        assert routing.calls <= limit + 1e-6
    assert chosen["plans"][0] >= 0.94
    assert chosen["plans"][1] < 0.6 * chosen["one"][1]


def test_without_answers_or_with_one_core_allowed_nothing_but_single_cores_is_proposed() -> None:
    unanswered = recorded_answers(records(200, with_answers=False), CORES)
    answers = recorded_answers(records(200), CORES)
    singles = candidate_plans(NAMES, "off")
    assert select_plans(unanswered, [None] * 200, "agree") == singles
    assert select_plans(answers, [None] * 200, "agree", allowed=["small"]) == singles
    assert select_plans(answers, [None] * 200, "off") == singles


def test_a_short_history_gets_the_default_plans_and_no_luck_is_measured() -> None:
    answers = recorded_answers(records(40), CORES)
    # small cores that are not within 85 % of the best are not among them
    assert all(plan.otherwise in (None, "large") for plan in select_plans(answers, [None] * 40, "agree"))
    assert selection_optimism(answers, [None] * 40, "agree") == 0.0


def test_a_selection_among_equals_is_lucky() -> None:
    random = np.random.default_rng(0)
    names = [f"core {number}" for number in range(8)]
    quality = (random.random((150, 8)) < 0.5).astype(float)
    answers = RecordedAnswers(
        tuple(names),
        quality,
        np.ones_like(quality),
        np.full_like(quality, np.nan),
        random.random(quality.shape) < 0.8,
        random.integers(0, 3, quality.shape),
        np.ones(quality.shape, dtype=bool),
        FollowedPlans.of([Record(query="", outputs=())] * 150),
    )
    assert selection_optimism(answers, [None] * 150, "agree") > 0.01


def estimates_of(quality: np.ndarray, calls: np.ndarray, cost: np.ndarray) -> PlanEstimates:  # type: ignore[type-arg]
    plans = tuple(AnswerPlan.single(f"core {number}") for number in range(quality.shape[1]))
    cores = Estimates(quality, cost, cost, cost)
    return PlanEstimates(plans, quality, cost, calls, np.zeros_like(calls), np.zeros_like(calls), cores)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(1.0, 3.0), st.floats(0.0, 1.0))
def test_the_bound_on_calls_is_kept_and_met_tells_the_truth(seed: int, limit: float, target: float) -> None:
    random = np.random.default_rng(seed)
    quality, cost = random.random((40, 5)), random.random((40, 5)) * random.choice([1e-6, 1.0])
    calls = np.column_stack([np.ones((40, 2)), 1 + 2 * random.random((40, 3))])
    estimates, allowed = estimates_of(quality, calls, cost), np.ones((40, 5), dtype=bool)
    for budget in (None, target * float(cost.sum(axis=0).mean())):
        routing = route_plans(
            estimates, allowed=allowed, max_calls=limit, quality_target=target, budget=budget
        )
        found = routing.assignment
        assert (found.core != WAITS).all()
        assert routing.calls <= limit + 1e-6
        rows = np.arange(40)
        assert found.quality == pytest.approx(quality[rows, found.core].mean())
        assert found.cost == pytest.approx(cost[rows, found.core].sum())
        assert found.lower_bound <= found.cost * (1 + 1e-9) or not found.met
        exact = solve_resources(
            ResourceProblem(
                cost, quality, calls[:, :, None], np.array([limit * 40]), target, allowed, budget=budget
            )
        )
        if budget is None and found.met and (exact.core != WAITS).all():
            assert found.lower_bound <= exact.cost * (1 + 1e-6)
        if budget is None and found.met:
            assert found.quality >= target - 1e-6


def test_a_target_that_only_more_calls_reach_buys_no_dear_plan() -> None:
    random = np.random.default_rng(3)
    rows = 200
    quality = np.column_stack(
        [np.full(rows, 0.7), 0.85 + 0.1 * random.random(rows), 0.86 + 0.06 * random.random(rows)]
    )
    cost = np.column_stack([np.full(rows, 1.0), np.full(rows, 2.0), 50 + 900 * random.random(rows)])
    calls = np.column_stack([np.ones(rows), np.full(rows, 2.2), np.ones(rows)])
    estimates, allowed = estimates_of(quality, calls, cost), np.ones((rows, 3), dtype=bool)
    most = best_within(estimates, allowed=allowed, max_calls=1.5).assignment
    near = route_plans(estimates, allowed=allowed, quality_target=0.99, max_calls=1.5).assignment
    assert not near.met
    assert most.quality > near.quality >= most.quality - 0.01 - 1e-6
    assert near.cost < 0.9 * most.cost


def test_a_plan_is_told_in_words() -> None:
    assert AnswerPlan.single("a").in_words(0.0) == "asks a"
    assert (
        AnswerPlan.check("a", "b").in_words(0.12) == "asks a; 12 % of such answers fail their checks, then b"
    )
    assert (
        AnswerPlan.agree("a", "b", "c").in_words(0.3) == "asks a and b; 30 % of such answers disagree, then c"
    )
    assert AnswerPlan.agree("a", "b", "c", "d").in_words(0.1, 0.3) == (
        "asks a and b; 30 % of such answers disagree, then c; 10 % still disagree, then d"
    )


def test_use_counts_every_stage_of_a_plan() -> None:
    estimates = PlanPredictor(CORES, "agree").fit(records(300)).estimate_plans([query_text("question 1")])
    for number, plan in enumerate(estimates.plans):
        use = dict(zip(NAMES, estimates.use[0, number], strict=True))
        assert sum(use.values()) == pytest.approx(estimates.calls[0, number])
        assert {core for core, share in use.items() if share > 0} <= set(plan.every_core)
        assert use[plan.first] == 1.0


def test_of_a_long_history_the_records_that_compare_cores_are_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eccos_aios.plans.predictor.COMPARED", 300)
    alone = [record.model_copy(update={"outputs": record.outputs[:1]}) for record in records(600, seed=2)]
    predictor = PlanPredictor(CORES, "agree").fit([*alone, *records(300)])
    assert AnswerPlan.agree("small", "other", "large") in predictor.plans_
    found = predictor.predict([query_text("question 7")], ["small", "agree:small+other>large"])
    assert found.quality[0, 1] > found.quality[0, 0]


AGREE = AnswerPlan.agree("small", "other", "large")


def is_right(name: str, number: int) -> bool:
    """The small cores err one time in eight, never both at once."""
    return number % 8 != {"small": 0, "other": 4}.get(name)


def graded(name: str, number: int, **more: object) -> Outcome:
    fields = {"input_token_length": 20, "output_token_length": 20, **more}
    return Outcome(model_name=name, correctness=is_right(name, number), **fields)  # type: ignore[arg-type]


def unanswered(count: int) -> list[Record]:
    """Grades of every core, and no answers."""
    return [
        Record(query=f"question {number}", outputs=tuple(graded(name, number) for name in NAMES))
        for number in range(count)
    ]


def followed(count: int) -> list[Record]:
    """What a kernel records of calls that follow a plan: one core's answer each, the last one's the given."""
    made = []
    for number in range(count):
        agree = is_right("small", number) and is_right("other", number)
        plan = {"plan": AGREE.name, "plan_asked": 2 if agree else 3}
        given = graded("small", number, **plan) if agree else graded("large", number, selected=True, **plan)
        stages = [graded("other", number)] if agree else [graded("small", number), graded("other", number)]
        made += [Record(query=f"followed {number}", outputs=(each,)) for each in (*stages, given)]
    return made


def test_a_plan_that_calls_followed_is_known_by_what_it_gave() -> None:
    answers = recorded_answers([*unanswered(64), *followed(120)], CORES)
    known = replay_plans(answers, [AGREE, AnswerPlan.check("small", "large")])
    assert np.isnan(known.quality[:64]).all()  # no answers are known there
    assert np.isnan(known.quality[:, 1]).all()  # nor of what another plan would have given
    assert np.nanmean(known.quality[:, 0]) == 1.0
    assert np.nanmean(known.last[:, 0]) == 1 / 4
    assert np.nanmean(known.calls[:, 0]) == 2 + 1 / 4
    small, other, large = np.nanmean(answers.cost, axis=0)
    assert np.nanmean(known.cost[:, 0]) == pytest.approx(small + other + large / 4)


def test_a_core_is_not_judged_by_the_calls_that_others_could_not_answer() -> None:
    answers = recorded_answers(followed(120), CORES)
    assert np.isnan(answers.quality[:, NAMES.index("large")]).all()
    assert set(outcomes_of(followed(120)).cores) == {"other", "small"}


@pytest.mark.parametrize(("calls", "explored", "taken"), [(0, 2, 0), (29, 2, 0), (30, 2, 1), (100, 1, 1)])
def test_a_plan_is_explored_until_enough_is_known_of_it(calls: int, explored: int, taken: int) -> None:
    history = [*unanswered(64), *followed(calls)]
    answers = recorded_answers(history, CORES)
    left = plans_to_explore(answers, "agree")
    assert len(left) == explored
    assert (AGREE in left) == (calls < 100)
    plans = select_plans(answers, [None] * len(history), "agree")
    assert plans[len(CORES) :] == [AGREE] * taken


def test_nothing_is_explored_where_the_answers_are_known_or_plans_are_off() -> None:
    assert plans_to_explore(recorded_answers(records(120), CORES), "agree") == ()
    unknown = recorded_answers(unanswered(128), CORES)
    assert plans_to_explore(unknown, "off") == ()
    assert [plan.kind for plan in plans_to_explore(unknown, "check")] == ["check"]


def test_a_predictor_learns_a_plan_from_calls_that_followed_it() -> None:
    history = [*unanswered(128), *followed(150)]
    fitted = PlanPredictor(CORES, "agree").fit(history)
    found = fitted.estimate_plans([query_text("followed 7")])
    place = [plan.name for plan in found.plans].index(AGREE.name)
    assert found.quality[0, place] == pytest.approx(1.0, abs=0.1)
    assert found.reached[0, place] == pytest.approx(1 / 4, abs=0.15)
    assert AGREE not in fitted.explored_
