"""Texts -> counts of their terms: hashed words, word pairs and word beginnings, whole batches at once.

scikit-learn's vectorisers walk every text in Python: 256 calls of qa9 took them 60 ms and more, most of a
round. Here a batch is one array of code points, and words get their hashes from one cumulative sum.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import accumulate, chain
from operator import mul
from struct import pack

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

BUCKET_BITS = 18  # 262,144 buckets: at 50,000 distinct terms one in ten shares its bucket
BUCKETS = 1 << BUCKET_BITS
NO_STEM = 0  # a hash that no beginning has, but by a chance of 1 in 2**64
REMEMBERED_WORDS = 1 << 16
STEM_LETTERS = 4  # a word's beginning tells relatives apart from strangers in most European languages

_RADIX = np.uint64(0x9E3779B97F4A7C15)  # odd, so it has an inverse modulo 2**64
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))
_PAIR = np.uint64(0xC2B2AE3D27D4EB4F)
_STEM = np.uint64(0x165667B19E3779F9)
_SEPARATOR = "\0"
SPACE, LETTER, SINGLE = range(3)  # what a character is
DIGITS = np.uint32(10)
_IDEOGRAPHS = 0x3040  # from here on a character is taken as a word of its own
_MASK = (1 << 64) - 1
_WORD = re.compile("[^\\W\u3040-\U0010ffff]+|[^\\w\\s\\0\u3040-\U0010ffff]|[\u3040-\U0010ffff]")
_ALIKE = str.maketrans("123456789", "0" * 9)

Codes = NDArray[np.uint32]
Hashes = NDArray[np.uint64]


def count_terms(texts: Sequence[str]) -> csr_matrix:
    """Counts of every text's terms, shape (texts, `BUCKETS`), duplicates summed.

    Terms are words, single signs, ideographs, pairs of neighbours among them, and the first letters of
    longer words. Case is folded, digits are all alike (a number's length says more than its value).
    """
    if not texts:
        return csr_matrix((0, BUCKETS), dtype=np.float32)
    rows, buckets = _row_buckets(texts)
    counts = csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, buckets)), shape=(len(texts), BUCKETS))
    counts.sum_duplicates()
    return counts


def row_beginnings(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and bucket of every word of some texts, of the longer ones the first letters only.

    Histories keep what is made of these: they stay what they are, or what is kept is named anew.
    """
    if not texts:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    rows, words, stems, long = _found(texts)
    return rows, _buckets(np.where(long, stems, words))


def few_buckets(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and bucket of every term of a few texts, as often as it occurs; the same as `count_terms` has.

    For a text or two the arrays of a batch take longer than a look at each word: after a pause of 50 ms,
    when no code is in the processor's caches, 270 µs against 200 for the texts of tools12.
    """
    words = [_WORD.findall(text.lower().translate(_ALIKE)) for text in texts]
    each = map(_word_hashes.__getitem__, chain.from_iterable(words))
    hashes = np.frombuffer(b"".join(each), dtype=np.uint64)
    wholes, stems = hashes[::2], hashes[1::2]
    rows = np.zeros(len(wholes), dtype=np.int64)
    for end in accumulate(len(found) for found in words[:-1]):
        rows[end:] += 1
    return _row_terms(rows, wholes, stems, stems != NO_STEM)


class _WordHashes(dict[str, bytes]):
    """What `_hashes` makes of words and of their beginnings, which is `NO_STEM` where a word is short.

    As bytes, because a numpy array of Python's integers is slow to make. A plain dict, emptied when it is
    full: `lru_cache` touches twice the memory for each word. Any thread may ask.
    """

    def __missing__(self, word: str) -> bytes:
        stem = NO_STEM
        if len(word) > STEM_LETTERS:
            stem = _polynomial(word[:STEM_LETTERS]) * int(_STEM) & _MASK
        if len(self) >= REMEMBERED_WORDS:
            self.clear()
        self[word] = hashes = pack("=QQ", _polynomial(word), stem)
        return hashes


_word_hashes = _WordHashes()


def _polynomial(word: str) -> int:
    powers, summed = _power_sums(max(6, len(word).bit_length()))
    total: int = sum(map(mul, map(ord, word), powers)) + summed[len(word)]
    return total & _MASK


@cache
def _power_sums(bits: int) -> tuple[list[int], list[int]]:
    """Powers of the radix, more than words of so many bits' length have letters, and their sums."""
    powers: list[int] = _power_tables(1 << bits)[0].tolist()
    return powers, [0, *accumulate(powers)]


def _row_buckets(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and bucket of every term of some texts, as often as it occurs."""
    return _row_terms(*_found(texts))


def _found(texts: Sequence[str]) -> tuple[NDArray[np.int64], Hashes, Hashes, NDArray[np.bool_]]:
    """Every word's row, hash, hash of its beginning, and whether it is longer than that."""
    joined = _SEPARATOR.join(text.replace(_SEPARATOR, " ").lower() for text in texts) + _SEPARATOR
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    codes = np.where(codes - np.uint32(ord("0")) < DIGITS, np.uint32(ord("0")), codes)
    starts, ends = _words(codes)
    rows = np.flatnonzero(codes == 0).searchsorted(starts)
    return rows, *_hashes(codes, starts, ends), ends - starts > STEM_LETTERS


def _row_terms(
    rows: NDArray[np.int64], words: Hashes, stems: Hashes, long: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and bucket of words, of pairs of neighbours in a row, and of the beginnings of long words."""
    paired = rows[1:] == rows[:-1]
    pairs = (words[:-1] * _PAIR + words[1:])[paired]
    terms = np.concatenate([words, pairs, stems[long]])
    return np.concatenate([rows, rows[1:][paired], rows[long]]), _buckets(terms)


def _words(codes: Codes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each word starts and ends; signs and ideographs are words of one character."""
    kind = _kinds().take(codes, mode="clip")
    single = kind == SINGLE
    letter = np.zeros(len(codes) + 2, dtype=np.bool_)
    letter[1:-1] = kind == LETTER
    change = letter[1:] != letter[:-1]
    begins = (change[:-1] & letter[1:-1]) | single
    finishes = (change[1:] & letter[1:-1]) | single
    return np.flatnonzero(begins), np.flatnonzero(finishes) + 1


def _hashes(codes: Codes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> tuple[Hashes, Hashes]:
    """Polynomial hashes of the words and of their beginnings, modulo 2**64."""
    powers, inverses = _powers(len(codes))
    summed = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * powers, out=summed[1:])
    base = inverses[starts]
    words = (summed[ends] - summed[starts]) * base
    stems = (summed[np.minimum(starts + STEM_LETTERS, ends)] - summed[starts]) * base * _STEM
    return words, stems


def _powers(count: int) -> tuple[Hashes, Hashes]:
    size = 1 << max(12, int(count).bit_length())
    powers, inverses = _power_tables(size)
    return powers[:count], inverses[:count]


@cache
def _power_tables(size: int) -> tuple[Hashes, Hashes]:
    powers = np.full(size, _RADIX, dtype=np.uint64)
    inverses = np.full(size, _INVERSE, dtype=np.uint64)
    powers[0] = inverses[0] = 1
    return np.cumprod(powers), np.cumprod(inverses)


def _buckets(terms: Hashes) -> NDArray[np.int64]:
    mixed = (terms ^ (terms >> np.uint64(29))) * _RADIX
    return (mixed >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)


@cache
def _kinds() -> NDArray[np.uint8]:
    """Of every character below the ideographs; the last entry stands for all from there on."""
    return np.array([_kind(code) for code in range(_IDEOGRAPHS)] + [SINGLE], dtype=np.uint8)


def _kind(code: int) -> int:
    sign = chr(code)
    if sign.isalnum() or sign == "_":
        return LETTER
    return SPACE if code == 0 or sign.isspace() else SINGLE
