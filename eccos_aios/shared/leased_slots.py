"""LeasedSlots: the slots that this kernel leases of the cores that it shares with others."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.shared.connection import SharedUnavailableError
from eccos_aios.shared.slots import (
    HEARTBEAT_S,
    LEASE_S,
    Answer,
    CoreClaim,
    CoreGrant,
    Exchange,
    SlotTable,
)
from eccos_aios.supervised import SupervisedThread

logger = logging.getLogger(__name__)

RETRY_S = 0.1  # seconds until an exchange that failed is tried again
SHORT_S = 0.25  # seconds until a kernel that is short of slots asks again, should a wakeup be lost
UNUSED_S = 0.02  # seconds that a recalled lease is held for a call that waits; without a limit, two kernels
# that are short of slots could pass a lease to and fro without ever using it
SERVED_FIRST = 0.5  # of other kernels' calls that wait for a core, those that get a slot before one of ours
JOIN_S = 2.0  # seconds that `stop` waits for each thread


class SlotShare(NamedTuple):
    """What a kernel may use of a core.

    Attributes
    ----------
    free : int
        Leases that a call can take at once.
    slots : int
        Slots of the core, of which its calls can get any; at least 1. While the table is away, those held.
    line : float
        How many slots must come free for each call of this kernel that waits, other kernels' calls included.
    """

    free: int
    slots: int
    line: float = 1.0


@dataclass
class _Held:
    """The leases of one core and what is known of it."""

    quota: int
    used: set[str] = field(default_factory=set)
    idle: dict[str, float] = field(default_factory=dict)  # when it became idle, by token
    pending: int = 0
    asked: int = 0  # leases that the table knows to be missing
    share: int = 0
    recalled: int = 0
    waiting: int = 0  # calls of other kernels
    lowest_quota: int = 0
    most_quota: int = 0
    is_present: bool = True  # whether the configuration has the core

    @property
    def missing(self) -> int:
        return max(0, min(self.pending, self.quota) - len(self.idle))


class LeasedSlots:
    """Takes slots from leases that are held already, and has a thread that exchanges leases with the table.

    `take`, `give_back`, `want` and `share` never wait for the table. What is missing is asked for by the
    thread ``eccos-leases`` in one exchange for all cores, and `on_change` is called when it has come. A
    second thread, ``eccos-lease-wakeups``, waits for other kernels' needs.

    While the table is away, the leases that are held stay in use: they are this kernel's last known share.
    They are void if this process itself stood still for so long that they may have expired.

    Parameters
    ----------
    table : SlotTable
    on_change : callable, optional
        Called by the first thread, without a lock held, when there are more or fewer slots.
    lease_s : float
        Seconds after which the slots of a kernel that ended are free again.
    kernel : str, optional
        Identifies this kernel; default: a new UUID.
    clock : Clock, optional
    """

    def __init__(
        self,
        table: SlotTable,
        on_change: Callable[[], None] = lambda: None,
        *,
        lease_s: float = LEASE_S,
        kernel: str | None = None,
        clock: Clock = MONOTONIC_CLOCK,
    ) -> None:
        self.kernel = kernel or uuid.uuid4().hex
        self.on_change = on_change
        self._table = table
        self._lease_s = lease_s
        self._clock = clock
        self._heartbeat_s = min(HEARTBEAT_S, lease_s / 10)
        self._changed = threading.Condition()  # guards everything below; never held during an exchange
        self._cores: dict[str, _Held] = {}
        self._known: tuple[str, ...] = ()  # kernels
        self._number = 0
        self._is_due = True  # whether an exchange is due before the next heartbeat
        self._next_s = float("-inf")
        self._trusted_s = float("-inf")  # when an exchange last ended, well or not
        self._away_since_s: float | None = clock.now_s()
        self._fault = "there was no exchange yet"
        self._reclaiming = False
        self._stopping = False
        self._threads = (
            SupervisedThread("eccos-leases", self._run, clock=clock),
            SupervisedThread("eccos-lease-wakeups", self._listen, clock=clock),
        )

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Give back every lease, if the table answers, and end the threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.end()
        ended = [thread.join(JOIN_S) for thread in self._threads]
        if all(ended):
            self._table.close()

    def configure(self, quotas: Mapping[str, int]) -> None:
        """Set the cores and their quotas; leases in use stay, whatever becomes of their core."""
        with self._changed:
            for name, held in self._cores.items():
                held.is_present = name in quotas
            for name, quota in quotas.items():
                self._cores.setdefault(name, _Held(quota)).quota = quota
            self._wake()

    def take(self, core: str) -> str | None:
        """The token of a lease for a call; None if none is held."""
        with self._changed:
            held = self._cores.get(core)
            if held is None or not held.idle or not self._trusts_leases():
                return None
            token, _ = held.idle.popitem()
            held.used.add(token)
            return token

    def give_back(self, core: str, token: str) -> None:
        """End the use of a lease; it is held for the next call unless other kernels are short of slots."""
        with self._changed:
            held = self._cores[core]
            held.used.discard(token)
            unused = held.waiting > 0 and not held.pending
            if held.recalled > 0 or unused or not held.is_present:
                held.recalled = max(0, held.recalled - 1)
                self._wake()
            else:
                held.idle[token] = self._clock.now_s()

    def want(self, pending: Mapping[str, int]) -> None:
        """State how many calls wait for a slot of each core; 0 of one that is absent."""
        with self._changed:
            for name, held in self._cores.items():
                held.pending = pending.get(name, 0)
                missing = held.missing
                if missing > held.asked or (held.asked and missing <= held.asked // 2):
                    self._wake()

    def share(self, core: str) -> SlotShare:
        """What this kernel may use of a core."""
        with self._changed:
            held = self._cores.get(core)
            if held is None:
                return SlotShare(0, 1)
            free = len(held.idle) if self._trusts_leases() else 0
            if self._away_since_s is not None:
                return SlotShare(free, max(1, len(held.used) + len(held.idle)))
            line = 1.0 + SERVED_FIRST * held.waiting / max(1, held.pending)
            return SlotShare(free, max(1, held.lowest_quota), line)

    def holds(self) -> dict[str, int]:
        """Number of leases held, by core."""
        with self._changed:
            return {name: len(held.used) + len(held.idle) for name, held in self._cores.items()}

    @property
    def kernels(self) -> tuple[str, ...]:
        """The live kernels, as last known."""
        with self._changed:
            return self._known

    @property
    def is_away(self) -> bool:
        """Whether the table does not answer."""
        with self._changed:
            return self._away_since_s is not None

    def degraded(self) -> list[str]:
        """Why slots are not shared as they should be, a line each; empty where nothing is wrong."""
        now_s = self._clock.now_s()
        with self._changed:
            lines = []
            if self._away_since_s is not None:
                shares = ", ".join(
                    f"{name} {len(held.used) + len(held.idle)} of {held.quota}"
                    for name, held in self._cores.items()
                )
                lines.append(
                    f"the shared slots have been out of reach for {now_s - self._away_since_s:.0f} s "
                    f"({self._fault}); this kernel uses the slots that it holds: {shares}"
                )
            elif self._reclaiming:
                lines.append("the shared slots are being claimed again after a restart")
            lines += [
                f"kernels disagree on the quota of core {name!r}: {held.lowest_quota} and {held.most_quota}; "
                "the smaller holds"
                for name, held in self._cores.items()
                if held.is_present and held.lowest_quota < held.most_quota
            ]
        return lines + [note for thread in self._threads if (note := thread.note())]

    def faults(self) -> list[str]:
        """Threads that have ended, a line each."""
        with self._changed:
            if self._stopping:
                return []
        return [f"thread {thread.name} has ended" for thread in self._threads if not thread.alive]

    def _wake(self) -> None:
        """Make an exchange due; the lock is held."""
        self._is_due = True
        self._changed.notify_all()

    def _trusts_leases(self) -> bool:
        """Whether no lease can have expired because this process stood still; the lock is held."""
        return self._clock.now_s() - self._trusted_s < 0.7 * self._lease_s

    def _run(self) -> None:
        while (exchange := self._next_exchange()) is not None:
            try:
                answer = self._table.exchange(exchange)
            except SharedUnavailableError as error:
                self._note_failure(str(error))
                continue
            if self._apply(exchange, answer):
                self.on_change()
        with self._changed:
            self._number += 1
            claims = {name: CoreClaim(held.quota) for name, held in self._cores.items()}
            last = Exchange(self.kernel, self._number, self._lease_s, claims, self._known, leaves=True)
        try:
            self._table.exchange(last)
        except SharedUnavailableError as error:
            logger.debug("slots expire by themselves: %s", error)

    def _listen(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
            try:
                poked = self._table.wait(self.kernel, HEARTBEAT_S)
            except SharedUnavailableError:  # the other thread reports it
                with self._changed:
                    until_s = self._clock.now_s() + SHORT_S
                    self._clock.wait_for(self._changed, lambda: self._stopping, until_s)
                continue
            if poked:
                with self._changed:
                    self._wake()

    def _next_exchange(self) -> Exchange | None:
        """Wait until an exchange is due; None to end."""
        with self._changed:
            self._clock.wait_for(self._changed, lambda: self._is_due or self._stopping, self._next_s)
            if self._stopping:
                return None
            self._is_due = False
            self._number += 1
            now_s = self._clock.now_s()
            for held in self._cores.values():
                self._return_idle(held, now_s)
            claims = {
                name: CoreClaim(
                    held.quota,
                    tuple(held.used),
                    tuple(held.idle),
                    min(held.pending, held.quota) if held.is_present else 0,
                )
                for name, held in self._cores.items()
                if held.is_present or held.used
            }
            return Exchange(self.kernel, self._number, self._lease_s, claims, self._known)

    def _return_idle(self, held: _Held, now_s: float) -> None:
        """Stop holding the idle leases that others are short of; the lock is held."""
        if not held.is_present:
            held.idle = {}
        for token in _returnable(held, now_s):
            del held.idle[token]
            held.recalled -= 1

    def _note_failure(self, reason: str) -> None:
        with self._changed:
            now_s = self._clock.now_s()
            if self._away_since_s is None:
                self._away_since_s = now_s
                logger.warning("the shared slots are out of reach: %s", reason)
            self._fault = reason
            self._trusted_s = now_s
            # Not at once, or the thread would spin; everything that is due waits for it.
            self._clock.wait_for(self._changed, lambda: self._stopping, now_s + RETRY_S)
            self._is_due = True

    def _apply(self, exchange: Exchange, answer: Answer) -> bool:
        """Take over an answer; whether there are more slots or fewer."""
        with self._changed:
            now_s = self._clock.now_s()
            if self._away_since_s is not None:
                logger.info("the shared slots are in reach")
            self._away_since_s, self._trusted_s = None, now_s
            self._known, self._reclaiming = answer.kernels, answer.reclaiming
            changed = False
            self._next_s = now_s + self._heartbeat_s
            for name, grant in answer.grants.items():
                held = self._cores[name]
                changed |= self._apply_grant(held, exchange.claims[name], grant, now_s)
                if held.recalled and held.idle:
                    self._is_due |= bool(_returnable(held, now_s))
                    self._next_s = min(self._next_s, now_s + UNUSED_S)
                if held.asked:
                    self._next_s = min(self._next_s, now_s + SHORT_S)
            if answer.reclaiming:
                self._next_s = min(self._next_s, now_s + RETRY_S)
            return changed

    def _apply_grant(self, held: _Held, claim: CoreClaim, grant: CoreGrant, now_s: float) -> bool:
        for token in grant.lost:
            held.idle.pop(token, None)
        held.idle.update(dict.fromkeys(grant.granted, now_s))
        before = held.share, held.recalled
        held.asked = max(0, claim.pending - len(claim.idle) - len(grant.granted))
        held.share, held.recalled, held.waiting = grant.share, grant.recalled, grant.waiting
        held.lowest_quota, held.most_quota = grant.quota, grant.most_quota
        if held.missing > held.asked:
            self._is_due = True
        return bool(grant.granted or grant.lost) or before != (held.share, held.recalled)


def _returnable(held: _Held, now_s: float) -> list[str]:
    """The idle leases to give back now, as many as are recalled."""
    ready = [
        token
        for token, since_s in held.idle.items()
        if not held.pending or not held.is_present or now_s - since_s >= UNUSED_S
    ]
    return ready[: max(0, held.recalled)]
