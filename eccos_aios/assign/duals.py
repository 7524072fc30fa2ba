"""Approximate dual prices of large instances: Newton's method on a smoothed Lagrangian."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.linalg.lapack import dposv

from eccos_aios.assign.instance import Instance
from eccos_aios.assign.problem import BoolArray, FloatArray

SAMPLE = 1500  # calls that the first, rough steps look at
UNTHREADED = 59_000  # multiplications below which OpenBLAS computes a product of an array with itself alone
COOLING = 0.3  # factor of the temperature from stage to stage
COLDEST = 0.05  # of the first temperature, times the share of calls that may remain undecided: calls are tied
SAMPLE_UNDECIDED = 0.1  # share of the sample below which all calls are looked at
STEPS = 8  # Newton steps in a stage, at most
WORTHWHILE = 0.1  # gain of a step in temperatures: less is below the error of the smoothing
CLOSE_ENOUGH = 0.02  # of a load, relative to the mean load: the rest is left to `decomposition`
CLOSE_CALLS = 1.0  # but at most this many calls
# Added to the Hessian's diagonal, relative to its mean, until a step leads down (Levenberg): it is singular
# where prices may rise together, and flat far from the solution.
FLAT = 0.01
LONGEST_STEP = 1e100  # of a multiplier: keeps a singular Hessian from making infinities
DAMPINGS = (1e-6, 0.03, 1.0, 30.0)
SURE = 0.9  # share of a call at one core from which it counts as decided


@dataclass(frozen=True, eq=False)
class SmoothedPrices:
    """Multipliers of the gain (λ) and of the quotas (p, shape (M,)), and the temperature they are for."""

    price: float
    slot_price: FloatArray
    temperature: float


def smoothed_prices(instance: Instance, contested: int, fixed_price: float | None = None) -> SmoothedPrices:
    """Multipliers of the gain and of the quotas, near those of the linear relaxation.

    The Lagrangian dual ``Σ_i min_j (v_ij − λ g_ij + p_j) − p·L + λ R`` is maximised with the minimum
    replaced by a soft one, ``−T log Σ_j exp(−·/T)``; its Hessian has M + 1 rows only. T falls until no
    more than `contested` calls are undecided.

    Parameters
    ----------
    instance : Instance
    contested : int
        Calls that may remain undecided between cores.
    fixed_price : float, optional
        Holds λ at this value.

    Returns
    -------
    SmoothedPrices
    """
    calls = len(instance.value)
    stride = max(1, calls // SAMPLE)
    smooth = _Smooth(instance, stride)
    multipliers = smooth.start(fixed_price)
    temperature = smooth.spread(multipliers)
    coldest = temperature * COLDEST * min(1.0, contested / calls)
    while True:
        multipliers, there = climb(smooth, multipliers, temperature, fixed_price is None)
        if stride > 1 and there.undecided <= SAMPLE * SAMPLE_UNDECIDED:
            # The error of the sample is now of the order of the smoothing error.
            smooth, stride = _Smooth(instance, 1), 1
        elif (stride == 1 and there.undecided <= contested) or temperature <= coldest:
            break
        else:
            temperature *= COOLING
    if stride > 1:
        multipliers, _ = climb(_Smooth(instance, 1), multipliers, temperature, fixed_price is None)
    return SmoothedPrices(float(multipliers[-1]), multipliers[:-1], temperature)


@dataclass(frozen=True, eq=False)
class Derivatives:
    """The negative smoothed dual, its gradient and Hessian, and the number of undecided calls."""

    height: float
    gradient: FloatArray
    hessian: FloatArray
    undecided: int

    def __add__(self, other: Derivatives) -> Derivatives:
        return Derivatives(
            self.height + other.height,
            self.gradient + other.gradient,
            self.hessian + other.hessian,
            self.undecided + other.undecided,
        )

    def within(self, multipliers: FloatArray, limit: FloatArray) -> Derivatives:
        """The sums over calls, with the limits that they must keep: the quotas and −R."""
        height = self.height + float(multipliers @ limit)
        return replace(self, height=height, gradient=self.gradient + limit)

    def movable(self, multipliers: FloatArray, free_price: bool) -> BoolArray:
        """Which multipliers can change: those above 0, and those whose limit is broken."""
        movable: BoolArray = (multipliers > 0) | (self.gradient < 0)
        if not free_price:
            movable[-1] = False
        return movable

    def balanced(self, movable: BoolArray, close: FloatArray) -> bool:
        """Whether the limits of these multipliers are met as closely as that."""
        return bool((np.abs(self.gradient) <= close)[movable].all())

    def step(self, movable: BoolArray, damping: float) -> FloatArray:
        """Newton's step of the multipliers that may move."""
        index = np.flatnonzero(movable)
        part = self.hessian[np.ix_(index, index)]
        diagonal = np.diag_indices(len(index))
        own = part[diagonal]
        part[diagonal] += damping * (own + FLAT * own.mean()) + np.finfo(float).tiny
        step = np.zeros(len(movable))
        # Cholesky straight from LAPACK: numpy.linalg.solve takes 3 times as long at 33×33.
        _, solution, failed = dposv(part, -self.gradient[index])
        if not failed:
            step[index] = np.clip(solution, -LONGEST_STEP, LONGEST_STEP)
        return step


