"""PlanStages: how far a call has got in a plan of several cores, and the answers it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eccos_aios.plans import AnswerPlan, PlanProgress
from eccos_aios.plans.plan import FIRST_STAGE
from eccos_aios.verify import AnswerCheck

if TYPE_CHECKING:
    from eccos_aios.schedule.attempt import Attempt
    from eccos_aios.schedule.call import Call

Judge = Callable[["Call", Any], AnswerCheck]
"""Checks a core's answer to a call, as `ExecutionResult.value` holds it, against the call's question."""


@dataclass(frozen=True)
class Stage:
    """One core of a plan that has answered, or failed.

    Attributes
    ----------
    core : str
    check : AnswerCheck or None
        Of its answer; None where there is none.
    value : object
        The answer.
    seconds : float or None
        From its slot to its answer.
    cost : float or None
        US dollars; by the provider's count of tokens where it gave one, else the estimate.
    failure : str
        Why there is no answer.
    """

    core: str
    check: AnswerCheck | None
    value: Any = None
    seconds: float | None = None
    cost: float | None = None
    failure: str = ""

    @property
    def passes(self) -> bool:
        """Whether there is an answer that passes its checks."""
        return self.check is not None and self.check.passes

    def to_dict(self) -> dict[str, Any]:
        """For ``/eccos/decisions``; the answer itself is not in it."""
        return {
            "core": self.core,
            "passes": None if self.check is None else self.check.passes,
            "reason": self.failure if self.check is None else self.check.reason,
            "cost": self.cost,
            "seconds": self.seconds,
        }


class PlanStages:
    """Drives a `PlanProgress` by attempts. Not thread-safe: the scheduler's lock guards it.

    Parameters
    ----------
    plan : AnswerPlan
        Of several cores.
    expected_calls : float
        Cores that are expected to be asked.

    Attributes
    ----------
    awaited : str or None
        The core that the call waits for; None while a core has it, and once the plan has ended.
    under_way : dict of str to Attempt
        By core.
    ended : list of Stage
        In the order in which they ended; answers that came after an attempt's timeout included.
    given_up : bool
        Whether no core of the plan answered, and the call goes on as one of a single core.
    """

    def __init__(self, plan: AnswerPlan, expected_calls: float = 1.0) -> None:
        self.plan = plan
        self.expected_calls = expected_calls
        self._progress = PlanProgress(plan)
        self.awaited: str | None = self._progress.next_core()
        self.under_way: dict[str, Attempt] = {}
        self.ended: list[Stage] = []
        self.begun = 0
        self.given_up = False

    @property
    def is_open(self) -> bool:
        """Whether the plan decides what happens to the call next."""
        return not self.given_up and (bool(self.under_way) or self._progress.is_open)

    def begin(self, attempt: Attempt) -> None:
        """An attempt at the awaited core has its slot."""
        if attempt.core != self.awaited:
            raise ValueError(f"core: {attempt.core!r}: the plan awaits {self.awaited!r}")
        self.awaited = None
        self.under_way[attempt.core] = attempt
        self.begun += 1

    def beside(self) -> str | None:
        """The core that is to be asked at the same time as the one under way, which is then awaited."""
        if self.awaited is None and self.begun < FIRST_STAGE[self.plan.kind]:
            self.awaited = self._progress.next_core()
        return self.awaited

    def end(self, stage: Stage, attempt: Attempt | None = None) -> bool:
        """A core has answered or failed; False where its attempt was given up before."""
        late = attempt is not None and self.under_way.get(stage.core) is not attempt
        self.ended.append(stage)
        if late:
            return False
        self.under_way.pop(stage.core, None)
        if stage.core == self.awaited:
            self.awaited = None
        if stage.check is None:
            self._progress.failed(stage.core)
        else:
            self._progress.answered(stage.core, stage.check)
        return True

    def await_next(self) -> str | None:
        """The core that the call has to wait for now; None where one has it, or the plan has ended."""
        if self.awaited is None and not self.under_way:
            self.awaited = self._progress.next_core()
        return self.awaited

    @property
    def final(self) -> Stage | None:
        """The answer that the plan gives; None while it is open, and where every core failed."""
        core = self._progress.final
        return next((stage for stage in self.ended if stage.core == core and stage.check is not None), None)

    @property
    def was_followed(self) -> bool:
        """Whether the plan has ended by its own rules alone: every core that was asked has answered."""
        return not self.is_open and not self.given_up and len(self.answered) == len(self.ended) == self.begun

    @property
    def answered(self) -> frozenset[str]:
        """The cores that have answered."""
        return frozenset(stage.core for stage in self.ended if stage.check is not None)

    @property
    def in_hand(self) -> Stage | None:
        """The best answer so far: the first core's that passes, else the last that came."""
        answers = {stage.core: stage for stage in self.ended if stage.check is not None}
        passing = (answers[core] for core in self.plan.every_core if core in answers and answers[core].passes)
        return next(passing, None) or next(reversed(answers.values()), None)

    @property
    def accepted_at_first(self) -> bool:
        """Whether the plan ended without its last core."""
        return self.plan.otherwise not in self._progress.asked
