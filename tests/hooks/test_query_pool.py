"""The threads of /query: fair among agents, bounded, and nobody waits in them for ever."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from eccos_aios.hooks import query_pool
from eccos_aios.hooks.clients import CLIENT, Client
from eccos_aios.hooks.query_pool import PendingLimits, QueryPool
from eccos_aios.schedule import AbandonedError, OverloadedError

WAIT_S = 20.0


def execute_request(_agent: str, query: Callable[[], Any]) -> Any:
    """As AIOS's, by its name."""
    return query()


class Cores:
    """Work that an agent's thread waits for, each until it is let go, in the order in which it began."""

    def __init__(self, pool: QueryPool) -> None:
        self.pool = pool
        self.begun: list[str] = []
        self._changed = threading.Condition()
        self._permits = 0

    def ask(self, agent: str, client: Client | None = None) -> Future[Any]:
        was = CLIENT.set(client)
        try:
            # What asyncio.to_thread gives its executor.
            return self.pool.submit(partial(_run, execute_request, agent, partial(self._wait, agent)))
        finally:
            CLIENT.reset(was)

    def _wait(self, agent: str) -> None:
        with self._changed:
            self.begun.append(agent)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._permits > 0, WAIT_S)
            self._permits -= 1

    def let_go(self, calls: int) -> None:
        with self._changed:
            self._permits += calls
            self._changed.notify_all()

    def wait_for(self, calls: int) -> list[str]:
        """The agents whose calls have begun, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= calls, WAIT_S), self.begun
            return list(self.begun)


def _run(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


@pytest.fixture
def pool() -> QueryPool:
    return QueryPool(2)


@pytest.fixture
def cores(pool: QueryPool) -> Iterator[Cores]:
    cores = Cores(pool)
    yield cores
    cores.let_go(10_000)
    pool.shutdown(wait=True)


def no_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_pool, "RESERVED_THREADS", 0)


def test_it_is_what_asyncio_takes_for_its_default(pool: QueryPool) -> None:
    async def answers() -> list[int]:
        asyncio.get_running_loop().set_default_executor(pool)
        return await asyncio.gather(
            *(asyncio.to_thread(execute_request, f"a{n % 3}", partial(int, n)) for n in range(50))
        )

    assert asyncio.run(answers()) == list(range(50))


def test_the_agent_is_known_from_what_asyncio_submits(
    pool: QueryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents: list[str | None] = []
    take = QueryPool._lane
    monkeypatch.setattr(QueryPool, "_lane", lambda self, agent: agents.append(agent) or take(self, agent))

    async def asked() -> None:
        asyncio.get_running_loop().set_default_executor(pool)
        await asyncio.to_thread(execute_request, "an agent", int)
        await asyncio.to_thread(int, 1)

    asyncio.run(asked())
    assert agents == ["an agent", None]


def test_one_call_behind_many_of_another_agent_begins_at_once(cores: Cores) -> None:
    for _ in range(400):
        cores.ask("many")
    cores.wait_for(2)
    cores.ask("one")
    assert "one" in cores.wait_for(3)  # though both threads hang


def test_threads_are_shared_by_turns(cores: Cores, monkeypatch: pytest.MonkeyPatch) -> None:
    no_reserve(monkeypatch)
    for agent, calls in (("many", 100), ("few", 10)):
        for _ in range(calls):
            cores.ask(agent)
    cores.let_go(20)
    begun = cores.wait_for(22)
    assert begun.count("few") >= 9


def test_threads_are_shared_by_weight(cores: Cores, monkeypatch: pytest.MonkeyPatch) -> None:
    no_reserve(monkeypatch)
    cores.pool.configure(2, {"heavy": 3.0})
    for _ in range(60):
        cores.ask("heavy")
        cores.ask("light")
    cores.let_go(40)
    shares = Counter(cores.wait_for(42))
    assert 28 <= shares["heavy"] <= 34


def test_an_agent_cannot_save_up_turns(cores: Cores, monkeypatch: pytest.MonkeyPatch) -> None:
    no_reserve(monkeypatch)
    for _ in range(50):
        cores.ask("early")
    cores.let_go(40)
    cores.wait_for(42)
    for _ in range(20):
        cores.ask("late")
        cores.ask("early")
    cores.let_go(10)
    assert cores.wait_for(52)[42:].count("early") >= 4


def test_threads_are_bounded_and_end(cores: Cores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_pool, "RESERVED_THREADS", 3)
    monkeypatch.setattr(query_pool, "IDLE_S", 0.01)
    ours = "bounded"
    cores.pool._name = ours
    done = [cores.ask(f"agent {n % 10}") for n in range(100)]
    cores.wait_for(5)

    def running() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith(ours)]

    assert len(running()) == 5
    assert all(thread.daemon for thread in running())
    cores.let_go(100)
    for each in done:
        each.result(WAIT_S)
    for thread in running():
        thread.join(WAIT_S)
    assert running() == []


def test_a_bound_that_grows_lets_more_begin(cores: Cores) -> None:
    for _ in range(10):
        cores.ask("agent")
    cores.wait_for(2)
    cores.pool.configure(4, {})
    cores.ask("agent")
    cores.ask("agent")
    assert len(cores.wait_for(4)) == 4


def test_what_is_raised_is_the_callers(pool: QueryPool) -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        pool.submit(leave).result(WAIT_S)
    assert pool.submit(int, 7).result(WAIT_S) == 7


def no_thread(*_: Any) -> None:
    raise RuntimeError("can't start new thread")


def test_without_a_single_thread_the_call_is_told(pool: QueryPool, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", no_thread)
        refused = pool.submit(int, 7)
    with pytest.raises(RuntimeError, match="no thread can be started"):
        refused.result(WAIT_S)
    assert pool.submit(int, 7).result(WAIT_S) == 7


def test_where_no_more_threads_can_be_started_a_call_waits_for_one(
    cores: Cores, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores.ask("agent")
    cores.wait_for(1)
    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", no_thread)
        waiting = cores.ask("another")
    cores.let_go(2)
    waiting.result(WAIT_S)


def test_what_waits_for_a_client_that_has_gone_is_dropped_and_counted(
    cores: Cores, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_reserve(monkeypatch)
    clients = [Client() for _ in range(5)]
    asked = [cores.ask("agent", client) for client in clients]
    cores.wait_for(2)
    for client in clients:
        client.leave()
    for dropped in asked[2:]:
        with pytest.raises(AbandonedError):
            dropped.result(WAIT_S)
    assert [client.dropped for client in clients] == [0, 0, 1, 1, 1]
    cores.let_go(3)
    cores.ask("agent").result(WAIT_S)
    assert len(cores.begun) == 3


def test_a_client_that_has_gone_already_is_not_served(cores: Cores) -> None:
    for _ in range(2):
        cores.ask("agent")
    gone = Client()
    gone.leave()
    with pytest.raises(AbandonedError):
        cores.ask("agent", gone).result(WAIT_S)


class Waiting:
    """A client whose call waits in a scheduler, and how often that was asked to give it up."""

    def __init__(self) -> None:
        self.client = Client()
        self.waits = True
        self.client.when_gone(self.drop)

    def drop(self) -> bool:
        waited, self.waits = self.waits, False
        return waited


@pytest.mark.parametrize(("slots", "accepted"), [(0, 5), (2, 7)])
def test_no_more_wait_than_may_wait(cores: Cores, slots: int, accepted: int) -> None:
    cores.pool.configure(2, {}, lambda: PendingLimits(5, 0, slots))
    asked = [cores.ask("agent") for _ in range(20)]
    cores.let_go(20)
    faults = [type(each.exception(WAIT_S)) for each in asked]
    assert faults == [type(None)] * accepted + [OverloadedError] * (20 - accepted)


def test_what_waits_in_the_scheduler_counts(cores: Cores) -> None:
    pending = 4
    cores.pool.configure(2, {}, lambda: PendingLimits(5, pending, 100))
    cores.ask("agent")
    pending = 5
    refused = cores.ask("agent").exception(WAIT_S)
    assert isinstance(refused, OverloadedError)
    assert 1 <= refused.retry_after_s <= query_pool.LONGEST_RETRY_S


def test_who_floods_makes_room_for_who_does_not(cores: Cores, monkeypatch: pytest.MonkeyPatch) -> None:
    no_reserve(monkeypatch)
    cores.pool.configure(2, {}, lambda: PendingLimits(6, 0, 0))
    flooding = [Client() for _ in range(6)]
    flood = [cores.ask("flood", client) for client in flooding]
    quiet = [cores.ask("quiet") for _ in range(2)]
    another = cores.ask("another")
    refused = [each for each in flood if each.done()]
    assert refused == flood[3:]  # the newest
    assert all(isinstance(each.exception(), OverloadedError) for each in refused)
    assert [client.refusal is not None for client in flooding] == [False] * 3 + [True] * 3
    assert isinstance(cores.ask("flood").exception(WAIT_S), OverloadedError)
    cores.let_go(6)
    for each in (*quiet, another):
        each.result(WAIT_S)


def test_weight_counts_where_room_is_made(cores: Cores, monkeypatch: pytest.MonkeyPatch) -> None:
    no_reserve(monkeypatch)
    cores.pool.configure(1, {"heavy": 10.0}, lambda: PendingLimits(6, 0, 0))
    heavy = [cores.ask("heavy") for _ in range(4)]
    light = [cores.ask("light") for _ in range(2)]
    cores.ask("heavy")
    assert [each.done() for each in (*heavy, *light)] == [False] * 5 + [True]


def test_room_is_made_of_what_waits_in_the_scheduler_never_of_what_is_at_a_core(cores: Cores) -> None:
    cores.pool.configure(8, {}, lambda: PendingLimits(3, 0, 0))
    at_a_core, *waiting = flooding = [Waiting() for _ in range(3)]
    at_a_core.waits = False
    for each in flooding:
        cores.ask("flood", each.client)
    cores.wait_for(3)
    cores.ask("quiet")
    assert [each.waits for each in waiting] == [True, False]
    assert waiting[1].client.gone
    assert isinstance(waiting[1].client.refusal, OverloadedError)
    assert at_a_core.client.refusal is None
    assert "quiet" in cores.wait_for(4)


def test_agents_that_have_one_call_each_are_refused_in_order(cores: Cores) -> None:
    cores.pool.configure(2, {}, lambda: PendingLimits(5, 0, 0))
    asked = [cores.ask(f"agent {n}") for n in range(10)]
    assert [each.done() for each in asked] == [False] * 5 + [True] * 5


def test_other_work_is_never_refused(cores: Cores) -> None:
    cores.pool.configure(2, {}, lambda: PendingLimits(1, 7, 0))
    assert cores.pool.submit(int, 7).result(WAIT_S) == 7


def test_the_end_refuses_what_waits_and_does_not_wait_for_what_hangs(
    cores: Cores, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_reserve(monkeypatch)
    monkeypatch.setattr(query_pool, "LINGER_S", 0.01)
    asked = [cores.ask("agent") for _ in range(5)]
    cores.wait_for(2)
    cores.pool.shutdown(wait=True)
    for waiting in asked[2:]:
        assert isinstance(waiting.exception(WAIT_S), RuntimeError)
    with pytest.raises(RuntimeError):
        cores.ask("agent")
    cores.let_go(2)
    for held in asked[:2]:
        held.result(WAIT_S)
