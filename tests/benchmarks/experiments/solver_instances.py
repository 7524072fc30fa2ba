"""Seeded assignment problems for the solver's benchmark, of every kind that behaves differently."""

from __future__ import annotations

import numpy as np

from eccos_aios.assign import AssignmentProblem
from eccos_aios.assign.greedy import greedy

KINDS = ("tight", "loose", "skewed", "identical", "degenerate")

PRICE_SPAN = 3.0  # natural logarithm of the highest price over the lowest, approximately
STEEPNESS = 6.0  # of the fall of a core's quality with difficulty
LEVELS = 4  # of quality, in degenerate instances
LENGTHS = (500.0, 2000.0)  # tokens, there
TARGET_STEP = 0.5  # the target, between the quality of the cheapest and of the best assignment


def solver_instance(kind: str, calls: int, cores: int, seed: int = 0) -> AssignmentProblem:
    """A problem whose target can be reached.

    Calls differ in length (lognormal tokens) and difficulty, cores in skill and price, which rise together.

    Parameters
    ----------
    kind : str
        ``tight``: as many slots as calls, evenly; ``loose``: every core may take all calls; ``skewed``:
        few cores have most of the slots, 1.3 a call in all; ``identical``: cores come in pairs that are the
        same, 1.1 slots a call; ``degenerate``: calls of two lengths, few levels of quality, 1.2 slots a call.
    calls, cores : int
    seed : int

    Raises
    ------
    ValueError
        The kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r}: must be one of {', '.join(KINDS)}")
    rng = np.random.default_rng([KINDS.index(kind), calls, cores, seed])
    skill = np.sort(rng.random(cores))
    price = 1e-7 * np.exp(PRICE_SPAN * skill + rng.normal(0, 0.3, cores))
    inputs, outputs = rng.lognormal(6, 0.5, calls), rng.lognormal(5, 0.8, calls)
    tokens = inputs[:, None] + 4 * outputs[:, None] * rng.lognormal(0, 0.2, (calls, cores))
    cost = price * tokens
    noise = rng.normal(0, 1, (calls, cores))
    quality = 1 / (1 + np.exp(-STEEPNESS * (skill - rng.random((calls, 1))) - noise))
    slots = 1.0
    if kind == "identical":
        twin = np.arange(cores) // 2 * 2
        cost, quality, slots = cost[:, twin], quality[:, twin], 1.1
    elif kind == "degenerate":
        cost = price * rng.choice(LENGTHS, (calls, 1))
        quality, slots = np.round(quality * LEVELS) / LEVELS, 1.2
    quota = np.full(cores, int(np.ceil(slots * calls / cores)))
    if kind == "tight":
        quota = np.full(cores, calls // cores)
        quota[: calls - int(quota.sum())] += 1
    elif kind == "loose":
        quota = np.full(cores, calls)
    elif kind == "skewed":
        share = rng.pareto(1.0, cores) + 0.1
        quota = np.ceil(1.3 * calls * share / share.sum()).astype(np.int64)
    rows = np.arange(calls)
    least = quality[rows, greedy(cost, quota)].mean()
    most = quality[rows, greedy(-quality, quota)].mean()
    target = float(np.clip(least + TARGET_STEP * (most - least), 0.0, 1.0))
    return AssignmentProblem(cost=cost, quality=quality, quota=quota, target=target)
