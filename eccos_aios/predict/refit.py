"""``python -m eccos_aios.predict.refit STORE``: fits a store anew and keeps the predictor beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from eccos_aios.errors import EccosError
from eccos_aios.predict.saved import refit

NICENESS = 10  # a fit may take what the kernel and its cores leave


def main(store: Path) -> int:
    """Fit; the exit code."""
    os.nice(NICENESS)
    try:
        refit(store)
    except (EccosError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
