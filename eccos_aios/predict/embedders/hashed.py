"""HashedEmbedder: an embedding that no fit changes, so that it can be kept in place of a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eccos_aios.predict.embedders.base import Embedder, Vectors, unit_rows
from eccos_aios.predict.terms import BUCKETS, row_beginnings
from eccos_aios.predict.text import CallText
from eccos_aios.predict.text_free import CLASSES, MOST, Counts


class HashedEmbedder(Embedder):
    """How many words of each of 256 classes a text has; the same for every kernel and after every fit.

    A word's class is a hash of its first four letters. Counts go to 15 and weigh ``1 + ln(count)`` (feature
    hashing, Weinberger et al. 2009, in far fewer classes than there are words).

    What it costs (hybrid, means of three splits; Brier score on qa9, 1,500 records to learn from and 600 to
    predict, and on tools12, 640 and 228): with the texts 0.1584, 0.1140; with these embeddings in place of
    all texts 0.1625, 0.1146; of every other text 0.1624, 0.1146; with nothing in their place 0.2046, 0.1494.

    What it hides: order and ends of words, and which of a class's words stood there. What it does not:
    who knows or guesses a text can test for it, as by its hash. Guessing the commonest word beginning of
    every class, by the frequencies of these very data, hits half of those of qa9 and two of three of
    tools12; beyond the hundred commonest, which say little, 22 and 29 in a hundred. So it is no protection
    against who looks for one certain word.

    Tried and left: 64 classes 0.1661, 0.1159; 128 classes 0.1649, 0.1142; 512 classes 0.1616, 0.1135, where
    guesses beyond the commonest hit 37 and 48 in a hundred; 256 sums of random signs of the beginnings
    0.1624, 0.1159, from which every beginning of a query of 20 words could be computed. On one split, where
    those gave 0.1631, 0.1153: with pairs and whole words besides 0.1674, 0.1163; 128 such sums 0.1702,
    0.1190, 64 0.1699, 0.1195, 512 0.1658, 0.1163; 128 with the idf of other data 0.1724, 0.1203, centred
    0.1698, 0.1189, whitened 0.1702, 0.1193, and without the call's shape, which is kept too, 0.1809, 0.1335.
    """

    def fit(self, texts: Sequence[str]) -> HashedEmbedder:
        return self

    def transform(self, texts: Sequence[str]) -> Vectors:
        return class_vectors(class_counts(texts))


def class_counts(texts: Sequence[str]) -> Counts:
    """What is kept of texts, shape (texts, `CLASSES`)."""
    rows, buckets = row_beginnings(texts)
    cells = rows * CLASSES + buckets // (BUCKETS // CLASSES)
    counts = np.bincount(cells, minlength=len(texts) * CLASSES).reshape(len(texts), CLASSES)
    return np.minimum(counts, MOST).astype(np.uint8)


def class_vectors(counts: Counts) -> Vectors:
    """Vectors of the same shape, each of length 1, or 0 where there is no word."""
    return unit_rows(_WEIGHTS[counts])


def fitted_embedder(embedder: Embedder, calls: Sequence[CallText]) -> Embedder:
    """The embedder fitted on calls; where texts were left out and embeddings kept, the one that made them.

    Only so can calls with a text be compared with those without; see `HashedEmbedder` for what it costs.
    """
    if any(call.embedding is not None for call in calls):
        return HashedEmbedder()
    return embedder.fit([call.text for call in calls])


_WEIGHTS = np.array([0.0, *(1 + np.log(np.arange(1, MOST + 1)))], dtype=np.float32)
