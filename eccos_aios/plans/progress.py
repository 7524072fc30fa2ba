"""PlanProgress: what a plan asks next, and whose answer it gives."""

from __future__ import annotations

from eccos_aios.plans.plan import FIRST_STAGE, AnswerPlan
from eccos_aios.verify import AnswerCheck


class PlanProgress:
    """The progress of one call through its plan: a state machine without threads, clocks or requests.

    `next_core` until it returns None, then wait for what was asked; report each core's end by `answered` or
    `failed`; ask again. A caller that asks one core at a time and one that asks a stage side by side get the
    same answer. The rules, in order:

    1. An answer is accepted where it passes (``agree``: where two pass and have the same key; of three cores
       the third is asked where the first two do not).
    2. Else the last core is asked, and its answer is given where it passes.
    3. Else the first answer that passes; else the last one that came.

    Parameters
    ----------
    plan : AnswerPlan
    """

    def __init__(self, plan: AnswerPlan) -> None:
        self.plan = plan
        self._asked: list[str] = []
        self._ended: dict[str, AnswerCheck | None] = {}  # None: the core gave no answer

    @property
    def asked(self) -> tuple[str, ...]:
        """The cores that `next_core` has returned."""
        return tuple(self._asked)

    @property
    def is_open(self) -> bool:
        """Whether an answer is still awaited or a core is still to be asked."""
        return bool(self._awaited()) or self._to_ask() is not None

    def next_core(self) -> str | None:
        """The next core to ask, which then counts as asked; None: there is none now."""
        core = self._to_ask()
        if core is not None:
            self._asked.append(core)
        return core

    def answered(self, core: str, check: AnswerCheck) -> None:
        """A core's answer has come and was checked.

        Raises
        ------
        ValueError
            The core was not asked, or has ended before.
        """
        self._end(core, check)

    def failed(self, core: str) -> None:
        """A core gave no answer, and will give none.

        Raises
        ------
        ValueError
            The core was not asked, or has ended before.
        """
        self._end(core, None)

    @property
    def final(self) -> str | None:
        """The core whose answer is given; None while the plan is open, and where every core failed."""
        if self.is_open:
            return None
        accepted = self._accepted()
        if accepted is not None:
            return accepted
        last = self.plan.otherwise
        if last is not None and self._passes(last):
            return last
        order = [core for core in self.plan.every_core if self._ended.get(core) is not None]
        return next((core for core in order if self._passes(core)), order[-1] if order else None)

    def _to_ask(self) -> str | None:
        """The first core that was not asked, if its stage has come."""
        place = len(self._asked)
        every = self.plan.every_core
        if place == len(every):
            return None
        if place >= FIRST_STAGE[self.plan.kind] and (self._awaited() or self._accepted() is not None):
            return None
        return every[place]

    def _awaited(self) -> list[str]:
        return [core for core in self._asked if core not in self._ended]

    def _passes(self, core: str) -> bool:
        check = self._ended.get(core)
        return check is not None and check.passes

    def _accepted(self) -> str | None:
        """The core whose answer ends the plan before its last stage: it passes, or another agrees with it."""
        passing = [core for core in self.plan.cores if self._passes(core)]
        if self.plan.kind != "agree":
            return passing[0] if passing else None
        keys = [check.key for core in passing if (check := self._ended[core]) is not None]
        for core, key in zip(passing, keys, strict=True):
            if key is not None and keys.count(key) > 1:
                return core
        return None

    def _end(self, core: str, check: AnswerCheck | None) -> None:
        if core not in self._asked:
            raise ValueError(f"core: {core!r}: was not asked; asked so far: {self._asked}")
        if core in self._ended:
            raise ValueError(f"core: {core!r}: has ended before")
        self._ended[core] = check
