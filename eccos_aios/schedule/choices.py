"""Choices: what a round may decide for its calls, cores and plans of several cores as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_aios.schedule.capacity import IntArray
from eccos_aios.schedule.plan_rows import BoolArray, FloatArray

if TYPE_CHECKING:
    from eccos_aios.schedule.round_batch import RoundBatch


@dataclass(frozen=True, eq=False)
class Choices:
    """Cores, then plans, as columns of calls; arrays have shape (calls, columns).

    Attributes
    ----------
    quality, cost : ndarray
        Expected; US dollars.
    allowed : ndarray of bool
    extra : ndarray
        Expected attempts beyond the first.
    seconds : ndarray
        Expected, until the answer, with a wait for a slot where none is free.
    first : ndarray of int of shape (columns,)
        Column of the core that is asked first.
    """

    quality: FloatArray
    cost: FloatArray
    allowed: BoolArray
    extra: FloatArray
    seconds: FloatArray
    first: IntArray

    @classmethod
    def of(cls, batch: RoundBatch) -> Choices:
        """The choices of a batch; a plan that may add more attempts than are to spare is not allowed."""
        given, plans, rows = batch.candidates, batch.options, len(batch)
        cores = np.arange(batch.cores)
        here = batch.seconds
        alone = np.broadcast_to(here, (rows, batch.cores))
        if plans is None:
            none = np.zeros((rows, batch.cores))
            return cls(given.quality, given.cost, given.allowed, none, alone, cores)
        extra = np.maximum(plans.calls - 1.0, 0.0)
        seconds = here[plans.first] + plans.reached * here[plans.last]
        return cls(
            np.concatenate([given.quality, plans.quality], axis=1),
            np.concatenate([given.cost, plans.cost], axis=1),
            np.concatenate([given.allowed, plans.allowed & (extra <= batch.spare_calls)], axis=1),
            np.concatenate([np.zeros((rows, batch.cores)), extra], axis=1),
            np.concatenate([alone, seconds], axis=1),
            np.concatenate([cores, plans.first]),
        )

    def value(self, price_per_second: float, price_per_call: float) -> FloatArray:
        """Cost with what seconds and attempts beyond the first count for, in US dollars."""
        value = self.cost
        if price_per_second:
            value = value + price_per_second * self.seconds
        return value + price_per_call * self.extra if price_per_call else value


@dataclass(frozen=True, eq=False)
class ChoicesOfOne:
    """The choices of a round's only call, by column, as lists: for so few they are faster than arrays.

    Attributes are those of `Choices`.
    """

    quality: Sequence[float]
    cost: Sequence[float]
    allowed: Sequence[bool]
    extra: Sequence[float]
    seconds: Sequence[float]
    first: Sequence[int]

    @classmethod
    def of(cls, batch: RoundBatch) -> ChoicesOfOne:
        """The choices of a batch of one call; cores alone where no plan is allowed."""
        given, plans = batch.candidates, batch.options
        (quality,), (cost,), (allowed,) = given.quality.tolist(), given.cost.tolist(), given.allowed.tolist()
        seconds, first = batch.seconds.tolist(), list(range(len(quality)))
        none = [0.0] * len(quality)
        if plans is None:
            return cls(quality, cost, allowed, none, seconds, first)
        extra = [max(calls - 1.0, 0.0) for calls in plans.calls[0].tolist()]
        may = [
            known and more <= batch.spare_calls
            for known, more in zip(plans.allowed[0].tolist(), extra, strict=True)
        ]
        if not any(may):
            return cls(quality, cost, allowed, none, seconds, first)
        firsts = plans.first.tolist()
        stages = zip(firsts, plans.reached[0].tolist(), plans.last.tolist(), strict=True)
        return cls(
            quality + plans.quality[0].tolist(),
            cost + plans.cost[0].tolist(),
            allowed + may,
            none + extra,
            seconds + [seconds[begin] + reached * seconds[last] for begin, reached, last in stages],
            first + firsts,
        )

    def value(self, price_per_second: float, price_per_call: float) -> Sequence[float]:
        """As in `Choices`."""
        value = self.cost
        if price_per_second:
            value = [
                usd + price_per_second * seconds for usd, seconds in zip(value, self.seconds, strict=True)
            ]
        if price_per_call:
            value = [usd + price_per_call * extra for usd, extra in zip(value, self.extra, strict=True)]
        return value
