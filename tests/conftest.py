"""What every test run shares: how its processes use the machine."""

from __future__ import annotations

import os
import sys

# Before numpy is imported: several workers with as many threads each only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests start dozens of Python processes; without bytecode every one of them compiles the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
