"""CorePool: the cores of one configuration with their slots, and the estimates of calls over them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eccos_aios.candidates import Candidates
from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.core import TOKENS_PER_PRICE_UNIT, Core
from eccos_aios.predict import CallText, Estimates, Predictor, experience_of, prices_of
from eccos_aios.requirements import allowed_cores
from eccos_aios.schedule.affinity import CACHED_S, PREFIX_DISCOUNT, Prefix, less
from eccos_aios.schedule.call import Call, EstimateRow
from eccos_aios.schedule.capacity import Capacity, WaitLimits
from eccos_aios.schedule.slot_source import SlotSource
from eccos_aios.schedule.slots import CoreSlots, SlotAvailability

PRIOR_QUALITY = 0.5  # of every core when the predictor failed: none is preferred for its quality
PRIOR_OUTPUT_TOKENS = 256.0
SHORTEST_SERVICE_S = 1e-3  # seconds; lower bound of the service time of a core that answers from a cache
MOST_TURNS = 100  # how often a plan counts one slot, at most
ROUNDING = 1e-9
PRIOR_ANSWERS = 10.0  # what a free core's service time is shrunk to the mean of all answers by
FIRST_GUESS_S = 1.0  # seconds; the cores' service time before the first answer of any


@dataclass(frozen=True, eq=False)
class CorePool:
    """The cores as a round sees them; replaced as a whole when the configuration changes.

    Attributes
    ----------
    slots : tuple of CoreSlots
        One a core, in the order of the estimates' columns.
    predictor : Predictor
        Fitted.
    known : mapping of str to CoreSlots
        The slots of every core there ever was, so that one that comes back finds its calls in flight.
    probed : bool
        Whether a prober checks cores that are down.
    clock : Clock
    source : SlotSource or None
        Where the slots of cores that are shared with other kernels come from.
    """

    slots: tuple[CoreSlots, ...]
    predictor: Predictor
    known: Mapping[str, CoreSlots] = field(default_factory=dict)
    probed: bool = False
    clock: Clock = MONOTONIC_CLOCK
    source: SlotSource | None = None

    @cached_property
    def cores(self) -> tuple[Core, ...]:
        return tuple(slots.core for slots in self.slots)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(slots.core.name for slots in self.slots)

    @cached_property
    def columns(self) -> dict[str, int]:
        """Each core's column in the estimates, by name."""
        return {name: column for column, name in enumerate(self.names)}

    @cached_property
    def prices(self) -> NDArray[np.float64]:
        """As `prices_of` returns them; litellm's price map is read once per configuration."""
        return prices_of(self.cores)

    @cached_property
    def _caches(self) -> tuple[float, ...]:
        """US dollars that an input token from each core's cache costs less; 0 where that is not known."""
        prices = [core.price for core in self.cores]
        return tuple(0.0 if price is None else price.saved / TOKENS_PER_PRICE_UNIT for price in prices)

    @property
    def priced_caches(self) -> bool:
        """Whether it matters for costs which core has read a conversation."""
        return any(self._caches)

    def _cached_tokens(self, prefix: Prefix) -> float:
        return prefix.tokens if self.clock.now_s() - prefix.read_s <= CACHED_S else 0.0

    def successor(self, cores: Sequence[Core], predictor: Predictor) -> CorePool:
        """A pool of other cores; those that stay keep their slots, and so their calls in flight."""
        known = {
            core.name: self.known.get(core.name)
            or CoreSlots(core, probed=self.probed, clock=self.clock, source=self.source)
            for core in cores
        }
        if self.source is not None:
            self.source.configure({core.name: core.slots for core in cores})
        for core in cores:
            known[core.name].resize(core)
        return replace(self, slots=tuple(known.values()), predictor=predictor, known={**self.known, **known})

    def availability(self) -> list[SlotAvailability]:
        """How many calls each core can take, in the order of the columns."""
        return [slots.availability() for slots in self.slots]

    def permitted(self, call: Call) -> frozenset[str]:
        """The cores that meet a call's requirements."""
        allowed = allowed_cores([call.requirements], self.cores)[0]
        names = frozenset(name for name, may in zip(self.names, allowed.tolist(), strict=True) if may)
        return names if call.pinned is None else names & {call.pinned}

    def down(self, until_s: float) -> frozenset[str]:
        """The cores that a call with time until `until_s` must not wait for."""
        return frozenset(slots.core.name for slots in self.slots if slots.why_down(until_s))

    def capacity(self, waiting: WaitLimits) -> Capacity:
        """What the cores can take now and within the times that a call may wait."""
        cores = self.availability()
        measured = [core.service_s for core in cores if core.service_s is not None]
        # An untried core is taken to be as fast as the others; otherwise it might never be tried.
        guess_s = sum(measured) / len(measured) if measured else FIRST_GUESS_S
        service_s = [guess_s if core.service_s is None else core.service_s for core in cores]
        each = list(zip(cores, service_s, strict=True))
        turn_s = np.array(
            [
                core.line * max(taken_s, SHORTEST_SERVICE_S) / core.slots if core.slots else np.inf
                for core, taken_s in each
            ]
        )
        seconds, slots = np.array(service_s), np.array([core.slots for core in cores])
        later = _turns_within(waiting.for_quality_s, turn_s, slots)
        # The slowest free core allows the longest wait; `passes.use_idle_slots` heeds those that a call has.
        # Shrunk, as a core that seems slow by a few answers would get no calls that show otherwise.
        answers = sum(core.measured for core in cores)
        mean_s = sum(core.measured * taken_s for core, taken_s in each) / max(1, answers)
        slowest_s = max(
            (
                (core.measured * taken_s + PRIOR_ANSWERS * mean_s) / (core.measured + PRIOR_ANSWERS)
                for core, taken_s in each
                if core.free
            ),
            default=0.0,
        )
        if not measured:  # a guess is no reason to wait for a cheaper core
            turn_s = np.array([np.inf] * len(cores))
        soon = _turns_within(waiting.for_price_until_s(slowest_s, seconds), turn_s, slots)
        return Capacity(np.array([core.free for core in cores]), soon, later, seconds, turn_s)

    def predict(self, calls: Sequence[CallText]) -> Estimates:
        """Stage 1 on a batch of calls."""
        return self.predictor.predict(calls, self.names)

    def prior(self, calls: Sequence[CallText]) -> Estimates:
        """The estimates used when `predict` fails: all cores are equally good, and differ in cost."""
        shape = (len(calls), len(self.slots))
        tokens = np.array([call.input_tokens for call in calls])
        return Estimates(
            quality=np.full(shape, PRIOR_QUALITY),
            input_tokens=np.broadcast_to(tokens[:, None], shape),
            output_tokens=np.full(shape, PRIOR_OUTPUT_TOKENS),
            support=np.zeros(shape),
        )

    def attach_estimates(
        self,
        calls: Sequence[Call],
        estimates: Estimates,
        prefixes: Mapping[Call, Prefix | None] | None = None,
        affinity: str = "off",
        down: Collection[str] = (),
    ) -> None:
        """Give every call its row of estimates.

        Parameters
        ----------
        calls : sequence of Call
        estimates : Estimates
            Arrays of shape (calls, cores).
        prefixes : mapping of Call to Prefix, optional
            The core that last served each call's conversation, and what it has read of it.
        affinity : {"off", "prefer", "strict"}
            Whether that core is preferred or required.
        down : collection of str
            Cores that are known to be down.
        """
        cores, columns = self.cores, self.columns
        requirements = [call.requirements for call in calls]
        experience = experience_of(self.predictor, self.names)
        candidates = Candidates.of(estimates, requirements, cores, self.prices, experience)
        unrecorded = None if experience is None else experience.records == 0
        cost, allowed = candidates.cost, candidates.allowed
        for position, call in enumerate(calls):
            permitted, prices = _untried(allowed[position], call, columns, down), cost[position]
            pinned = columns.get(call.awaited_core or "")
            prefix = (prefixes or {}).get(call)
            last = None if prefix is None or prefix.core in down else columns.get(prefix.core)
            if prefix is not None and last is not None and self._caches[last]:
                read = min(estimates.input_tokens[position, last], self._cached_tokens(prefix))
                prices = less(prices, last, read * self._caches[last])
            if pinned is not None:
                permitted = _only(pinned, len(cores))
            elif last is not None and permitted[last] and affinity == "strict":
                permitted = _only(last, len(cores))
            elif last is not None and affinity == "prefer" and not self._caches[last]:
                prices = less(prices, last, PREFIX_DISCOUNT * prices[last])
            call.row = EstimateRow(
                self,
                candidates.quality[position],
                prices,
                permitted,
                estimates.support[position],
                has_choice=call.awaited_core is None and np.count_nonzero(allowed[position]) > 1,
                unrecorded=unrecorded,
                prefix_core=-1 if last is None or (affinity == "off" and not self._caches[last]) else last,
                prefix_usd=0.0 if last is None else float(cost[position, last] - prices[last]),
            )


def _turns_within(
    limit_s: float | NDArray[np.float64], turn_s: NDArray[np.float64], slots: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Slots that come free within so many seconds, repeats counted."""
    turns = np.minimum(np.maximum(limit_s / turn_s + ROUNDING, 0), MOST_TURNS * slots)
    return np.asarray(turns, dtype=np.int64)


def _untried(
    allowed: NDArray[np.bool_], call: Call, columns: Mapping[str, int], down: Collection[str]
) -> NDArray[np.bool_]:
    """The cores that can take the call; of these only the untried that are up, if there are any."""
    answered = call.stages.answered if call.stages is not None else frozenset()
    if not call.failures and not answered:
        return allowed
    fit = allowed.copy()
    fit[[columns[name] for name in call.unfit | answered if name in columns]] = False
    untried = fit.copy()
    untried[[columns[name] for name in {*call.failures, *down} if name in columns]] = False
    return untried if untried.any() else fit


def _only(column: int, cores: int) -> NDArray[np.bool_]:
    permitted = np.zeros(cores, dtype=np.bool_)
    permitted[column] = True
    return permitted
