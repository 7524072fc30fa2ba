"""Stage 2: estimates, quotas and a quality target -> one core for each call."""

from eccos_aios.assign.problem import WAITS, Assignment, AssignmentProblem, DualPrices
from eccos_aios.assign.solver import solve

__all__ = ["WAITS", "Assignment", "AssignmentProblem", "DualPrices", "solve"]
