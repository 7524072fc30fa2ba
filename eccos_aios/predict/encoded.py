"""EncodedCalls: calls that several predictors estimate, each encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.text import CallText

Encoding = tuple[NDArray[Any], ...]
"""Arrays whose rows are calls."""


class EncodedCalls(Sequence[CallText]):
    """Calls with what fitted parts have made of them: vectors, features, similar past calls.

    The scheduler's predictor and the plans' are fitted on the same records, so many of their parts are equal,
    wherever they were fitted or loaded. Of the same `EncodedCalls` each such part is computed once. Not
    thread-safe.

    Parameters
    ----------
    calls : sequence of CallText
    """

    def __init__(self, calls: Sequence[CallText]) -> None:
        self._calls = tuple(calls)
        self._encodings: dict[Hashable, Encoding] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[CallText]:
        return iter(self._calls)

    @overload
    def __getitem__(self, place: int) -> CallText: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[CallText, ...]: ...

    def __getitem__(self, place: int | slice) -> CallText | tuple[CallText, ...]:
        return self._calls[place]

    def take(self, rows: Sequence[int]) -> EncodedCalls:
        """Some of the calls, with what has been made of them."""
        taken = EncodedCalls([self._calls[row] for row in rows])
        whole = len(rows) == len(self)
        for key, arrays in self._encodings.items():
            taken._encodings[key] = arrays if whole else tuple(array[list(rows)] for array in arrays)
        return taken

    def encoding(self, key: Hashable, encode: Callable[[], Encoding]) -> Encoding:
        """What `encode` returns, or what it returned before under the same key; not to be written to."""
        found = self._encodings.get(key)
        if found is None:
            self._encodings[key] = found = encode()
            for array in found:
                array.setflags(write=False)
        return found


def encoding_of(calls: Sequence[CallText], key: Hashable, encode: Callable[[], Encoding]) -> Encoding:
    """What `encode` returns; of `EncodedCalls`, computed once for all equal keys."""
    return calls.encoding(key, encode) if isinstance(calls, EncodedCalls) else encode()


class Itself:
    """A key that is equal only where it is of the same object, which lives as long as the key.

    Parameters
    ----------
    of : object
        Need not be hashable.
    """

    def __init__(self, of: object) -> None:
        self._of = of

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and self._of is other._of

    def __hash__(self) -> int:
        return id(self._of)


def digest_of(*arrays: NDArray[Any]) -> bytes:
    """Equal for equal arrays."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
