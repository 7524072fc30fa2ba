"""The rules of the table of leases, the same in this process and in Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from experiments.redis_server import RedisServer

from eccos_aios.shared import (
    Answer,
    CoreClaim,
    CoreGrant,
    Exchange,
    LocalSlotTable,
    RedisSlotTable,
    SharedUnavailableError,
    SlotTable,
    shares_of,
)

LEASE_S = 0.4


class Kernel:
    """A kernel that exchanges by hand."""

    def __init__(self, table: SlotTable, name: str, quota: int = 4, known: tuple[str, ...] = ()) -> None:
        self.table, self.name, self.quota, self.known = table, name, quota, known
        self.number = 0
        self.used: list[str] = []
        self.idle: list[str] = []
        self.answer = Answer()

    def exchange(self, pending: int = 0, leaves: bool = False, lease_s: float = LEASE_S) -> CoreGrant:
        self.number += 1
        claim = CoreClaim(self.quota, tuple(self.used), tuple(self.idle), pending)
        sent = Exchange(self.name, self.number, lease_s, {"core": claim}, self.known, leaves)
        self.answer = self.table.exchange(sent)
        self.known = self.answer.kernels
        grant = self.answer.grants["core"]
        self.idle = [token for token in (*self.idle, *grant.granted) if token not in grant.lost]
        return grant

    def use(self, count: int) -> None:
        for _ in range(count):
            self.used.append(self.idle.pop())

    def end(self, count: int = 1) -> None:
        del self.used[:count]


@pytest.fixture(params=["local", pytest.param("redis", marks=pytest.mark.integration)])
def table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlotTable]:
    if request.param == "local":
        yield LocalSlotTable()
        return
    monkeypatch.setattr("eccos_aios.shared.redis_slots.RECLAIM_S", 0.0)
    table = RedisSlotTable(request.getfixturevalue("redis_server").url, "test")
    yield table
    table.close()


def test_a_kernel_alone_holds_the_whole_quota(table: SlotTable) -> None:
    kernel = Kernel(table, "a")
    kernel.exchange()
    assert len(kernel.idle) == 4
    kernel.use(4)
    assert not kernel.exchange(pending=3).granted


def test_kernels_never_hold_more_than_the_quota_together(table: SlotTable) -> None:
    first, second = Kernel(table, "a"), Kernel(table, "b")
    first.exchange()
    second.exchange(pending=4)
    assert len(first.idle) + len(second.idle) == 4


def test_an_idle_kernel_is_woken_and_gives_back_what_another_is_short_of(table: SlotTable) -> None:
    first, second = Kernel(table, "a"), Kernel(table, "b")
    table.wait("a", 0.05)  # subscribes
    first.exchange()
    second.exchange(pending=1)
    assert any(table.wait("a", 0.5) for _ in range(3))
    grant = first.exchange()
    assert grant.recalled >= 1
    del first.idle[: grant.recalled]
    first.exchange()
    second.exchange(pending=1)
    assert len(second.idle) >= 1
    assert len(first.idle) + len(second.idle) <= 4


def test_a_busy_kernel_keeps_its_calls_and_returns_slots_as_they_end(table: SlotTable) -> None:
    busy, late = Kernel(table, "a"), Kernel(table, "b")
    busy.exchange(pending=4)
    busy.use(4)
    assert not late.exchange(pending=1).granted
    assert busy.exchange(pending=100).recalled == 1
    busy.end()
    assert not busy.exchange(pending=99).granted, "the slot is the other's turn"
    assert len(late.exchange(pending=1).granted) == 1


def test_the_smallest_quota_holds_and_the_disagreement_is_reported(table: SlotTable) -> None:
    first, second = Kernel(table, "a", quota=4), Kernel(table, "b", quota=2)
    first.exchange(pending=4)
    grant = second.exchange()
    assert (grant.quota, grant.most_quota) == (2, 4)
    assert not grant.granted
    assert first.exchange().recalled >= 2


def test_leases_of_a_kernel_that_died_are_free_after_they_expire(table: SlotTable) -> None:
    dead, other = Kernel(table, "a"), Kernel(table, "b")
    dead.exchange(pending=4)
    assert not other.exchange(pending=4).granted
    end_s = time.monotonic() + LEASE_S + 1
    while len(other.idle) < 4 and time.monotonic() < end_s:
        time.sleep(0.02)
        other.exchange(pending=4)
    assert len(other.idle) == 4
    assert set(dead.exchange().lost), "a kernel that comes back learns that its idle leases are void"


def test_a_call_in_flight_counts_even_if_its_lease_has_expired(table: SlotTable) -> None:
    stopped, other = Kernel(table, "a"), Kernel(table, "b")
    stopped.exchange(pending=2)
    stopped.use(2)
    time.sleep(LEASE_S + 0.05)
    other.exchange(pending=4)
    other.use(len(other.idle))
    stopped.exchange()
    assert not stopped.idle
    assert other.exchange(pending=4).recalled == 2, "as many as are in flight beyond the quota"


def test_a_kernel_that_leaves_frees_its_slots_at_once(table: SlotTable) -> None:
    first, second = Kernel(table, "a"), Kernel(table, "b")
    first.exchange(pending=4)
    second.exchange()
    first.exchange(leaves=True)
    second.exchange()
    assert len(second.idle) == 4
    assert second.answer.kernels == ("b",)


def test_a_grant_whose_answer_was_lost_is_free_again(table: SlotTable) -> None:
    kernel = Kernel(table, "a")
    kernel.exchange(pending=4)
    kernel.idle = []
    assert len(kernel.exchange(pending=4).granted) == 4


def test_a_late_exchange_changes_nothing(table: SlotTable) -> None:
    kernel = Kernel(table, "a")
    kernel.exchange()
    kernel.number -= 1
    with pytest.raises(SharedUnavailableError):
        kernel.exchange(leaves=True)
    kernel.number += 1
    assert not kernel.exchange().lost


def test_tokens_increase(table: SlotTable) -> None:
    first, second = Kernel(table, "a"), Kernel(table, "b")
    first.exchange(pending=2)
    earlier = max(map(int, first.idle))
    first.exchange(leaves=True)
    second.exchange()
    assert min(map(int, second.idle)) > earlier


def test_no_token_is_given_twice_by_a_server_whose_clock_is_behind_that_of_the_one_before(
    redis_server: RedisServer,
) -> None:
    kernel = Kernel(RedisSlotTable(redis_server.url, "test"), "a")
    ahead_us = int(1e6 * (time.time() + 60))
    kernel.used = [str(ahead_us)]
    end_s = time.monotonic() + 10.0
    while not kernel.idle:  # it is claimed first, as after every restart
        assert time.monotonic() < end_s, "no slot is granted"
        kernel.exchange(pending=2)
    assert min(map(int, kernel.idle)) > ahead_us


@pytest.mark.parametrize(
    ("quota", "wanted", "shares"),
    [
        (4, [0], [4]),
        (4, [10, 0], [4, 0]),
        (4, [0, 0, 0], [2, 1, 1]),
        (20, [520, *[1] * 9], [11, *[1] * 9]),
        (3, [1, 1, 1, 1, 500], [1, 1, 1, 0, 0]),
        (10, [3, 8, 100], [3, 4, 3]),
        (10, [], []),
    ],
)
def test_shares_are_max_min_fair(quota: int, wanted: list[int], shares: list[int]) -> None:
    assert shares_of(quota, wanted) == shares
