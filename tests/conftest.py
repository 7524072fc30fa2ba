"""What every test run shares: how its processes use the machine, and a real redis-server where one is asked for."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from experiments.redis_server import RedisServer

# Before numpy is imported: several workers with as many threads each only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests start dozens of Python processes; without bytecode every one of them compiles the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture
def redis_installed() -> None:
    """Skip a test where there is no Redis."""
    pytest.importorskip("redis", reason="redis-py is not installed (the extra `shared`)")
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")


@pytest.fixture
def redis_server(redis_installed: None, tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server for one test, which may stop, pause and restart it."""
    from experiments.redis_server import RedisServer

    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()
