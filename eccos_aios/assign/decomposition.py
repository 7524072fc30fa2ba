"""Large instances: approximate prices, then an exact solution of the calls that these leave undecided."""

from __future__ import annotations

import numpy as np

from eccos_aios.assign.duals import SmoothedPrices, smoothed_prices
from eccos_aios.assign.exchange import dual_bound, priced, settle
from eccos_aios.assign.greedy import greedy
from eccos_aios.assign.instance import Instance, Point, point
from eccos_aios.assign.problem import FloatArray, IntArray
from eccos_aios.assign.relaxation import NEARBY, Bracket, SlotExpansion, bracket

CONTESTED = 64  # calls solved exactly, at least: those whose best two cores are closest in price
CONTESTED_PER_CORE = 4
WIDE = 8.0  # times the margin of the least contested of these: cores further off are not tried
ROUNDS = 8
SECANTS = 20
SAME = 1e-11  # relative: a further secant would gain no more than rounding
GOLDEN = 0.6180339887498949  # its multiples spread evenly over 0..1, whichever of them are taken in a row
FAR = (1.1, 1.5, 3.0)  # factors between prices that are tried where those nearby do not bracket; the last on
SMALL_PRICE = 1e-4  # of the range of value over the range of gain: the first above 0


def contested_calls(cores: int) -> int:
    """How many calls are solved exactly."""
    return max(CONTESTED, CONTESTED_PER_CORE * cores)


