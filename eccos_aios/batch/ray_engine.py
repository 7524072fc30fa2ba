"""A batch on Ray: Ray Data reads and estimates it, `PartedProblem` assigns its blocks, workers write them.

See the README of this package for the passes, what each costs, and what survives a failure. Ray is imported
only here and in `ray_work`, on first use.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eccos_aios.assign.partitioned import MOST_OPEN, PartedProblem
from eccos_aios.batch.output import goal_of
from eccos_aios.batch.parquet import PARQUET_MAGIC, SUFFIX
from eccos_aios.batch.parted import PartedBatch, PartedRouting
from eccos_aios.batch.planned import OnStep, timed
from eccos_aios.batch.route import CHUNK
from eccos_aios.core import Core, read_manifest
from eccos_aios.errors import ABSENT, ConfigError, InputError, MissingExtraError, QueryError
from eccos_aios.history import ReadReport, read_history
from eccos_aios.predict import Predictor, PredictorSpec, experience_of
from eccos_aios.predict.blas import one_blas_thread
from eccos_aios.predict.persistence import is_persistent, save_predictor

# A worker that estimates leaves room on its CPU for one that reads, or neither could start.
WORKER_CPUS = 0.9
READER_CPUS = 0.1
BLOCKS_PER_CPU = 8
LEAST_BLOCK, MOST_BLOCK = 2**18, 2**26  # bytes of a block
MOST_RETRIES = 10  # of a task whose worker died
WRITTEN_AHEAD = 4  # blocks per CPU that wait for their turn in one output file


@dataclass(frozen=True)
class RayJob:
    """A batch to route on Ray.

    Attributes
    ----------
    history, manifest : Path
        Local files.
    queries : str
        Path or address of a file, or of a folder of files, that every node can read: JSON lines, plain or
        gzipped, or Parquet.
    targets, budgets : sequence of float
        As in `assign_batch`.
    out : str
        Path or address. With a suffix one file in input order, which this process writes;
        otherwise a folder of files, numbered in input order, which the workers write.
    spec : PredictorSpec
    with_estimates, skip_bad_records : bool
    most_open : int
        Queries that are assigned exactly, in this process.
    """

    history: Path
    manifest: Path
    queries: str
    targets: Sequence[float]
    out: str
    budgets: Sequence[float] = ()
    spec: PredictorSpec = field(default_factory=PredictorSpec)
    with_estimates: bool = False
    skip_bad_records: bool = False
    most_open: int = MOST_OPEN


def assign_on_ray(
    job: RayJob, report: ReadReport | None = None, on_step: OnStep = lambda step: None
) -> PartedBatch:
    """Route a batch on the Ray that runs in this process, else at ``RAY_ADDRESS``, else on this machine.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    HistoryError, ConfigError, QueryError
        A file is wrong; names file, line, key and value.
    InputError
        The output cannot be written, or there is no cluster at ``RAY_ADDRESS``.
    """
    _require_ray()
    from eccos_aios.batch.places import files_at, make_folder

    if not is_persistent(job.spec):
        fault = "cannot be saved, so that workers could load it: see register_persistence"
        raise ConfigError("--engine ray", "predictor", job.spec.predictor, fault)
    seconds: dict[str, float] = {}
    with timed(seconds, "load"):
        on_step("reading the manifest")
        cores = tuple(read_manifest(job.manifest).cores)
        files = files_at(job.queries)
        on_step("reading the history")
        records = read_history(job.history, skip_bad_records=job.skip_bad_records, report=report)
    if not _is_one_file(job.out):
        with _writing(job.out):
            make_folder(job.out)
    with timed(seconds, "fit"):
        on_step(f"learning from {len(records)} records")
        predictor = job.spec.make().fit(records)
    with _connected(on_step):
        run = _Run(job, cores, predictor, seconds, on_step)
        with timed(seconds, "predict"):
            run.estimate(files)
        routings = run.assign()
        with timed(seconds, "write"), _writing(job.out):
            run.write(routings, parquet=_wants_parquet(job.out, files[0].address))
        return PartedBatch(cores, routings, seconds, run.queries, run.refused, run.first_refused)


class _Run:
    """The blocks of one batch on a connected Ray."""

    def __init__(
        self,
        job: RayJob,
        cores: tuple[Core, ...],
        predictor: Predictor,
        seconds: dict[str, float],
        on_step: OnStep,
    ) -> None:
        self._job = job
        self._cores = cores
        self._predictor = predictor
        self._seconds = seconds
        self._on_step = on_step
        self._blocks: list[Any] = []
        self._whole_ids = True
        self.queries = self.refused = 0
        self.first_refused: str | None = None

    def estimate(self, files: Sequence[Any]) -> None:
        """Read and estimate all files; their blocks stay in Ray's object store."""
        import ray

        from eccos_aios.batch import ray_work

        look = ray.remote(num_cpus=0, max_retries=MOST_RETRIES)(ray_work.look)
        looked: deque[Any] = deque()
        with _data_context(sum(file.size for file in files)):
            for bundle in self._estimated(files).iter_internal_ref_bundles():
                looked.extend((block, look.remote(block)) for block in bundle.block_refs)
                while looked and (len(looked) > 2 * _cpus() or _is_ready(looked[0][1])):
                    self._heed(*looked.popleft())
            while looked:
                self._heed(*looked.popleft())
        if not self._blocks:
            self._blocks.append(ray.put(ray_work.empty_block(len(self._cores))))

    def _estimated(self, files: Sequence[Any]) -> Any:
        import ray.data

        from eccos_aios.batch import ray_work

        rows = [{"name": file.name, "address": file.address} for file in files]
        spec = self._job.spec.as_json()
        arguments = (_saved(self._predictor), spec, list(sys.path), self._cores)
        lines = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            ray_work.read_lines,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=READER_CPUS,
        )
        return lines.map_batches(
            ray_work.Estimator,
            fn_constructor_args=(*arguments, self._job.with_estimates),
            batch_size=CHUNK,
            batch_format="pyarrow",
            num_cpus=WORKER_CPUS,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=_cpus()),
        )

    def _heed(self, block: Any, looked: Any) -> None:
        import ray

        look = ray.get(looked)
        if look.fault is not None:
            raise QueryError(look.fault, "", ABSENT, "")
        if look.queries:
            self._blocks.append(block)
        self.queries += look.queries
        self.refused += look.refused
        self.first_refused = self.first_refused or look.first_refused
        self._whole_ids = self._whole_ids and look.whole_ids
        self._on_step(f"estimated {self.queries} queries")

    def assign(self) -> tuple[PartedRouting, ...]:
        """Route the batch once per target and once per budget."""
        names = [core.name for core in self._cores]
        experience = experience_of(self._predictor, names)
        quotas = [self.queries if core.quota is None else core.quota for core in self._cores]
        goals: list[tuple[float | None, float | None]] = [
            *((target, None) for target in self._job.targets),
            *((None, budget) for budget in self._job.budgets),
        ]
        routings = []
        with timed(self._seconds, "solve"), one_blas_thread():
            self._on_step(f"surveying {len(self._blocks)} blocks")
            problem = PartedProblem(_RayParts(self._blocks), np.array(quotas), self._job.most_open)
            for target, budget in goals:
                asked = f"at quality target {target:g}" if budget is None else f"for ${budget:g}"
                self._on_step(f"assigning {asked}")
                found = problem.solve(target=target or 0.0, budget=budget)
                routings.append(PartedRouting(target, budget, found, tuple(names), experience))
        return tuple(routings)

    def write(self, routings: Sequence[PartedRouting], *, parquet: bool) -> None:
        """Write the lines of all blocks, in their order."""
        from eccos_aios.batch import ray_work

        form = ray_work.Format(
            tuple(core.name for core in self._cores),
            tuple(goal_of(routing) for routing in routings),
            parquet,
            self._job.with_estimates,
            self._whole_ids,
        )
        cores = [routing.parted.cores for routing in routings]
        if _is_one_file(self._job.out):
            self._write_one_file(form, cores)
        else:
            self._write_folder(form, cores)

    def _write_folder(self, form: Any, cores: Sequence[list[Any]]) -> None:
        import ray

        from eccos_aios.batch import ray_work

        write = ray.remote(max_retries=MOST_RETRIES)(ray_work.write_block)
        suffix = SUFFIX if form.parquet else ".jsonl"
        base = self._job.out if "://" in self._job.out else str(Path(self._job.out).absolute())
        writing = [
            write.remote(
                form,
                f"{base.rstrip('/')}/part-{number:05d}{suffix}",
                block,
                *(each[number] for each in cores),
            )
            for number, block in enumerate(self._blocks)
        ]
        for number, each in enumerate(writing):
            self._on_step(f"writing block {number + 1} of {len(writing)}")
            ray.get(each)

    def _write_one_file(self, form: Any, cores: Sequence[list[Any]]) -> None:
        """In input order, with a few blocks ahead of what is written."""
        import ray

        from eccos_aios.batch import ray_work
        from eccos_aios.batch.places import file_system

        write = ray.remote(max_retries=MOST_RETRIES)(ray_work.written)
        ahead: deque[Any] = deque()
        begun = 0
        system, path = file_system(self._job.out)
        with system.open_output_stream(path, compression=None) as file, _appending(file, form) as append:
            for number in range(len(self._blocks)):
                while begun < len(self._blocks) and len(ahead) < WRITTEN_AHEAD * _cpus():
                    parts = (each[begun] for each in cores)
                    ahead.append(write.remote(form, self._blocks[begun], *parts))
                    begun += 1
                self._on_step(f"writing block {number + 1} of {len(self._blocks)}")
                append(ray.get(ahead.popleft()))


