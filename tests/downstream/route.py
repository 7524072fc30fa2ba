"""What a project that uses eccos-aios writes; mypy strict checks it against the installed wheel."""

import numpy as np

from eccos_aios import Assignment, AssignmentProblem, Core, HybridPredictor, read_history, solve
from eccos_aios.predict import query_text


def route(history: str, queries: list[str], cores: list[Core]) -> Assignment:
    predictor = HybridPredictor().fit(read_history(history))
    estimates = predictor.predict([query_text(query) for query in queries], [core.name for core in cores])
    quota = np.array([core.slots for core in cores])
    return solve(AssignmentProblem(estimates.cost(cores), estimates.quality, quota, target=0.8))
