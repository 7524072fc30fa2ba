"""``kill -9`` at random moments: the store opens, nothing acknowledged is missing, nothing is there twice.

``ECCOS_KILL_ROUNDS=500`` makes it long; ``python tests/history/kill_drill.py 500`` tells what it did.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

DRILL = Path(__file__).with_name("kill_drill.py")
ROUNDS = int(os.environ.get("ECCOS_KILL_ROUNDS", "10"))


def test_a_store_outlives_its_writers() -> None:
    # A process of its own: the drill forks, and here threads of other tests may still hold locks.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, DRILL, str(ROUNDS)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    tally = json.loads(done.stdout)
    assert tally["killed"] == tally["rounds"] == ROUNDS
    assert tally["acknowledged"] > 0
