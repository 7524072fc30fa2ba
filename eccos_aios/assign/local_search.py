"""Local search: exchanges that turn gain beyond the requirement into less value, or supply missing gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign.exchange import priced
from eccos_aios.assign.instance import Instance
from eccos_aios.assign.problem import BoolArray, FloatArray, IntArray

MOVES = 128  # single moves of least reduced cost that exchanges are made of
CANDIDATES = 1024  # moves among which these are chosen
LEAST_PER_EDGE = 4  # moves from one core to one other, of these
EXCHANGES = 192  # exchanges of which pairs are tried
PAIRS = 256  # pairs of least value that are looked at more closely
ROUNDS = 6
NO_CALL = -1


@dataclass(frozen=True, eq=False)
class _Exchanges:
    """Changes of an assignment that hold every quota; row r moves `call[r]` to `to[r]`.

    A call swaps with another, three go round, or one or two in a row end at a core with a slot left, `end`.
    """

    call: IntArray  # (s, 3), `NO_CALL` where fewer move
    to: IntArray  # (s, 3)
    end: IntArray  # (s,), `NO_CALL` where no core gets fuller
    value: FloatArray
    gain: FloatArray

    def take(self, index: NDArray[np.intp]) -> _Exchanges:
        return _Exchanges(
            self.call[index], self.to[index], self.end[index], self.value[index], self.gain[index]
        )


def improve(
    instance: Instance, core: IntArray, price: float, slot_price: FloatArray, most: float
) -> IntArray:
    """The assignment after the best exchanges among those that the prices call nearly free.

    An assignment that falls short of the requirement is first brought there at least value, where one
    step can do so; one that meets it only ever loses value and still meets it.

    Parameters
    ----------
    instance : Instance
    core : ndarray of int of shape (n,)
        Holds all quotas.
    price, slot_price : float, ndarray of shape (M,)
        Multipliers of the relaxation.
    most : float
        The difference between the best known value and the bound: a move that costs more than this beyond
        the prices is no part of a better assignment.
    """
    core = core.copy()
    tolerance = 1e-12 * max(1.0, abs(instance.value_of(core)))
    for _ in range(ROUNDS):
        lacking = instance.required - instance.gain_of(core)
        left = instance.quota - np.bincount(core, minlength=len(instance.quota))
        exchanges = _exchanges(instance, core, left, price, slot_price, most)
        chosen = _best(exchanges, left, lacking, np.inf if lacking > 0 else -tolerance)
        if chosen is None:
            break
        movers, to = exchanges.call[chosen].ravel(), exchanges.to[chosen].ravel()
        core[movers[movers != NO_CALL]] = to[movers != NO_CALL]
    return core


def _exchanges(
    instance: Instance, core: IntArray, left: IntArray, price: float, slot_price: FloatArray, most: float
) -> _Exchanges:
    """Exchanges made of the moves of least reduced cost, that is `most`."""
    rows = np.arange(len(core))
    reduced = priced(instance, price)
    reduced += slot_price
    reduced -= reduced[rows, core, None]
    reduced[rows, core] = np.inf
    flat = _least(reduced.ravel(), CANDIDATES, most)
    call, to = np.divmod(flat, len(left))
    varied = _varied(core[call] * len(left) + to, len(left))
    call, to = call[varied], to[varied]
    origin = core[call]
    value = instance.value[call, to] - instance.value[call, origin]
    gain = instance.gain[call, to] - instance.gain[call, origin]
    parts = _combined(origin, to, left)
    # A last row of zeros stands for a move that is not there.
    call, to = np.append(call, NO_CALL), np.append(to, NO_CALL)
    value, gain = np.append(value, 0.0), np.append(gain, 0.0)
    total_value, total_gain = value[parts].sum(axis=1), gain[parts].sum(axis=1)
    best = _least(total_value - price * total_gain, EXCHANGES, most)
    parts = parts[best]
    last = np.where(parts[:, 1] == NO_CALL, to[parts[:, 0]], to[parts[:, 1]])
    closed = (last == np.append(origin, NO_CALL)[parts[:, 0]]) | (parts[:, 2] != NO_CALL)
    return _Exchanges(
        call[parts], to[parts], np.where(closed, NO_CALL, last), total_value[best], total_gain[best]
    )


def _varied(edge: IntArray, cores: int) -> NDArray[np.intp]:
    """The first moves of all, but of each edge only its first: nearly twin cores would take all places."""
    each = max(LEAST_PER_EDGE, 2 * MOVES // max(1, cores * (cores - 1)))
    order = np.argsort(edge, kind="stable")
    sorted_edge = edge[order]
    rank = np.arange(len(edge)) - np.searchsorted(sorted_edge, sorted_edge)
    found: NDArray[np.intp] = np.sort(order[rank < each])[:MOVES]
    return found


def _combined(origin: IntArray, to: IntArray, left: IntArray) -> NDArray[np.intp]:
    """Which moves make up an exchange: shape (s, 3), `NO_CALL` where there are fewer."""
    moves, cores = len(origin), len(left)
    cheapest = np.full((cores, cores), NO_CALL)
    cheapest[origin[::-1], to[::-1]] = np.arange(moves)[::-1]
    first, second = np.nonzero(to[:, None] == origin)
    back = to[second] == origin[first]
    once = back & (first < second)
    room = ~back & (left[to[second]] > 0)
    closing = cheapest[to[second], origin[first]]
    third = ~back & (closing != NO_CALL)
    alone = np.flatnonzero(left[to] > 0)
    size = len(alone), int(once.sum()), int(room.sum()), int(third.sum())
    parts = np.full((sum(size), 3), NO_CALL)
    upto = np.cumsum(size)
    parts[: upto[0], 0] = alone
    for start, end, which in ((upto[0], upto[1], once), (upto[1], upto[2], room), (upto[2], upto[3], third)):
        parts[start:end, 0], parts[start:end, 1] = first[which], second[which]
    parts[upto[2] :, 2] = closing[third]
    return parts


def _least(array: FloatArray, count: int, most: float) -> NDArray[np.intp]:
    """Where the least entries up to `most` stand, the least first."""
    index: NDArray[np.intp] = np.flatnonzero(array <= most)
    if len(index) > count:
        index = index[np.argpartition(array[index], count - 1)[:count]]
        index.sort()
    found: NDArray[np.intp] = index[np.argsort(array[index], kind="stable")]
    return found


def _best(exchanges: _Exchanges, left: IntArray, lacking: float, limit: float) -> list[int] | None:
    """One exchange, or two that do not touch, of least value below `limit` that gain at least `lacking`."""
    alone = np.flatnonzero((exchanges.gain >= lacking) & (exchanges.value < limit))
    best = [int(alone[exchanges.value[alone].argmin()])] if alone.size else None
    limit = float(exchanges.value[best[0]]) if best else limit
    value = exchanges.value[:, None] + exchanges.value
    enough = exchanges.gain[:, None] + exchanges.gain >= lacking
    enough &= value < limit
    first, second = np.nonzero(enough)
    value = value[first, second]
    order = _least(value, PAIRS, limit)
    for index in order[_compatible(exchanges, left, first[order], second[order])][:1].tolist():
        best = [int(first[index]), int(second[index])]
    return best


def _compatible(
    exchanges: _Exchanges, left: IntArray, first: NDArray[np.intp], second: NDArray[np.intp]
) -> BoolArray:
    """Which two exchanges can be made together: no call in both, slots for both."""
    one, other = exchanges.call[first], exchanges.call[second]
    shared = ((one[:, :, None] == other[:, None, :]) & (one[:, :, None] != NO_CALL)).any(axis=(1, 2))
    end = exchanges.end[first]
    crowded = (end != NO_CALL) & (end == exchanges.end[second]) & (left[end] < 2)
    compatible: BoolArray = ~(shared | crowded)
    return compatible
