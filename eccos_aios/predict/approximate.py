"""ApproximateIndex: approximate nearest neighbours among a million vectors, in a millisecond."""

from __future__ import annotations

import math
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.embedders.base import Vectors, unit_rows
from eccos_aios.predict.faiss_library import faiss
from eccos_aios.predict.npz import fill

EXACT_UP_TO = 50_000  # vectors; up to here an exact search is fast enough
LISTS_PER_ROOT = (
    4.0  # lists per square root of the vectors; ranking them then costs about as much as scanning
)
TRAINING_PER_LIST = 20  # vectors that k-means sees
SCANNED = 5_000  # vectors that a search compares
ROUNDS = 6  # of k-means; more gain nothing
SEED = 0
LONGEST_CENTROID = 1.001  # within the unit sphere, but for rounding
EXPONENT_OF_HALF = np.uint16(0x7C00)  # all bits set: infinite or NaN


class ApproximateIndex:
    """Vectors in lists by their nearest centroid, in half precision; the nearest lists are scanned.

    Parameters
    ----------
    width : int
        Dimensions.
    expected : int
        Vectors that will be added.

    Attributes
    ----------
    wanted : int
        Number of vectors to `train` with; a quarter of them loses half a point of recall.
    reach : int
        One more than the highest number of a vector.
    """

    def __init__(self, width: int, expected: int) -> None:
        lists = max(1, int(LISTS_PER_ROOT * math.sqrt(expected)))
        self.wanted = TRAINING_PER_LIST * lists
        self._index = _empty_index(faiss.IndexFlatIP(width), lists)
        self.reach = 0
        clustering = self._index.cp
        clustering.niter, clustering.spherical, clustering.seed = ROUNDS, True, SEED
        clustering.min_points_per_centroid = 1  # no warning on standard error where there are few
        self._index.nprobe = math.ceil(SCANNED * lists / expected)

    def train(self, vectors: Vectors) -> None:
        """Learn the centroids; before `add`."""
        some = vectors[vectors.any(axis=1)]
        if len(some) < self._index.nlist:
            # k-means needs a vector per list; if so few texts have one, any directions will do
            random = np.random.default_rng(SEED).standard_normal((self._index.nlist, vectors.shape[1]))
            some = np.vstack([some, unit_rows(random.astype(np.float32))])
        self._index.train(np.ascontiguousarray(some))

    @property
    def ntotal(self) -> int:
        """Number of vectors."""
        return int(self._index.ntotal)

    def add(self, vectors: Vectors, rows: NDArray[np.int64]) -> None:
        """Add vectors under the numbers that `search` returns. Vectors of zeros are left out.

        They are similar to nothing, and would all go into one list.
        """
        some = vectors.any(axis=1)
        self._index.add_with_ids(np.ascontiguousarray(vectors[some]), rows[some])
        if some.any():
            self.reach = max(self.reach, int(rows[some].max()) + 1)

    def search(self, vectors: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Similarities and numbers of the nearest, both (vectors, count), best first; -1: none."""
        similarity, rows = self._index.search(np.ascontiguousarray(vectors), count)
        return similarity, rows

    @property
    def width(self) -> int:
        """Dimensions."""
        return int(self._index.d)

    @property
    def probed(self) -> int:
        """Lists that a search scans."""
        return int(self._index.nprobe)

    @property
    def centroids(self) -> Vectors:
        """Of the lists, shape (lists, dimensions)."""
        quantizer = faiss.downcast_index(self._index.quantizer)
        return np.asarray(quantizer.reconstruct_n(0, self._index.nlist), dtype=np.float32)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Vectors in each list."""
        lists: Any = self._index.invlists
        return np.array([lists.list_size(place) for place in range(self._index.nlist)], dtype=np.int64)

    def write(self, file: IO[bytes]) -> None:
        """Write the numbers and vectors list by list, without a second copy in memory.

        Not by FAISS's own writer, whose reader trusts every length in the file.
        """
        lists: Any = self._index.invlists
        for place, size in enumerate(self.sizes.tolist()):
            if size:
                file.write(faiss.rev_swig_ptr(lists.get_ids(place), size).astype("<i8").tobytes())
                codes = faiss.rev_swig_ptr(lists.get_codes(place), size * self._index.code_size)
                file.write(np.asarray(codes, dtype=np.uint8).tobytes())

    @classmethod
    def read(
        cls,
        file: IO[bytes],
        total_bytes: int,
        centroids: Vectors,
        sizes: NDArray[np.int64],
        probed: int,
    ) -> ApproximateIndex:
        """The way back.

        Parameters
        ----------
        file : binary file
            What `write` wrote.
        total_bytes : int
            Its size.
        centroids, sizes, probed
            As the properties of the index that wrote it.

        Raises
        ------
        ValueError
            They do not fit together, or a number is not finite.
        """
        lists, width = centroids.shape
        if centroids.dtype != np.float32 or not (np.abs(centroids) <= LONGEST_CENTROID).all():
            raise ValueError("broken index: its centroids")
        if sizes.dtype != np.int64 or sizes.shape != (lists,) or (sizes < 0).any():
            raise ValueError("broken index: its lists")
        if type(probed) is not int or not 1 <= probed < 2**31:
            raise ValueError("broken index: the lists that are scanned")
        code_size = 2 * width
        if sum(sizes.tolist()) * (8 + code_size) != total_bytes:
            raise ValueError("broken index: its size")
        quantizer = faiss.IndexFlatIP(width)
        quantizer.add(np.ascontiguousarray(centroids))
        made = cls.__new__(cls)
        made._index = index = _empty_index(quantizer, lists)
        made.reach = 0
        inverted: Any = index.invlists
        for place, size in enumerate(sizes.tolist()):
            rows, codes = np.empty(size, dtype="<i8"), np.empty(size * code_size, dtype=np.uint8)
            fill(rows.view(np.uint8), file)
            fill(codes, file)
            if (rows < 0).any() or (codes.view("<u2") & EXPONENT_OF_HALF == EXPONENT_OF_HALF).any():
                raise ValueError("broken index: a number or a vector")
            if size:
                inverted.add_entries(place, size, faiss.swig_ptr(rows), faiss.swig_ptr(codes))
                made.reach = max(made.reach, int(rows.max()) + 1)
        index.ntotal, index.nprobe, index.is_trained = int(sizes.sum()), probed, True
        return made


def _empty_index(quantizer: faiss.IndexFlatIP, lists: int) -> faiss.IndexIVFScalarQuantizer:
    return faiss.IndexIVFScalarQuantizer(
        quantizer,
        quantizer.d,
        lists,
        faiss.ScalarQuantizer.QT_fp16,
        faiss.METRIC_INNER_PRODUCT,
        False,  # the vectors themselves, not their distance from the centroid
    )
