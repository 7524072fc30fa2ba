"""HashedEmbedder: an embedding that no fit changes, so that a store can hold it in place of a text."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from eccos_aios.predict.embedders.base import Embedder, Vectors, unit_rows
from eccos_aios.predict.terms import BUCKETS, row_beginnings
from eccos_aios.predict.text_free import CLASSES, MOST, Counts


class HashedEmbedder(Embedder):
    """Counts of words in 256 classes; the same vectors in every kernel and after every fit.

    A word's class is a hash of its first four letters. Counts go to 15 and weigh ``1 + ln(count)`` (feature
    hashing, Weinberger et al. 2009, with far fewer classes than words).

    A store can hold the counts in place of a text. They hide the order and the ends of words, and which of a
    class's words stood there. They do not hide whether a text is a certain one, as a hash would not either,
    and guessing the most frequent word beginning of each class is right for every second to third word; the
    package README has the measurements. So they do not protect against a search for a particular word.
    """

    def fit(self, texts: Sequence[str]) -> HashedEmbedder:
        return self

    def sharing_key(self) -> Hashable:
        return type(self)

    def transform(self, texts: Sequence[str]) -> Vectors:
        return class_vectors(class_counts(texts))


def class_counts(texts: Sequence[str]) -> Counts:
    """Counts of the word classes of texts, shape (texts, `CLASSES`)."""
    rows, buckets = row_beginnings(texts)
    cells = rows * CLASSES + buckets // (BUCKETS // CLASSES)
    counts = np.bincount(cells, minlength=len(texts) * CLASSES).reshape(len(texts), CLASSES)
    return np.minimum(counts, MOST).astype(np.uint8)


def class_vectors(counts: Counts) -> Vectors:
    """Vectors of the same shape, each of length 1, or 0 for a text without words."""
    return unit_rows(_WEIGHTS[counts])


_WEIGHTS = np.array([0.0, *(1 + np.log(np.arange(1, MOST + 1)))], dtype=np.float32)
