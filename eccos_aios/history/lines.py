"""The lines of a JSON file, plain or gzipped, each with its number."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from eccos_aios.errors import ABSENT, InputErrorT

GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
OTHER_FORMATS = {
    b"PK\x03\x04": "is a zip archive",
    b"BZh": "is packed by bzip2",
    b"\xfd7zXZ": "is packed by xz",
    b"\x28\xb5\x2f\xfd": "is packed by zstd",
    b"\xff\xfe": "is text in UTF-16",
    b"\xfe\xff": "is text in UTF-16",
    b"%PDF": "is a PDF",
    b"PAR1": "is a Parquet file",
}
CHUNK = 2**20  # bytes that are unpacked at once
MAX_LINE = 64 * 2**20  # bytes; a call that fills a window of a million tokens has about 5 MB
# Bytes that a gzipped file may unpack to. Histories compress to a tenth, generated ones to a thirtieth;
# gzip can reach a thousandth.
MAX_UNPACKED = 128 * 2**20
MAX_UNPACKED_PER_BYTE = 64

_LINE = re.compile(rb"[^\n]+")
_FIRST = re.compile(rb"\s*(.?)", re.DOTALL)


def read_content(path: Path, kind: type[InputErrorT]) -> bytes:
    """The whole of a file, unpacked if it is gzipped, without a byte order mark.

    Raises
    ------
    kind
        The file cannot be read, has another format or a broken compression, unpacks to more than any
        history of its size, or has a line longer than `MAX_LINE`; names the line.
    """
    with _reading(path, kind):
        content = path.read_bytes()
        if content.startswith(GZIP_MAGIC):
            content = _unpacked(path, content, kind)
    _require_json(path, content, kind)
    content = content.removeprefix(BYTE_ORDER_MARK)
    if len(content) > MAX_LINE and first_character(content) != b"[":
        for number, line in numbered_lines(content):
            if len(line) > MAX_LINE:
                raise _too_long(path, number, kind)
    return content


def stream_lines(file: BinaryIO, source: str | Path, kind: type[InputErrorT]) -> Iterator[tuple[int, bytes]]:
    """Every line of an open file that is not blank, with its number, for files of any size.

    In memory are a line and a few times `CHUNK`. The first part is read at once, the others when they are
    asked for.

    Parameters
    ----------
    file : binary file
        At its start; can seek.
    source : str or Path
        Its name in errors.
    kind : type

    Raises
    ------
    kind
        As `read_content`, but for an array as for any other long line.
    """
    parts = _parts(file, source, kind)
    first = next(parts, b"")
    _require_json(source, first, kind)
    return _split(chain([first.removeprefix(BYTE_ORDER_MARK)], parts), source, kind)


def first_character(content: bytes) -> bytes:
    """The first byte that is not white space; empty if there is none."""
    found = _FIRST.match(content)
    return b"" if found is None else found[1]


def numbered_lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Every line that is not blank, with its number in the file, from 1 on."""
    number, counted = 1, 0
    for found in _LINE.finditer(content):
        number += content.count(b"\n", counted, found.start())
        counted = found.start()
        line = found[0]
        if not line.isspace():
            yield number, line


def _parts(file: BinaryIO, source: str | Path, kind: type[InputErrorT]) -> Iterator[bytes]:
    with _reading(source, kind):
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        most = MAX_UNPACKED + MAX_UNPACKED_PER_BYTE * file.seek(0, io.SEEK_END)
        file.seek(0)
        content, total = gzip.GzipFile(fileobj=file) if packed else file, 0
        while part := content.read(CHUNK):
            total += len(part)
            if packed and total > most:
                raise _unpacks_too_far(source, most, kind)
            yield part


def _split(
    parts: Iterable[bytes], source: str | Path, kind: type[InputErrorT]
) -> Iterator[tuple[int, bytes]]:
    number, rest = 0, b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            number += 1
            if len(line) > MAX_LINE:
                raise _too_long(source, number, kind)
            if line and not line.isspace():
                yield number, line
        if len(rest) > MAX_LINE:
            raise _too_long(source, number + 1, kind)
    if rest and not rest.isspace():
        yield number + 1, rest


@contextmanager
def _reading(source: str | Path, kind: type[InputErrorT]) -> Iterator[None]:
    """Turn the errors of reading and unpacking into `kind`."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise kind(str(source), "", ABSENT, f"cannot be read: {reason}") from error


def _require_json(source: str | Path, content: bytes, kind: type[InputErrorT]) -> None:
    for magic, fault in OTHER_FORMATS.items():
        if content.startswith(magic):
            raise kind(str(source), "", ABSENT, f"{fault}; must be JSON, plain or gzipped")


def _unpacked(path: Path, packed: bytes, kind: type[InputErrorT]) -> bytes:
    most = MAX_UNPACKED + MAX_UNPACKED_PER_BYTE * len(packed)
    content, lines, line_start, first = io.BytesIO(), 1, 0, b""
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        while chunk := file.read(CHUNK):
            last = chunk.rfind(b"\n")
            if last >= 0:
                lines, line_start = lines + chunk.count(b"\n"), content.tell() + last + 1
            content.write(chunk)
            first = first or first_character(chunk.removeprefix(BYTE_ORDER_MARK))
            if content.tell() - line_start > MAX_LINE and first != b"[":
                raise _too_long(path, lines, kind)
            if content.tell() > most:
                raise _unpacks_too_far(path, most, kind)
    return content.getvalue()


def _unpacks_too_far(source: str | Path, most: int, kind: type[InputErrorT]) -> InputErrorT:
    fault = f"unpacks to more than {most // 2**20} MiB, which no history of its size does"
    return kind(str(source), "", ABSENT, fault)


def _too_long(source: str | Path, number: int, kind: type[InputErrorT]) -> InputErrorT:
    return kind(f"{source}:{number}", "", ABSENT, f"is a line of more than {MAX_LINE // 2**20} MiB")
