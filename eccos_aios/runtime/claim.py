"""Claims: file locks by which one process at most schedules with a manifest."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

from eccos_aios.errors import ABSENT, ConfigError

RESERVE_POLL_S = 0.5  # seconds between two attempts of a worker that waits in reserve
PID_LENGTH = 20  # bytes at most
REMEDY = (
    "each process would fill every quota on its own; share the quotas over Redis (scheduler.eccos.shared), "
    "run one worker (uvicorn --workers 1), or give each kernel cores and its own manifest"
)

# Guards the claims of this process: the open lock file by its manifest, None if none can be locked.
_lock = threading.Lock()
_claims: dict[Path, int | None] = {}


def claim(manifest: Path, may_wait: bool = False) -> None:
    """Claim a manifest for this process, until `keep_only` releases it or the process ends.

    Claiming it again in the same process does nothing.

    Parameters
    ----------
    manifest : Path
    may_wait : bool
        Where another process has it and this one is a server's worker: wait in reserve until the other one
        ends, and say so on stderr. The server would restart a worker that ended instead, for ever.

    Raises
    ------
    ConfigError
        Another process has it.
    """
    manifest = manifest.resolve()
    with _lock:
        if manifest in _claims:
            return
    opened = _lock_file(manifest)
    if opened is not None and not _is_locked(opened):
        if not may_wait or multiprocessing.parent_process() is None:
            holder = _holder(opened)
            os.close(opened)
            reason = f"another kernel process ({holder}) schedules with this manifest: {REMEDY}"
            raise ConfigError(str(manifest), "", ABSENT, reason)
        _wait_in_reserve(manifest, opened)
    if opened is not None:
        with contextlib.suppress(OSError):  # the file may be another user's
            os.truncate(opened, 0)
            os.pwrite(opened, str(os.getpid()).encode(), 0)
    with _lock:
        _claims[manifest] = opened


def keep_only(manifest: Path | None) -> None:
    """Release every manifest but this one."""
    claimed = None if manifest is None else manifest.resolve()
    with _lock:
        closed = [_claims.pop(path) for path in list(_claims) if path != claimed]
    for opened in closed:
        if opened is not None:
            os.close(opened)


def _wait_in_reserve(manifest: Path, opened: int) -> None:
    reason = f"another worker process ({_holder(opened)}) schedules with {manifest}: {REMEDY}"
    parent = os.getppid()
    with _ended_by_signals():
        sys.stderr.write(f"eccos-aios: {reason}; worker {os.getpid()} waits in reserve until that one ends\n")
        sys.stderr.flush()
        while not _is_locked(opened):
            time.sleep(RESERVE_POLL_S)
            if os.getppid() != parent:
                raise SystemExit("eccos-aios: the server of this worker has ended")


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have signals end the process: a server's handlers only set a flag, which nothing here reads."""

    def end(number: int, _: FrameType | None) -> None:
        os._exit(128 + number)

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lock_file(manifest: Path) -> int | None:
    """The manifest's lock file, opened: beside it, or in XDG_RUNTIME_DIR where that is read-only."""
    for path in _places(manifest):
        for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
            with contextlib.suppress(OSError):
                return os.open(path, flags | os.O_NOFOLLOW, 0o644)
    return None


def _places(manifest: Path) -> Iterator[Path]:
    yield manifest.with_name(f".{manifest.name}.lock")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    yield Path(runtime) / f"eccos-aios-{sha256(os.fsencode(manifest)).hexdigest()[:16]}.lock"


def _is_locked(opened: int) -> bool:
    """Whether this process has the lock now; on a file system without locks every process has it."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _holder(opened: int) -> str:
    try:
        pid = os.pread(opened, PID_LENGTH, 0).decode("ascii", "replace").strip()
    except OSError:
        pid = ""
    return f"process {pid}" if pid.isdecimal() else "of unknown number"
