"""Refinement of a feasible start towards the optimum, with a proven bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, linprog, milp
from scipy.sparse import csr_matrix, identity, kron, vstack

from eccos_aios.assign.problem import FloatArray, IntArray


@dataclass(frozen=True)
class Instance:
    """Minimise the sum of `value` such that the sum of `gain` reaches `required`; all calls are placed.

    Attributes
    ----------
    value : ndarray of shape (n, M)
        Infinite where the call may not go.
    gain : ndarray of shape (n, M)
        0 where the call may not go.
    quota : ndarray of shape (M,)
    required : float
    """

    value: FloatArray
    gain: FloatArray
    quota: IntArray
    required: float


@dataclass(frozen=True)
class Refined:
    """The cores, the proven bound on the value, and the multipliers behind it."""

    core: IntArray
    bound: float
    gain_price: float
    slot_price: FloatArray


def refine(instance: Instance, start: IntArray) -> Refined:
    """Solve the linear relaxation for the bound and the integer problem for the cores."""
    calls, cores = instance.value.shape
    allowed = np.isfinite(instance.value).ravel()
    value = np.where(allowed, instance.value.ravel(), 0.0)
    gain = instance.gain.ravel()
    each = kron(identity(calls), np.ones((1, cores)), format="csr")
    loads = kron(np.ones((1, calls)), identity(cores), format="csr")
    upper = allowed.astype(np.float64)

    def relaxed(objective: FloatArray, required: float) -> OptimizeResult:
        return linprog(
            objective,
            A_ub=vstack([loads, csr_matrix(-gain)]),
            b_ub=np.append(instance.quota, -required),
            A_eq=each,
            b_eq=np.ones(calls),
            bounds=np.column_stack([np.zeros(len(upper)), upper]),
            method="highs",
        )

    least = float(np.sum(instance.gain.min(axis=1))) - 1.0
    best = float(-relaxed(-gain, least).fun)
    required = min(instance.required, best - 1e-9 * calls)
    bound = relaxed(value, required)
    if bound.status != 0:
        raise RuntimeError(f"linear relaxation: {bound.message}")
    whole = milp(
        value,
        integrality=np.ones(len(value)),
        bounds=Bounds(0.0, upper),
        constraints=[
            LinearConstraint(each, 1, 1),
            LinearConstraint(loads, -np.inf, instance.quota),
            LinearConstraint(csr_matrix(gain), required, np.inf),
        ],
        options={"mip_rel_gap": 1e-4, "time_limit": 5.0},
    )
    if whole.x is None:
        raise RuntimeError(f"integer problem: {whole.message}")
    reachable = best >= instance.required - 1e-9 * calls
    return Refined(
        core=np.asarray(whole.x.reshape(calls, cores).argmax(axis=1), dtype=np.int64),
        bound=float(bound.fun) if reachable else np.inf,
        gain_price=float(-bound.ineqlin.marginals[-1]),
        slot_price=-np.asarray(bound.ineqlin.marginals[:-1]),
    )
