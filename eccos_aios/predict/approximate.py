"""ApproximateIndex: the nearest of a million vectors in a millisecond, nearly always."""

from __future__ import annotations

import math

import faiss
import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.embed import Vectors

EXACT_UP_TO = 50_000  # vectors; up to here a search through all of them is quick enough
LISTS_PER_ROOT = 4.0  # of the vectors; ranking the lists then costs about what scanning some does
PROBES = 32  # lists that are scanned
ROUNDS = 6  # of k-means; more moves no figure
SEED = 0


class ApproximateIndex:
    """Vectors in lists by their nearest centroid, 8 bits a component; the nearest lists are scanned.

    Parameters
    ----------
    training : ndarray of shape (vectors, dimensions)
        What centroids and components' ranges are learned from.
    expected : int
        Vectors that will be added.
    """

    def __init__(self, training: Vectors, expected: int) -> None:
        lists = max(1, min(int(LISTS_PER_ROOT * math.sqrt(expected)), len(training)))
        width = training.shape[1]
        self._index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(width),
            width,
            lists,
            faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
            False,  # of the vectors themselves, not of their distance from the centroid
        )
        clustering = self._index.cp
        clustering.niter, clustering.spherical, clustering.seed = ROUNDS, True, SEED
        clustering.min_points_per_centroid = 1  # no warning on standard error where there are few
        self._index.train(np.ascontiguousarray(training))
        self._index.nprobe = PROBES

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

    def search(self, vectors: Vectors, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Similarities and numbers of the nearest, both (vectors, count), best first; number -1: none."""
        similarity, rows = self._index.search(np.ascontiguousarray(vectors), count)
        return similarity, rows

    def saved(self) -> dict[str, NDArray[np.uint8]]:
        """What a file keeps of it."""
        return {"packed": faiss.serialize_index(self._index)}

    def restore(self) -> None:
        """Rebuild from what the file kept.

        Raises
        ------
        ValueError
            It is no such index.
        """
        packed = self.__dict__.pop("packed")
        try:
            self._index = faiss.deserialize_index(packed)
        except RuntimeError as error:
            raise ValueError(f"broken index: {error}") from error
        if not isinstance(self._index, faiss.IndexIVFScalarQuantizer):
            raise ValueError(f"not the kind of index it should be: {type(self._index).__name__}")