def bracket_large(instance: Instance) -> tuple[Bracket, FloatArray, float]:
    """The bracket of the relaxation, the prices of the slots, and the best proven bound."""
    smoothed = smoothed_prices(instance, contested_calls(len(instance.quota)) // 2)
    price, slot_price = smoothed.price, smoothed.slot_price
    core = _rounded(instance, smoothed)
    found, bound = Bracket(None, None, price), -np.inf
    low: Point | None = None
    high: Point | None = None
    for turn in range(ROUNDS):
        nearby = _contested(instance, core, price, slot_price)
        price, end = nearby.price, nearby.meets or nearby.short
        assert end is not None
        core, slot_price, exchanges = settle(instance, end.core, price)
        bound = max(bound, dual_bound(instance, price, slot_price))
        if nearby.meets is not None and (nearby.short is not None or not price):
            found = nearby
            if not exchanges:
                break
            continue
        settled = point(instance, core)
        if settled.gain >= instance.required:
            high = settled
            found = found if found.short is not None else Bracket(None, settled, price)
        else:
            low = settled
        if found.meets is None and turn:
            high = most_gain(instance)
            if high.gain < instance.required:
                return Bracket(high, None, np.inf), slot_price, np.inf
            found = Bracket(None, high, price)
        if low is not None and high is not None:
            return _between(instance, low, high, bound)
        cheaper = 0.0 if turn else price / FAR[0]
        price = _dearer(instance, price, turn) if high is None else cheaper
    return found, slot_price, bound


def _between(instance: Instance, low: Point, high: Point, bound: float) -> tuple[Bracket, FloatArray, float]:
    """Secants over whole assignments: for many tied calls, too many for the contested ones to matter."""
    price = np.inf
    for _ in range(SECANTS):
        last, price = price, _secant(low, high)
        core, slot_price, _ = settle(instance, high.core, price)
        bound = max(bound, dual_bound(instance, price, slot_price))
        settled = point(instance, core)
        gained = (high.value - price * high.gain) - (settled.value - price * settled.gain)
        if gained <= SAME * abs(high.value) or price == last:
            break
        if settled.gain >= instance.required:
            high = settled
        else:
            low = settled
    return Bracket(low, high, price), slot_price, bound


def _secant(low: Point, high: Point) -> float:
    """The price at which both ends are worth the same."""
    gained = high.gain - low.gain
    return max(0.0, (high.value - low.value) / gained) if gained > 0 else 0.0


def _dearer(instance: Instance, price: float, turn: int) -> float:
    """The next price where none yet meets the requirement."""
    finite = np.isfinite(instance.value)
    reach = float(np.ptp(instance.value[finite])) / (float(np.ptp(instance.gain[finite])) or 1.0)
    return max(price * FAR[min(turn, len(FAR) - 1)], SMALL_PRICE * reach)


def _rounded(instance: Instance, smoothed: SmoothedPrices) -> IntArray:
    """Each call at one of the cores among which the smoothed solution shares it out, in proportion.

    The core is drawn from an even sequence, so that loads and total gain come out nearly as in the smoothed
    solution even where thousands of calls are tied. Quotas are then held by regret.
    """
    reduced = priced(instance, smoothed.price) + smoothed.slot_price
    least = reduced.min(axis=1)
    share = np.exp((least[:, None] - reduced) / smoothed.temperature)
    upto = np.cumsum(share, axis=1, out=share)
    draw = np.modf(GOLDEN * np.arange(1, len(reduced) + 1))[0] * upto[:, -1]
    drawn = np.minimum((upto <= draw[:, None]).sum(axis=1), len(instance.quota) - 1)
    rows = np.arange(len(reduced))
    reduced[rows, drawn] = np.minimum(reduced[rows, drawn], least - 1e-9 * np.abs(least))
    return greedy(reduced, instance.quota)


def _contested(instance: Instance, core: IntArray, price: float, slot_price: FloatArray) -> Bracket:
    """Solve exactly over the calls that lose least by another core; the others stay."""
    rows = np.arange(len(core))
    reduced = priced(instance, price)
    reduced += slot_price
    reduced -= reduced[rows, core, None].copy()
    reduced[rows, core] = np.inf
    margin = reduced.min(axis=1)
    count = min(contested_calls(len(instance.quota)), len(core))
    chosen = np.argpartition(margin, count - 1)[:count]
    chosen.sort()
    fixed = np.ones(len(core), dtype=bool)
    fixed[chosen] = False
    taken = np.bincount(core[fixed], minlength=len(instance.quota))
    near = reduced[chosen] <= WIDE * margin[chosen].max()
    near[np.arange(count), core[chosen]] = True
    part = Instance(
        value=np.where(near, instance.value[chosen], np.inf),
        gain=np.where(near, instance.gain[chosen], 0.0),
        quota=np.minimum(instance.quota - taken, near.sum(axis=0)),
        required=instance.required - float(instance.gain[rows[fixed], core[fixed]].sum()),
    )
    found = bracket(SlotExpansion(part), price, NEARBY)

    def whole(inner: Point | None) -> Point | None:
        if inner is None:
            return None
        joined = core.copy()
        joined[chosen] = inner.core
        return point(instance, joined)

    return Bracket(whole(found.short), whole(found.meets), found.price)


def _transported(instance: Instance, price: float) -> tuple[IntArray, FloatArray]:
    """The best assignment at a given price of gain."""
    smoothed = smoothed_prices(instance, contested_calls(len(instance.quota)) // 2, fixed_price=price)
    core, exchanges = _rounded(instance, smoothed), 1
    while exchanges:
        core, slot_price, exchanges = settle(instance, core, price)
    return core, slot_price


def most_gain(instance: Instance) -> Point:
    """The most gain within reach; of such assignments, about the least value."""
    finite = np.isfinite(instance.value)
    nothing = np.zeros_like(instance.gain)
    leaning = Instance(instance.tie_weight() * instance.value - instance.gain, nothing, instance.quota, 0.0)
    core, _ = _transported(leaning, 0.0)
    pure = Instance(np.where(finite, -instance.gain, np.inf), nothing, instance.quota, 0.0)
    most, leant = point(instance, settle(pure, core, 0.0)[0]), point(instance, core)
    return leant if leant.gain >= min(most.gain, instance.required) else most
