"""CorePool: the cores of one configuration with their slots, and the estimates of calls over them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eccos_aios.candidates import Candidates
from eccos_aios.core import Core
from eccos_aios.predict import Estimates, Predictor, prices_of
from eccos_aios.requirements import allowed_cores
from eccos_aios.schedule.affinity import discounted
from eccos_aios.schedule.call import Call, EstimateRow
from eccos_aios.schedule.capacity import Capacity, WaitLimits
from eccos_aios.schedule.slots import CoreSlots, SlotAvailability

PRIOR_QUALITY = 0.5  # of every core when the predictor itself failed: no core is preferred for its quality
PRIOR_OUTPUT_TOKENS = 256.0
FIRST_GUESS_S = 1.0  # seconds; the cores' service time before the first answer of any


@dataclass(frozen=True, eq=False)
class CorePool:
    """What a round knows of the cores; replaced as a whole when the configuration changes.

    Attributes
    ----------
    slots : tuple of CoreSlots
        One a core, in the order of the estimates' columns.
    predictor : Predictor
        Fitted.
    known : mapping of str to CoreSlots
        The slots of every core that there ever was, so that one that comes back finds its calls in flight.
    probed : bool
        Whether somebody probes cores that are down.
    """

    slots: tuple[CoreSlots, ...]
    predictor: Predictor
    known: Mapping[str, CoreSlots] = field(default_factory=dict)
    probed: bool = False

    @cached_property
    def cores(self) -> tuple[Core, ...]:
        return tuple(slots.core for slots in self.slots)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(slots.core.name for slots in self.slots)

    @cached_property
    def columns(self) -> dict[str, int]:
        """By name, where a core stands."""
        return {name: column for column, name in enumerate(self.names)}

    @cached_property
    def prices(self) -> NDArray[np.float64]:
        """As `prices_of` tells them; litellm's price map is asked once a configuration."""
        return prices_of(self.cores)

    def successor(self, cores: Sequence[Core], predictor: Predictor) -> CorePool:
        """A table of other cores; those that stay keep their slots, and so their calls in flight."""
        known = {
            core.name: self.known.get(core.name) or CoreSlots(core, probed=self.probed) for core in cores
        }
        for core in cores:
            known[core.name].resize(core)
        return CorePool(tuple(known.values()), predictor, {**self.known, **known}, self.probed)

    def rooms(self) -> list[SlotAvailability]:
        """What each core can take now."""
        return [slots.room() for slots in self.slots]

    def permitted(self, call: Call) -> frozenset[str]:
        """The cores that may take a call by what it needs."""
        allowed = allowed_cores([call.needs], self.cores)[0]
        names = frozenset(name for name, may in zip(self.names, allowed.tolist(), strict=True) if may)
        return names if call.pinned is None else names & {call.pinned}

    def down(self, until_s: float) -> frozenset[str]:
        """The cores that a call which has time until then must not wait for."""
        return frozenset(slots.core.name for slots in self.slots if slots.why_down(until_s))

    def capacity(self, waiting: WaitLimits) -> Capacity:
        """What the cores can take now and within the times that a call may wait."""
        rooms = self.rooms()
        known = [room.service_s for room in rooms if room.service_s is not None]
        # A core that nobody has tried is believed to be as fast as the others, lest it never is tried.
        guess_s = sum(known) / len(known) if known else FIRST_GUESS_S
        service_s = [guess_s if room.service_s is None else room.service_s for room in rooms]
        soon, later = (
            [room.freed_within(wait_s, taken) for room, taken in zip(rooms, service_s, strict=True)]
            for wait_s in waiting.limits_s
        )
        free, soon, later = np.array([[room.free for room in rooms], soon, later], dtype=np.int64)
        return Capacity(free, soon, later, np.array(service_s))

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

    def price(
        self,
        calls: Sequence[Call],
        estimates: Estimates,
        kept_to: Mapping[Call, str | None] | None = None,
        affinity: str = "off",
        down: Collection[str] = (),
    ) -> None:
        """Give every call its row of estimates.

        Parameters
        ----------
        calls : sequence of Call
        estimates : Estimates
            Arrays of shape (calls, cores).
        kept_to : mapping of Call to str, optional
            The core that served a call's conversation last.
        affinity : {"off", "prefer", "strict"}
            What that core is worth.
        down : collection of str
            Cores that are known to be down.
        """
        cores = self.cores
        candidates = Candidates.of(estimates, [call.needs for call in calls], cores, self.prices)
        cost, allowed = candidates.cost, candidates.allowed
        columns = self.columns
        for position, call in enumerate(calls):
            permitted, prices = _untried(allowed[position], call, columns, down), cost[position]
            held = columns.get(call.pinned or "")
            kept_core = (kept_to or {}).get(call) or ""
            kept = None if kept_core in down else columns.get(kept_core)
            if held is not None:
                permitted = _only(held, len(cores))
            elif kept is not None and permitted[kept] and affinity == "strict":
                permitted = _only(kept, len(cores))
            elif kept is not None and affinity == "prefer":
                prices = discounted(prices, kept)
            call.row = EstimateRow(
                self, estimates.quality[position], prices, permitted, estimates.support[position]
            )


def _untried(
    allowed: NDArray[np.bool_], call: Call, columns: Mapping[str, int], down: Collection[str]
) -> NDArray[np.bool_]:
    """Without the cores that cannot take the call; of the others those that have not failed it and are up."""
    if not call.failures:
        return allowed
    fit = allowed.copy()
    fit[[columns[name] for name in call.unfit if name in columns]] = False
    untried = fit.copy()
    untried[[columns[name] for name in {*call.failures, *down} if name in columns]] = False
    return untried if untried.any() else fit


def _only(column: int, cores: int) -> NDArray[np.bool_]:
    permitted = np.zeros(cores, dtype=np.bool_)
    permitted[column] = True
    return permitted
