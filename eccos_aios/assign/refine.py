"""Refinement towards the optimum: dual prices, the contested calls exactly, exchanges, a proven bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eccos_aios.assign.duals import smoothed_prices
from eccos_aios.assign.exchange import CoreGraph
from eccos_aios.assign.greedy import greedy
from eccos_aios.assign.improve import improve
from eccos_aios.assign.instance import Instance, Point, point
from eccos_aios.assign.parametric import NEARBY, Bracket, Expanded, bracket
from eccos_aios.assign.problem import FloatArray, IntArray
from eccos_aios.assign.relink import relink

SMALL = 16_384  # calls × slots up to which all calls are solved exactly at once
CONTESTED = 96  # calls that are, of a larger instance: those whose best two cores are closest in price
ROUNDS = 8
EXCHANGES = 400  # between the cores of a large instance, a round
PRECISION = 1e-11  # relative: smallest difference of prices that counts
DEARER = 4.0  # factor of the price of gain where it was too low to meet the requirement
PRICE_RAISES = 8


@dataclass(frozen=True, eq=False)
class Refined:
    """A good assignment, the proven bound on the value, and the multipliers behind it.

    Attributes
    ----------
    core : ndarray of int of shape (n,)
    bound : float
        No assignment that meets the requirement has less value; infinite where none meets it.
    price : float
        Of a point of gain.
    slot_price : ndarray of shape (M,)
    """

    core: IntArray
    bound: float
    price: float
    slot_price: FloatArray


def refine(instance: Instance) -> Refined:
    """Refine to within a hair of the optimum.

    A small instance is solved exactly at once, as its relaxation. Of a large one only the contested calls
    are, those for which two cores are nearly as good at approximate prices; exchanges over all calls then
    make the prices exact, and where they moved calls, the next round starts from there.
    """
    calls = len(instance.value)
    if calls <= CONTESTED or calls * int(instance.quota.sum()) <= SMALL:
        found = bracket(Expanded(instance))
        if found.meets is None:
            return _out_of_reach(instance, found.short)
        _, slot_price, _ = _settle(instance, found.meets.core, found.price)
        return _finished(instance, found, slot_price, -np.inf)
    return _refine_large(instance)


def _refine_large(instance: Instance) -> Refined:
    price, slot_price = smoothed_prices(instance, CONTESTED)
    core = greedy(_priced(instance, price) + slot_price, instance.quota)
    found, bound = Bracket(None, None, price), -np.inf
    for _ in range(ROUNDS):
        nearby = _contested(instance, core, price, slot_price)
        price, end = nearby.price, nearby.meets or nearby.short
        assert end is not None
        core, slot_price, exchanges = _settle(instance, end.core, price)
        bound = max(bound, _dual(instance, price, slot_price))
        if nearby.meets is not None:
            found = nearby
        if not exchanges and nearby.meets is not None and (nearby.short is not None or not price):
            break
    if found.meets is None:
        most = _most_gain(instance)
        if most.gain < instance.required:
            return _out_of_reach(instance, most)
        core, price, slot_price = _dearer(instance, most, price)
        found = Bracket(None, point(instance, core), price)
    return _finished(instance, found, slot_price, bound)


def _priced(instance: Instance, price: float) -> FloatArray:
    return instance.value - price * instance.gain


def _dual(instance: Instance, price: float, slot_price: FloatArray) -> float:
    """The Lagrangian: a lower bound on the value at whatever multipliers of at least 0."""
    least = (_priced(instance, price) + slot_price).min(axis=1).sum()
    return float(least - slot_price @ instance.quota + price * instance.required)


def _settle(instance: Instance, core: IntArray, price: float) -> tuple[IntArray, FloatArray, int]:
    """The best assignment at a price of gain, from a good one; slot prices; how many exchanges it took."""
    priced = _priced(instance, price)
    own = np.abs(priced[np.arange(len(core)), core])
    graph = CoreGraph(priced, core.copy(), instance.quota, PRECISION * float(own.max()))
    slot_price = np.maximum(graph.settle(EXCHANGES), 0.0)
    return graph.core, slot_price, graph.exchanges


def _contested(instance: Instance, core: IntArray, price: float, slot_price: FloatArray) -> Bracket:
    """Solve exactly over the calls with the least to lose by another core; the others stay."""
    rows = np.arange(len(core))
    reduced = _priced(instance, price) + slot_price
    own = reduced[rows, core]
    reduced[rows, core] = np.inf
    margin = reduced.min(axis=1) - own
    chosen = np.argpartition(margin, CONTESTED)[:CONTESTED]
    chosen.sort()
    fixed = np.ones(len(core), dtype=bool)
    fixed[chosen] = False
    taken = np.bincount(core[fixed], minlength=len(instance.quota))
    part = Instance(
        value=instance.value[chosen],
        gain=instance.gain[chosen],
        quota=np.minimum(instance.quota - taken, len(chosen)),
        required=instance.required - float(instance.gain[rows[fixed], core[fixed]].sum()),
    )
    found = bracket(Expanded(part), price, NEARBY)

    def whole(inner: Point | None) -> Point | None:
        if inner is None:
            return None
        joined = core.copy()
        joined[chosen] = inner.core
        return point(instance, joined)

    return Bracket(whole(found.short), whole(found.meets), found.price)


def _transported(instance: Instance, price: float) -> tuple[IntArray, FloatArray]:
    """The best assignment of a large instance at a given price of gain."""
    _, slot_price = smoothed_prices(instance, CONTESTED, fixed_price=price)
    core = greedy(_priced(instance, price) + slot_price, instance.quota)
    exchanges = EXCHANGES
    while exchanges == EXCHANGES:
        core, slot_price, exchanges = _settle(instance, core, price)
    return core, slot_price


def _dearer(instance: Instance, most: Point, price: float) -> tuple[IntArray, float, FloatArray]:
    """An assignment that meets the requirement, at a price of gain high enough for that."""
    finite = np.isfinite(instance.value)
    reach = float(np.ptp(instance.value[finite])) / (float(np.ptp(instance.gain[finite])) or 1.0)
    price = max(price, 1e-3 * reach)
    for _ in range(PRICE_RAISES):
        core, slot_price = _transported(instance, price)
        if instance.gain_of(core) >= instance.required:
            return core, price, slot_price
        price *= DEARER
    return most.core, price, slot_price


def _most_gain(instance: Instance) -> Point:
    """The most gain that a large instance can reach; of those, about the least value."""
    finite = np.isfinite(instance.value)
    weight = (
        1e-9 * (float(np.ptp(instance.gain[finite])) or 1.0) / (float(np.ptp(instance.value[finite])) or 1.0)
    )
    reversed_instance = Instance(
        value=weight * instance.value - instance.gain,
        gain=np.zeros_like(instance.gain),
        quota=instance.quota,
        required=0.0,
    )
    return point(instance, _transported(reversed_instance, 0.0)[0])


def _out_of_reach(instance: Instance, most: Point | None) -> Refined:
    assert most is not None
    return Refined(most.core, np.inf, np.inf, np.zeros(len(instance.quota)))


def _finished(instance: Instance, found: Bracket, slot_price: FloatArray, bound: float) -> Refined:
    """Between the ends of the bracket, and improved from there."""
    assert found.meets is not None
    bound = max(bound, _dual(instance, found.price, slot_price))
    best = found.meets if found.short is None else relink(instance, found.short, found.meets)
    ends = [best] if found.short is None else [best, found.short]
    improved = [point(instance, improve(instance, end.core, found.price, slot_price)) for end in ends]
    met = [end for end in (best, *improved) if end.gain >= instance.required]
    return Refined(min(met, key=lambda end: end.value).core, bound, found.price, slot_price)