class SmoothedDual(Protocol):
    """The smoothed dual of calls that may be anywhere."""

    @property
    def calls(self) -> int:
        """Number of its calls."""

    def derivatives(self, multipliers: FloatArray, temperature: float) -> Derivatives:
        """Its derivatives by the multipliers, shape (M + 1,), the last that of the gain."""


def climb(
    dual: SmoothedDual,
    multipliers: FloatArray,
    temperature: float,
    free_price: bool,
    close: FloatArray | None = None,
    dampings: Sequence[float] = DAMPINGS,
) -> tuple[FloatArray, Derivatives]:
    """Newton steps at one temperature; the multipliers, and the derivatives there.

    They end where each load, and the gain, is as `close` to its limit as given, shape (M + 1,), or where
    nothing is left to gain.
    """
    here = dual.derivatives(multipliers, temperature)
    if close is None:
        near = min(CLOSE_CALLS, CLOSE_ENOUGH * dual.calls / (len(multipliers) - 1))
        close = np.full(len(multipliers), near)
    last = 0  # damping that worked
    for _ in range(STEPS):
        movable = here.movable(multipliers, free_price)
        if here.balanced(movable, close):
            break
        before = here.height
        for tried in range(max(0, last - 1), len(dampings)):
            trial = np.maximum(multipliers + here.step(movable, dampings[tried]), 0.0)
            there = dual.derivatives(trial, temperature)
            if there.height < before:
                multipliers, here, last = trial, there, tried
                break
        if not before - here.height >= temperature * WORTHWHILE:
            break
    return multipliers, here


class _Smooth:
    """The smoothed dual on every `stride`-th call; arrays are core-major, which vectorises better."""

    def __init__(self, instance: Instance, stride: int) -> None:
        self.value = np.ascontiguousarray(instance.value[::stride].T)
        self.gain = np.ascontiguousarray(instance.gain[::stride].T)
        share = self.value.shape[1] / len(instance.value)
        self.limit = np.append(instance.quota * share, -instance.required * share)
        self.allowed = np.isfinite(self.value)

    def start(self, fixed_price: float | None) -> FloatArray:
        multipliers = np.zeros(len(self.value) + 1)
        if fixed_price is not None:
            multipliers[-1] = fixed_price
        else:
            gain_spread = self._spread_of(self.gain)
            multipliers[-1] = self._spread_of(self.value) / gain_spread if gain_spread > 0 else 0.0
        return multipliers

    def spread(self, multipliers: FloatArray) -> float:
        """A temperature of the order of the differences between cores."""
        return 0.5 * self._spread_of(self.value - multipliers[-1] * self.gain) or 1e-9

    def _spread_of(self, array: FloatArray) -> float:
        filled = np.where(self.allowed, array, 0.0)
        count = self.allowed.sum(axis=0)
        mean = filled.sum(axis=0) / count
        deviation = np.where(self.allowed, np.abs(filled - mean), 0.0)
        return float((deviation.sum(axis=0) / count).mean())

    @property
    def calls(self) -> int:
        return self.value.shape[1]

    def derivatives(self, multipliers: FloatArray, temperature: float) -> Derivatives:
        """Those of these calls, within their share of the limits."""
        sums = derivative_sums(self.value, self.gain, multipliers, temperature)
        return sums.within(multipliers, self.limit)


def derivative_sums(
    value: FloatArray, gain: FloatArray, multipliers: FloatArray, temperature: float
) -> Derivatives:
    """The derivatives summed over calls, without limits; arrays of shape (M, calls)."""
    price, slot_price = multipliers[-1], multipliers[:-1]
    share = price * gain
    np.subtract(value, share, out=share)
    share += slot_price[:, None]
    least = share.min(axis=0)
    share -= least
    share *= -1.0 / temperature
    np.exp(share, out=share)
    total = share.sum(axis=0)
    share /= total
    height = float(temperature * np.log(total).sum() - least.sum())
    weighted = share * gain
    mean = weighted.sum(axis=0)
    load = share.sum(axis=1)
    gradient = np.append(-load, mean.sum())
    cores = len(load)
    hessian = np.empty((cores + 1, cores + 1))
    hessian[:cores, :cores] = -_gram(share)
    hessian[np.arange(cores), np.arange(cores)] += load
    hessian[:cores, cores] = hessian[cores, :cores] = np.einsum("ji,i->j", share, mean) - weighted.sum(axis=1)
    hessian[cores, cores] = np.einsum("ji,ji->", weighted, gain) - np.einsum("i,i->", mean, mean)
    hessian /= temperature
    undecided = int(np.count_nonzero(total > 1.0 / SURE))
    return Derivatives(height, gradient, hessian, undecided)


def _gram(share: FloatArray) -> FloatArray:
    """``share @ share.T`` in blocks so small that BLAS starts no threads of its own.

    On a busy machine each start waits for the other processor: with whole arrays a solve of 10,000 × 32
    took 3.4 s there instead of 0.1 s.
    """
    cores, calls = share.shape
    block = max(1, UNTHREADED // (cores * (cores + 1)))
    even = calls // block * block
    blocks = share[:, :even].reshape(cores, -1, block).transpose(1, 0, 2)
    rest = share[:, even:]
    gram: FloatArray = (blocks @ blocks.transpose(0, 2, 1)).sum(axis=0) + rest @ rest.T
    return gram
