"""Stage 2 against general solvers on the same seeded problems, in one run."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from rich.table import Table
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_matrix, identity, kron, vstack

from eccos_aios.assign import Assignment, AssignmentProblem, solve
from eccos_aios.cli.table import make_table
from experiments.solver_instances import KINDS, solver_instance

Size = tuple[int, int]
Result = TypeVar("Result")

SIZES: tuple[Size, ...] = ((32, 4), (64, 8), (256, 8), (256, 16), (1000, 10), (4000, 10), (10_000, 32))
LARGEST: Size = (100_000, 32)  # ours alone: a general solver's matrix would hold 3 million columns

RELAXED_CELLS = 320_000  # calls × cores up to which the full LP is solved
WHOLE_CELLS = 10_000  # and up to which the exact MILP and CBC are
WHOLE_SECONDS = 60.0  # time limit of these
REPEAT_SECONDS = 0.3  # a solver is timed repeatedly until it has run for this long
MAX_REPEATS = 15
PROOF_TOLERANCE = 1e-6  # relative: by how much a proven bound may exceed the LP's value, itself rounded


@dataclass(frozen=True)
class SolverRow:
    """One problem.

    Attributes
    ----------
    kind, calls, cores, seed
        Which problem; see `solver_instance`.
    ours_s, lp_s, milp_s, cbc_s : float or None
        Median seconds; None where it was not run.
    gap : float
        Our cost above the LP's value, relative; above our own bound where there is no LP.
    milp_gap : float or None
        The same for the MILP's solution: the gap that no integral assignment can avoid.
    lp_ratio : float or None
        ``lp_s / ours_s``.
    held : bool
        Whether no quota was exceeded, every call was assigned and the target was reached.
    bound_holds : bool
        Whether our bound is not above the LP's value.
    peak_mb : float
        Largest memory of this process so far.
    """

    kind: str
    calls: int
    cores: int
    seed: int
    ours_s: float
    lp_s: float | None
    milp_s: float | None
    cbc_s: float | None
    gap: float
    milp_gap: float | None
    lp_ratio: float | None
    held: bool
    bound_holds: bool
    peak_mb: float


def solver_bench(
    sizes: Sequence[Size] = SIZES,
    kinds: Sequence[str] = KINDS,
    seeds: Sequence[int] = (0,),
    whole_cells: int = WHOLE_CELLS,
    on_step: Callable[[str], None] = lambda _: None,
) -> list[SolverRow]:
    """Time and check stage 2 on every kind of problem, beside HiGHS (LP and MILP) and CBC.

    Parameters
    ----------
    sizes : sequence of (calls, cores)
    kinds : sequence of str
        See `solver_instance`.
    seeds : sequence of int
    whole_cells : int
        Calls × cores up to which MILP and CBC are run.
    on_step : callable, optional
        Called with a description of each step.
    """
    rows = []
    for calls, cores in sizes:
        for kind in kinds:
            for seed in seeds:
                on_step(f"{calls} × {cores}, {kind}, seed {seed}")
                rows.append(_measured(kind, calls, cores, seed, whole_cells))
    return rows


def rows_as_json(rows: Sequence[SolverRow]) -> str:
    """One object: ``{"rows": [...], "cbc": bool}``."""
    return json.dumps({"rows": [asdict(row) for row in rows], "cbc": cbc_installed()}, allow_nan=False)


def rows_as_table(rows: Sequence[SolverRow]) -> Table:
    """A table of milliseconds, ratios and gaps in percent."""
    names = (
        "calls × cores",
        "kind",
        "ours ms",
        "LP ms",
        "LP/ours",
        "MILP ms",
        "CBC ms",
        "gap %",
        "MILP gap %",
    )
    table = make_table(*names, "held", "bound", "MB", left=("kind", "held", "bound"))
    for row in rows:
        table.add_row(
            f"{row.calls} × {row.cores}",
            row.kind,
            *(_shown(value, 1e3, ".2f") for value in (row.ours_s, row.lp_s)),
            _shown(row.lp_ratio, 1, ".1f"),
            *(_shown(value, 1e3, ".1f") for value in (row.milp_s, row.cbc_s)),
            *(_shown(value, 100, ".5f") for value in (row.gap, row.milp_gap)),
            "yes" if row.held else "NO",
            "proven" if row.bound_holds else "WRONG",
            f"{row.peak_mb:.0f}",
        )
    return table


def cbc_installed() -> bool:
    """Whether pulp is installed with a CBC that runs."""
    try:
        import pulp  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return False
    return bool(pulp.PULP_CBC_CMD(msg=False).available())


def _shown(value: float | None, factor: float, form: str) -> str:
    return "–" if value is None else format(value * factor, form)


def _measured(kind: str, calls: int, cores: int, seed: int, whole_cells: int) -> SolverRow:
    problem = solver_instance(kind, calls, cores, seed)
    ours, ours_s = _timed(lambda: solve(problem))
    relaxed = relaxed_s = whole = whole_s = cbc_s = None
    if calls * cores <= RELAXED_CELLS:
        relaxed, relaxed_s = _timed(_relaxation(problem))
    if calls * cores <= whole_cells:
        whole, whole_s = _timed(_whole(problem))
        if cbc_installed():
            cbc_s = _cbc_seconds(problem)
    floor = ours.lower_bound if relaxed is None else relaxed
    return SolverRow(
        kind=kind,
        calls=calls,
        cores=cores,
        seed=seed,
        ours_s=ours_s,
        lp_s=relaxed_s,
        milp_s=whole_s,
        cbc_s=cbc_s,
        gap=ours.cost / floor - 1,
        milp_gap=None if whole is None or relaxed is None else whole / relaxed - 1,
        lp_ratio=None if relaxed_s is None else relaxed_s / ours_s,
        held=_held(problem, ours),
        bound_holds=relaxed is None or ours.lower_bound <= relaxed * (1 + PROOF_TOLERANCE),
        peak_mb=_peak_mb(),
    )


def _timed(run: Callable[[], Result]) -> tuple[Result, float]:
    """The result, and the median of the times."""
    seconds: list[float] = []
    while True:
        started = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - started)
        if sum(seconds) >= REPEAT_SECONDS or len(seconds) >= MAX_REPEATS:
            return result, float(np.median(seconds))


def _held(problem: AssignmentProblem, assignment: Assignment) -> bool:
    core = assignment.core
    if (core < 0).any() or assignment.fell_back:
        return False
    load = np.bincount(core, minlength=len(problem.quota))
    reached = problem.quality[np.arange(len(core)), core].mean()
    return bool((load <= problem.quota).all() and reached >= problem.target - 1e-9)


def _rows_of(problem: AssignmentProblem) -> tuple[Any, Any, np.ndarray[Any, Any]]:
    """Equations (a core for every call), inequalities (quotas, quality) and their right-hand sides."""
    calls, cores = problem.cost.shape
    each = kron(identity(calls), np.ones((1, cores)), format="csr")
    loads = kron(np.ones((1, calls)), identity(cores), format="csr")
    limits = np.append(problem.quota, -problem.target * calls)
    return each, vstack([loads, csr_matrix(-problem.quality.ravel())], format="csr"), limits


def _relaxation(problem: AssignmentProblem) -> Callable[[], float]:
    """The full LP; building its matrices is not timed."""
    each, most, limits = _rows_of(problem)
    cost, ones = problem.cost.ravel(), np.ones(len(problem.cost))

    def run() -> float:
        result = linprog(cost, A_ub=most, b_ub=limits, A_eq=each, b_eq=ones, method="highs")
        if result.status != 0:
            raise RuntimeError(f"LP: {result.message}")
        return float(result.fun)

    return run


def _whole(problem: AssignmentProblem) -> Callable[[], float]:
    """The exact problem; the best solution within the time limit."""
    each, most, limits = _rows_of(problem)
    constraints = [LinearConstraint(each, 1, 1), LinearConstraint(most, -np.inf, limits)]
    cost = problem.cost.ravel()

    def run() -> float:
        result = milp(
            cost,
            integrality=np.ones(len(cost)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"time_limit": WHOLE_SECONDS},
        )
        if result.x is None:
            raise RuntimeError(f"MILP: {result.message}")
        return float(result.fun)

    return run


def _cbc_seconds(problem: AssignmentProblem) -> float:
    """Seconds of AIOS's way: a PuLP model solved by CBC in a process of its own, building included."""
    import pulp  # type: ignore[import-not-found,import-untyped,unused-ignore]

    calls, cores = problem.cost.shape
    started = time.perf_counter()
    model = pulp.LpProblem("assignment", pulp.LpMinimize)
    cells = [[pulp.LpVariable(f"x_{i}_{j}", cat="Binary") for j in range(cores)] for i in range(calls)]
    pairs = [(i, j) for i in range(calls) for j in range(cores)]
    cost, quality = problem.cost.tolist(), problem.quality.tolist()
    model += pulp.lpSum(cost[i][j] * cells[i][j] for i, j in pairs)
    model += pulp.lpSum(quality[i][j] * cells[i][j] for i, j in pairs) >= problem.target * calls
    for i in range(calls):
        model += pulp.lpSum(cells[i]) == 1
    for j in range(cores):
        model += pulp.lpSum(cells[i][j] for i in range(calls)) <= int(problem.quota[j])
    model.solve(pulp.PULP_CBC_CMD(msg=False, timeLimit=WHOLE_SECONDS))
    return time.perf_counter() - started


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
