"""AssignmentProblem and Assignment: arrays and their checks, nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eccos_aios.config import default_of

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

WAITS = -1  # in `Assignment.core`: no core has a slot left for the call, or none may take it
REACH_SLACK: float = default_of("reach_slack")
TOLERANCE = 1e-9  # shortfall in mean quality up to which a target counts as met; share of a budget likewise


@dataclass(frozen=True)
class AssignmentProblem:
    """N calls, M cores: minimise cost such that mean quality reaches the target and no quota is broken.

    Parameters
    ----------
    cost : ndarray of shape (N, M)
        Estimated US dollars, at least 0.
    quality : ndarray of shape (N, M)
        Estimated quality, 0 to 1.
    quota : ndarray of shape (M,)
        Calls that each core may take, at least 0.
    target : float
        Mean quality over the assigned calls, 0 to 1.
    allowed : ndarray of bool of shape (N, M), optional
        Where a call may go at all. Default: everywhere.
    weight : ndarray of shape (N,), optional
        Which calls go first where there are more calls than slots: the heavier. Default: all the same,
        then the earlier position.
    target_deficit : float
        Quality points owed from past rounds; a point is the whole quality of one call. The assigned calls
        must reach ``target * calls + target_deficit`` in sum. Negative: a credit.
    budget : float, optional
        US dollars. Where given, the problem is the best quality for at most this cost; `target` and
        `target_deficit` are ignored.
    seconds : ndarray of shape (N, M) or (M,), optional
        Expected seconds until the call is answered, waiting included, at least 0. They decide between
        cores that cost the same. Under a budget they are ignored.
    price_per_second : float
        US dollars that a second of `seconds` counts for, at least 0.
    reach_slack : float
        Mean quality, 0 to 1. Where the target is out of reach, the cheapest assignment that is within this
        of the best one is taken: the last hundredths of a point may cost ten times as much as all others.

    Raises
    ------
    ValueError
        Names the field and shows the value.
    """

    cost: FloatArray
    quality: FloatArray
    quota: IntArray
    target: float
    allowed: BoolArray | None = None
    weight: FloatArray | None = None
    target_deficit: float = 0.0
    budget: float | None = None
    seconds: FloatArray | None = None
    price_per_second: float = 0.0
    reach_slack: float = REACH_SLACK

    def __post_init__(self) -> None:
        cost = _floats("cost", self.cost, None)
        if cost.ndim != 2:
            raise ValueError(f"cost: shape {cost.shape}: must be (calls, cores)")
        calls, cores = cost.shape
        checked: dict[str, Any] = {
            "cost": _within("cost", cost, 0.0, None),
            "quality": _within("quality", _floats("quality", self.quality, (calls, cores)), 0.0, 1.0),
            "quota": _whole("quota", self.quota, (cores,)),
            "target": _scalar("target", self.target, 0.0, 1.0),
            "target_deficit": _scalar("target_deficit", self.target_deficit, None, None),
            "price_per_second": _scalar("price_per_second", self.price_per_second, 0.0, None),
            "reach_slack": _scalar("reach_slack", self.reach_slack, 0.0, 1.0),
        }
        if self.allowed is not None:
            checked["allowed"] = _booleans("allowed", self.allowed, (calls, cores))
        if self.weight is not None:
            checked["weight"] = _floats("weight", self.weight, (calls,))
        if self.budget is not None:
            checked["budget"] = _scalar("budget", self.budget, 0.0, None)
        if self.seconds is not None:
            shape = (cores,) if np.ndim(self.seconds) == 1 else (calls, cores)
            checked["seconds"] = _within("seconds", _floats("seconds", self.seconds, shape), 0.0, None)
        elif self.price_per_second:
            raise ValueError(f"price_per_second: {self.price_per_second!r}: needs seconds")
        for name, value in checked.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class DualPrices:
    """Values of a little more of each scarce resource, from the linear relaxation.

    Attributes
    ----------
    slot : ndarray of shape (M,)
        US dollars that one more slot of each core would save; in points of quality under a budget.
    quality : float
        US dollars that one more point of quality costs (a point is the whole quality of one call); under
        a budget, the points of quality that one more dollar buys.
    """

    slot: FloatArray
    quality: float


@dataclass(frozen=True)
class Assignment:
    """Where each call goes.

    Attributes
    ----------
    core : ndarray of int of shape (N,)
        Index of the core, or `WAITS`.
    cost : float
        Sum over the assigned calls, US dollars.
    quality : float
        Mean over the assigned calls; NaN where none is.
    lower_bound : float
        Proven: no assignment of the same calls that meets the target has a lower `objective`. Infinite
        where none meets it. Under a budget: none that holds it, so the bound says little there.
    met : bool
        Whether `quality` reaches the target. Where it cannot be reached, the assignment is the cheapest
        within `reach_slack` of the best quality that can. False where no call is placed.
        Under a budget: whether `cost` holds it; where it cannot be held, the assignment is the cheapest.
    objective : float
        `cost` and the price of the expected seconds, US dollars: the minimised sum.
    quality_bound : float
        Proven: no assignment of the same calls, within the budget if there is one, has a better mean.
    seconds : float
        Expected seconds, sum over the assigned calls; NaN where the problem gave none.
    dual_prices : DualPrices
        Values of one more slot of each core and of one more point of quality.
    fell_back : bool
        Whether the refinement failed inside, and this is the greedy start.
    """

    core: IntArray
    cost: float
    quality: float
    lower_bound: float
    met: bool
    objective: float = float("nan")
    quality_bound: float = 1.0
    seconds: float = float("nan")
    dual_prices: DualPrices = field(default_factory=lambda: DualPrices(np.zeros(0), 0.0))
    fell_back: bool = False

    @property
    def gap(self) -> float:
        """(objective − lower_bound) / lower_bound: how far from the optimum this may be at most."""
        over = self.objective - self.lower_bound
        if not np.isfinite(over):
            return float("nan")
        if self.lower_bound <= 0:
            return 0.0 if over <= 0 else float("inf")
        return max(0.0, over) / self.lower_bound


def _floats(name: str, value: Any, shape: tuple[int, ...] | None) -> FloatArray:
    array = _array(name, value, shape)
    if array.dtype == np.bool_ or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise ValueError(f"{name}: {array.dtype}: must be numbers")
    floats = array.astype(np.float64, copy=False)
    wrong = ~np.isfinite(floats)
    if wrong.any():
        raise ValueError(f"{name}{_first(floats, wrong)}: must be finite")
    return floats


def _within(name: str, array: FloatArray, low: float, high: float | None) -> FloatArray:
    wrong = array < low if high is None else (array < low) | (array > high)
    if wrong.any():
        allowed = f"must be at least {low:g}" if high is None else f"must be {low:g} to {high:g}"
        raise ValueError(f"{name}{_first(array, wrong)}: {allowed}")
    return array


def _whole(name: str, value: Any, shape: tuple[int, ...]) -> IntArray:
    floats = _within(name, _floats(name, value, shape), 0.0, None)
    wrong = floats != np.floor(floats)
    if wrong.any():
        raise ValueError(f"{name}{_first(floats, wrong)}: must be a whole number")
    return np.asarray(np.minimum(floats, 2.0**53), dtype=np.int64)


def _booleans(name: str, value: Any, shape: tuple[int, ...]) -> BoolArray:
    array = _array(name, value, shape)
    if array.dtype != np.bool_:
        raise ValueError(f"{name}: {array.dtype}: must be booleans")
    return array


def _array(name: str, value: Any, shape: tuple[int, ...] | None) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: is not an array: {error}") from None
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name}: shape {array.shape}: must be {shape}")
    return array


def _scalar(name: str, value: Any, low: float | None, high: float | None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise ValueError(f"{name}: {value!r}: must be a finite number")
    if (low is not None and value < low) or (high is not None and value > high):
        allowed = f"must be at least {low:g}" if high is None else f"must be {low:g} to {high:g}"
        raise ValueError(f"{name}: {value!r}: {allowed}")
    return float(value)


def _first(array: FloatArray, wrong: BoolArray) -> str:
    """Where the first wrong value stands, and the value: ``[3, 1]: nan``."""
    index = np.argwhere(wrong)[0].tolist()
    return f"{index}: {array[tuple(index)]!r}" if index else f": {array!r}"
