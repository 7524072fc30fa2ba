"""Local improvement: exchanges that turn gain beyond the requirement into less value, or fill what lacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign.instance import Instance
from eccos_aios.assign.problem import BoolArray, FloatArray, IntArray

MOVES = 128  # single moves of least reduced cost that exchanges are made of
EXCHANGES = 192  # exchanges of which pairs are tried
ROUNDS = 6
NOBODY = -1


@dataclass(frozen=True, eq=False)
class _Moves:
    """Changes of an assignment that keep every quota: a call to a core with room, or two that swap."""

    call: IntArray  # (s, 2), the second `NOBODY` for a single move
    to: IntArray  # (s, 2)
    value: FloatArray
    gain: FloatArray

    def take(self, index: NDArray[np.intp]) -> _Moves:
        return _Moves(self.call[index], self.to[index], self.value[index], self.gain[index])


def improve(instance: Instance, core: IntArray, price: float, slot_price: FloatArray) -> IntArray:
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
    """
    core = core.copy()
    tolerance = 1e-12 * max(1.0, abs(instance.value_of(core)))
    for _ in range(ROUNDS):
        lacking = instance.required - instance.gain_of(core)
        left = instance.quota - np.bincount(core, minlength=len(instance.quota))
        exchanges = _exchanges(instance, core, left, price, slot_price)
        chosen = _best(exchanges, left, lacking, np.inf if lacking > 0 else -tolerance)
        if chosen is None:
            break
        moved = exchanges.call[chosen].ravel() != NOBODY
        core[exchanges.call[chosen].ravel()[moved]] = exchanges.to[chosen].ravel()[moved]
    return core


def _exchanges(
    instance: Instance, core: IntArray, left: IntArray, price: float, slot_price: FloatArray
) -> _Moves:
    """Single moves and swaps made of the moves of least reduced cost."""
    rows = np.arange(len(core))
    value = instance.value - instance.value[rows, core][:, None]
    gain = instance.gain - instance.gain[rows, core][:, None]
    reduced = value - price * gain
    reduced += slot_price - slot_price[core][:, None]
    reduced[rows, core] = np.inf
    flat = _least(reduced.ravel(), MOVES)
    call, to = np.divmod(flat, len(left))
    value, gain, origin = value.ravel()[flat], gain.ravel()[flat], core[call]
    alone = np.flatnonzero(left[to] > 0)
    fits = (origin[:, None] == to) & (to[:, None] == origin)
    first, second = np.nonzero(np.triu(fits, 1))
    nobody = np.full(len(alone), NOBODY)
    exchanges = _Moves(
        call=np.concatenate(
            [np.column_stack([call[alone], nobody]), np.column_stack([call[first], call[second]])]
        ),
        to=np.concatenate([np.column_stack([to[alone], nobody]), np.column_stack([to[first], to[second]])]),
        value=np.concatenate([value[alone], value[first] + value[second]]),
        gain=np.concatenate([gain[alone], gain[first] + gain[second]]),
    )
    return exchanges.take(_least(exchanges.value - price * exchanges.gain, EXCHANGES))


def _least(array: FloatArray, count: int) -> NDArray[np.intp]:
    """Where the least finite entries stand, the least first."""
    index = np.argpartition(array, count - 1)[:count] if count < len(array) else np.arange(len(array))
    index = index[np.isfinite(array[index])]
    return index[np.lexsort((index, array[index]))]


def _best(exchanges: _Moves, left: IntArray, lacking: float, limit: float) -> list[int] | None:
    """One exchange, or two that do not touch, of least value below `limit` that gain what lacks."""
    if not len(exchanges.value):
        return None
    value = exchanges.value[:, None] + exchanges.value
    enough = exchanges.gain[:, None] + exchanges.gain >= lacking
    value[~enough | ~_compatible(exchanges, left)] = np.inf
    np.fill_diagonal(value, np.where(exchanges.gain >= lacking, exchanges.value, np.inf))
    first, second = divmod(int(value.argmin()), len(value))
    if value[first, second] >= limit:
        return None
    return [first] if first == second else [first, second]


def _compatible(exchanges: _Moves, left: IntArray) -> BoolArray:
    """Which two exchanges can be made together: no call in both, room for both."""
    one, two = exchanges.call[:, 0], exchanges.call[:, 1]
    shared = (one[:, None] == one) | (one[:, None] == two) | (two[:, None] == one)
    single = two == NOBODY
    shared |= (two[:, None] == two) & ~single
    to = exchanges.to[:, 0]
    crowded = (to[:, None] == to) & single & single[:, None] & (left[to] < 2)
    compatible: BoolArray = ~(shared | crowded)
    return compatible
