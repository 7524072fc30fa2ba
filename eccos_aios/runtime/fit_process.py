"""Fits a store, and saves the predictor and the plans beside it.

Called as ``python -m eccos_aios.runtime.fit_process STORE OWNER``. OWNER is the id of the process that
started it and holds the other end of its standard input: it ends with that process. The first line of
standard input is JSON: the `PredictorSpec` under ``spec``, the owner's ``sys.path`` under ``path``, and under
``plans`` what `Planner.to_dict` gives, or null.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

NICENESS = 10  # a fit takes what the kernel and its cores leave
STANDARD_INPUT = 0
LOOK_S = 1.0  # seconds between two checks of whether the owner still runs
CLEAN_S = 2.0  # seconds to remove an incomplete file; a computation under way delays that


def main(store: Path, owner: int) -> int:
    """Fit; return the exit code."""
    signal.signal(signal.SIGTERM, _end)
    line = sys.stdin.readline()
    if not line:
        return 1  # the owner has ended
    content = json.loads(line)
    threading.Thread(target=_end_with, args=(owner,), name="eccos-fit-watch", daemon=True).start()
    # a plug-in may be importable in the owner only because its folder is on the owner's path
    sys.path += [place for place in content["path"] if place not in sys.path]
    from eccos_aios.errors import EccosError
    from eccos_aios.predict.persistence import fit_store
    from eccos_aios.predict.spec import PredictorSpec
    from eccos_aios.runtime.planner import Planner

    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        spec = PredictorSpec.from_json(content["spec"])
        fitted = fit_store(store, spec)
        if content["plans"] is not None:
            Planner.from_dict(content["plans"], spec).fit(store, anew=True, until=fitted.mark)
    except (EccosError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _end(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def _end_with(owner: int) -> None:
    """Wait for the end of standard input, which comes when the owner closes it or is killed.

    A process that the owner has forked may hold the other end open, so the owner's id is checked too.
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
