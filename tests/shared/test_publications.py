"""The publication of a fitted predictor, the same in this process and in Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from experiments.redis_server import RedisServer

from eccos_aios.shared import LocalPublication, PredictorPublication, RedisPublication


@pytest.fixture(params=["local", pytest.param("redis", marks=pytest.mark.integration)])
def publication(request: pytest.FixtureRequest) -> Iterator[PredictorPublication]:
    if request.param == "local":
        yield LocalPublication()
        return
    publication = RedisPublication(request.getfixturevalue("redis_server").url, "test")
    yield publication
    publication.close()


@pytest.mark.parametrize("content", [b"small", b"chunks" * 400_000, b""])
def test_what_is_published_is_found(publication: PredictorPublication, content: bytes) -> None:
    assert publication.latest() is None
    published = publication.publish(content)
    assert publication.latest() == published
    assert publication.content(published) == content


def test_a_later_one_replaces_it(publication: PredictorPublication) -> None:
    publication.publish(b"first")
    second = publication.publish(b"second")
    assert publication.latest() == second
    assert publication.content(second) == b"second"


def test_damaged_content_is_not_used(redis_server: RedisServer) -> None:
    import redis

    publication = RedisPublication(redis_server.url, "test")
    published = publication.publish(b"content")
    redis.Redis(port=redis_server.port).set(f"{{eccos:test}}:predictor:{published.sha256}:0", b"c0ntent")
    assert publication.content(published) is None
    publication.close()
