"""RecordedAnswers: a history's answers as arrays, and plans replayed on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from eccos_aios.core import Core
from eccos_aios.history import Record
from eccos_aios.plans.plan import FIRST_STAGE, AnswerPlan, Kind
from eccos_aios.plans.progress import PlanProgress
from eccos_aios.predict import prices_of, record_text
from eccos_aios.verify import AnswerCheck, CallHistory, Check, call_history, check_record

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

NO_KEY = -1  # in `RecordedAnswers.key`
UNRECORDED_OUTPUT_TOKENS = 256.0  # assumed for an answer of unrecorded length
STAGES = 4  # the most cores of a plan
PAIRS = ((0, 1), (0, 2), (1, 2))  # of cores whose answers may agree


@dataclass(frozen=True)
class FollowedPlans:
    """The plan of several cores that gave a record's answer in a kernel; arrays have shape (records,).

    Such a record knows only the answers that the plan asked for, which tells of that plan without bias, and
    of no other.

    Attributes
    ----------
    name : ndarray of str
        Empty where one core answered, or all were asked whatever the others said.
    quality : ndarray
        Of the answer that was given; NaN likewise.
    asked : ndarray of int
        Cores; 0 likewise.
    """

    name: NDArray[np.str_]
    quality: FloatArray
    asked: IntArray

    @classmethod
    def of(cls, history: Sequence[Record]) -> FollowedPlans:
        """Those of a history."""
        found = [next((each for each in record.outputs if each.plan), None) for record in history]
        return cls(
            np.array([(each and each.plan) or "" for each in found], dtype=np.str_),
            np.array([np.nan if each is None else each.graded_quality for each in found]),
            np.array([(each and each.plan_asked) or 0 for each in found], dtype=np.int64),
        )

    def take(self, rows: IntArray) -> FollowedPlans:
        """Those of some of the records."""
        return FollowedPlans(self.name[rows], self.quality[rows], self.asked[rows])

    @cached_property
    def counts(self) -> dict[str, int]:
        """Records by plan."""
        names, counts = np.unique(self.name[self.name != ""], return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))


@dataclass(frozen=True)
class RecordedAnswers:
    """A history's outcomes and what the checks found; arrays have shape (records, cores).

    Attributes
    ----------
    cores : tuple of str
    quality, cost : ndarray
        0 to 1, and US dollars; NaN where no outcome is recorded.
    seconds : ndarray
        Recorded latency; NaN where there is none.
    passes : ndarray of bool
    key : ndarray of int
        Equal within a row for answers that agree; `NO_KEY` for those that agree with none.
    known : ndarray of bool
        Where outcome and answer are both recorded, whatever other cores had answered.
    followed : FollowedPlans
    """

    cores: tuple[str, ...]
    quality: FloatArray
    cost: FloatArray
    seconds: FloatArray
    passes: BoolArray
    key: IntArray
    known: BoolArray
    followed: FollowedPlans

    def take(self, rows: IntArray) -> RecordedAnswers:
        """The answers of some of the records."""
        return RecordedAnswers(
            self.cores,
            self.quality[rows],
            self.cost[rows],
            self.seconds[rows],
            self.passes[rows],
            self.key[rows],
            self.known[rows],
            self.followed.take(rows),
        )

    @property
    def is_comparable(self) -> BoolArray:
        """Which records know the answers of two cores at least."""
        found: BoolArray = self.known.sum(axis=1) >= 2
        return found

    @property
    def comparable_records(self) -> int:
        """Number of those."""
        return int(self.is_comparable.sum())


@dataclass(frozen=True)
class PlanOutcomes:
    """Plans replayed on recorded answers; arrays have shape (records, plans), NaN where unknown.

    An outcome is known where those of all the plan's cores are: records in which the first answer was good
    enough, and the others were never asked for, would make the plan look better than it is.

    Attributes
    ----------
    quality, cost : ndarray
        Of the answer that is given, 0 to 1; of all that was asked, US dollars.
    last, middle : ndarray
        1 where the last stage was reached, and the one between the first and the last; else 0, as where a
        plan has no such stage.
    calls : ndarray
        Cores that were asked.
    seconds : ndarray
        Until the answer was given, the cores of one stage side by side; NaN where a latency is unknown.
    """

    quality: FloatArray
    cost: FloatArray
    last: FloatArray
    middle: FloatArray
    calls: FloatArray
    seconds: FloatArray


def recorded_answers(
    history: Sequence[Record],
    cores: Sequence[Core],
    *,
    calls: CallHistory | None = None,
    checks: Sequence[Check] | None = None,
) -> RecordedAnswers:
    """Check the answers of a history.

    Parameters
    ----------
    history : sequence of Record
    cores : sequence of Core
        In the order of the columns; prices count from here.
    calls : CallHistory, optional
        Where an answer without a tool call fails. Default: learned from this very history, which is not
        right for records that a plan is measured on.
    checks : sequence of Check, optional
        Default: the installed ones.
    """
    calls = call_history(history) if calls is None else calls
    position = {core.name: column for column, core in enumerate(cores)}
    shape = len(history), len(cores)
    quality, cost, seconds = (np.full(shape, np.nan) for _ in range(3))
    passes, known = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    key = np.full(shape, NO_KEY, dtype=np.int64)
    price_in, price_out = prices_of(cores) / 1e6
    for row, record in enumerate(history):
        found = check_record(record, calls, checks)
        numbers: dict[str, int] = {}
        own = None
        for outcome in record.outputs:
            column = position.get(outcome.model_name)
            if column is None or outcome.selected:
                continue
            quality[row, column] = outcome.graded_quality
            if outcome.latency_s is not None:
                seconds[row, column] = outcome.latency_s
            sent, written = outcome.input_token_length, outcome.output_token_length
            if sent is None:
                own = record_text(record).input_tokens if own is None else own
            cost[row, column] = (own if sent is None else sent) * price_in[column] + (
                UNRECORDED_OUTPUT_TOKENS if written is None else written
            ) * price_out[column]
            check = found.get(outcome.model_name)
            if check is not None:
                known[row, column], passes[row, column] = True, check.passes
                if check.key is not None:
                    key[row, column] = numbers.setdefault(check.key, len(numbers))
    followed = FollowedPlans.of(history)
    return RecordedAnswers(tuple(position), quality, cost, seconds, passes, key, known, followed)


def replay_plans(answers: RecordedAnswers, plans: Sequence[AnswerPlan]) -> PlanOutcomes:
    """What plans would have given on recorded answers, by the rules of `PlanProgress`; or did give."""
    shape = len(answers.quality), len(plans)
    outcomes = PlanOutcomes(*(np.full(shape, np.nan) for _ in range(6)))
    position = {name: column for column, name in enumerate(answers.cores)}
    for form in dict.fromkeys((plan.kind, len(plan.every_core)) for plan in plans):
        chosen = np.array(
            [number for number, plan in enumerate(plans) if (plan.kind, len(plan.every_core)) == form]
        )
        columns = np.array([[position[core] for core in plans[number].every_core] for number in chosen])
        _replay_form(answers, form[0], chosen, columns, outcomes)
    for number, plan in enumerate(plans):
        if plan.name in answers.followed.counts:
            _take_followed(answers, plan, number, outcomes)
    return outcomes


def _take_followed(answers: RecordedAnswers, plan: AnswerPlan, number: int, outcomes: PlanOutcomes) -> None:
    """Fill in what a plan gave in a kernel; its cost is taken from the mean cost of its cores."""
    first, length = FIRST_STAGE[plan.kind], len(plan.every_core)
    asked = answers.followed.asked
    rows = np.flatnonzero((answers.followed.name == plan.name) & (asked >= first) & (asked <= length))
    asked = asked[rows]
    columns = [answers.cores.index(core) for core in plan.every_core]
    spent = np.cumsum(mean_known(answers.cost[:, columns]))
    for array, values in (
        (outcomes.quality, answers.followed.quality[rows]),
        (outcomes.cost, spent[asked - 1]),
        (outcomes.last, (asked == length).astype(np.float64)),
        (outcomes.middle, (asked > first) & (length > first + 1)),
        (outcomes.calls, asked),
    ):
        array[rows, number] = values


def _replay_form(
    answers: RecordedAnswers, kind: Kind, chosen: IntArray, columns: IntArray, outcomes: PlanOutcomes
) -> None:
    """Fill in the plans of one kind and length; `columns` has shape (plans, cores of the plan)."""
    length, first = columns.shape[1], FIRST_STAGE[kind]
    given, asked = _decisions(kind, length)
    rows = np.arange(len(answers.quality))[:, None]
    case = np.zeros((len(answers.quality), len(chosen)), dtype=np.int64)
    for stage in range(length):
        case |= answers.passes[:, columns[:, stage]].astype(np.int64) << stage
    if kind == "agree":
        for number, (one, other) in enumerate(_pairs(length)):
            key = answers.key[:, columns[:, one]]
            same = (key == answers.key[:, columns[:, other]]) & (key != NO_KEY)
            case |= same.astype(np.int64) << (STAGES + number)
    # a single core's outcome needs no answer, only its grade
    cells = ~np.isnan(answers.quality) if kind == "single" else answers.known
    known = np.logical_and.reduce([cells[:, columns[:, stage]] for stage in range(length)])
    chosen_core = columns[np.arange(len(columns))[None, :], given[case]]
    seconds = answers.seconds[:, columns[:, :first]].max(axis=2)
    for stage in range(first, length):
        seconds = seconds + np.where(asked[case, stage] > 0, answers.seconds[:, columns[:, stage]], 0.0)
    nothing = np.zeros(case.shape)
    for array, values in (
        (outcomes.quality, answers.quality[rows, chosen_core]),
        (
            outcomes.cost,
            sum(asked[case, stage] * answers.cost[:, columns[:, stage]] for stage in range(length)),
        ),
        (outcomes.last, nothing if length == first else asked[case, length - 1]),
        (outcomes.middle, nothing if length <= first + 1 else asked[case, first]),
        (outcomes.calls, asked[case].sum(axis=-1)),
        (outcomes.seconds, seconds),
    ):
        array[:, chosen] = np.where(known, values, np.nan)


def mean_known(values: FloatArray) -> FloatArray:
    """Mean of each column; NaN where none is known."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _pairs(length: int) -> list[tuple[int, int]]:
    """Positions of the cores among which agreement is sought, in a plan of so many cores."""
    return [(one, other) for one, other in PAIRS if other < length - 1]


@cache
def _decisions(kind: Kind, length: int) -> tuple[IntArray, FloatArray]:
    """By case, the position of the core whose answer is given, and which positions are asked.

    Bit n of a case says whether the answer of core n passes, bit `STAGES` + n whether the n-th pair agrees.
    """
    names = tuple(str(position) for position in range(length))
    plan = AnswerPlan(
        kind, names if kind == "single" else names[:-1], None if kind == "single" else names[-1]
    )
    bits = STAGES + len(PAIRS)
    given, asked = np.zeros(2**bits, dtype=np.int64), np.zeros((2**bits, STAGES))
    for case in range(2**bits):
        agree = {pair: bool(case >> (STAGES + number) & 1) for number, pair in enumerate(PAIRS)}
        keys = list(names)
        for (one, other), same in agree.items():
            if same and other < length:
                keys[other] = keys[one]
        progress = PlanProgress(plan)
        while (core := progress.next_core()) is not None:
            position = int(core)
            passes = bool(case >> position & 1)
            progress.answered(core, AnswerCheck(passes, keys[position] if passes else None))
            asked[case, position] = 1.0
        final = progress.final
        assert final is not None  # every core answers here
        given[case] = int(final)
    return given, asked
