"""The memory of this process."""

from __future__ import annotations

import resource
from pathlib import Path


def resident_kb() -> int:
    """Kilobytes resident now; where the system does not report it, the peak."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() // 1024
    return peak_kb()


def peak_kb() -> int:
    """Peak of the resident kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
