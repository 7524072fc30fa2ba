"""Columns that use several resources each: plans over the slots of cores, with bounds on calls or seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from eccos_aios.assign.problem import (
    REACH_SLACK,
    TOLERANCE,
    WAITS,
    Assignment,
    BoolArray,
    DualPrices,
    FloatArray,
    IntArray,
)

CHUNK = 1_000  # calls that are solved together: the time of the linear program grows faster than they do
ROUNDED = (24, 96)  # calls besides those that the relaxation splits, tried one after the other
INTEGRAL = 1 - 1e-6
DUST = 1e-6  # quality that the dearest column weighs: decides between assignments where only quality counts
GAP = 1e-6  # relative, of the integer programs
MOST_NODES = 5_000  # of a search for them: a proof that takes longer is worth less than its time


@dataclass(frozen=True, eq=False)
class ResourceProblem:
    """N calls, P columns, R resources: minimise cost such that the target is reached and no limit broken.

        minimise   Σ c_ip x_ip
        subject to Σ_p x_ip = 1,   Σ_ip u_ipr x_ip ≤ L_r,   Σ_ip q_ip x_ip ≥ α N,   x ∈ {0, 1}

    A column that uses one slot of one core is a core, and the problem then that of `AssignmentProblem`, which
    is solved faster.

    Attributes
    ----------
    cost, quality : ndarray of shape (N, P)
        US dollars, and 0 to 1.
    use : ndarray of shape (N, P, R)
        Expected use; negative values give room to other calls, as in a bound on a mean.
    limit : ndarray of shape (R,)
        Held to within 1e-6, the tolerance of HiGHS.
    target : float
        Mean quality of the placed calls.
    allowed : ndarray of bool of shape (N, P)
    budget : float or None
        US dollars; in place of the target, which is then ignored: the best quality for that much.
    weight : ndarray of shape (N,) or None
        Which calls are placed where not all can be: the heavier.
    reach_slack : float
        As in `AssignmentProblem`.
    """

    cost: FloatArray
    quality: FloatArray
    use: FloatArray
    limit: FloatArray
    target: float
    allowed: BoolArray
    budget: float | None = None
    weight: FloatArray | None = None
    reach_slack: float = REACH_SLACK


def solve_resources(problem: ResourceProblem) -> Assignment:
    """Assign each call a column; `Assignment.core` and `DualPrices.slot` then mean columns and resources.

    The linear relaxation gives prices and a bound; the calls that it splits, and those nearly so, are solved
    exactly, so that the limits hold. As many calls as possible are placed. A batch of up to 24 calls is
    solved to the exact optimum, one of more than `CHUNK` in parts.
    """
    rows = np.flatnonzero(problem.allowed.any(axis=1))
    column = np.full(len(problem.cost), WAITS, dtype=np.int64)
    chosen = _Program.of(problem, rows)
    cheapest = _optimum(chosen) if rows.size else None
    if rows.size and cheapest is None:
        rows = _heaviest(problem, rows)
        chosen = _Program.of(problem, rows)
        cheapest = _optimum(chosen) if rows.size else None
    if cheapest is None:
        return _described(problem, column, rows[:0], None, met=False)
    if problem.budget is not None:
        bought = _optimum(chosen.for_quality(problem.budget))
        column[rows] = (bought or cheapest).column
        return _described(problem, column, rows, bought or cheapest, met=bought is not None)
    required = (problem.target - 0.5 * TOLERANCE) * len(rows)
    best, met = cheapest, True
    if cheapest.gain < required:
        best = _optimum(chosen.for_quality(None)) or cheapest
        met = best.gain >= required
        if not met:
            required = best.gain - max(problem.reach_slack, TOLERANCE) * len(rows)
        best = _optimum(chosen.reaching(required)) or best
    column[rows] = best.column
    return _described(problem, column, rows, best, met=met)


@dataclass(frozen=True, eq=False)
class _Optimum:
    """A solution of a program, the proven bound on its objective, and the prices of its rows."""

    column: IntArray
    gain: float
    bound: float
    price: FloatArray


@dataclass(frozen=True, eq=False)
class _Program:
    """Minimise `objective` over the calls of a batch, all of which are placed.

    Attributes
    ----------
    objective, gain : ndarray of shape (n, P)
    use : ndarray of shape (n, P, K)
    limit : ndarray of shape (K,)
    allowed : ndarray of bool of shape (n, P)
    """

    objective: FloatArray
    gain: FloatArray
    use: FloatArray
    limit: FloatArray
    allowed: BoolArray

    @classmethod
    def of(cls, problem: ResourceProblem, rows: IntArray) -> _Program:
        """The cheapest assignment, whatever its quality."""
        return cls(
            problem.cost[rows], problem.quality[rows], problem.use[rows], problem.limit, problem.allowed[rows]
        )

    def reaching(self, required: float) -> _Program:
        """The same with a sum of quality to reach, as the last row."""
        return self._with_row(-self.gain, -required)

    def for_quality(self, budget: float | None) -> _Program:
        """The best quality, within a budget if there is one, as the last row; of equals the cheaper."""
        dust = DUST * self.objective / max(float(self.objective[self.allowed].max()), 1e-12)
        best = replace(self, objective=1.0 - self.gain + dust)
        return best if budget is None else best._with_row(self.objective, budget * (1 + 0.5 * TOLERANCE))

    def _with_row(self, used: FloatArray, limit: float) -> _Program:
        use = np.concatenate([self.use, used[:, :, None]], axis=2)
        return replace(self, use=use, limit=np.append(self.limit, limit))

    def take(self, rows: IntArray, limit: FloatArray) -> _Program:
        """The program of some of the calls, with what the others leave of the limits."""
        return _Program(self.objective[rows], self.gain[rows], self.use[rows], limit, self.allowed[rows])

    def used(self, column: IntArray, rows: IntArray) -> FloatArray:
        """What the columns of some calls use of each limit, shape (K,)."""
        return np.asarray(self.use[rows, column].sum(axis=0), dtype=np.float64)

    def reduced(self, price: FloatArray) -> FloatArray:
        """Objective plus what the used resources are worth, shape (n, P); infinite where not allowed."""
        return np.where(self.allowed, self.objective + self.use @ price, np.inf)

    def dual_bound(self, price: FloatArray) -> float:
        """No assignment that holds the limits has a lower objective, whatever the prices."""
        return float(self.reduced(price).min(axis=1).sum() - price @ self.limit)


def _optimum(program: _Program) -> _Optimum | None:
    """A near-optimal assignment; None where no assignment holds the limits."""
    calls = len(program.objective)
    if calls <= CHUNK:
        return _near_optimum(program)
    # Interleaved, so that every chunk is a fair sample; what one leaves of the limits goes to the next.
    column, prices, left = np.empty(calls, dtype=np.int64), [], program.limit.copy()
    chunks = -(-calls // CHUNK)
    remaining = calls
    for start in range(chunks):
        rows = np.arange(start, calls, chunks)
        found = _near_optimum(program.take(rows, left * (len(rows) / remaining)))
        if found is None:
            return _near_optimum(program)
        column[rows] = found.column
        prices.append(found.price)
        left -= program.used(found.column, rows)
        remaining -= len(rows)
    price = np.mean(prices, axis=0)
    gain = float(program.gain[np.arange(calls), column].sum())
    return _Optimum(column, gain, program.dual_bound(price), price)


def _near_optimum(program: _Program) -> _Optimum | None:
    """The same at once: what the relaxation splits is rounded by an integer program."""
    solved = _linear(program)
    if solved is None:
        return None
    share, price = solved
    column = _rounded(program, share, price)
    if column is None:
        return None
    gain = float(program.gain[np.arange(len(column)), column].sum())
    return _Optimum(column, gain, program.dual_bound(price), price)


def _rounded(program: _Program, share: FloatArray, price: FloatArray) -> IntArray | None:
    """Columns by the relaxation; the calls that it splits, and those nearly so, are solved exactly."""
    calls = len(share)
    column: IntArray = share.argmax(axis=1)
    reduced = program.reduced(price)
    reduced[np.arange(calls), column] = np.inf
    split = share.max(axis=1) < INTEGRAL
    doubt = np.argsort(np.where(split, -np.inf, reduced.min(axis=1)), kind="stable")
    for more in ROUNDED:
        free = np.sort(doubt[: int(split.sum()) + more])
        fixed = np.setdiff1d(np.arange(calls), free)
        part = _exact(program.take(free, program.limit - program.used(column[fixed], fixed)))
        if part is not None:
            column[free] = part
            return column
    return None


def _linear(program: _Program) -> tuple[FloatArray, FloatArray] | None:
    """The relaxation's solution, shape (n, P), and the prices of its limits, shape (K,)."""
    from scipy.optimize import linprog  # takes long to import, and many programs need none of it

    calls, columns = np.nonzero(program.allowed)
    scale = float(program.objective[calls, columns].mean()) or 1.0
    result = linprog(
        program.objective[calls, columns] / scale,
        A_ub=program.use[calls, columns].T if len(program.limit) else None,
        b_ub=program.limit if len(program.limit) else None,
        A_eq=_one_per_call(calls),
        b_eq=np.ones(len(program.objective)),
        method="highs",
    )
    if result.x is None:
        return None
    share = np.zeros(program.allowed.shape)
    share[calls, columns] = result.x
    price = -scale * result.ineqlin.marginals if len(program.limit) else np.zeros(0)
    return share, np.maximum(np.asarray(price, dtype=np.float64), 0.0)


