"""ApproximateIndex: the nearest of a million vectors in a millisecond, nearly always."""

from __future__ import annotations

import math
from typing import IO, Any

import faiss
import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.embedders.base import Vectors, unit_rows
from eccos_aios.predict.npz import fill

EXACT_UP_TO = 50_000  # vectors; up to here a search through all of them is quick enough
LISTS_PER_ROOT = 4.0  # of the vectors; ranking the lists then costs about what scanning some does
TRAINING_PER_LIST = 20  # vectors that k-means sees
SCANNED = 5_000  # vectors that a search compares; fewer records have more of their lists scanned
ROUNDS = 6  # of k-means; more moves no figure
SEED = 0
LONGEST_CENTROID = 1.001  # they lie within the unit sphere
EXPONENT_OF_HALF = np.uint16(0x7C00)  # all of its bits set: infinite, or no number


class ApproximateIndex:
    """Vectors in lists by their nearest centroid, in half precision; the nearest lists are scanned.

    `bench history` on a million records of 256 dimensions and two CPUs: of 4,000 lists, 20 scanned give
    recall@16 0.968 and 47 ms for 256 calls, 32 give 0.980 and 64 ms.

    Tried and left, on a million such vectors from another sample's embedder, 32 of 4,096 lists scanned, for
    a call and for 256 in CPU time (half precision: recall 0.970, 0.50 ms, 106 ms):

    - 8 bits a component: half the memory, recall 0.959, and slower to unpack: 0.67 ms and 144 ms.
    - 4 bits: recall 0.827, 0.90 ms and 218 ms; re-ranked by vectors in half precision 0.969, still slower.
    - 2,048 lists of 8 bits, 32 scanned: recall 0.966 at twice the time for a call.
    - Product quantisation (128 x 4 bits, fast scan), re-ranked by 8 bits: with free texts only, which have
      no near relatives, recall 0.870 at 64 of 2,048 lists, where 8 bits alone have 0.909.
    - A graph (HNSW, 32 links, 8 bits): stopped unbuilt after four minutes on a busy machine; 100,000 free
      texts took 45 s to build and 101 ms for 256 calls at recall 0.948.

    Parameters
    ----------
    width : int
        Dimensions.
    expected : int
        Vectors that will be added.

    Attributes
    ----------
    wanted : int
        Vectors to `train` with; with a quarter of them, half a point of recall is lost.
    reach : int
        One more than the highest number by which a vector is named.
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
        """Learn the centroids, before anything is added."""
        some = vectors[vectors.any(axis=1)]
        if len(some) < self._index.nlist:
            # k-means wants a vector a list; where so few texts tell anything, any direction will do
            random = np.random.default_rng(SEED).standard_normal((self._index.nlist, vectors.shape[1]))
            some = np.vstack([some, unit_rows(random.astype(np.float32))])
        self._index.train(np.ascontiguousarray(some))

    @property
    def ntotal(self) -> int:
        """Vectors in it."""
        return int(self._index.ntotal)

    def add(self, vectors: Vectors, rows: NDArray[np.int64]) -> None:
        """Add vectors under the numbers by which `search` names them. Vectors of zeros are left out.

        They are like nothing, and all of them in one list would be a long one.
        """
        some = vectors.any(axis=1)
        self._index.add_with_ids(np.ascontiguousarray(vectors[some]), rows[some])
        if some.any():
            self.reach = max(self.reach, int(rows[some].max()) + 1)

    def search(self, vectors: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Similarities and numbers of the nearest, both (vectors, count), best first; number -1: none."""
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
        """Write the lists' numbers and vectors, one list after the other; never all in memory twice.

        Not by FAISS's own writer: what it writes can only be read by code that trusts every length in it.
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
            Of it.
        centroids, sizes, probed
            As the properties of the index that wrote it.

        Raises
        ------
        ValueError
            These do not fit together, or something is not finite.
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
        False,  # of the vectors themselves, not of their distance from the centroid
    )
