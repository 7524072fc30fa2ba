"""CoreTable: the cores of one configuration with their slots, and the estimates of calls over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from eccos_aios.core import Core
from eccos_aios.predict import Estimates, Predictor
from eccos_aios.schedule.call import Call, EstimateRow
from eccos_aios.schedule.limits import allowed_cores
from eccos_aios.schedule.slots import CoreSlots

PRIOR_QUALITY = 0.5  # of every core when the predictor itself failed: no core is preferred for its quality
PRIOR_OUTPUT_TOKENS = 256.0


@dataclass(frozen=True, eq=False)
class CoreTable:
    """What a round knows of the cores; replaced as a whole when the configuration changes.

    Attributes
    ----------
    slots : tuple of CoreSlots
        One a core, in the order of the estimates' columns.
    predictor : Predictor
        Fitted.
    known : mapping of str to CoreSlots
        The slots of every core that there ever was, so that one that comes back finds its calls in flight.
    """

    slots: tuple[CoreSlots, ...]
    predictor: Predictor
    known: Mapping[str, CoreSlots] = field(default_factory=dict)

    @property
    def cores(self) -> tuple[Core, ...]:
        return tuple(slots.core for slots in self.slots)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(slots.core.name for slots in self.slots)

    def successor(self, cores: Sequence[Core], predictor: Predictor) -> CoreTable:
        """A table of other cores; those that stay keep their slots, and so their calls in flight."""
        known = {core.name: self.known.get(core.name) or CoreSlots(core) for core in cores}
        for core in cores:
            known[core.name].resize(core)
        return CoreTable(tuple(known.values()), predictor, {**self.known, **known})

    def predict(self, calls: Sequence[Call]) -> Estimates:
        """Stage 1 on a batch of calls."""
        return self.predictor.predict([call.text for call in calls], self.names)

    def prior(self, calls: Sequence[Call]) -> Estimates:
        """What stands in for `predict` when it fails: no core is better than another, only cheaper."""
        shape = (len(calls), len(self.slots))
        tokens = np.array([call.text.input_tokens for call in calls])
        return Estimates(
            quality=np.full(shape, PRIOR_QUALITY),
            input_tokens=np.broadcast_to(tokens[:, None], shape),
            output_tokens=np.full(shape, PRIOR_OUTPUT_TOKENS),
            support=np.zeros(shape),
        )

    def price(self, calls: Sequence[Call], estimates: Estimates) -> None:
        """Give every call its row of estimates."""
        cores = self.cores
        cost = estimates.cost(cores)
        allowed = allowed_cores([call.needs for call in calls], cores)
        names = self.names
        for position, call in enumerate(calls):
            permitted = allowed[position]
            if call.pinned in names:
                permitted = np.array([name == call.pinned for name in names])
            call.row = EstimateRow(self, estimates.quality[position], cost[position], permitted)
