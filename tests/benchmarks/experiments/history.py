"""A store of generated records, from its first row to estimates in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from eccos_aios.cli.table import make_table
from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history import HistoryStore, Record
from eccos_aios.predict.persistence import SUFFIX, fitted_predictor
from experiments.history_opened import BATCHES, Opened, predictor_spec
from experiments.history_records import CORES, GeneratedHistory
from experiments.memory import peak_kb

SHOWN_EVERY = 10_000  # records
GOALS = {
    "build_s": 900.0,
    "open_s": 5.0,
    "search_one_ms_p99": 10.0,
    "search_batch_ms_p99": 100.0,
    "recall_at_16": 0.95,
    "resident_mb": 2000.0,
}  # of a million records of 256 dimensions
OnStep = Callable[[str], None]


@dataclass(frozen=True)
class HistoryBench(Opened):
    """The measurements of `history_bench`; the inherited figures are those of the fresh process.

    Attributes
    ----------
    records, cores, dimensions : int
    store_s : float
        Seconds to write the records into a store.
    fit_s : float
        Seconds to fit on the store and to save: embedder, trained part and index.
    build_s : float
        Both.
    build_cpu_s : float
        Seconds of CPU time of both, for busy machines.
    build_peak_mb : float
        Peak resident memory.
    store_mb, predictor_mb : float
        Sizes of the two files.
    """

    records: int
    cores: int
    dimensions: int
    store_s: float
    fit_s: float
    build_s: float
    build_cpu_s: float
    build_peak_mb: float
    store_mb: float
    predictor_mb: float

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def history_bench(
    records: int,
    dimensions: int,
    folder: Path | None = None,
    *,
    seed: int = 0,
    batches: int = BATCHES,
    on_step: OnStep = lambda step: None,
) -> HistoryBench:
    """Build a store and its predictor, open both in a fresh process, measure.

    Parameters
    ----------
    records : int
    dimensions : int
        Of the vectors, even: half for the query, half for the tools.
    folder : Path, optional
        Folder for temporary files. Default: the system's.
    seed : int
    batches : int
        Number of timed batches; ten times as many single calls are timed.
    on_step : callable
        Called with a description of each step.
    """
    with tempfile.TemporaryDirectory(prefix="eccos-aios-bench-", dir=folder) as temporary:
        path = Path(temporary) / "history.db"
        started, started_cpu = time.perf_counter(), time.process_time()
        with HistoryStore(path) as store:
            store.extend(_shown(GeneratedHistory(records, seed), records, on_step))
        stored = time.perf_counter()
        on_step(f"fitting on {records:,} records")
        fitted_predictor(
            path,
            predictor_spec(dimensions),
            on_progress=lambda done, total: on_step(f"fitting: {done:,} of {total:,} records read"),
        )
        fitted, build_cpu_s = time.perf_counter(), time.process_time() - started_cpu
        on_step("opening in a fresh process, and searching exactly for comparison")
        opened = _opened(path, dimensions, records, seed, batches)
        return HistoryBench(
            **asdict(opened),
            records=records,
            cores=len(CORES),
            dimensions=dimensions,
            store_s=stored - started,
            fit_s=fitted - stored,
            build_s=fitted - started,
            build_cpu_s=build_cpu_s,
            build_peak_mb=peak_kb() / 1024,
            store_mb=_megabytes(path),
            predictor_mb=_megabytes(path.with_name(path.name + SUFFIX)),
        )


def shown_figures(result: HistoryBench) -> Table:
    """A table of the figures beside the goals for a million records of 256 dimensions."""
    table = make_table("figure", "measured", "goal at 1,000,000 x 256")
    for name, value in asdict(result).items():
        goal = GOALS.get(name)
        bound = "" if goal is None else f"{'at least' if name == 'recall_at_16' else 'under'} {goal:,g}"
        table.add_row(
            name.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:,.3f}", bound
        )
    return table


def _shown(records: Iterable[Record], total: int, on_step: OnStep) -> Iterator[Record]:
    for done, record in enumerate(records):
        if done % SHOWN_EVERY == 0:
            on_step(f"storing: {done:,} of {total:,} records")
        yield record


def _opened(path: Path, *numbers: int) -> Opened:
    module = "experiments.history_opened"
    folder = Path(__file__).parents[1]  # from where the package of the experiments is found
    arguments = [str(path.resolve()), *map(str, numbers)]
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise HistoryError(str(path), "", ABSENT, f"could not be opened in a fresh process: {last}")
    return Opened(**json.loads(done.stdout))


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 2**20
