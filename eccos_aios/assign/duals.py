"""Approximate dual prices of large instances: Newton's method on a smoothed Lagrangian."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dposv

from eccos_aios.assign.instance import Instance
from eccos_aios.assign.problem import BoolArray, FloatArray

SAMPLE = 1500  # calls that the first, rough steps look at
COOLING = 0.3  # factor of the temperature from stage to stage
STAGES = 7
STEPS = 8  # Newton steps in a stage, at most
WORTHWHILE = 0.1  # gain of a step in temperatures: less is below what the smoothing itself blurs
CLOSE_ENOUGH = 0.02  # of a load, relative to the mean load: the rest is left to what follows
CLOSE_CALLS = 1.0  # but at most so many calls
# Added to the Hessian's diagonal, relative to its mean, until a step leads down (Levenberg): it is singular
# where prices may rise together, and flat far from the solution.
FLAT = 0.01
DAMPINGS = (1e-6, 0.03, 1.0, 30.0)
SURE = 0.9  # share of a call at one core from which it counts as decided


@dataclass(frozen=True, eq=False)
class Smoothed:
    """Multipliers of the gain (λ) and of the quotas (p, shape (M,)), and the temperature they are for."""

    price: float
    slot_price: FloatArray
    temperature: float


def smoothed_prices(instance: Instance, contested: int, fixed_price: float | None = None) -> Smoothed:
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
    Smoothed
    """
    calls = len(instance.value)
    stride = max(1, calls // SAMPLE)
    smooth = _Smooth(instance, stride)
    multipliers = smooth.start(fixed_price)
    temperature = smooth.spread(multipliers)
    for _ in range(STAGES):
        multipliers, undecided = smooth.climb(multipliers, temperature, fixed_price is None)
        if undecided <= contested and stride == 1:
            break
        if undecided <= contested:
            # The sample has served; its error is of the order of what this temperature blurs.
            smooth, stride = _Smooth(instance, 1), 1
        else:
            temperature *= COOLING
    return Smoothed(float(multipliers[-1]), multipliers[:-1], temperature)


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

    def climb(self, multipliers: FloatArray, temperature: float, free_price: bool) -> tuple[FloatArray, int]:
        """Newton steps at one temperature; the multipliers, and how many calls are undecided there."""
        height, gradient, hessian, undecided = self._derivatives(multipliers, temperature)
        close = min(CLOSE_CALLS, CLOSE_ENOUGH * self.value.shape[1] / len(self.value))
        damp = 0
        for _ in range(STEPS):
            movable = (multipliers > 0) | (gradient < 0)
            if not free_price:
                movable[-1] = False
            if not movable.any() or np.abs(gradient[movable]).max() <= close:
                break
            moved = None
            for damp in range(max(0, damp - 1), len(DAMPINGS)):
                step = self._newton(gradient, hessian, movable, DAMPINGS[damp])
                trial = np.maximum(multipliers + step, 0.0)
                trial_height, *derivatives = self._derivatives(trial, temperature)
                if trial_height < height:
                    moved = trial
                    break
            if moved is None:
                break
            gained = height - trial_height
            multipliers, height = moved, trial_height
            gradient, hessian, undecided = derivatives
            if gained < temperature * WORTHWHILE:
                break
        return multipliers, undecided

    @staticmethod
    def _newton(gradient: FloatArray, hessian: FloatArray, movable: BoolArray, damping: float) -> FloatArray:
        index = np.flatnonzero(movable)
        part = hessian[np.ix_(index, index)]
        diagonal = np.diag_indices(len(index))
        own = part[diagonal]
        part[diagonal] += damping * (own + FLAT * own.mean()) + np.finfo(float).tiny
        step = np.zeros(len(gradient))
        # Cholesky straight from LAPACK: numpy.linalg.solve takes 3 times as long at 33×33.
        _, solution, failed = dposv(part, -gradient[index])
        if not failed:
            step[index] = solution
        return step

    def _derivatives(
        self, multipliers: FloatArray, temperature: float
    ) -> tuple[float, FloatArray, FloatArray, int]:
        """The negative smoothed dual, its gradient and Hessian, and how many calls are undecided."""
        price, slot_price = multipliers[-1], multipliers[:-1]
        share = price * self.gain
        np.subtract(self.value, share, out=share)
        share += slot_price[:, None]
        least = share.min(axis=0)
        share -= least
        share *= -1.0 / temperature
        np.exp(share, out=share)
        total = share.sum(axis=0)
        share /= total
        height = float(temperature * np.log(total).sum() - least.sum() + multipliers @ self.limit)
        weighted = share * self.gain
        mean = weighted.sum(axis=0)
        load = share.sum(axis=1)
        gradient = self.limit + np.append(-load, mean.sum())
        cores = len(load)
        hessian = np.empty((cores + 1, cores + 1))
        hessian[:cores, :cores] = -(share @ share.T)
        hessian[np.arange(cores), np.arange(cores)] += load
        hessian[:cores, cores] = hessian[cores, :cores] = share @ mean - weighted.sum(axis=1)
        hessian[cores, cores] = np.vdot(weighted, self.gain) - mean @ mean
        hessian /= temperature
        undecided = int(np.count_nonzero(total > 1.0 / SURE))
        return height, gradient, hessian, undecided
