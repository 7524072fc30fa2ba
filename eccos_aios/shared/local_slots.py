"""LocalSlotTable: the table of leases for the kernels of one process."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from eccos_aios.clock import MONOTONIC_CLOCK, Clock
from eccos_aios.shared.connection import SharedUnavailableError
from eccos_aios.shared.slots import SILENT_S, STALE_S, Answer, CoreClaim, CoreGrant, Exchange, shares_of


@dataclass
class _Need:
    """What a kernel last declared about a core."""

    claim: CoreClaim
    at_s: float
    granted_at_s: float = 0.0
    asked: int | None = None  # the share that it was asked to shrink to
    held: int = 0
    share: int = 0
    unmet: int = 0

    @property
    def wanted(self) -> int:
        return len(self.claim.used) + self.claim.pending


@dataclass
class _Core:
    leases: dict[str, tuple[str, float]] = field(default_factory=dict)  # kernel and expiry, by token
    needs: dict[str, _Need] = field(default_factory=dict)  # by kernel


class LocalSlotTable:
    """`SlotTable` in memory. It cannot fail or restart while its kernels live, so that nothing is reclaimed.

    Parameters
    ----------
    clock : Clock, optional
    """

    def __init__(self, clock: Clock = MONOTONIC_CLOCK) -> None:
        self._clock = clock
        self._changed = threading.Condition()  # guards everything below; notified when a kernel is poked
        self._cores: dict[str, _Core] = {}
        self._expiry_s: dict[str, float] = {}  # by live kernel
        self._numbers: dict[str, int] = {}  # of the last exchange, by kernel
        self._poked: set[str] = set()
        self._token = 0

    def exchange(self, exchange: Exchange) -> Answer:
        """As `SlotTable.exchange`."""
        with self._changed:
            me, now_s = exchange.kernel, self._clock.now_s()
            if exchange.number <= self._numbers.get(me, 0):
                raise SharedUnavailableError("the exchange came after a later one")
            self._numbers[me] = exchange.number
            self._expiry_s[me] = now_s + exchange.lease_s
            for dead in [kernel for kernel, expiry_s in self._expiry_s.items() if expiry_s <= now_s]:
                del self._expiry_s[dead], self._numbers[dead]
            if exchange.leaves:
                del self._expiry_s[me], self._numbers[me]
                self._poked.add(me)
            grants = {name: self._settle(name, exchange, now_s) for name in exchange.claims}
            self._changed.notify_all()
            return Answer(grants, tuple(sorted(self._expiry_s)))

    def wait(self, kernel: str, timeout_s: float) -> bool:
        """As `SlotTable.wait`."""
        with self._changed:
            until_s = self._clock.now_s() + timeout_s
            self._clock.wait_for(self._changed, lambda: kernel in self._poked, until_s)
            poked = kernel in self._poked
            self._poked.discard(kernel)
            return poked

    def close(self) -> None:
        """As `SlotTable.close`."""

    def _settle(self, name: str, exchange: Exchange, now_s: float) -> CoreGrant:
        me, claim = exchange.kernel, exchange.claims[name]
        core = self._cores.setdefault(name, _Core())
        core.leases = {token: lease for token, lease in core.leases.items() if lease[1] > now_s}
        core.needs = {kernel: need for kernel, need in core.needs.items() if kernel in self._expiry_s}
        lost = tuple(token for token in claim.idle if core.leases.get(token, ("", 0.0))[0] != me)
        core.leases = {token: lease for token, lease in core.leases.items() if lease[0] != me}
        if not exchange.leaves:
            lease = me, now_s + exchange.lease_s
            core.leases.update(dict.fromkeys({*claim.used, *claim.idle} - set(lost), lease))
            before = core.needs.get(me)
            core.needs[me] = _Need(claim, now_s, before.granted_at_s if before else 0.0)
        needs = self._shared_out(core, now_s)
        if not needs:
            return CoreGrant()
        quotas = [need.claim.quota for need in needs.values()]
        granted = () if exchange.leaves else self._grant(core, exchange, min(quotas), now_s)
        free = max(0, min(quotas) - len(core.leases))
        self._poke(needs, me, free, now_s)
        if exchange.leaves:
            return CoreGrant()
        mine = needs[me]
        missing = sum(max(0, need.share - need.held) for need in needs.values() if need is not mine)
        short = max(0, missing - free) + max(0, len(core.leases) - min(quotas))
        recalled = max(0, min(mine.held - mine.share, short))
        mine.asked = mine.share if recalled else None
        waiting = sum(max(0, need.wanted - need.held) for need in needs.values() if need is not mine)
        return CoreGrant(granted, lost, mine.share, recalled, waiting, min(quotas), max(quotas))

    def _shared_out(self, core: _Core, now_s: float) -> dict[str, _Need]:
        """The needs of all kernels with their shares, who was granted last coming last."""
        needs = dict(sorted(core.needs.items(), key=lambda item: (item[1].granted_at_s, item[0])))
        holders = [kernel for kernel, _ in core.leases.values()]
        for kernel, need in needs.items():
            if now_s - need.at_s > SILENT_S:
                need.claim = CoreClaim(need.claim.quota, need.claim.used)
            need.held = holders.count(kernel)
        if needs:
            quota = min(need.claim.quota for need in needs.values())
            shares = shares_of(quota, [need.wanted for need in needs.values()])
            for need, share in zip(needs.values(), shares, strict=True):
                need.share = share
                need.unmet = max(0, min(share, need.wanted) - need.held)
        return needs

    def _grant(self, core: _Core, exchange: Exchange, quota: int, now_s: float) -> tuple[str, ...]:
        mine = core.needs[exchange.kernel]
        others = [need for need in core.needs.values() if need is not mine]
        free = max(0, quota - len(core.leases))
        rank = mine.held, mine.granted_at_s
        ahead = sum(need.unmet for need in others if (need.held, need.granted_at_s) < rank)
        count = min(mine.unmet, max(0, free - ahead))
        if count:
            mine.granted_at_s = now_s
        unmet = sum(need.unmet for need in others)
        count += min(max(0, mine.share - mine.held - count), max(0, free - count - unmet))
        tokens = tuple(str(self._token + 1 + place) for place in range(count))
        self._token += count
        core.leases.update(dict.fromkeys(tokens, (exchange.kernel, now_s + exchange.lease_s)))
        mine.held += count
        mine.unmet = max(0, mine.unmet - count)
        return tokens

    def _poke(self, needs: dict[str, _Need], me: str, free: int, now_s: float) -> None:
        """Wake those that can be granted a slot, hold what others are short of, or may need less by now."""
        is_short = me in needs and needs[me].wanted > needs[me].held
        unmet = sum(need.unmet for need in needs.values())
        for kernel, need in needs.items():
            spare = need.held > need.share and unmet > free and need.asked != need.share
            stale = is_short and need.held > 0 and now_s - need.at_s > STALE_S
            if kernel != me and ((need.unmet > 0 and free > 0) or spare or stale):
                self._poked.add(kernel)
                if spare:
                    need.asked = need.share
