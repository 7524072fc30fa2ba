"""Budget: a price on cost by which a sum of money lasts its period, and buys the most quality.

By the dual of online knapsack problems with re-solving (Li & Ye, Oper. Res. 70(5), 2022): the price is that
at which the last calls would have cost what is left of the money per call that is still expected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign import Frontier
from eccos_aios.config import BudgetConfig, Span
from eccos_aios.errors import EccosError
from eccos_aios.reasons import SAME_COST

FloatArray = NDArray[np.float64]

SAMPLED_CALLS = 256  # the last calls sent, on which a price is tried out
FEWEST_CALLS = 16  # of them, to set a price
HORIZON_SHARE = 1 / 24  # of the period: over so many seconds the load is averaged; a day's budget, an hour
LEAST_HORIZON_S = 1.0
REPRICED_S = 1.0  # seconds until the price is set anew, at the earliest, and
REPRICED_SHARE = 1e-3  # the share of the period
SAME_PRICE = 1e-9  # relative; at a price less by that a call gets the better of two choices
LEAST_USD_PER_POINT = 1e-15
CLOCK_STEP_S = 60.0  # seconds that the system's clock may be set back without a new period
ROUNDING = 1e-12  # US dollars
BILL_WEIGHT = 0.02  # of the newest bill in the running ratio of bills to estimates
BILL_RATIOS = (0.2, 5.0)  # bounds of that ratio


class BudgetExhaustedError(EccosError):
    """The money for the period is spent; the message says until when."""


def period_of(per: Span, now: float) -> tuple[float, float]:
    """Begin and end of the hour, day or month (UTC) that a moment lies in; all in Unix seconds."""
    moment = datetime.fromtimestamp(now, timezone.utc).replace(minute=0, second=0, microsecond=0)
    if per == "hour":
        return moment.timestamp(), (moment + timedelta(hours=1)).timestamp()
    moment = moment.replace(hour=0)
    if per == "day":
        return moment.timestamp(), (moment + timedelta(days=1)).timestamp()
    moment = moment.replace(day=1)
    return moment.timestamp(), (moment + timedelta(days=32)).replace(day=1).timestamp()


@dataclass(frozen=True)
class _Sample:
    """A call that was sent: its estimates over the cores that may take it, and its quality target."""

    quality: FloatArray
    cost: FloatArray
    target: float


@dataclass(frozen=True)
class BudgetLimit:
    """What a budget allows a call.

    Attributes
    ----------
    price : float
        Points of quality that a US dollar must buy: of the cores that may take the call, the dearest that
        it may go to is that of the greatest quality - price * cost. 0: any. Infinite: the cheapest only.
    quality : float
        Mean quality that the money buys; a target above it gives way. Infinite: no target does.
    name : str
        Whose budget, for the decision's reason.
    """

    price: float = 0.0
    quality: float = float("inf")
    name: str = ""

    @property
    def binds(self) -> bool:
        """Whether it keeps a call from anything."""
        return self.price > 0

    @property
    def reason(self) -> str:
        """For ``/eccos/decisions``."""
        if self.price == float("inf"):
            return f"{self.name} is exhausted: the cheapest core"
        return f"{self.name}: quality target {self.quality:.3f}"


UNLIMITED = BudgetLimit()


class Budget:
    """Money for a period: what is spent of it, and the price on cost that makes the rest last.

    A call counts with its estimated cost once it is sent, and with its bill once that is known. So more than
    the budget is spent only by the calls that are sent together when it runs out, and by what bills exceed
    estimates; after that calls end in an error, or go to their cheapest core.

    The price is set anew each second or so. With ``left`` US dollars for the rest of the period and the load
    of the last 24th of a period, a call may cost ``left / (calls per second * seconds left)``. The price is
    the smallest at which the last `SAMPLED_CALLS` cost no more, each at the core of the greatest quality -
    price * cost, and the quality that it buys is what they reach there. Between two prices, quality is
    interpolated, as the optimiser may mix them over calls. Where the calls' own target is reached for less,
    there is no price.

    The load before the first call counts as none: no price is set by a short burst, which costs at most a few
    hundredths of the budget.

    Not thread-safe: the scheduler's lock guards it.

    Parameters
    ----------
    config : BudgetConfig
    name : str
        As it appears in reasons and errors.
    now : float
        Unix seconds.
    """

    def __init__(self, config: BudgetConfig, name: str, now: float) -> None:
        self.config = config
        self.name = name
        self.begin, self.end = period_of(config.per, now)
        self.spent = 0.0
        self.limit = UNLIMITED
        self._known_elsewhere = 0.0  # US dollars of which other kernels know
        self._calls = 0  # sent since they were last told
        self._samples: deque[_Sample] = deque(maxlen=SAMPLED_CALLS)
        self._load = 0.0  # calls sent, each decaying over the horizon
        self._load_at = now
        self._priced_at = float("-inf")
        self._bill_ratio = 1.0

    @property
    def left(self) -> float:
        """US dollars, at least 0."""
        return max(0.0, self.config.usd - self.spent)

    @property
    def is_exhausted(self) -> bool:
        return self.spent >= self.config.usd

    def refusal(self, now: float) -> BudgetExhaustedError | None:
        """Why a call cannot be sent now; None where it can."""
        self.turn(now)
        if not self.is_exhausted or self.config.when_exhausted != "error":
            return None
        until = datetime.fromtimestamp(self.end, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        money = f"{self.config.usd:g} US dollars per {self.config.per}"
        return BudgetExhaustedError(f"payment required: {self.name} of {money} is spent until {until}")

    def turn(self, now: float) -> None:
        """Begin the period that this moment lies in, if it is another one.

        A clock that was set back does not refill the budget.
        """
        if self.begin - CLOCK_STEP_S <= now < self.end:
            return
        if now >= self.end:
            self.spent = self._known_elsewhere = 0.0
        self.begin, self.end = period_of(self.config.per, now)
        self._priced_at = float("-inf")

    def sent(self, quality: FloatArray, cost: FloatArray, usd: float, target: float, now: float) -> None:
        """Count a call that is sent.

        Parameters
        ----------
        quality, cost : ndarray of shape (cores,)
            Its estimates, over the cores that may take it.
        usd : float
            Its estimated cost at the core that it is sent to.
        target : float
            Its own quality target.
        now : float
            Unix seconds.
        """
        self.turn(now)
        self.spent += usd
        self._calls += 1
        self._load = self._load_by(now) + 1.0
        self._load_at = max(self._load_at, now)
        if self._samples and self._samples[-1].quality.shape != quality.shape:
            self._samples.clear()  # there are more cores now, or fewer
        self._samples.append(_Sample(quality, cost, target))

    def billed(self, estimated: float, usd: float, sent_at: float) -> None:
        """Replace the estimated cost of a call by what it cost; `sent_at`: Unix seconds when it was sent."""
        if sent_at < self.begin:
            return  # it counted in an earlier period
        self.spent = max(0.0, self.spent + usd - estimated)
        if estimated > 0 and usd > 0:
            least, most = BILL_RATIOS
            ratio = min(most, max(least, usd / estimated))
            self._bill_ratio += BILL_WEIGHT * (ratio - self._bill_ratio)

    def priced(self, now: float) -> BudgetLimit:
        """What a call may cost now."""
        self.turn(now)
        if self.is_exhausted:
            self.limit = BudgetLimit(float("inf"), float("-inf"), self.name)
        elif now - self._priced_at >= max(REPRICED_S, REPRICED_SHARE * (self.end - self.begin)) or (
            self.limit.price == float("inf")
        ):
            self._priced_at = now
            self.limit = self._solved(now)
        return self.limit

    def state(self) -> dict[str, Any]:
        """What must survive a restart, as JSON."""
        return {"per": self.config.per, "begin": self.begin, "spent": round(self.spent, 12)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what was spent of the same period; anything else is ignored."""
        spent = state.get("spent")
        same = state.get("per") == self.config.per and state.get("begin") == self.begin
        if same and isinstance(spent, int | float) and 0 <= spent < float("inf"):
            self.spent = max(self.spent, float(spent))
            self._known_elsewhere = self.spent

    def take_change(self) -> dict[str, float]:
        """What this kernel has spent since this was last asked, as JSON; empty if nothing."""
        usd, calls = self.spent - self._known_elsewhere, self._calls
        if abs(usd) < ROUNDING and not calls:
            return {}
        self._known_elsewhere, self._calls = self.spent, 0
        return {"begin": self.begin, "usd": usd, "calls": calls}

    def changed_elsewhere(self, change: Mapping[str, Any], now: float) -> None:
        """Count what another kernel that shares the budget has spent, by its `take_change`."""
        self.turn(now)
        usd, calls = float(change["usd"]), float(change["calls"])
        if change["begin"] != self.begin or not np.isfinite(usd + calls):
            return
        before, self.spent = self.spent, max(0.0, self.spent + usd)
        self._known_elsewhere += self.spent - before
        self._load, self._load_at = self._load_by(now) + max(0.0, calls), max(self._load_at, now)

    def status(self) -> dict[str, object]:
        """Its part of ``/eccos/status``; `price` and `quality` are null where nothing gives way."""
        limit = self.limit
        finite = limit.binds and limit.price < float("inf")
        return {
            "usd": self.config.usd,
            "per": self.config.per,
            "spent": round(self.spent, 9),
            "left": round(self.left, 9),
            "resets_at": self.end,
            "exhausted": self.is_exhausted,
            "price": limit.price if finite else None,
            "quality": round(limit.quality, 4) if finite else None,
        }

    @property
    def _horizon_s(self) -> float:
        return max(LEAST_HORIZON_S, HORIZON_SHARE * (self.end - self.begin))

    def _load_by(self, now: float) -> float:
        passed_s = max(0.0, now - self._load_at)
        return self._load * float(np.exp(-passed_s / self._horizon_s))

    def _solved(self, now: float) -> BudgetLimit:
        """The price at which what is left lasts, by the last calls."""
        calls_per_s = self._load_by(now) / self._horizon_s
        if len(self._samples) < FEWEST_CALLS or calls_per_s <= 0:
            return UNLIMITED
        # To the end of the period, yet at least so long that the last price is not set by one call.
        seconds = max(self.end - now, REPRICED_S)
        may_cost = self.left / (calls_per_s * seconds) / self._bill_ratio
        price, reached = affordable(
            np.stack([sample.quality for sample in self._samples]),
            np.stack([sample.cost for sample in self._samples]),
            may_cost,
        )
        target = sum(sample.target for sample in self._samples) / len(self._samples)
        return BudgetLimit(price, reached, self.name) if price > 0 and reached < target else UNLIMITED


