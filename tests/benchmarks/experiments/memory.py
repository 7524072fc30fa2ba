"""How much memory this process holds."""

from __future__ import annotations

import resource
from pathlib import Path


def resident_kb() -> int:
    """Kilobytes resident now; where the system does not tell, the most there ever were."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() // 1024
    return peak_kb()


def peak_kb() -> int:
    """The most kilobytes that were resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
