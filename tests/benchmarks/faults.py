"""Measures what a real AIOS kernel with ECCOS does under faults, and prints a table.

    python tests/benchmarks/faults.py --aios ~/AIOS
    python tests/benchmarks/faults.py --aios ~/AIOS --only storm --only hung --json

The package is installed from this checkout into a folder of its own, beside AIOS's environment, which stays
as it is; kernels run from copies of AIOS. All of it is ended and removed at the end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "aios"), str(Path(__file__).parents[2])]

from aios_overlay import Aios, NoAiosError, make_overlay, python_of  # noqa: E402
from fault_drills import DRILLS, Bench, DrillError, Figure, Options  # noqa: E402

DID_NOT_RUN = "did not run"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drills; the exit code: 0 where they ran, whatever they measured, 2 where they could not."""
    asked = _parser().parse_args(arguments)
    options = Options(asked.max_attempts, asked.attempt_timeout, asked.calls, asked.callers)
    began_s = time.monotonic()
    try:
        with _bench(asked.aios.expanduser().resolve(), asked.python, options) as bench:
            figures = [figure for name in asked.only or DRILLS for figure in _run(bench, name)]
    except NoAiosError as error:
        print(error, file=sys.stderr)
        return 2
    seconds = round(time.monotonic() - began_s, 1)
    if asked.json:
        shown = {
            "options": asdict(options),
            "seconds": seconds,
            "figures": [asdict(each) for each in figures],
        }
        print(json.dumps(shown, indent=2))
    else:
        print(
            f"max_attempts {options.max_attempts}, attempt_timeout_s {options.attempt_timeout_s:g}, ", end=""
        )
        print(f"{options.calls} calls of {options.callers} callers in the storm; {seconds:g} s\n")
        print(_table(figures))
    return 2 if any(each.name == DID_NOT_RUN for each in figures) else 0


def _run(bench: Bench, name: str) -> list[Figure]:
    try:
        return DRILLS[name](bench)
    except (DrillError, TimeoutError) as error:
        return [Figure(name, DID_NOT_RUN, " ".join(str(error).split()), met=False)]


def _parser() -> argparse.ArgumentParser:
    usual = Options()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--aios", type=Path, required=True, help="AIOS's checkout")
    parser.add_argument(
        "--python", type=Path, help="its interpreter; default: .venv/bin/python in the checkout"
    )
    parser.add_argument("--only", action="append", choices=list(DRILLS), help="this drill; may be repeated")
    parser.add_argument(
        "--max-attempts", type=int, default=usual.max_attempts, help="of every kernel; default: %(default)s"
    )
    parser.add_argument(
        "--attempt-timeout",
        type=float,
        default=usual.attempt_timeout_s,
        help="seconds, of cores that take 0.2; default: %(default)s",
    )
    parser.add_argument("--calls", type=int, default=usual.calls, help="of the storm; default: %(default)s")
    parser.add_argument(
        "--callers", type=int, default=usual.callers, help="of the storm; default: %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    return parser


@contextmanager
def _bench(home: Path, python: Path | None, options: Options) -> Iterator[Bench]:
    interpreter = python or python_of(home)
    with tempfile.TemporaryDirectory(prefix="eccos-faults-") as folder:
        numbers = itertools.count(1)
        overlay = Path(folder) / "overlay"
        _say("installing")
        make_overlay(overlay, home, interpreter)
        yield Bench(
            Aios(home, interpreter, overlay, lambda: _made(Path(folder) / f"kernel-{next(numbers)}")),
            options,
            _say,
        )


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _say(step: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{step}", end="", file=sys.stderr, flush=True)
    else:
        print(step, file=sys.stderr, flush=True)


def _table(figures: Sequence[Figure]) -> str:
    marks = {True: "yes", False: "NO", None: ""}
    rows = [("drill", "figure", "measured", "asked", "met")]
    rows += [
        (each.drill, each.name, "–" if each.value is None else str(each.value), each.asked, marks[each.met])
        for each in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        " | ".join((*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4])) for row in rows
    ]
    return "\n".join([lines[0], "-|-".join("-" * width for width in (*widths, 3)), *lines[1:]])


if __name__ == "__main__":
    sys.exit(main())
