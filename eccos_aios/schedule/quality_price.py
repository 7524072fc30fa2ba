"""QualityPrice: what quality is worth over many calls, so that small rounds decide as large ones."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from eccos_aios.assign import Frontier, best_at
from eccos_aios.assign.frontier import SAME_VALUE
from eccos_aios.schedule.capacity import Target
from eccos_aios.schedule.plan_rows import FloatArray
from eccos_aios.schedule.round_batch import RoundBatch, Wanted

REMEMBERED_CALLS = 512  # whose estimates set the price
SETTLED_OVER = 200  # calls over which quality debt is repaid, or credit spent
RENEWED_SHARE = 1 / 8  # of them that are new until the price is set anew
CALL_PRICE_STEP = 1.25  # factor by which the price of a further attempt changes at once
ROUNDING = 1e-9  # points
LEAST_CALL_PRICE = 1e-2  # of the mean cost of the cheapest choice; below it there is none


class QualityPrice:
    """The price of quality at which the last calls reach a target on the mean at least cost.

    A round by itself knows only its own calls. Were each of a few to reach the target alone, hard calls would
    go to dear cores that a mean does not need: with one caller that cost 2 to 14 times the optimum. The
    price is the dual of the target over the last `REMEMBERED_CALLS` that came, those of the round included:
    an online linear program that is solved anew as calls arrive (Agrawal, Wang & Ye, Oper. Res. 62(4), 2014;
    Li & Ye, Oper. Res. 70(5), 2022). What earlier calls owe moves the target, see `QualityDebt`.

    A round then has to reach what its calls get at the price, whatever slots it has: among many calls
    that is the target, nearly; and one call gets its best choice at the price.

    Where plans of several cores would ask more cores than their bound, an attempt beyond the first has a
    price, too; it rises and falls as the bound is missed or kept.

    Not thread-safe: the thread of the rounds alone uses it.
    """

    def __init__(self) -> None:
        self._quality = np.zeros((REMEMBERED_CALLS, 0))
        self._value = np.zeros((REMEMBERED_CALLS, 0))  # infinite where a call may not have a choice
        self._extra = np.zeros((REMEMBERED_CALLS, 0))
        self._target = np.zeros(REMEMBERED_CALLS)
        self._calls = 0  # ever counted since the last change of cores
        self._fresh = 0  # of them, since the price was set
        self._front: frozenset[int] = frozenset()  # numbers of the last round's calls
        self._of: Hashable = None
        self._frontier: Frontier | None = None
        self._price_per_call = 0.0
        self._most = 1.0  # the best mean quality that the last calls could get, at any cost
        self._error = 0.0  # its standard error

    def is_of(self, of: Hashable) -> bool:
        """Whether calls have been counted since the cores and their prices were last changed to these."""
        return self._calls > 0 and of == self._of

    def count(self, batch: RoundBatch, of: Hashable) -> None:
        """Take in the calls that were not in the last round.

        Parameters
        ----------
        batch : RoundBatch
            Not yet limited by a budget.
        of : hashable
            The cores and their prices; where they change, earlier calls are forgotten.
        """
        if of != self._of:
            self._of, self._calls, self._fresh, self._frontier = of, 0, 0, None
            self._quality, self._value, self._extra = (np.zeros((REMEMBERED_CALLS, 0)) for _ in range(3))
        numbers = [call.number for call in batch.calls]
        unseen = [row for row, number in enumerate(numbers) if number not in self._front]
        new = np.array(unseen[-REMEMBERED_CALLS:], dtype=np.int64)
        self._front = frozenset(numbers)
        if not new.size:
            return
        seen = batch if len(new) == len(batch) else batch.take(new)
        if len(new) == 1:
            self._count_one(seen)
        else:
            self._count_many(replace(seen, spare_calls=np.inf))
        self._calls += len(new)
        self._fresh += len(new)

    def _count_one(self, batch: RoundBatch) -> None:
        """Take in the only call of a batch; the same as `_count_many` of it, in fewer steps."""
        at, cores, given, plans = self._calls % REMEMBERED_CALLS, batch.cores, batch.candidates, batch.options
        width = cores if plans is None else cores + len(plans.plans)
        self._fit(width)
        price, seconds = (
            batch.target.price_per_second,
            batch.seconds if batch.target.price_per_second else 0.0,
        )
        quality, value, extra = self._quality[at], self._value[at], self._extra[at]
        value.fill(np.inf)
        extra[:cores] = 0.0
        quality[:cores] = given.quality[0]
        np.copyto(value[:cores], given.cost[0] + price * seconds, where=given.allowed[0])
        if plans is not None:
            usd = plans.cost[0]
            if price:
                here = batch.seconds
                usd = usd + price * (here.take(plans.first) + plans.reached[0] * here.take(plans.last))
            quality[cores:width] = plans.quality[0]
            np.copyto(value[cores:width], usd, where=plans.allowed[0])
            np.maximum(plans.calls[0] - 1.0, 0.0, out=extra[cores:width])
        self._target[at] = batch.target.of(batch.calls[0])

    def _count_many(self, batch: RoundBatch) -> None:
        """Take in all calls of a batch, whose plans may add any number of attempts."""
        choices = batch.choices
        width = choices.quality.shape[1]
        self._fit(width)
        at = np.arange(self._calls, self._calls + len(batch)) % REMEMBERED_CALLS
        value = choices.value(batch.target.price_per_second, 0.0)
        self._quality[at, :width] = choices.quality
        self._value[at, :width] = np.where(choices.allowed, value, np.inf)
        self._value[at, width:] = np.inf
        self._extra[at, :width] = choices.extra
        self._target[at] = [batch.target.of(call) for call in batch.calls]

    def wanted(self, batch: RoundBatch, max_calls: float) -> Wanted | None:
        """What the calls of a round get at the price; None where none has been counted.

        Parameters
        ----------
        batch : RoundBatch
            Counted, then perhaps limited by a budget.
        max_calls : float
            Cores asked per call, in the mean, at most.
        """
        if not self._calls:
            return None
        if self._frontier is None:
            self.renew(batch.target, max_calls)
        assert self._frontier is not None
        settled = _settled(batch.target)
        target = [batch.target.of(call) for call in batch.calls]
        # What is reached by chance in one window and missed in the next is not worth any price.
        out_of_reach = [each > self._most - self._error for each in target]
        # Debt is not repaid at any price: where little is left to gain, it waits.
        near = max(self._most - batch.target.reach_slack, 0.0)
        aim = [
            near if beyond else min(each + settled, max(each, near))
            for each, beyond in zip(target, out_of_reach, strict=True)
        ]
        best = self._best_of_one(batch, aim[0]) if len(aim) == 1 else self._best_of_each(batch, np.array(aim))
        wanted = _taken_in_turn(*best, target, batch.target.owed(len(batch)))
        return Wanted(np.array(wanted), np.array(out_of_reach), self._price_per_call)

    def renew(self, target: Target, max_calls: float) -> None:
        """Set the price anew where enough calls have been counted since.

        It takes as long as the estimates of a call, so rounds do it while they wait for more calls.

        Parameters
        ----------
        target : Target
            Whose debt is to be repaid.
        max_calls : float
            As in `wanted`.
        """
        if self._calls and (self._frontier is None or self._fresh >= RENEWED_SHARE * self._size):
            self._renew(_settled(target), max_calls)

    def _best_of_each(self, batch: RoundBatch, aim: FloatArray) -> tuple[list[float], list[float]]:
        """Least and most quality of the choices of each call that are best at the price of its aim."""
        assert self._frontier is not None
        choices, rows = batch.choices, np.arange(len(batch))
        value = choices.value(batch.target.price_per_second, self._price_per_call)
        value = np.where(choices.allowed, value, np.inf)
        lower, upper = best_at(choices.quality, value, self._frontier.price_of(aim))
        return choices.quality[rows, lower].tolist(), choices.quality[rows, upper].tolist()

    def _best_of_one(self, batch: RoundBatch, aim: float) -> tuple[list[float], list[float]]:
        """The same for one call, without arrays."""
        assert self._frontier is not None
        choices, price = batch.choices_of_one, self._frontier.price_of_one(aim)
        usd = choices.value(batch.target.price_per_second, self._price_per_call)
        columns = [column for column, may in enumerate(choices.allowed) if may]
        value = [usd[column] - price * choices.quality[column] for column in columns]
        least = min(value)
        limit = least + SAME_VALUE * abs(least)
        same = [choices.quality[at] for at, each in zip(columns, value, strict=True) if each <= limit]
        return [min(same)], [max(same)]

    @property
    def _size(self) -> int:
        return min(self._calls, REMEMBERED_CALLS)

    def _fit(self, width: int) -> None:
        """Widen the arrays to so many choices."""
        more = width - self._quality.shape[1]
        if more > 0:
            self._quality = np.pad(self._quality, ((0, 0), (0, more)))
            self._value = np.pad(self._value, ((0, 0), (0, more)), constant_values=np.inf)
            self._extra = np.pad(self._extra, ((0, 0), (0, more)))

    def _renew(self, settled: float, max_calls: float) -> None:
        """Set the frontier, after a step of the price of a further attempt."""
        size, self._fresh = self._size, 0
        quality, extra = self._quality[:size], self._extra[:size]
        if self._frontier is not None and extra.any():
            self._step_price_per_call(settled, max_calls)
        self._frontier = Frontier.of(quality, self._value[:size] + self._price_per_call * extra)
        allowed = np.isfinite(self._value[:size])
        best = np.where(allowed, quality, 0.0).max(axis=1)
        self._most, self._error = float(best.mean()), float(best.std() / np.sqrt(size))
        if extra.any():
            bounded = Frontier.of(quality, np.where(allowed, extra, np.inf))
            self._most = float(np.interp(max_calls - 1.0, bounded.cost, bounded.quality))

    def _step_price_per_call(self, settled: float, max_calls: float) -> None:
        """Raise the price of a further attempt if the last calls would ask too many cores; else lower it."""
        assert self._frontier is not None
        size = self._size
        quality, value, extra = (each[:size] for each in (self._quality, self._value, self._extra))
        aim = np.minimum(self._target[:size] + settled, self._most)
        price = self._frontier.price_of(aim)
        _, at = best_at(quality, value + self._price_per_call * extra, price)
        asked = 1.0 + float(extra[np.arange(size), at].mean())
        least = LEAST_CALL_PRICE * float(value.min(axis=1).mean())
        if asked > max_calls:
            self._price_per_call = max(self._price_per_call * CALL_PRICE_STEP, least)
        else:
            self._price_per_call /= CALL_PRICE_STEP
            if self._price_per_call < least:
                self._price_per_call = 0.0


def _settled(target: Target) -> float:
    """Points of quality that each call has to repay, or may spend if negative."""
    return target.owed(SETTLED_OVER) / SETTLED_OVER


def _taken_in_turn(
    least: Sequence[float], most: Sequence[float], target: Sequence[float], owed: float
) -> list[float]:
    """The quality of each call where two choices are worth the same: the lesser where credit pays for it.

    Many calls may have the same estimates; all of them at one choice would miss the mean.
    """
    wanted = list(most)
    for row, (lower, upper) in enumerate(zip(least, most, strict=True)):
        if upper <= lower:
            continue
        if owed + target[row] - lower <= ROUNDING:
            wanted[row] = lower
        owed += target[row] - wanted[row]
    return wanted
