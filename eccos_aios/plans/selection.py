"""The plans worth estimating: all that a mode allows, pruned by greedy forward selection."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations, permutations

import numpy as np

from eccos_aios.config import PlansMode
from eccos_aios.plans.answers import FloatArray, IntArray, RecordedAnswers, mean_known, replay_plans
from eccos_aios.plans.plan import AnswerPlan

Mode = PlansMode

PLANS = 20  # besides the single cores; more gain nothing, see the README here
LEAST_RECORDS = 100  # that know two cores' answers; with fewer the default plan is taken
LEAST_FOLLOWED = 30  # records that followed the default plan in a kernel, until it is taken
NEAR_BEST = 0.85  # of the best core's mean quality, that a core of the default plan must have
CATEGORY_PRIOR_STRENGTH = 20.0  # records at which a category's own mean weighs as much as the whole's
PRICES = 16  # of quality, between the cheapest plan's and the best one's
CALL_PRICES = (0.0, 0.02)  # quality that one more core asked counts for: without, and with a bound on calls
SHORTLIST = 25  # plans by mean at each price that selection looks at
LEAST_GAIN = 1e-5
MOST_RECORDS = 1500  # that selection looks at: with 16 cores it takes two seconds per thousand
PARTS = 5  # of the records, each left out once to measure the luck in a selection


def candidate_plans(cores: Sequence[str], mode: Mode) -> list[AnswerPlan]:
    """Every plan of a mode over some cores, the single cores first."""
    plans = [AnswerPlan.single(core) for core in cores]
    if mode in ("check", "agree"):
        plans += [AnswerPlan.check(*pair) for pair in permutations(cores, 2)]
    if mode == "agree":
        plans += [
            AnswerPlan.agree(one, other, last)
            for one, other in combinations(cores, 2)
            for last in cores
            if last not in (one, other)
        ]
    return plans


def select_plans(
    answers: RecordedAnswers,
    categories: Sequence[str | None],
    mode: Mode,
    *,
    allowed: Sequence[str] | None = None,
    count: int = PLANS,
) -> list[AnswerPlan]:
    """The single cores, and the plans that add most to them and to each other.

    Greedy forward selection: each plan's value at 16 prices of quality, with and without one of extra calls,
    by leave-one-out category means; the plan is taken whose addition raises most the mean, over records and
    prices, of the best value.

    Parameters
    ----------
    answers : RecordedAnswers
    categories : sequence of str or None
        One per record.
    mode : str
        ``off``: single cores alone; ``check``; ``agree``: both kinds.
    allowed : sequence of str, optional
        Cores that a plan of several may ask. Default: all.
    count : int
        Plans of several cores at most.

    Returns
    -------
    list of AnswerPlan
        The single cores first, in the order of the columns. Where fewer than 100 records know two cores'
        answers, or follow one plan, those of `default_plans` of which anything is known.
    """
    singles = candidate_plans(answers.cores, "off")
    cores = list(answers.cores if allowed is None else allowed)
    if mode == "off" or len(cores) < 2:
        return singles
    if not _is_enough(answers):
        default = default_plans(answers, mode, cores)
        followed = answers.followed.counts
        return singles + [
            plan
            for plan in default
            if answers.comparable_records or followed.get(plan.name, 0) >= LEAST_FOLLOWED
        ]
    some, labels = _sample(answers, categories)
    return [*singles, *_selected(some, labels, mode, cores, count, LEAST_RECORDS)]


def selection_optimism(
    answers: RecordedAnswers,
    categories: Sequence[str | None],
    mode: Mode,
    *,
    allowed: Sequence[str] | None = None,
    count: int = PLANS,
) -> float:
    """How far the mean quality of selected plans lies above what they give on other records.

    The best of many noisy means is partly luck. Selection is repeated without each fifth of the records;
    there the selected plans' mean is compared with that on the other four, relative to the single cores,
    which nobody selected. Parameters as in `select_plans`; 0 where too few records are known.
    """
    cores = list(answers.cores if allowed is None else allowed)
    if mode == "off" or len(cores) < 2 or not _is_enough(answers):
        return 0.0
    singles = candidate_plans(answers.cores, "off")
    answers, categories = _sample(answers, categories)
    part = np.random.default_rng(0).permutation(len(categories)) % PARTS
    excess = []
    for number in range(PARTS):
        rest, own = np.flatnonzero(part != number), np.flatnonzero(part == number)
        known, labels = answers.take(rest), [categories[row] for row in rest]
        selected = _selected(known, labels, mode, cores, count, LEAST_RECORDS * (1 - 1 / PARTS))
        there, here = (
            mean_known(replay_plans(each, [*singles, *selected]).quality)
            for each in (known, answers.take(own))
        )
        over = there - here
        if selected and not np.isnan(over[len(singles) :]).all():
            excess.append(float(np.nanmean(over[len(singles) :]) - np.nanmean(over[: len(singles)])))
    # with all records there is less luck than with four fifths of them
    return max((1.0 - 1.0 / PARTS) * float(np.mean(excess)), 0.0) if excess else 0.0


def _sample(
    answers: RecordedAnswers, categories: Sequence[str | None]
) -> tuple[RecordedAnswers, Sequence[str | None]]:
    """All records, or `MOST_RECORDS` that tell of plans, drawn with a fixed seed."""
    if len(categories) <= MOST_RECORDS:
        return answers, categories
    several = np.flatnonzero(answers.is_comparable | (answers.followed.name != ""))
    drawn = np.random.default_rng(0).permutation(several)[:MOST_RECORDS]
    rows = np.sort(drawn)
    return answers.take(rows), [categories[row] for row in rows]


def _selected(
    answers: RecordedAnswers,
    categories: Sequence[str | None],
    mode: Mode,
    cores: Sequence[str],
    count: int,
    least: float,
) -> list[AnswerPlan]:
    """The plans of several cores that some records select; `least` records must know a plan's outcome.

    In two rounds: all plans of up to three cores are too many when each has every fourth core as well, so
    only the selected ones are extended by a fourth.
    """
    singles = candidate_plans(answers.cores, "off")
    staged = list(
        dict.fromkeys([*candidate_plans(cores, mode)[len(cores) :], *_followed(answers, mode, cores)])
    )
    picked = _picked(answers, categories, singles, staged, count, least)
    longer = [
        AnswerPlan.agree(*plan.every_core, last)
        for plan in picked
        if plan.kind == "agree"
        for last in cores
        if last not in plan.every_core
    ]
    return _picked(answers, categories, singles, [*picked, *longer], count, least) if longer else picked


def _picked(
    answers: RecordedAnswers,
    categories: Sequence[str | None],
    singles: Sequence[AnswerPlan],
    staged: Sequence[AnswerPlan],
    count: int,
    least: float,
) -> list[AnswerPlan]:
    every = [*singles, *staged]
    outcomes = replay_plans(answers, every)
    seen = (~np.isnan(outcomes.quality)).sum(axis=0)
    enough = np.flatnonzero((np.arange(len(seen)) < len(singles)) | (seen >= least))
    quality, cost, calls = (
        _category_means(array[:, enough], categories)
        for array in (outcomes.quality, outcomes.cost, outcomes.calls)
    )
    return [every[int(enough[number])] for number in _forward(quality, cost, calls, len(singles), count)]


def plans_to_explore(
    answers: RecordedAnswers, mode: Mode, *, allowed: Sequence[str] | None = None
) -> tuple[AnswerPlan, ...]:
    """Those of `default_plans` of which too little is known to select or to reject them."""
    cores = list(answers.cores if allowed is None else allowed)
    if mode == "off" or len(cores) < 2:
        return ()
    plans = default_plans(answers, mode, cores)
    seen = (~np.isnan(replay_plans(answers, plans).quality)).sum(axis=0)
    return tuple(plan for plan, count in zip(plans, seen.tolist(), strict=True) if count < LEAST_RECORDS)


def _is_enough(answers: RecordedAnswers) -> bool:
    """Whether plans are selected by what is known of them."""
    return max([answers.comparable_records, *answers.followed.counts.values()]) >= LEAST_RECORDS


def _followed(answers: RecordedAnswers, mode: Mode, cores: Sequence[str]) -> list[AnswerPlan]:
    """The plans that calls followed in a kernel, of the kinds of a mode and of cores that there still are."""
    allowed = {"off": (), "check": ("check",), "agree": ("check", "agree")}[mode]
    found = []
    for name in answers.followed.counts:
        with suppress(ValueError):  # of cores that are gone
            plan = AnswerPlan.parse(name, cores)
            found += [plan] if plan.kind in allowed else []
    return found


def default_plans(answers: RecordedAnswers, mode: Mode, cores: Sequence[str]) -> list[AnswerPlan]:
    """One plan where too little is known: the two cheapest cores near the best one, else the best.

    Empty where no core is known to be near the best, or none but itself.
    """
    columns = [column for column, core in enumerate(answers.cores) if core in set(cores)]
    known = [column for column in columns if not np.isnan(answers.quality[:, column]).all()]
    if len(known) < 2:
        return []
    quality, cost = _means(answers.quality), _means(answers.cost)
    best = max(known, key=lambda column: quality[column])
    near = [column for column in known if column != best and quality[column] >= NEAR_BEST * quality[best]]
    near.sort(key=lambda column: cost[column])
    last = answers.cores[best]
    if not near or cost[near[0]] >= cost[best]:
        return []
    plans = [AnswerPlan.check(answers.cores[near[0]], last)]
    if mode == "agree" and len(near) >= 2:
        # In the order of the columns, as among the candidates: what one order taught counts for both.
        one, other = (answers.cores[column] for column in sorted(near[:2]))
        plans.append(AnswerPlan.agree(one, other, last))
    return plans


def _forward(quality: FloatArray, cost: FloatArray, calls: FloatArray, singles: int, count: int) -> list[int]:
    """Columns that greedy forward selection adds to the first `singles`, in the order of the columns."""
    scale = max(float(cost[:, :singles].mean(axis=0).min()), 1e-12)
    # US dollars per whole quality of one call, and quality per extra call
    prices = [(price * scale, extra) for price in np.geomspace(0.5, 3e4, PRICES) for extra in CALL_PRICES]
    mean_quality, mean_cost, mean_calls = (array.mean(axis=0) for array in (quality, cost, calls))
    shortlist = {
        int(number)
        for price, extra in prices
        for number in np.argsort(
            -_value(mean_quality, mean_cost, mean_calls, price, extra, scale), kind="stable"
        )[:SHORTLIST]
    }
    rest = np.array(sorted(shortlist - set(range(singles))), dtype=np.int64)
    if not len(rest):
        return []

    def values(columns: slice | IntArray) -> FloatArray:
        part = quality[:, columns], cost[:, columns], calls[:, columns]
        return np.stack([_value(*part, price, extra, scale) for price, extra in prices])

    best, others = values(slice(0, singles)).max(axis=2), values(rest)
    picked: list[int] = []
    for _ in range(count):
        gain = np.maximum(others - best[:, :, None], 0.0).mean(axis=(0, 1))
        number = int(gain.argmax())
        if gain[number] < LEAST_GAIN:
            break
        picked.append(int(rest[number]))
        best = np.maximum(best, others[:, :, number])
    return sorted(picked)


def _value(
    quality: FloatArray, cost: FloatArray, calls: FloatArray, price: float, extra: float, scale: float
) -> FloatArray:
    """Value at a price, in about the same unit at every price, so that none of them dominates the mean."""
    worth = price * (quality - extra * (calls - 1.0)) - cost
    return np.asarray(worth / (0.05 * price + scale), dtype=np.float64)


def _means(values: FloatArray) -> FloatArray:
    return np.nan_to_num(mean_known(values))


def _category_means(values: FloatArray, categories: Sequence[str | None]) -> FloatArray:
    """For each record, its category's mean without the record itself, shrunk towards the whole's."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    total, count = filled.sum(axis=0), known.sum(axis=0)
    means = np.empty_like(values)
    labels = np.array([category or "" for category in categories])
    for label in np.unique(labels):
        rows = labels == label
        others = (total - filled[rows]) / np.maximum(count - known[rows], 1)
        own = filled[rows].sum(axis=0) - filled[rows]
        seen = known[rows].sum(axis=0) - known[rows]
        means[rows] = (own + CATEGORY_PRIOR_STRENGTH * others) / (seen + CATEGORY_PRIOR_STRENGTH)
    return means
