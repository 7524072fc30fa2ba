"""A batch in parts that may lie on other machines: what is computed on each part, never on the whole.

Every function here takes a `Part` first, and returns little: sums, counts, or a few calls. Arrays are
converted to double precision `CHUNK` calls at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eccos_aios.assign.admission import first_of_each, kinds_of
from eccos_aios.assign.decomposition import GOLDEN
from eccos_aios.assign.duals import Derivatives, derivative_sums
from eccos_aios.assign.problem import WAITS, BoolArray, FloatArray, IntArray

CHUNK = 8192  # calls that are looked at at once: their arrays stay in the processor's cache
BINS = 64  # of doubt, each half of the next; the last has no upper end
UNSURE = 2.0**-7  # of a call, elsewhere than at its first core: the least doubt in the last bin
LEFT_OPEN = -1  # in a drawn core: settled elsewhere


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the calls of a batch.

    Attributes
    ----------
    cost, quality : ndarray of shape (n, M)
        Estimated US dollars and quality, in any precision.
    allowed : ndarray of bool of shape (n, M)
    """

    cost: NDArray[Any]
    quality: NDArray[Any]
    allowed: BoolArray


@dataclass(frozen=True, eq=False)
class Admitted:
    """Which calls of a part are placed.

    Attributes
    ----------
    first : ndarray of shape (kinds,) or None
        How many calls of each kind are, always the first ones; None: all that a core may take.
    begin : int
        Placed calls in earlier parts.
    """

    first: IntArray | None
    begin: int


@dataclass(frozen=True)
class Objective:
    """What is minimised, over all parts alike.

    Attributes
    ----------
    columns : tuple of int
        The cores, one for each group of identical ones.
    budgeted : bool
        Whether value is the quality that lacks to 1 and gain the money not spent, see `Instance`.
    tie_weight : float or None
        Where given, the most gain is sought, and value counts with this weight; the constraint is gone.
    """

    columns: tuple[int, ...]
    budgeted: bool = False
    tie_weight: float | None = None


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Prices of gain and slots, and the temperature at which calls are drawn by them."""

    price: float
    slot_price: FloatArray
    temperature: float = 1.0


@dataclass(frozen=True, eq=False)
class Survey:
    """What the solver must know of a part at the start.

    Attributes
    ----------
    calls : int
    kinds : ndarray of bool of shape (kinds, M)
        The sets of cores that calls may go to.
    counts : ndarray of shape (kinds,)
    value_range : tuple of float
        Least and greatest cost where allowed, then the same of quality.
    most_quality, least_cost : float
        Sums over the calls, each at its best core whatever the quotas.
    columns : tuple of bytes
        A hash of each core's column: identical cores have the same one in every part.
    """

    calls: int
    kinds: BoolArray
    counts: IntArray
    value_range: tuple[float, float, float, float]
    most_quality: float
    least_cost: float
    columns: tuple[bytes, ...]


@dataclass(frozen=True, eq=False)
class Calls:
    """Some calls of a part, as arrays of an `Instance`.

    Attributes
    ----------
    rows : ndarray of shape (n,)
        Positions in the part.
    value, gain : ndarray of shape (n, groups)
        Real ones; with a `tie_weight`, `score` is minimised instead, and no gain is required.
    score, required_gain : ndarray of shape (n, groups)
    """

    rows: IntArray
    value: FloatArray
    gain: FloatArray
    score: FloatArray
    required_gain: FloatArray


@dataclass(frozen=True, eq=False)
class Doubts:
    """The calls of a part by doubt, at fixed prices.

    Attributes
    ----------
    count : ndarray of shape (`BINS`,)
    excess : ndarray of shape (`BINS`,)
        By how much their score exceeds the least, if they are drawn.
    least : float
        Sum over all calls of the least score at these prices, which bounds the whole from below.
    """

    count: IntArray
    excess: FloatArray
    least: float


@dataclass(frozen=True, eq=False)
class Drawn:
    """The calls of a part that fixed prices place, in sum, and those that they leave open.

    Attributes
    ----------
    load : ndarray of shape (groups,)
        Calls placed on each.
    gain, score, required_gain : float
        Of the placed calls.
    left_open : Calls
    """

    load: IntArray
    gain: float
    score: float
    required_gain: float
    left_open: Calls


@dataclass(frozen=True, eq=False)
class Finished:
    """The sums of a finished part: calls by core, shape (M,), US dollars, and quality."""

    load: IntArray
    cost: float
    quality: float


def survey(part: Part) -> Survey:
    """What the solver must know of the part."""
    kinds, kind = kinds_of(part.allowed)
    cost, quality = _where(part.allowed, part.cost), _where(part.allowed, part.quality)
    able = part.allowed.any(axis=1)
    return Survey(
        len(part.allowed),
        kinds,
        np.bincount(kind, minlength=len(kinds)),
        (*_range(cost), *_range(quality)),
        float(np.nanmax(quality[able], axis=1).sum(dtype=np.float64)),
        float(np.nanmin(cost[able], axis=1).sum(dtype=np.float64)),
        tuple(
            hashlib.sha256(cost[:, core].tobytes() + quality[:, core].tobytes()).digest()
            for core in range(cost.shape[1])
        ),
    )


def sample(part: Part, admitted: Admitted, objective: Objective, stride: int) -> Calls:
    """Every `stride`-th of the placed calls of the batch; `begin` of them are in earlier parts."""
    rows = _placed(part, admitted)
    return _calls(part, rows[-admitted.begin % stride :: stride], objective)


def derivatives(
    part: Part,
    admitted: Admitted,
    objective: Objective,
    multipliers: FloatArray,
    temperature: float,
) -> Derivatives:
    """The part's share of the derivatives of the smoothed dual, without limits."""
    size = len(objective.columns) + 1
    total = Derivatives(0.0, np.zeros(size), np.zeros((size, size)), 0)
    for calls in _chunks(part, admitted, objective):
        score, gain = np.ascontiguousarray(calls.score.T), np.ascontiguousarray(calls.required_gain.T)
        total += derivative_sums(score, gain, multipliers, temperature)
    return total


