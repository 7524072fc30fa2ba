"""A batch that was routed and written in parts: its figures, as those of `Batch` and `Routing`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eccos_aios.assign.partitioned import PartedAssignment
from eccos_aios.batch.output import target_summary
from eccos_aios.core import Core
from eccos_aios.predict import CoreExperience


@dataclass(frozen=True, eq=False)
class PartedRouting:
    """A batch routed at one target or budget; the figures of `Routing`.

    Attributes
    ----------
    quality_target, budget : float or None
    parted : PartedAssignment
    names : tuple of str
        Of the cores.
    experience : CoreExperience or None
    """

    quality_target: float | None
    budget: float | None
    parted: PartedAssignment
    names: tuple[str, ...]
    experience: CoreExperience | None

    @property
    def met(self) -> bool:
        """As in `Routing`."""
        if self.budget is not None or self.experience is None:
            return self.parted.assignment.met
        return self.parted.assignment.met and not self.experience.unrecorded(self.parted.load).any()

    @property
    def predicted_quality(self) -> float:
        """Mean over the queries that have a core."""
        return self.parted.assignment.quality

    @property
    def predicted_cost(self) -> float:
        """US dollars."""
        return self.parted.assignment.cost

    @property
    def lower_bound(self) -> float:
        """US dollars."""
        return self.parted.assignment.lower_bound

    @property
    def gap(self) -> float:
        """As in `Routing`."""
        return self.parted.assignment.gap

    @property
    def per_core(self) -> dict[str, int]:
        """Queries by core."""
        return dict(zip(self.names, self.parted.load.tolist(), strict=True))

    @property
    def quality_price(self) -> float:
        """As in `Routing`."""
        return self.parted.assignment.dual_prices.quality

    @property
    def slot_prices(self) -> dict[str, float]:
        """As in `Routing`."""
        slots = np.broadcast_to(self.parted.assignment.dual_prices.slot, len(self.names))
        return dict(zip(self.names, slots.tolist(), strict=True))


@dataclass(frozen=True)
class PartedBatch:
    """A batch that was routed and written.

    Attributes
    ----------
    cores : tuple of Core
    routings : tuple of PartedRouting
        One per target, then one per budget.
    seconds : dict of str to float
        As in `Batch`; ``write`` besides.
    queries : int
    refused : int
        Queries that no core may take.
    first_refused : str or None
        The place of the first, and why.
    """

    cores: tuple[Core, ...]
    routings: tuple[PartedRouting, ...]
    seconds: dict[str, float]
    queries: int
    refused: int
    first_refused: str | None

    def summary(self) -> dict[str, Any]:
        """As `summary` of a `Batch`."""
        seconds = {step: self.seconds[step] for step in ("load", "fit", "predict", "solve")}
        targets = [target_summary(routing) for routing in self.routings]
        return {"targets": targets, "seconds": seconds, "queries": self.queries}
