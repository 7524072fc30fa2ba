"""``python -m eccos_aios.predict.refit STORE OWNER``: fits a store anew and keeps the predictor beside it.

OWNER is the process that began it and holds the other end of its standard input. It ends with that process.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

NICENESS = 10  # a fit may take what the kernel and its cores leave
STANDARD_INPUT = 0
LOOK_S = 1.0  # seconds between two looks at whether the owner is still there
CLEAN_S = 2.0  # seconds to remove what is half written; arithmetic that is under way holds that up


def main(store: Path, owner: int) -> int:
    """Fit; the exit code."""
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with, args=(owner,), name="eccos-refit-watch", daemon=True).start()
    from eccos_aios.errors import EccosError
    from eccos_aios.predict.persistence import refit

    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        refit(store)
    except (EccosError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _end(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def _end_with(owner: int) -> None:
    """Wait for the end of standard input, which comes when the owner closes it or is killed.

    A process that the owner has forked may hold the other end open, so the owner itself is looked for too.
    """
    while os.getppid() == owner:
        readable = os.name == "nt" or select.select([STANDARD_INPUT], [], [], LOOK_S)[0]
        if readable and not os.read(STANDARD_INPUT, 1024):
            break
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(CLEAN_S)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