def doubts(part: Part, admitted: Admitted, objective: Objective, prices: Multipliers) -> Doubts:
    """The calls by doubt: by how much of a call is not at its first core."""
    count, excess, least = np.zeros(BINS, dtype=np.int64), np.zeros(BINS), 0.0
    for calls in _chunks(part, admitted, objective):
        shares, reduced, lowest = _shares(calls, prices)
        doubt = _doubt(shares)
        beyond = np.multiply(shares, reduced, where=shares > 0, out=np.zeros_like(shares)).sum(axis=1)
        count += np.bincount(doubt, minlength=BINS)
        excess += np.bincount(doubt, weights=beyond, minlength=BINS)
        least += float(lowest.sum())
    return Doubts(count, excess, least)


def draw(
    part: Part,
    admitted: Admitted,
    objective: Objective,
    prices: Multipliers,
    doubt: int,
    share: float,
) -> tuple[NDArray[np.int16], Drawn]:
    """Place calls at fixed prices; returns the group of each placed call, and the sums.

    A call is drawn from the cores among which the smoothed solution shares it out, by an even sequence, so
    that loads come out nearly as in that solution even where many calls are tied.

    Parameters
    ----------
    part : Part
    admitted : Admitted
    objective : Objective
    prices : Multipliers
    doubt : int
        Calls of a greater doubt are left open, `LEFT_OPEN`.
    share : float
        Those of this doubt are left open to this share, evenly.
    """
    cores, open_calls = [], []
    load = np.zeros(len(objective.columns), dtype=np.int64)
    gain = score = required_gain = 0.0
    position = ties = admitted.begin
    for calls in _chunks(part, admitted, objective):
        shares, _, _ = _shares(calls, prices)
        in_doubt = _doubt(shares)
        tied = in_doubt == doubt
        rank = ties + np.cumsum(tied)
        left_open = (in_doubt > doubt) | (tied & (np.floor(rank * share) > np.floor((rank - 1) * share)))
        core = _evenly_drawn(shares, position)
        core[left_open] = LEFT_OPEN
        kept = np.flatnonzero(~left_open)
        load += np.bincount(core[kept], minlength=len(load))
        gain += float(calls.gain[kept, core[kept]].sum())
        score += float(calls.score[kept, core[kept]].sum())
        required_gain += float(calls.required_gain[kept, core[kept]].sum())
        position, ties = position + len(core), int(rank[-1])
        cores.append(core)
        open_calls.append(_take(calls, np.flatnonzero(left_open)))
    return (
        np.concatenate([np.zeros(0, dtype=np.int64), *cores]).astype(np.int16),
        Drawn(load, gain, score, required_gain, _joined(open_calls, objective)),
    )


def least_sum(part: Part, admitted: Admitted, objective: Objective, prices: Multipliers) -> float:
    """`Doubts.least` at other prices."""
    return sum(
        float((calls.score - prices.price * calls.required_gain + prices.slot_price).min(axis=1).sum())
        for calls in _chunks(part, admitted, objective)
    )


def whole(part: Part, admitted: Admitted, objective: Objective) -> Part:
    """The placed calls in double precision, all cores."""
    rows = _placed(part, admitted)
    return Part(part.cost[rows].astype(np.float64), part.quality[rows].astype(np.float64), part.allowed[rows])


