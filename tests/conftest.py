"""What every test run shares: unit and integration tests, how processes use the machine, and a real redis-server."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from experiments.redis_server import RedisServer

# Before numpy is imported: several workers with as many threads each only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests start dozens of Python processes; without bytecode every one of them compiles the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Files and folders whose tests are integration tests: most start processes or servers. Of other files, tests
# that use Redis or carry the marker themselves are; any other test that starts one fails.
INTEGRATION = (
    "aios",
    "benchmarks/test_soak.py",
    "cli/test_sandbox_command.py",
    "cli/test_status_and_top.py",
    "collect/test_collect.py",
    "collect/test_endpoint.py",
    "history/test_kill.py",
    "hooks/test_activation.py",
    "hooks/test_doctor.py",
    "hooks/test_doctor_cases.py",
    "hooks/test_eccos_scheduler.py",
    "hooks/test_ending.py",
    "hooks/test_kernel_history.py",
    "hooks/test_live_page.py",
    "hooks/test_needs.py",
    "hooks/test_off_means_off.py",
    "hooks/test_plans_kernel.py",
    "runtime/test_claim.py",
    "runtime/test_learner.py",
    "runtime/test_telemetry.py",
    "sandbox/test_kernel.py",
    "sandbox/test_server.py",
    "test_demo.py",
    "test_demo_history.py",
    "test_examples.py",
)
STARTS = {
    "os.fork": "a process",
    "os.posix_spawn": "a process",
    "subprocess.Popen": "a process",
    "socket.bind": "a server",
}
# Libraries ask others what fonts or processors there are, once and where they have no cache of it.
PROGRAMS = ("python", "redis", "chrom", "eccos", "bash", "sh")
started: list[str] = []  # by the current test, its fixtures included


def _note_start(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        command = arguments[1]
        program = Path(os.fsdecode(command if isinstance(command, (str, bytes)) else command[0])).name
        if not program.startswith(PROGRAMS):
            return
    if event in STARTS:
        started.append(f"{STARTS[event]} ({event})")


sys.addaudithook(_note_start)


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    places = tuple(here / name for name in INTEGRATION)
    for item in items:
        if "redis_installed" in getattr(item, "fixturenames", ()) or any(
            item.path.is_relative_to(place) for place in places
        ):
            item.add_marker(pytest.mark.integration)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    started.clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    if outcome.excinfo is None and started and item.get_closest_marker("integration") is None:
        outcome.force_exception(
            AssertionError(f"starts {started[0]}, and is not marked as an integration test")
        )


@pytest.fixture(scope="module")
def few_trees() -> Iterator[None]:
    """Forests of a fifth of their trees, for modules that fit often and ask for no more than rough estimates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eccos_aios.predict.forest.TREES", 12)
        yield


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
