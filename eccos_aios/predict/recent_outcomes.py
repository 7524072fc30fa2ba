"""RecentOutcomes: drift detection on the outcomes of one core, each of which may be corrected."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass

from eccos_aios.predict.drift import DriftDetector

BLOCK = 64  # outcomes per copy of the detector
MAX_BLOCKS = 16  # per core; older outcomes can no longer be corrected before the next fit


@dataclass(frozen=True)
class _Outcome:
    predicted: float
    quality: float
    call: str | None


@dataclass
class _Block:
    """Outcomes in the order of their calls, and the detector's state before them."""

    before: DriftDetector
    numbers: list[int]
    outcomes: list[_Outcome]


class RecentOutcomes:
    """A `DriftDetector` over a core's outcomes, as though every correction had come first.

    A detector cannot take an outcome back. So the latest outcomes stay in blocks, each with a copy of the
    detector before it, and a correction replays the outcomes from its block on: about 40 µs per outcome,
    3 ms for one of the latest 64 and 50 ms for the oldest of 1,024.

    Not thread-safe: the caller holds a lock.

    Parameters
    ----------
    is_new : bool
        As of `DriftDetector`.
    """

    def __init__(self, *, is_new: bool = False) -> None:
        self._detector = DriftDetector(is_new=is_new)
        self._blocks: deque[_Block] = deque()
        self._outdated: _Block | None = None  # the first with outcomes that the detector has not seen
        self._some_are_final = False  # blocks have been dropped

    @property
    def detector(self) -> DriftDetector:
        """The detector after all outcomes and corrections."""
        if self._outdated is not None:
            self._replay(self._outdated)
            self._outdated = None
        return self._detector

    def put(self, number: int, predicted: float, quality: float, call: str | None = None) -> None:
        """Add the outcome of a call, or replace an earlier one of that call.

        Parameters
        ----------
        number : int
            The call's number; later calls have higher ones.
        predicted, quality, call
            As in `DriftDetector.add`.
        """
        outcome = _Outcome(predicted, quality, call)
        if not self._blocks or number > self._blocks[-1].numbers[-1]:
            self._append(number, outcome)
            return
        place = bisect_right([block.numbers[0] for block in self._blocks], number) - 1
        if place < 0 and self._some_are_final:
            return
        block = self._blocks[max(place, 0)]
        row = bisect_left(block.numbers, number)
        if row < len(block.numbers) and block.numbers[row] == number:
            if block.outcomes[row] == outcome:
                return
            block.outcomes[row] = outcome
        else:
            block.numbers.insert(row, number)
            block.outcomes.insert(row, outcome)
        if self._outdated is None or block.numbers[0] < self._outdated.numbers[0]:
            self._outdated = block

    def _append(self, number: int, outcome: _Outcome) -> None:
        full = not self._blocks or len(self._blocks[-1].numbers) >= BLOCK
        if full and len(self._blocks) >= MAX_BLOCKS:
            self._detector = self.detector
            self._blocks.popleft()
            self._some_are_final = True
        before = self._detector
        if self._outdated is None:
            # on a copy: an `add` that raises must not leave half of its work behind
            detector = before.copy()
            detector.add(outcome.predicted, outcome.quality, outcome.call)
            self._detector = detector
        if full:
            self._blocks.append(_Block(before, [number], [outcome]))
        else:
            self._blocks[-1].numbers.append(number)
            self._blocks[-1].outcomes.append(outcome)

    def _replay(self, first: _Block) -> None:
        detector = first.before.copy()
        for block in self._blocks:
            if block.numbers[0] < first.numbers[0]:
                continue
            block.before = detector.copy()
            for outcome in block.outcomes:
                detector.add(outcome.predicted, outcome.quality, outcome.call)
        self._detector = detector