def finish(
    part: Part,
    admitted: Admitted,
    drawn: NDArray[np.int16] | None,
    settled: NDArray[np.int16],
    twins: Sequence[tuple[IntArray, IntArray]],
    begins: IntArray,
) -> tuple[NDArray[np.int16], Finished]:
    """The core of each call of the part, `WAITS` where it has none, and the sums.

    Parameters
    ----------
    part : Part
    admitted : Admitted
    drawn : ndarray or None
        As `draw` returned it; None: all were left open.
    settled : ndarray
        The groups of the calls that were left open, in their order.
    twins : sequence of tuple
        For each group its cores and their quotas: earlier calls go to the earlier twin.
    begins : ndarray of shape (groups,)
        Calls of each group in earlier parts.
    """
    rows = _placed(part, admitted)
    group = settled.astype(np.int64) if drawn is None else drawn.astype(np.int64)
    if drawn is not None:
        group[drawn == LEFT_OPEN] = settled
    placed = np.empty(len(rows), dtype=np.int64)
    for number, (cores, quota) in enumerate(twins):
        here = np.flatnonzero(group == number)
        order = begins[number] + np.arange(len(here))
        placed[here] = cores[np.searchsorted(np.cumsum(quota), order, side="right")]
    core = np.full(len(part.allowed), WAITS, dtype=np.int16)
    core[rows] = placed
    return core, Finished(
        np.bincount(placed, minlength=part.allowed.shape[1]),
        float(part.cost[rows, placed].sum(dtype=np.float64)),
        float(part.quality[rows, placed].sum(dtype=np.float64)),
    )


def kinds_in(part: Part) -> IntArray:
    """The kind of each call of the part, as numbered in its survey."""
    return kinds_of(part.allowed)[1]


def _placed(part: Part, admitted: Admitted) -> IntArray:
    """Positions of the calls that are placed."""
    if admitted.first is None:
        return np.flatnonzero(part.allowed.any(axis=1))
    return np.flatnonzero(first_of_each(kinds_in(part), admitted.first))


def _chunks(part: Part, admitted: Admitted, objective: Objective) -> Iterator[Calls]:
    rows = _placed(part, admitted)
    for start in range(0, len(rows), CHUNK):
        yield _calls(part, rows[start : start + CHUNK], objective)


def _calls(part: Part, rows: IntArray, objective: Objective) -> Calls:
    columns = np.array(objective.columns)
    index = np.ix_(rows, columns)
    cost, quality = part.cost[index].astype(np.float64), part.quality[index].astype(np.float64)
    value, gain = (1.0 - quality, -cost) if objective.budgeted else (cost, quality)
    allowed = part.allowed[index]
    if not allowed.all():
        value, gain = np.where(allowed, value, np.inf), np.where(allowed, gain, 0.0)
    if objective.tie_weight is None:
        return Calls(rows, value, gain, value, gain)
    return Calls(rows, value, gain, objective.tie_weight * value - gain, np.zeros_like(gain))


def _take(calls: Calls, index: IntArray) -> Calls:
    return Calls(
        calls.rows[index],
        calls.value[index],
        calls.gain[index],
        calls.score[index],
        calls.required_gain[index],
    )


def _joined(several: Sequence[Calls], objective: Objective) -> Calls:
    if not several:
        none = np.zeros((0, len(objective.columns)))
        return Calls(np.zeros(0, dtype=np.int64), none, none, none, none)
    return joined_calls(several)


def joined_calls(several: Sequence[Calls]) -> Calls:
    """The calls one after the other; of at least one part."""
    return Calls(
        np.concatenate([calls.rows for calls in several]),
        np.concatenate([calls.value for calls in several]),
        np.concatenate([calls.gain for calls in several]),
        np.concatenate([calls.score for calls in several]),
        np.concatenate([calls.required_gain for calls in several]),
    )


def _shares(calls: Calls, prices: Multipliers) -> tuple[FloatArray, FloatArray, FloatArray]:
    """How the smoothed solution shares each call out; the score beyond the least at the prices; the least."""
    reduced = calls.score - prices.price * calls.required_gain
    reduced += prices.slot_price
    least = reduced.min(axis=1)
    reduced -= least[:, None]
    shares = np.exp(reduced / -prices.temperature)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares, reduced, least


def _doubt(shares: FloatArray) -> IntArray:
    """The bin of each call."""
    elsewhere = np.maximum(1.0 - shares.max(axis=1), np.finfo(float).tiny)
    below = np.floor(np.log2(elsewhere / UNSURE)).astype(np.int64)
    doubt: IntArray = np.clip(BINS - 1 + below, 0, BINS - 1)
    return doubt


def _evenly_drawn(shares: FloatArray, position: int) -> IntArray:
    """A core for each call, drawn by an even sequence; calls that are shared out alike take turns in it."""
    first = shares.argmax(axis=1)
    alike = np.argsort(first + shares.max(axis=1) / 2, kind="stable")
    turn = np.empty(len(shares), dtype=np.int64)
    turn[alike] = np.arange(position + 1, position + 1 + len(shares))
    upto = np.cumsum(shares, axis=1)
    drawn = np.modf(GOLDEN * turn)[0] * upto[:, -1]
    core: IntArray = np.minimum((upto <= drawn[:, None]).sum(axis=1), shares.shape[1] - 1)
    return core


def _where(allowed: BoolArray, array: NDArray[Any]) -> NDArray[Any]:
    return array if allowed.all() else np.where(allowed, array, np.nan)


def _range(array: NDArray[Any]) -> tuple[float, float]:
    known = array[~np.isnan(array)]
    return (float(known.min()), float(known.max())) if known.size else (np.inf, -np.inf)
