"""Stage 2: estimates, quotas and a quality target -> one core for each call."""

from eccos_aios.assign.exhaustive import choose_cores
from eccos_aios.assign.problem import WAITS, Assignment, AssignmentProblem, DualPrices
from eccos_aios.assign.solver import is_out_of_reach, solve

__all__ = [
    "WAITS",
    "Assignment",
    "AssignmentProblem",
    "DualPrices",
    "choose_cores",
    "is_out_of_reach",
    "solve",
]
