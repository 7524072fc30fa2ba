"""Change: a core that is no longer what its older outcomes say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from eccos_aios.history.record import Record


@dataclass(frozen=True)
class Change:
    """A core got worse or better at one of its outcomes.

    What it gave before with quality q stands for ``q + lost * q + won * (1 - q)`` from then on. To leave the
    older outcomes out instead lost what they tell of the calls that a core is good at: a core that had
    halved its quality then kept half of its calls after a hundred more.

    Attributes
    ----------
    core : str
    since : str
        Id of the first record after the change.
    lost, won : float
        Part of what it had that went, -1 to 0, and part of what it lacked that came, 0 to 1.
    """

    core: str
    since: str
    lost: float
    won: float


def restated(records: Iterable[Record], changes: Sequence[Change]) -> Iterator[Record]:
    """Records with the qualities that their cores would give now.

    Parameters
    ----------
    records : iterable of Record
        In the order in which they happened.
    changes : sequence of Change
        The older first. One whose record does not come is after all of them.
    """
    ahead = list(changes)
    for record in records:
        ahead = [change for change in ahead if change.since != record.id]
        yield restate(record, ahead)


def restate(record: Record, ahead: Sequence[Change]) -> Record:
    """One record with the qualities after changes that came later, the older first."""
    cores = {change.core for change in ahead}
    if not any(outcome.model_name in cores for outcome in record.outputs):
        return record
    outputs = []
    for outcome in record.outputs:
        quality = outcome.graded_quality
        for change in ahead:
            if change.core == outcome.model_name:
                quality += change.lost * quality + change.won * (1.0 - quality)
        outputs.append(outcome.model_copy(update={"quality": min(1.0, max(0.0, quality))}))
    return record.model_copy(update={"outputs": tuple(outputs)})
