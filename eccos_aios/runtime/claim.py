"""Claims: file locks by which one process schedules with a manifest, or several that share their cores."""

from __future__ import annotations

import contextlib
import fcntl
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
from typing import Any, NamedTuple

from eccos_aios.errors import ABSENT, ConfigError

RESERVE_POLL_S = 0.5  # seconds between two attempts of a worker that waits in reserve
HOLDER_LENGTH = 40  # bytes at most
SHARED = "shared"  # stands in the lock file where several processes have it
REMEDY = (
    "each process would fill every quota on its own; share the quotas over Redis (scheduler.eccos.shared), "
    "run one worker (uvicorn --workers 1), or give each kernel cores and its own manifest"
)
SHARE_BOTH = (
    "each would fill every quota on its own; give both the same scheduler.eccos.shared, or start one of them"
)

# Guards the claims of this process: the open lock file by its manifest, None if none can be locked.
_lock = threading.Lock()
_claims: dict[Path, int | None] = {}


class _Holder(NamedTuple):
    """The process that has a claim, and the server that it is a worker of, 0 if of none; None: not known."""

    process: int | None = None
    server: int | None = None
    shares: bool = False

    def __str__(self) -> str:
        return "of unknown number" if self.process is None else f"process {self.process}"


def claim(manifest: Path, *, shared: bool = False, server: int | None = None) -> None:
    """Claim a manifest for this process, until `keep_only` releases it or the process ends.

    Claiming it again in the same process does nothing.

    Parameters
    ----------
    manifest : Path
    shared : bool
        Whether this process shares the manifest's cores with all others that claim it so.
    server : int, optional
        The process of the server that this process is a worker of. Where another of its workers may have
        the manifest, this one waits in reserve until that one ends, and says so on stderr: the server would
        restart a worker that ended, for ever. Where it is surely none of them, none can serve, and the
        server is ended.

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
    if opened is not None and not _is_locked(opened, shared=shared):
        if server is not None:
            time.sleep(RESERVE_POLL_S)  # another worker may have it by now and not have written so yet
        holder = _holder(opened)
        reason = _reason(holder, shared=shared)
        if server is None or holder.server not in (server, None):
            os.close(opened)
            if server is not None:
                os.kill(server, signal.SIGTERM)
            raise ConfigError(str(manifest), "", ABSENT, reason)
        _wait_in_reserve(opened, f"{manifest}: {reason}", shared=shared)
    if opened is not None:
        with contextlib.suppress(OSError):  # the file may be another user's
            os.truncate(opened, 0)
            os.pwrite(opened, (SHARED if shared else f"{os.getpid()} {server or 0}").encode(), 0)
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


def _reason(holder: _Holder, *, shared: bool) -> str:
    if shared:
        return f"another kernel process ({holder}) schedules with this manifest alone: {SHARE_BOTH}"
    if holder.shares:
        return f"other kernel processes share the cores of this manifest: {SHARE_BOTH}"
    return f"another kernel process ({holder}) schedules with this manifest: {REMEDY}"


def _wait_in_reserve(opened: int, reason: str, *, shared: bool) -> None:
    parent = os.getppid()
    with _ended_by_signals():
        sys.stderr.write(f"eccos-aios: {reason}; worker {os.getpid()} waits in reserve until that ends\n")
        sys.stderr.flush()
        while not _is_locked(opened, shared=shared):
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


def _is_locked(opened: int, *, shared: bool = False) -> bool:
    """Whether this process has the lock now; on a file system without locks every process has it."""
    try:
        fcntl.flock(opened, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _holder(opened: int) -> _Holder:
    """Who has the manifest, as far as the lock file says."""
    try:
        written = os.pread(opened, HOLDER_LENGTH, 0).decode("ascii", "replace").split()
    except OSError:
        written = []
    if written == [SHARED]:
        return _Holder(shares=True)
    if len(written) != 2 or not all(text.isdecimal() for text in written):
        return _Holder()
    return _Holder(int(written[0]), int(written[1]))
