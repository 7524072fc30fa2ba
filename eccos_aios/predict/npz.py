"""Reading an ``.npz`` that nobody vouches for: sizes are checked before anything is allocated."""

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

CHUNK = 2**18  # bytes that are read at once
MOST_READ = 2**20  # bytes; so much of a directory holds some 15,000 members, and none is read at once beyond
ARRAY_SUFFIX = ".npy"
DTYPES = frozenset(map(np.dtype, ("u1", "i4", "i8", "f2", "f4", "f8")))


class _SparingFile(io.BufferedReader):
    """A file of which no reader gets much at once, whatever a header makes it ask for."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MOST_READ:
            raise ValueError(f"a part of it says to be {size} bytes")
        whole = size is None or size < 0  # zipfile reads the end of a file so
        data = super().read(MOST_READ + 1 if whole else size)
        if len(data) > MOST_READ:
            raise ValueError("its end is longer than that of any archive")
        return data


class NpzFile:
    """The arrays and other members of an archive as `numpy.savez` writes it, uncompressed.

    Parameters
    ----------
    path : str or Path
    most_bytes : float
        That the file may have; and so its arrays, which cannot be more than the file.

    Raises
    ------
    OSError, ValueError, zipfile.BadZipFile
        It cannot be read, is no such archive, or is larger.
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
            There is none, its header is wrong or says another size than it has, or its checksum is wrong.
        """
        with self.opened(name + ARRAY_SUFFIX) as (member, size):
            if size > most_bytes:
                raise ValueError(f"{name}: {size} bytes")
            if np.lib.format.read_magic(member) != (1, 0):  # type: ignore[no-untyped-call,unused-ignore]
                raise ValueError(f"{name}: not of the version that is written here")
            header = np.lib.format.read_array_header_1_0(member)  # type: ignore[no-untyped-call,unused-ignore]
            shape, is_transposed, dtype = header
            if dtype not in DTYPES:
                raise ValueError(f"{name}: holds {dtype}")
            count = math.prod(shape)
            if count * dtype.itemsize != size - member.tell():
                raise ValueError(f"{name}: its header says another size than it has")
            flat = np.empty(count, dtype)
            fill(flat.view(np.uint8), member)
        return flat.reshape(shape[::-1]).T if is_transposed else flat.reshape(shape)

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """A member as a file, and its bytes; who reads to the end knows that its checksum is right."""
        info = self._members[name]
        with self._zip.open(info) as member:
            yield member, info.file_size


def fill(room: NDArray[np.uint8], member: IO[bytes]) -> None:
    """Read as much as finds room.

    Raises
    ------
    ValueError, zipfile.BadZipFile
        There is less, or the checksum is wrong.
    """
    view = memoryview(room)  # type: ignore[arg-type,unused-ignore]
    for start in range(0, len(room), CHUNK):
        part = view[start : start + CHUNK]
        data = member.read(len(part))
        if len(data) != len(part):
            raise ValueError("ends too early")
        part[:] = data


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    members = {info.filename: info for info in infos}
    if len(members) != len(infos):
        raise ValueError("a name stands twice in it")
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
        raise ValueError("is compressed or encrypted, which is never written here")
    if any(info.file_size != info.compress_size for info in infos) or (
        sum(info.file_size for info in infos) > size
    ):
        raise ValueError("says to hold more than its own size")
    return members
