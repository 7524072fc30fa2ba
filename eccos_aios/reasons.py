"""Why a call goes to its core: a closed set of reasons in plain words, and the rule that tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SAME_COST = 1e-6  # relative: costs closer than that are the same
ROUNDING = 1e-9  # of a quality

CHEAPEST = "cheapest that reaches the target"
MAKES_UP = "better than its target, for other calls that are below theirs"
OFFSET = "cheaper, as other calls are above their target"
CREDIT = "cheaper, as earlier calls exceeded the target"
REPAYS_DEBT = "repays quality debt"
BETTER_FULL = "better core was full"
OUT_OF_REACH = "target out of reach: cheapest near the best"
NO_HISTORY = "no history of this core"
ONLY_CORE = "only core allowed"
AFFINITY = "conversation affinity"
OVERDUE = "waited long enough"
EXPLORED = "exploration"
FELL_BACK = "fell back after a failure"
RETRIED = "tried again after a failure"
NEXT_STAGE = "next stage of plan"
BUDGET = "the budget"
PLANNING_FAILED = "planning failed: first free core"
OWN_PASS = "own pass"  # stands for the reasons of a user's passes

REASONS = (
    CHEAPEST,
    MAKES_UP,
    OFFSET,
    CREDIT,
    REPAYS_DEBT,
    BETTER_FULL,
    OUT_OF_REACH,
    NO_HISTORY,
    ONLY_CORE,
    AFFINITY,
    OVERDUE,
    EXPLORED,
    FELL_BACK,
    RETRIED,
    NEXT_STAGE,
    BUDGET,
    PLANNING_FAILED,
)
"""Every reason of ECCOS's own; some have a detail after it: ``better core was full (large)``."""

_KNOWN = frozenset(REASONS)


def base_reason(reason: str) -> str:
    """The reason without its detail, one of `REASONS` or `OWN_PASS`."""
    if reason in _KNOWN:
        return reason
    return next((known for known in REASONS if reason.startswith(known)), OWN_PASS)


@dataclass(frozen=True, eq=False)
class Alternatives:
    """What the calls could have got on their own, and what they got; N calls, M cores.

    Attributes
    ----------
    quality, cost : ndarray of shape (N, M)
        Estimates, 0 to 1 and US dollars.
    allowed : ndarray of bool of shape (N, M)
    promised_quality, promised_cost : sequence of float
        Of the core, or the plan of several cores, that each call got.
    target : sequence of float
        Each call's quality target.
    full : sequence of bool
        Which cores have no slot left.
    owed : float
        Points of quality that a call owes beyond its target; negative: a credit.
    slack : float
        Quality within which a core is near the best.
    missed : bool
        Whether the calls together miss their target.
    """

    quality: FloatArray
    cost: FloatArray
    allowed: BoolArray
    promised_quality: Sequence[float]
    promised_cost: Sequence[float]
    target: Sequence[float]
    full: Sequence[bool]
    owed: float = 0.0
    slack: float = 0.0
    missed: bool = False


def choice_reasons(given: Alternatives, names: tuple[str, ...]) -> list[str]:
    """For each call, how its core compares with the cheapest that reaches its target.

    A target holds for the mean of calls. So a call may get less than its own target where other calls, of
    the same round or before, get more, and the other way round.

    Parameters
    ----------
    given : Alternatives
    names : tuple of str
        Of the cores, for details.
    """
    columns = zip(
        given.quality.tolist(),
        given.cost.tolist(),
        given.allowed.tolist(),
        given.promised_quality,
        given.promised_cost,
        given.target,
        strict=True,
    )
    full, owed, slack = given.full, given.owed, max(given.slack, ROUNDING)
    below = OUT_OF_REACH if given.missed else CREDIT if owed < -ROUNDING else OFFSET
    found = []
    for qualities, costs, allowed, quality, usd, target in columns:
        enough, open_to = quality >= target - ROUNDING, [core for core, may in enumerate(allowed) if may]
        reaching = [core for core in open_to if qualities[core] >= target - ROUNDING]
        core = min(reaching, key=costs.__getitem__, default=None)
        if core is None:
            most = max((qualities[core] for core in open_to), default=0.0)
            found.append(OUT_OF_REACH if quality >= most - slack else below)
        elif usd <= costs[core] * (1 + SAME_COST):
            found.append(CHEAPEST if enough else below)
        elif enough and owed > ROUNDING and qualities[core] < target + owed - ROUNDING:
            found.append(REPAYS_DEBT)
        elif full[core]:
            found.append(f"{BETTER_FULL} ({names[core]})")
        else:
            found.append(MAKES_UP if enough else below)
    return found
