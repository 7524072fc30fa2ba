"""Reading an untrusted ``.npz``: sizes are checked before anything is allocated."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 2**18  # bytes read at once
MAX_READ = 2**20  # maximum bytes in one read; a directory of that size has about 15,000 members
ARRAY_SUFFIX = ".npy"
DTYPES = frozenset(map(np.dtype, ("u1", "i4", "i8", "f2", "f4", "f8")))


class _SparingFile(io.BufferedReader):
    """A file that limits each read, whatever size a header claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_READ:
            raise ValueError(f"claims a part of {size} bytes")
        whole = size is None or size < 0  # as zipfile reads the end of a file
        data = super().read(MAX_READ + 1 if whole else size)
        if len(data) > MAX_READ:
            raise ValueError("its end is longer than that of an archive")
        return data


class NpzFile:
    """The arrays and other members of an archive as `numpy.savez` writes it, uncompressed.

    Parameters
    ----------
    path : str or Path
    most_bytes : float
        Maximum size of the file and, as nothing is compressed, of its arrays together.

    Raises
    ------
    OSError, ValueError, zipfile.BadZipFile
        It cannot be read, is not such an archive, or is larger.
    """

    def __init__(self, path: str | Path, most_bytes: float) -> None:
        raw = io.FileIO(path)
        try:
            size = os.fstat(raw.fileno()).st_size
            if size > most_bytes:
                raise ValueError(f"is {size} bytes, more than its history can explain")
            self._zip = zipfile.ZipFile(_SparingFile(raw))
            self._members = _members(self._zip, size)
        except BaseException:
            raw.close()
            raise
        self._raw = raw

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._raw.close()

    def array(self, name: str, most_bytes: float = math.inf) -> NDArray[Any]:
        """An array by its name.

        Raises
        ------
        KeyError, ValueError, zipfile.BadZipFile
            There is none, its header is wrong or claims another size, or its checksum is wrong.
        """
        with self.opened(name + ARRAY_SUFFIX) as (member, size):
            if size > most_bytes:
                raise ValueError(f"{name}: {size} bytes")
            if np.lib.format.read_magic(member) != (1, 0):  # type: ignore[no-untyped-call,unused-ignore]
                raise ValueError(f"{name}: not of format version 1.0")
            header = np.lib.format.read_array_header_1_0(member)  # type: ignore[no-untyped-call,unused-ignore]
            shape, is_transposed, dtype = header
            if dtype not in DTYPES:
                raise ValueError(f"{name}: holds {dtype}")
            count = math.prod(shape)
            if count * dtype.itemsize != size - member.tell():
                raise ValueError(f"{name}: its header claims another size than it has")
            flat = np.empty(count, dtype)
            fill(flat.view(np.uint8), member)
        return flat.reshape(shape[::-1]).T if is_transposed else flat.reshape(shape)

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """A member as a file, and its size in bytes; reading to the end checks its checksum."""
        info = self._members[name]
        with self._zip.open(info) as member:
            yield member, info.file_size


def fill(buffer: NDArray[np.uint8], member: IO[bytes]) -> None:
    """Fill a buffer from a member.

    Raises
    ------
    ValueError, zipfile.BadZipFile
        The member is shorter, or its checksum is wrong.
    """
    view = memoryview(buffer)  # type: ignore[arg-type,unused-ignore]
    for start in range(0, len(buffer), CHUNK):
        part = view[start : start + CHUNK]
        data = member.read(len(part))
        if len(data) != len(part):
            raise ValueError("ends too early")
        part[:] = data


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    members = {info.filename: info for info in infos}
    if len(members) != len(infos):
        raise ValueError("has two members of one name")
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
        raise ValueError("is compressed or encrypted, which no saved predictor is")
    if any(info.file_size != info.compress_size for info in infos) or (
        sum(info.file_size for info in infos) > size
    ):
        raise ValueError("claims to hold more than its own size")
    return members