class _RayParts:
    """`Parts` whose parts are blocks in Ray's object store."""

    def __init__(self, blocks: Sequence[Any]) -> None:
        self._blocks = blocks

    def each(
        self, work: Callable[..., Any], *several: Sequence[Any], common: Sequence[Any] = ()
    ) -> list[Any]:
        import ray

        return list(ray.get(self._started(work, several, common, returns=1)))

    def keep(
        self, work: Callable[..., Any], *several: Sequence[Any], common: Sequence[Any] = ()
    ) -> tuple[list[Any], list[Any]]:
        import ray

        started = self._started(work, several, common, returns=2)
        return [kept for kept, _ in started], list(ray.get([small for _, small in started]))

    def _started(
        self, work: Callable[..., Any], several: Sequence[Sequence[Any]], common: Sequence[Any], returns: int
    ) -> list[Any]:
        import ray

        from eccos_aios.batch import ray_work

        task = ray.remote(num_returns=returns, max_retries=MOST_RETRIES)(ray_work.run)
        own = zip(*several, strict=True) if several else [()] * len(self._blocks)
        return [
            task.remote(work, block, *items, *common) for block, items in zip(self._blocks, own, strict=True)
        ]


@contextmanager
def _appending(file: Any, form: Any) -> Iterator[Callable[[bytes], None]]:
    """Yield the function that adds a written block to one file."""
    if not form.parquet:
        yield file.write
        return
    import pyarrow as pa
    import pyarrow.parquet

    with pyarrow.parquet.ParquetWriter(file, form.schema) as writer:
        yield lambda content: writer.write_table(pyarrow.parquet.read_table(pa.BufferReader(content)))


