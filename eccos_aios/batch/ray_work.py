"""What Ray's workers do with a batch: read files, estimate queries, look at blocks, write them.

A block is an Arrow table with a row per query: its ``id`` as JSON, ``cost`` and ``quality`` over the cores
in single precision, the cores that may take it as bits, ``output_tokens`` where the output needs them.
``refused`` tells why no core may take it, ``fault`` what is wrong with the line; after a fault nothing else
counts.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from eccos_aios.assign.parts import Part
from eccos_aios.batch.output import RoutedPart
from eccos_aios.batch.parquet import output_schema, write_rows
from eccos_aios.batch.places import opened, write_to
from eccos_aios.batch.queries import Query, parse_query, query_lines
from eccos_aios.batch.route import refusals, require_known_cores
from eccos_aios.core import Core
from eccos_aios.errors import EccosError
from eccos_aios.predict import PredictorSpec
from eccos_aios.predict.blas import one_blas_thread
from eccos_aios.predict.persistence import load_predictor
from eccos_aios.router import Router

LINES = 1024  # of a file that are handed on at once
LINE_COLUMNS = pa.schema(
    {"source": pa.string(), "number": pa.int64(), "line": pa.large_binary(), "fault": pa.string()}
)


def read_lines(files: pa.Table) -> Iterator[pa.Table]:
    """The lines of files with their places; a fault ends a file.

    Parameters
    ----------
    files : Table
        With ``name`` and ``address``, see `places.File`.
    """
    for file in files.to_pylist():
        name = file["name"]
        try:
            with opened(file["address"]) as content:
                lines = query_lines(content, name)
                while chunk := list(islice(lines, LINES)):
                    numbers, texts = zip(*chunk, strict=True)
                    yield _lines(name, numbers, texts, [None] * len(chunk))
        except EccosError as fault:
            yield _lines(name, [0], [b""], [str(fault)])


def _lines(
    name: str, numbers: Sequence[int], texts: Sequence[bytes], faults: Sequence[str | None]
) -> pa.Table:
    columns = {"source": [name] * len(texts), "number": numbers, "line": texts, "fault": faults}
    return pa.table(columns, schema=LINE_COLUMNS)


class Estimator:
    """Estimates queries on every core; loads the fitted predictor once.

    Parameters
    ----------
    predictor : bytes
        Its file, as `save_predictor` writes it.
    spec : str
        The `PredictorSpec` as JSON, whose plug-ins are imported.
    path : list of str
        Folders of the owner's ``sys.path``: a plug-in may be importable only from there.
    cores : tuple of Core
    with_tokens : bool
        Whether blocks hold the output tokens.
    """

    def __init__(
        self, predictor: bytes, spec: str, path: Sequence[str], cores: tuple[Core, ...], with_tokens: bool
    ) -> None:
        sys.path += [place for place in path if place not in sys.path]
        PredictorSpec.from_json(spec).make()
        with tempfile.NamedTemporaryFile(prefix="eccos-", suffix=".npz") as file:
            file.write(predictor)
            file.flush()
            self._router = Router(cores, load_predictor(file.name))
        self._with_tokens = with_tokens

    def __call__(self, lines: pa.Table) -> pa.Table:
        """The block of some lines of `read_lines`."""
        try:
            queries = _parsed(lines)
            require_known_cores(queries, self._router.cores)
        except EccosError as fault:
            return self._faulty(str(fault))
        with one_blas_thread():
            batch = self._router.estimate([(query.text, query.requirements) for query in queries])
        refused = refusals(queries, batch)
        return self._block(
            [query.id for query in queries],
            batch.candidates.cost,
            batch.candidates.quality,
            batch.estimates.output_tokens,
            batch.candidates.allowed,
            [refused.get(row) for row in range(len(queries))],
            [None] * len(queries),
        )

    def _faulty(self, fault: str) -> pa.Table:
        zeros = np.zeros((1, len(self._router.cores)))
        return self._block([""], zeros, zeros, zeros, zeros > 0, [None], [fault])

    def _block(
        self,
        ids: Sequence[str | int],
        cost: NDArray[Any],
        quality: NDArray[Any],
        output_tokens: NDArray[Any],
        allowed: NDArray[np.bool_],
        refused: Sequence[str | None],
        faults: Sequence[str | None],
    ) -> pa.Table:
        columns = {
            "id": pa.array([json.dumps(each, ensure_ascii=False) for each in ids], pa.string()),
            "cost": _column(cost),
            "quality": _column(quality),
            "allowed": _bits(allowed),
            "refused": pa.array(refused, pa.string()),
            "fault": pa.array(faults, pa.string()),
        }
        if self._with_tokens:
            columns["output_tokens"] = _column(output_tokens)
        return pa.table(columns)


def _parsed(lines: pa.Table) -> list[Query]:
    queries = []
    for line in lines.to_pylist():
        if line["fault"] is not None:
            raise EccosError(line["fault"])
        queries.append(parse_query(f"{line['source']}:{line['number']}", line["line"]))
    return queries


@dataclass(frozen=True)
class Look:
    """What the owner of a batch must know of a block.

    Attributes
    ----------
    queries : int
    fault : str or None
        The first.
    refused : int
        Queries that no core may take.
    first_refused : str or None
    whole_ids : bool
        Whether every id is a whole number.
    """

    queries: int
    fault: str | None
    refused: int
    first_refused: str | None
    whole_ids: bool


def look(block: pa.Table) -> Look:
    """See `Look`."""
    if not block.num_rows:  # Ray Data's empty blocks have no columns
        return Look(0, None, 0, None, True)
    fault, refused = block["fault"].drop_null(), block["refused"].drop_null()
    return Look(
        block.num_rows,
        fault[0].as_py() if len(fault) else None,
        len(refused),
        refused[0].as_py() if len(refused) else None,
        not any(each.startswith('"') for each in block["id"].to_pylist()),
    )


def empty_block(cores: int) -> pa.Table:
    """A block without queries."""
    none: list[str] = []
    arrays = np.zeros((0, cores))
    columns = {name: _column(arrays) for name in ("cost", "quality", "output_tokens")}
    notes = {name: pa.array(none, pa.string()) for name in ("id", "refused", "fault")}
    return pa.table({**notes, **columns, "allowed": _bits(arrays > 0)})


def part_of(block: pa.Table) -> Part:
    """The arrays of a block, as the solver takes them."""
    cost, quality = _array(block, "cost"), _array(block, "quality")
    bits = _chunk(block, "allowed")
    width = bits.type.byte_width
    packed = np.frombuffer(bits.buffers()[1] or b"", dtype=np.uint8)
    packed = packed[bits.offset * width : (bits.offset + len(bits)) * width].reshape(-1, width)
    allowed = np.unpackbits(packed, axis=1, count=cost.shape[1]).astype(np.bool_)
    return Part(cost, quality, allowed)


def run(work: Any, block: pa.Table, *arguments: Any) -> Any:
    """``work(part, …)`` on the part of a block."""
    return work(part_of(block), *arguments)


@dataclass(frozen=True)
class Format:
    """How routed queries are written.

    Attributes
    ----------
    names : tuple of str
        Of the cores.
    goals : tuple of dict
        The key and value of each target or budget in a line.
    parquet : bool
        Whether as Parquet; else as lines of JSON.
    with_estimates : bool
    whole_ids : bool
        Whether every id of the batch is a whole number.
    """

    names: tuple[str, ...]
    goals: tuple[dict[str, float], ...]
    parquet: bool
    with_estimates: bool
    whole_ids: bool

    @property
    def schema(self) -> pa.Schema:
        """The columns of Parquet."""
        estimated = self.names if self.with_estimates else ()
        return output_schema(self.goals, estimated, whole_ids=self.whole_ids)


def written(form: Format, block: pa.Table, *cores: NDArray[np.int16]) -> bytes:
    """A block as a file: lines of JSON, or Parquet; with the core of each query for each goal."""
    part = RoutedPart(
        [json.loads(each) for each in block["id"].to_pylist()],
        form.names,
        _array(block, "quality"),
        _array(block, "cost"),
        _array(block, "output_tokens") if form.with_estimates else None,
        list(zip(form.goals, cores, strict=True)),
    )
    lines = (line for lines in part.lines() for line in lines)
    if form.parquet:
        file = io.BytesIO()
        write_rows(lines, file, form.schema)
        return file.getvalue()
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def write_block(form: Format, address: str, block: pa.Table, *cores: NDArray[np.int16]) -> None:
    """Write a block to a file of its own; a second time the same."""
    write_to(address, written(form, block, *cores))


def _column(array: NDArray[Any]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(array, dtype=np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])


def _bits(allowed: NDArray[np.bool_]) -> pa.Array:
    packed = np.packbits(allowed, axis=1)
    buffers = [None, pa.py_buffer(packed.tobytes())]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(packed.shape[1]), len(packed), buffers)


def _array(block: pa.Table, name: str) -> NDArray[np.float32]:
    chunk = _chunk(block, name)
    array: NDArray[np.float32] = chunk.flatten().to_numpy().reshape(len(chunk), chunk.type.list_size)
    return array


def _chunk(block: pa.Table, name: str) -> pa.Array:
    column = block[name].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
