"""The lines of a JSON file, plain or gzipped, each with its number."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from eccos_aios.errors import ABSENT, InputErrorT

GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_content(path: Path, kind: type[InputErrorT]) -> bytes:
    """The whole of a file, unpacked where it is gzipped, without a byte order mark.

    Raises
    ------
    kind
        The file cannot be read, or its compression is broken.
    """
    try:
        content = path.read_bytes()
        if content.startswith(GZIP_MAGIC):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise kind(str(path), "", ABSENT, f"cannot be read: {reason}") from error
    return content.removeprefix(BYTE_ORDER_MARK)


def numbered_lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Every line that is not blank, with its number in the file, from 1 on."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line and not line.isspace():
            yield number, line