@contextmanager
def _connected(on_step: OnStep) -> Iterator[None]:
    """A Ray to run on; one that was started or connected to here is left at the end."""
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        on_step("connecting to Ray")
    else:
        on_step("starting Ray")
        quiet["include_dashboard"] = False
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody has asked for Ray's own reports
    try:
        ray.init(address=address or "local", **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError("RAY_ADDRESS", "", address or ABSENT, f"no Ray can be reached: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _data_context(input_bytes: int) -> Iterator[None]:
    """Ray Data as a batch needs it: in input order, in blocks that suit its size, silent."""
    from ray.data import DataContext

    context = DataContext.get_current()
    log = logging.getLogger("ray.data")
    before = (context.target_max_block_size, context.enable_progress_bars, log.level)
    ordered = context.execution_options.preserve_order
    wanted = input_bytes // (BLOCKS_PER_CPU * _cpus())
    context.target_max_block_size = min(max(wanted, LEAST_BLOCK), MOST_BLOCK)
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.target_max_block_size, context.enable_progress_bars, level = before
        context.execution_options.preserve_order = ordered
        log.setLevel(level)


@contextmanager
def _writing(out: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(out, "", ABSENT, f"cannot be written: {reason}") from error


def _require_ray() -> None:
    try:
        import ray.data  # noqa: F401
    except ImportError:
        raise MissingExtraError("Ray Data", "ray") from None


def _saved(predictor: Predictor) -> bytes:
    """The file of a fitted predictor."""
    with tempfile.TemporaryDirectory(prefix="eccos-") as folder:
        path = Path(folder) / "predictor.npz"
        save_predictor(predictor, path)
        return path.read_bytes()


def _is_one_file(out: str) -> bool:
    return bool(Path(out).suffix)


def _wants_parquet(out: str, first_input: str) -> bool:
    """By the suffix of one file; a folder's files have the format of the input."""
    if _is_one_file(out):
        return Path(out).suffix == SUFFIX
    from eccos_aios.batch.places import opened

    with opened(first_input) as file:
        return file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC


def _cpus() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _is_ready(result: Any) -> bool:
    import ray

    return bool(ray.wait([result], timeout=0)[0])
