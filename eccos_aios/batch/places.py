"""Files by path or address, on any file system that pyarrow or fsspec knows, as Ray Data reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from eccos_aios.errors import ABSENT, QueryError

HIDDEN = (".", "_")  # names of files in a folder that are no data


@dataclass(frozen=True)
class File:
    """A file of queries.

    Attributes
    ----------
    name : str
        In errors: as the user gave it; in a folder, with the folder's name.
    address : str
        Path or address to open it by, from any machine that sees the file system.
    size : int
        Bytes.
    """

    name: str
    address: str
    size: int


def files_at(address: str) -> list[File]:
    """The file at a path or address, or the files in the folder there, sorted by name.

    Raises
    ------
    QueryError
        There is nothing, or it cannot be read.
    """
    from pyarrow.fs import FileSelector, FileType

    with _reading(address):
        system, path = file_system(address)
        (found,) = system.get_file_info([path])
        if found.type == FileType.NotFound:
            raise QueryError(address, "", ABSENT, "cannot be read: No such file or directory")
        if found.type == FileType.File:
            return [File(address, _absolute(address), found.size or 0)]
        inside = system.get_file_info(FileSelector(path, recursive=True))
    base = address.rstrip("/")
    files = []
    for each in sorted(inside, key=lambda info: str(info.path)):
        below = each.path[len(path.rstrip("/")) + 1 :]
        if each.type == FileType.File and not any(part.startswith(HIDDEN) for part in below.split("/")):
            files.append(File(f"{base}/{below}", _absolute(f"{base}/{below}"), each.size or 0))
    if not files:
        raise QueryError(address, "", ABSENT, "is a folder without files")
    return files


@contextmanager
def opened(address: str) -> Iterator[BinaryIO]:
    """The file, to read; can seek.

    Raises
    ------
    QueryError
        It cannot be read.
    """
    with _reading(address):
        system, path = file_system(address)
        file = system.open_input_file(path)
    with file:
        yield file


def write_to(address: str, content: bytes) -> None:
    """Write a file; where the file system is local, a reader never sees an incomplete one.

    Elsewhere an object appears when it is complete.
    """
    from pyarrow.fs import LocalFileSystem

    system, path = file_system(address)
    local = isinstance(system, LocalFileSystem)
    folder, _, name = path.rpartition("/")
    written = f"{folder}/.{name}.tmp" if local else path
    with system.open_output_stream(written, compression=None) as file:
        file.write(content)
    if local:
        system.move(written, path)


def make_folder(address: str) -> None:
    """Make a folder with those above it.

    Raises
    ------
    OSError
        It cannot be made, or holds something already.
    """
    from pyarrow.fs import FileSelector

    system, path = file_system(address)
    if system.get_file_info(FileSelector(path, allow_not_found=True)):
        raise FileExistsError("is a folder that is not empty")
    system.create_dir(path, recursive=True)


def file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    import pyarrow
    from pyarrow import fs

    if "://" not in address:
        return fs.LocalFileSystem(), _absolute(address)
    try:
        system, path = fs.FileSystem.from_uri(address)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        import fsspec  # comes with ray[data]

        other, path = fsspec.core.url_to_fs(address)
        return fs.PyFileSystem(fs.FSSpecHandler(other)), path
    return system, path


def _absolute(address: str) -> str:
    return address if "://" in address else str(Path(address).absolute())


@contextmanager
def _reading(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise QueryError(address, "", ABSENT, f"cannot be read: {reason}") from error
