"""Texts -> counts of their terms: hashed words, word pairs and word beginnings, a whole batch at once.

scikit-learn's vectorisers loop over words in Python: 60 ms and more for 256 calls, most of a round. Here a
batch is one array of code points, and one cumulative sum gives the hashes of all words.
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

BUCKET_BITS = 18  # 262,144 buckets: of 50,000 distinct terms, one in ten shares its bucket
BUCKETS = 1 << BUCKET_BITS
NO_STEM = 0  # the hash of a beginning is 0 with a probability of 2**-64
REMEMBERED_WORDS = 1 << 16
STEM_LETTERS = 4  # related words share as many letters in most European languages

_RADIX = np.uint64(0x9E3779B97F4A7C15)  # odd, so it has an inverse modulo 2**64
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))
_PAIR = np.uint64(0xC2B2AE3D27D4EB4F)
_STEM = np.uint64(0x165667B19E3779F9)
_SEPARATOR = "\0"
SPACE, LETTER, SINGLE = range(3)  # kinds of characters
DIGITS = np.uint32(10)
_IDEOGRAPHS = 0x3040  # from here on each character is a word
_MASK = (1 << 64) - 1
_WORD = re.compile("[^\\W\u3040-\U0010ffff]+|[^\\w\\s\\0\u3040-\U0010ffff]|[\u3040-\U0010ffff]")
_ALIKE = str.maketrans("123456789", "0" * 9)

Codes = NDArray[np.uint32]
Hashes = NDArray[np.uint64]


def count_terms(texts: Sequence[str]) -> csr_matrix:
    """Counts of every text's terms, shape (texts, `BUCKETS`), duplicates summed.

    Terms are words, punctuation marks, ideographs, adjacent pairs of these, and the first letters of longer
    words. Case is folded, and all digits are equal: a number's length says more than its value.
    """
    if not texts:
        return csr_matrix((0, BUCKETS), dtype=np.float32)
    rows, buckets = _row_buckets(texts)
    counts = csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, buckets)), shape=(len(texts), BUCKETS))
    counts.sum_duplicates()
    return counts


def row_beginnings(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and bucket of every word, of which only the first letters count.

    Histories store counts of these: any change needs another `text_free.KIND`.
    """
    if not texts:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    rows, words, stems, long = _found(texts)
    return rows, _buckets(np.where(long, stems, words))


def few_buckets(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and bucket of every occurrence of a term in a few texts; the same terms as in `count_terms`.

    For one or two texts a loop over the words is faster than the arrays of a batch.
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
    """Cache of the hashes of words and of their beginnings (`NO_STEM` for a short word).

    Values are bytes, because an array is slow to make from Python integers. A plain dict that is cleared
    when full, because `lru_cache` touches twice the memory. Any thread may use it.
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
    """The first ``2 ** bits`` powers of the radix, and their cumulative sums."""
    powers: list[int] = _power_tables(1 << bits)[0].tolist()
    return powers, [0, *accumulate(powers)]


def _row_buckets(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and bucket of every occurrence of a term."""
    return _row_terms(*_found(texts))


def _found(texts: Sequence[str]) -> tuple[NDArray[np.int64], Hashes, Hashes, NDArray[np.bool_]]:
    """Of every word its row, its hash, the hash of its beginning, and whether it is longer than that."""
    joined = _SEPARATOR.join(text.replace(_SEPARATOR, " ").lower() for text in texts) + _SEPARATOR
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    codes = np.where(codes - np.uint32(ord("0")) < DIGITS, np.uint32(ord("0")), codes)
    starts, ends = _words(codes)
    rows = np.flatnonzero(codes == 0).searchsorted(starts)
    return rows, *_hashes(codes, starts, ends), ends - starts > STEM_LETTERS


def _row_terms(
    rows: NDArray[np.int64], words: Hashes, stems: Hashes, long: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and bucket of words, of adjacent pairs within a row, and of the beginnings of long words."""
    paired = rows[1:] == rows[:-1]
    pairs = (words[:-1] * _PAIR + words[1:])[paired]
    terms = np.concatenate([words, pairs, stems[long]])
    return np.concatenate([rows, rows[1:][paired], rows[long]]), _buckets(terms)


def _words(codes: Codes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of each word; punctuation marks and ideographs are words of one character."""
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
    """Kind of every character below the ideographs; the last entry is for all others."""
    return np.array([_kind(code) for code in range(_IDEOGRAPHS)] + [SINGLE], dtype=np.uint8)


def _kind(code: int) -> int:
    sign = chr(code)
    if sign.isalnum() or sign == "_":
        return LETTER
    return SPACE if code == 0 or sign.isspace() else SINGLE
