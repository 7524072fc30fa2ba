"""What doctor says of the Redis in the config."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from experiments.redis_server import RedisServer
from pydantic import SecretStr

from eccos_aios.config import EccosConfig
from eccos_aios.errors import ConfigError
from eccos_aios.hooks.doctor import Finding
from eccos_aios.hooks.doctor.diagnosis import _shared
from eccos_aios.shared import RedisFacts, SharedUnavailableError, inspect_redis, without_password
from eccos_aios.shared.connection import RedisConnection

WAIT_S = 10.0


def findings(url: str) -> list[Finding]:
    return list(_shared(EccosConfig(manifest=Path("cores.yaml"), shared=SecretStr(url))))


def test_a_sound_server_is_named_with_its_version(redis_server: RedisServer) -> None:
    (finding,) = findings(redis_server.url)
    assert finding.level == "ok"
    assert f"127.0.0.1:{redis_server.port}" in finding.message
    assert inspect_redis(redis_server.url, "eccos").problems() == []


def test_a_server_that_would_evict_leases_is_a_warning(redis_server: RedisServer) -> None:
    redis_server.kill()
    redis_server.start("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    (finding,) = findings(redis_server.url)
    assert finding.level == "warn"
    assert "allkeys-lru" in finding.message
    assert "noeviction" in finding.remedy


def test_a_server_that_does_not_answer_fails_without_its_password(redis_server: RedisServer) -> None:
    redis_server.kill()
    (finding,) = findings(f"redis://user:secret-word@127.0.0.1:{redis_server.port}/0")
    assert finding.level == "fail"
    assert "secret-word" not in f"{finding}"


def test_a_wrong_password_fails(redis_server: RedisServer) -> None:
    with pytest.raises(SharedUnavailableError):
        inspect_redis(redis_server.url.replace("//", "//user:wrong@"), "eccos")


def test_a_command_whose_connection_another_thread_closes_has_failed(redis_server: RedisServer) -> None:
    import redis

    connection = RedisConnection(redis_server.url, timeout_s=WAIT_S)
    sent = threading.Event()

    def wait_for_an_entry(client: redis.Redis) -> object:
        sent.set()
        return client.blpop(["nothing"], timeout=int(WAIT_S))

    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(connection.call, wait_for_an_entry)
        sent.wait(WAIT_S)
        while not redis.Redis(port=redis_server.port).info("clients")["blocked_clients"]:
            assert not waiting.done()
        connection.close()
        with pytest.raises(SharedUnavailableError):
            waiting.result(WAIT_S)
    assert connection.call(lambda client: client.ping())
    connection.close()


def test_a_fault_of_a_command_itself_is_not_taken_for_an_absent_redis(redis_server: RedisServer) -> None:
    connection = RedisConnection(redis_server.url)
    with pytest.raises(AttributeError):
        connection.call(lambda client: client.no_such_command())
    connection.close()


def test_an_old_server_and_a_replica_are_problems() -> None:
    facts = RedisFacts((5, 0, 3), "noeviction", 0, 0, writable=False)
    assert len(facts.problems()) == 2


def test_no_password_is_shown() -> None:
    assert without_password("rediss://me:secret@cache:6380/2") == "rediss://cache:6380/2"


def test_a_url_of_another_kind_is_refused(tmp_path: Path) -> None:
    from eccos_aios.config import eccos_config

    (tmp_path / "cores.yaml").write_text("cores: [{name: a}]")
    section = {"manifest": "cores.yaml", "shared": "http://localhost:6379"}
    with pytest.raises(ConfigError, match="redis://"):
        eccos_config(section, tmp_path / "config.yaml")
