"""EventLog: what kernels tell each other, in one order for all: outcomes, grades, the health of cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

EventKind = Literal["outcome", "grade", "core", "account", "figures"]
START = "0-0"  # the place before the first entry


@dataclass(frozen=True)
class Event:
    """Something that one kernel tells the others.

    Attributes
    ----------
    kernel : str
    number : int
        Increases over the events of one kernel. An event may be logged twice, if its answer was lost; the
        second is recognised by this.
    kind : {"outcome", "grade", "core", "account", "figures"}
        ``outcome``: a `CallOutcome` as ``outcome``, with ``stage_of`` as in `OutcomeLog`.
        ``grade``: ``call_id`` and ``quality``. ``core``: the ``core``, its ``state`` (``ok``, ``open`` or
        ``paused``), ``seconds`` that this lasts, and ``cause``. ``account``: how the quality debt and the
        budgets have changed. ``figures``: the kernel's calls so far, as `runtime.kernel_figures`.
    content : mapping of str to Any
        As JSON.
    """

    kernel: str
    number: int
    kind: EventKind
    content: Mapping[str, Any] = field(default_factory=dict)


class LoggedEvent(NamedTuple):
    """An event and its place, which increases as `place_order` says."""

    place: str
    event: Event


class EventLog(Protocol):
    """An append-only log for any number of kernels, with one of them, by lease, writing it to a store.

    Methods raise `SharedUnavailableError`.
    """

    def append(self, events: Sequence[Event]) -> list[str]:
        """Add events; their places."""

    def read(self, after: str, count: int, timeout_s: float) -> list[LoggedEvent]:
        """The next events after a place, waiting for one if there is none."""

    def entries(self, after: str, count: int) -> list[LoggedEvent]:
        """The next events after a place, without waiting; called by the thread that appends."""

    def end(self) -> str:
        """The place of the last event; `START` if there is none."""

    def lead(self, kernel: str, lease_s: float) -> bool:
        """Take or renew the lease of the one kernel that writes; False if another has it."""

    def resign(self, kernel: str) -> None:
        """Give the lease up, if this kernel has it."""

    def written(self) -> str:
        """The place up to which events are in the store; `START` at first."""

    def note_written(self, kernel: str, place: str) -> bool:
        """Move that place; False if this kernel has lost the lease."""

    def generation(self) -> str:
        """Identifies the log: another one after a restart in which events may have been lost."""

    def close(self) -> None:
        """Close connections."""


def place_order(place: str) -> tuple[int, int]:
    """A key that sorts places."""
    first, _, second = place.partition("-")
    return int(first), int(second or 0)
