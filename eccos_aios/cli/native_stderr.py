"""Standard error of native code, kept off a command's own: Ray's C++ core writes there what is no fault."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from eccos_aios.errors import EccosError

STDERR = 2


@contextmanager
def native_stderr_held_back() -> Iterator[None]:
    """Hold back what is written to file descriptor 2 other than by Python's `sys.stderr`.

    It is shown where an error ends the block that this package has not raised on purpose.
    """
    sys.stderr.flush()
    before, kept = sys.stderr, os.dup(STDERR)
    with tempfile.TemporaryFile() as held, os.fdopen(os.dup(kept), "w", buffering=1) as own:
        os.dup2(held.fileno(), STDERR)
        if _is_native(before):
            sys.stderr = own
        try:
            yield
        except (EccosError, KeyboardInterrupt):
            raise
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            sys.stderr = before
            os.dup2(kept, STDERR)
            os.close(kept)


def _is_native(stream: object) -> bool:
    try:
        return bool(stream.fileno() == STDERR)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False
