"""When the clock alone gives reason for a round."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eccos_aios.schedule.call import Call, CallState
from eccos_aios.schedule.settings import SchedulerSettings
from eccos_aios.schedule.slots import CoreSlots


def next_moment_s(
    held: Iterable[Call], slots: Iterable[CoreSlots], settings: SchedulerSettings, seen_s: float
) -> float | None:
    """The first moment, on the monotonic clock, at which a round could decide something new; None: never.

    Parameters
    ----------
    held : iterable of Call
        Not answered yet.
    slots : iterable of CoreSlots
    settings : SchedulerSettings
    seen_s : float
        When the last round began. A moment that passed while it was at work is a reason still: that round
        has not seen it.
    """
    moments_s = [moment_s for each in slots if (moment_s := each.probe_at_s) is not None]
    for call in held:
        moments_s += _moments_s(call, settings)
    return min((moment_s for moment_s in moments_s if moment_s > seen_s), default=None)


def _moments_s(call: Call, settings: SchedulerSettings) -> Iterator[float]:
    yield call.arrived_s + settings.call_timeout_s
    if call.state is CallState.RETRYING:
        yield call.not_before_s
    elif call.state is not CallState.IN_FLIGHT:
        for limit_s in settings.waiting.limits_s:
            yield call.arrived_s + limit_s
