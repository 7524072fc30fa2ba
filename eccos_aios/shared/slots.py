"""SlotTable: where kernels lease the slots of cores that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from eccos_aios.config import default_of

LEASE_S: float = default_of("lease_s")
HEARTBEAT_S = 1.0  # seconds between two exchanges of an idle kernel, at most; a tenth of the lease if less
RECLAIM_S = 1.5  # seconds after a restart of the table in which kernels claim their leases, at least
GAP_S = 3.0  # seconds without any exchange after which the table counts as restarted: it stood still
SILENT_S = 3.0  # seconds after which what a silent kernel is waiting for holds no slot back from others
STALE_S = 0.02  # seconds after which a kernel is asked whether it still needs what it holds
GAP_SHARE = 0.3  # of the lease; the gap if that is shorter, three heartbeats


@dataclass(frozen=True)
class CoreClaim:
    """What one kernel holds and wants of a core.

    Attributes
    ----------
    quota : int
        Slots of the core, by this kernel's manifest.
    used : tuple of str
        Tokens of the leases under which a call is in flight.
    idle : tuple of str
        Tokens of the leases that are held for the next calls.
    pending : int
        Calls that wait for a slot of this core.
    """

    quota: int
    used: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    pending: int = 0


@dataclass(frozen=True)
class CoreGrant:
    """The answer about one core.

    Attributes
    ----------
    granted : tuple of str
        Tokens of new leases; they increase over all kernels and restarts.
    lost : tuple of str
        Tokens of idle leases that have expired: they must not be used.
    share : int
        Slots that are this kernel's by need: see `shares_of`.
    recalled : int
        Leases that others are short of: this kernel gives so many back as soon as it can.
    waiting : int
        Calls of other kernels that wait for a slot, at most a quota each.
    quota, most_quota : int
        The smallest and the greatest quota that a live kernel states. The smallest holds.
    """

    granted: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    share: int = 0
    recalled: int = 0
    waiting: int = 0
    quota: int = 0
    most_quota: int = 0


@dataclass(frozen=True)
class Exchange:
    """One kernel's whole state, sent to the table in one round trip.

    A lease that is held by the table but not declared here is free again: it was given back, or its grant
    never arrived. So no answer can be lost for longer than until the next exchange.

    Attributes
    ----------
    kernel : str
        Identifies the kernel; without a colon.
    number : int
        Increases with every exchange of this kernel; a late one is ignored.
    lease_s : float
        Seconds until the leases expire unless renewed by the next exchange.
    claims : mapping of str to CoreClaim
        By core.
    known : sequence of str
        The kernels that the last answer named. After a restart of the table, all of these are waited for.
    leaves : bool
        Whether the kernel ends: it holds nothing more.
    """

    kernel: str
    number: int
    lease_s: float
    claims: Mapping[str, CoreClaim]
    known: Sequence[str] = ()
    leaves: bool = False


@dataclass(frozen=True)
class Answer:
    """The table's answer to an `Exchange`.

    Attributes
    ----------
    grants : mapping of str to CoreGrant
        By core.
    kernels : tuple of str
        The live kernels.
    reclaiming : bool
        Whether kernels are claiming their leases after a restart, so that none is granted.
    """

    grants: Mapping[str, CoreGrant] = field(default_factory=dict)
    kernels: tuple[str, ...] = ()
    reclaiming: bool = False


class SlotTable(Protocol):
    """Leases of the slots of cores, for any number of kernels.

    The rules are the same for every implementation:

    - The leases of a core never exceed the smallest quota that a live kernel states, unless calls that are
      in flight do. A lease under which a call is in flight is never refused.
    - Slots are shared by `shares_of`. A kernel that is short of slots within its share is granted free ones
      in the order of who holds least, then of who was granted last; a kernel that holds more than its share
      is asked to give back what the others are short of.
    - After a restart, or after `GAP_S` in which the table stood still, no lease is granted or expires until
      every kernel that was known has claimed its leases, for `RECLAIM_S` at least and ``lease_s`` at most.

    Methods raise `SharedUnavailableError`.
    """

    def exchange(self, exchange: Exchange) -> Answer:
        """Declare what a kernel holds and wants, and learn what it gets."""

    def wait(self, kernel: str, timeout_s: float) -> bool:
        """Wait until another kernel's exchange concerns this one, or this one leaves; False at a timeout."""

    def close(self) -> None:
        """Close connections, once neither an exchange nor a `wait` is under way."""


def shares_of(quota: int, wanted: Sequence[int]) -> list[int]:
    """The max-min fair shares of a core's slots.

    No kernel gets more than it wants while another one that wants more has less. What nobody wants is dealt
    out evenly, so that every kernel has some slots if the table fails.

    Parameters
    ----------
    quota : int
    wanted : sequence of int
        Calls in flight and pending, by kernel; the first come first where there are too few slots.
    """
    shares, left = [0] * len(wanted), quota
    active = [place for place, want in enumerate(wanted) if want > 0]
    while left > 0 and active:
        level = left // len(active)
        if level == 0:
            for place in active[:left]:
                shares[place] += 1
            return shares
        for place in active:
            given = min(level, wanted[place] - shares[place])
            shares[place] += given
            left -= given
        active = [place for place in active if shares[place] < wanted[place]]
    for place in range(len(wanted)):
        shares[place] += left // len(wanted) + (place < left % len(wanted))
    return shares
