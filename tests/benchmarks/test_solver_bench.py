"""The solver's benchmark: its problems can be solved, its rows say whether they were."""

from __future__ import annotations

import json

import numpy as np
import pytest
from experiments import solver
from experiments.solver import rows_as_json, rows_as_table, solver_bench
from experiments.solver_instances import KINDS, solver_instance
from rich.console import Console

from eccos_aios.assign import Assignment, AssignmentProblem, solve


@pytest.mark.parametrize("kind", KINDS)
def test_instances_are_seeded_and_their_targets_can_be_reached(kind: str) -> None:
    problem, again = solver_instance(kind, 60, 5, seed=3), solver_instance(kind, 60, 5, seed=3)
    assert problem.cost.tolist() == again.cost.tolist()
    assert problem.cost.tolist() != solver_instance(kind, 60, 5, seed=4).cost.tolist()
    assert problem.quota.sum() >= 60
    assert solve(problem).met


def test_tight_instances_have_as_many_slots_as_calls_and_identical_ones_have_twins() -> None:
    assert solver_instance("tight", 61, 5).quota.sum() == 61
    twins = solver_instance("identical", 20, 4)
    assert (twins.cost[:, 0] == twins.cost[:, 1]).all()
    assert (twins.quality[:, 2] == twins.quality[:, 3]).all()


def test_a_kind_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="kind: 'round'"):
        solver_instance("round", 10, 2)


def test_rows_compare_with_the_relaxation_and_the_exact_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "REPEAT_SECONDS", 0.0)
    steps: list[str] = []
    rows = solver_bench(
        sizes=((24, 3), (40, 4)), kinds=("tight", "loose"), whole_cells=100, on_step=steps.append
    )
    assert [(row.calls, row.kind) for row in rows] == [
        (24, "tight"),
        (24, "loose"),
        (40, "tight"),
        (40, "loose"),
    ]
    assert len(steps) == 4
    for row in rows:
        assert row.held
        assert row.bound_holds
        assert -1e-9 <= row.gap < 0.2
        assert row.lp_ratio == pytest.approx((row.lp_s or 0) / row.ours_s)
    assert rows[0].milp_gap is not None and rows[0].gap >= rows[0].milp_gap - 1e-3
    assert rows[2].milp_s is None
    assert len(json.loads(rows_as_json(rows))["rows"]) == 4
    console = Console(width=200)
    with console.capture() as captured:
        console.print(rows_as_table(rows))
    assert "24 × 3" in captured.get()


def test_an_assignment_that_breaks_a_quota_is_not_reported_as_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def crowding(problem: AssignmentProblem) -> Assignment:
        core = np.zeros(len(problem.cost), dtype=np.int64)
        return Assignment(core, cost=1.0, quality=1.0, lower_bound=1.0, met=True)

    monkeypatch.setattr(solver, "REPEAT_SECONDS", 0.0)
    monkeypatch.setattr(solver, "solve", crowding)
    (row,) = solver_bench(sizes=((12, 3),), kinds=("tight",), whole_cells=0)
    assert not row.held
