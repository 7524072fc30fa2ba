"""Change: a core whose older outcomes no longer describe it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from eccos_aios.history.record import Record


@dataclass(frozen=True)
class Change:
    """A core got worse or better at one of its outcomes.

    A quality q from before is restated as ``q + lost * q + won * (1 - q)``. Older outcomes are restated
    rather than dropped, since they still tell which calls the core is good at.

    Attributes
    ----------
    core : str
    since : str
        Id of the first record after the change.
    lost, won : float
        Share of its quality that it lost, -1 to 0, and share of what it lacked that it gained, 0 to 1.
    """

    core: str
    since: str
    lost: float
    won: float


def restated(records: Iterable[Record], changes: Sequence[Change]) -> Iterator[Record]:
    """Records with the qualities that their cores would have now.

    Parameters
    ----------
    records : iterable of Record
        In chronological order.
    changes : sequence of Change
        Oldest first. One whose record is not among `records` applies to all of them.
    """
    later = list(changes)
    for record in records:
        later = [change for change in later if change.since != record.id]
        yield restate(record, later)


def restate(record: Record, later: Sequence[Change]) -> Record:
    """One record with its qualities restated by the changes after it, oldest first."""
    cores = {change.core for change in later}
    if not any(outcome.model_name in cores for outcome in record.outputs):
        return record
    outputs = []
    for outcome in record.outputs:
        quality = outcome.graded_quality
        for change in later:
            if change.core == outcome.model_name:
                quality += change.lost * quality + change.won * (1.0 - quality)
        outputs.append(outcome.model_copy(update={"quality": min(1.0, max(0.0, quality))}))
    return record.model_copy(update={"outputs": tuple(outputs)})
