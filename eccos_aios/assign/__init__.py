"""Stage 2: estimates, quotas and a quality target in, one core for each call out. See the README here."""

from eccos_aios.assign.exhaustive import choose_core, choose_cores
from eccos_aios.assign.frontier import Frontier, best_at
from eccos_aios.assign.problem import REACH_SLACK, WAITS, Assignment, AssignmentProblem, DualPrices
from eccos_aios.assign.resources import ResourceProblem, solve_resources
from eccos_aios.assign.solver import solve, solve_if_reachable

__all__ = [
    "REACH_SLACK",
    "WAITS",
    "Assignment",
    "AssignmentProblem",
    "DualPrices",
    "Frontier",
    "ResourceProblem",
    "best_at",
    "choose_core",
    "choose_cores",
    "solve",
    "solve_if_reachable",
    "solve_resources",
]
