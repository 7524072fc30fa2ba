"""SlotSource: where the slots of cores that several kernels share come from, and what is asked of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from eccos_aios.schedule.call import Call
    from eccos_aios.schedule.plan import Dispatch


class Share(Protocol):
    """What this kernel may use of a core.

    Attributes
    ----------
    free : int
        Slots that a call can take at once.
    slots : int
        Slots of which its calls can get any, those in use included.
    line : float
        How many slots must come free for each call of this kernel that waits, other kernels' calls included.
    """

    @property
    def free(self) -> int: ...

    @property
    def slots(self) -> int: ...

    @property
    def line(self) -> float: ...


class SlotSource(Protocol):
    """Gives out slots beyond this kernel's own count; no method waits for anything."""

    def configure(self, quotas: Mapping[str, int]) -> None:
        """Set the cores and their quotas."""

    def take(self, core: str) -> str | None:
        """The token of a slot; None if there is none now."""

    def give_back(self, core: str, token: str) -> None:
        """Return a slot."""

    def share(self, core: str) -> Share:
        """What this kernel may use of a core."""

    def want(self, pending: Mapping[str, int]) -> None:
        """State how many calls wait for a slot of each core; none of one that is absent."""

    def report(self, core: str, state: str, seconds: float, cause: str) -> None:
        """Tell other kernels that a core is ``paused``, ``open`` or ``ok`` again.

        Parameters
        ----------
        core, state : str
        seconds : float
            How long a pause lasts.
        cause : str
        """


def wanted_slots(names: Sequence[str], pending: Iterable[Call], dispatch: Dispatch) -> Counter[str]:
    """How many calls wait for each core after a round.

    A call that the plan leaves open waits for any core that may take it.

    Parameters
    ----------
    names : sequence of str
        The cores, by column.
    pending : iterable of Call
        Those that still wait.
    dispatch : Dispatch
        The round's decisions.
    """
    sent = {placement.call: placement.column for placement in dispatch.placements}
    wanted: Counter[str] = Counter()
    for call in pending:
        column = dispatch.waiting_for.get(call, sent.get(call))
        if column is not None:
            wanted[names[column]] += 1
        elif call.row is not None:
            wanted.update(name for name, may in zip(names, call.row.allowed.tolist(), strict=True) if may)
    return wanted