def affordable(quality: FloatArray, cost: FloatArray, may_cost: float) -> tuple[float, float]:
    """The largest price that is too small for a mean cost, and the mean quality that it buys.

    Parameters
    ----------
    quality, cost : ndarray of shape (calls, cores)
        `cost` is infinite where a core may not take a call.
    may_cost : float
        Mean US dollars of a call.

    Returns
    -------
    price : float
        Points of quality per US dollar; 0 where the best quality costs no more than that.
    quality : float
        The most mean quality for that mean cost, cores mixed over calls; that of the cheapest cores where
        even they cost more.
    """
    frontier = Frontier.of(quality, cost)
    if frontier.cost[-1] <= may_cost:
        return 0.0, frontier.most
    if frontier.cost[0] >= may_cost:
        return 1 / LEAST_USD_PER_POINT, float(frontier.quality[0])
    too_dear = int(np.searchsorted(frontier.cost, may_cost, side="right")) - 1
    reached = float(np.interp(may_cost, frontier.cost, frontier.quality))
    usd_per_point = max(float(frontier.price[too_dear]), LEAST_USD_PER_POINT)
    return (1 - SAME_PRICE) / usd_per_point, reached


def within(
    quality: FloatArray, cost: FloatArray, allowed: NDArray[np.bool_], price: FloatArray
) -> NDArray[np.bool_]:
    """The cores that cost each call no more than the best at its price.

    Parameters
    ----------
    quality, cost : ndarray of shape (calls, cores)
    allowed : ndarray of bool of shape (calls, cores)
        The cores that may take a call.
    price : ndarray of shape (calls,)
        Points of quality per US dollar; infinite: only the cheapest.
    """
    open_cost = np.where(allowed, cost, np.inf)
    finite = np.where(np.isfinite(price), price, 0.0)
    worth = np.where(allowed, quality - finite[:, None] * cost, -np.inf)
    best = np.take_along_axis(open_cost, worth.argmax(axis=1)[:, None], axis=1)
    least = open_cost.min(axis=1, keepdims=True)
    most = np.where(np.isfinite(price)[:, None], best, least)
    kept: NDArray[np.bool_] = allowed & (cost <= most * (1 + SAME_COST))
    return kept