def _exact(program: _Program) -> IntArray | None:
    """The optimum of a few calls, exact unless the search meets its limit; None where none is found."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    if not len(program.objective):
        return np.zeros(0, dtype=np.int64) if (program.limit >= 0).all() else None
    calls, columns = np.nonzero(program.allowed)
    scale = float(program.objective[calls, columns].mean()) or 1.0
    constraints = [LinearConstraint(_one_per_call(calls), 1, 1)]
    if len(program.limit):
        constraints.append(LinearConstraint(program.use[calls, columns].T, -np.inf, program.limit))
    result = milp(
        program.objective[calls, columns] / scale,
        integrality=np.ones(len(calls)),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": GAP, "node_limit": MOST_NODES},
    )
    if result.x is None:
        return None
    share = np.zeros(program.allowed.shape)
    share[calls, columns] = result.x
    return np.asarray(share.argmax(axis=1), dtype=np.int64)


def _one_per_call(calls: IntArray) -> csr_matrix:
    """The rows that give each call one column; `calls` is the call of each variable."""
    return csr_matrix((np.ones(len(calls)), (calls, np.arange(len(calls)))))


def _heaviest(problem: ResourceProblem, rows: IntArray) -> IntArray:
    """Of calls that do not all fit, the heaviest that do, as many as can be."""
    weight = np.ones(len(problem.cost)) if problem.weight is None else problem.weight
    program = _Program.of(problem, rows)
    columns = program.objective.shape[1]
    # one column more, which uses nothing and costs the call's weight
    waiting = _Program(
        np.hstack([np.zeros(program.objective.shape), weight[rows, None]]),
        np.zeros((len(rows), columns + 1)),
        np.concatenate([program.use, np.zeros((len(rows), 1, len(program.limit)))], axis=1),
        program.limit,
        np.hstack([program.allowed, np.ones((len(rows), 1), dtype=bool)]),
    )
    found = _optimum(waiting)
    return rows[:0] if found is None else rows[found.column < columns]


def _described(
    problem: ResourceProblem, column: IntArray, rows: IntArray, found: _Optimum | None, *, met: bool
) -> Assignment:
    chosen = column[rows]
    cost = float(problem.cost[rows, chosen].sum())
    quality = float(problem.quality[rows, chosen].mean()) if rows.size else float("nan")
    resources = len(problem.limit)
    price = np.zeros(resources + 1) if found is None else np.append(found.price, np.zeros(resources + 1))
    bound = 0.0 if found is None or problem.budget is not None else max(0.0, found.bound)
    by_budget = found is not None and problem.budget is not None and met
    return Assignment(
        core=column,
        cost=cost,
        quality=quality,
        lower_bound=bound if met or not rows.size or problem.budget is not None else np.inf,
        met=met,
        objective=cost,
        quality_bound=1.0 + DUST - found.bound / len(rows) if by_budget and found is not None else 1.0,
        dual_prices=DualPrices(price[:resources], float(price[resources])),
    )
