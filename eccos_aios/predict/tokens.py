"""Token counts without a tokenizer: by pairs of ASCII characters and by script.

Whatever the tokenizer, a token ends between two characters the more often the rarer the pair is: hardly ever
inside "th", mostly inside "xq". So the count is a sum over adjacent pairs, plus a count per character beyond
ASCII by its script. Fitted on 1,760 texts for cl100k, o200k, Qwen, Llama 3 and Mistral's tekken. The README
of `predict` has the errors on other texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_COUNTED = 262_144  # characters; of a longer text, `SLICES` evenly spread slices are counted
SLICES = 64
# Factor on the upper estimate, for other tokenizers that produce more tokens, such as Llama 2's.
SAFETY = 1.05
CHECKED_FROM = 500  # tokens from which a tokenizer is used; fewer fit into any context window
CHECKED = (4, 256)  # number of slices that it counts, and characters of each: 0.1 ms

# How often a token ends between two letters, in tenths: rows by the first letter, columns by the second.
LETTER_PAIRS = (
    "40004102110000607000101101" "23441646217064179125187808"  # a, b
    "13130580270035038120158525" "12510435345137148215155516"  # c, d
    "13001113373000410000711015" "14321055087164046041176439"  # e, f
    "23540821189251189013168735" "16750876198275066160175743"  # g, h
    "10000004421000005000308160" "25752797656676275817297989"  # i, j
    "35871822274652579524563939" "15500267185084029611246707"  # k, l
    "11620727176116116613277618" "14000203251331139600227216"  # m, n
    "20003004220000108000000125" "16550620275025107000146328"  # o, p
    "78878998599277864465076689" "17110315191411046110224707"  # q, r
    "27160451162324123300121815" "16211260195316108010261105"  # s, t
    "10100124052000607000526234" "17640716175837269556766748"  # u, v
    "16651770177661169214791639" "34343498399717719770899428"  # w, x
    "47574988498230019311795765" "36751783496875489976585743"  # y, z
)  # fmt: skip

# Tokens that a character adds after another, in hundredths: expected and upper estimate. Rows: the character
# before; columns: the character. The order is lower-case letter, capital, digit, space, line break or tab,
# punctuation, control character, anything beyond ASCII.
EXPECTED_STEPS = (
    (5, 55, 75, 10, 80, 35, 105, 55),
    (5, 10, 85, 0, 45, 50, 105, 55),
    (105, 85, 50, 20, 70, 65, 100, 50),
    (60, 100, 150, 2, 50, 70, 100, 50),
    (95, 90, 105, 105, 5, 80, 100, 35),
    (55, 45, 115, 50, 5, 65, 105, 65),
    (105, 105, 100, 100, 100, 105, 105, 100),
    (60, 70, 80, 0, 35, 100, 100, 15),
)
UPPER_STEPS = (
    (0, 55, 80, 30, 85, 40, 120, 40),
    (0, 20, 90, 0, 50, 70, 120, 75),
    (115, 90, 105, 30, 85, 65, 120, 60),
    (45, 100, 175, 5, 50, 80, 115, 25),
    (100, 95, 115, 95, 35, 40, 115, 0),
    (60, 55, 145, 50, 0, 75, 120, 85),
    (120, 120, 120, 115, 115, 120, 120, 115),
    (75, 85, 95, 0, 5, 85, 115, 60),
)
# Factors on `LETTER_PAIRS`: inside a word, after its capital, between capitals.
EXPECTED_PAIR_FACTORS = (1.6, 1.85, 1.65)
UPPER_PAIR_FACTORS = (2.6, 2.35, 1.45)
# Tokens of a repeated letter and of a repeated punctuation mark, expected and upper estimate.
REPEATED_LETTER = (0.25, 0.5)
REPEATED_SIGN = (0.05, 0.12)

# Tokens of a character beyond ASCII, in hundredths, expected and upper estimate; ranges of code points. A
# later range overrides an earlier one.
SCRIPTS: tuple[tuple[int, int, tuple[tuple[int, int], ...]], ...] = (
    (275, 350, ((0x10000, 0x10FFFF),)),
    (140, 260, ((0x0800, 0xFFFF),)),  # three bytes, and rare in tokenizers
    # Armenian, Indic, Lao, Tibetan, Georgian
    (110, 170, ((0x0530, 0x058F), (0x0700, 0x08FF), (0x0980, 0x0DFF), (0x0E80, 0x0FFF), (0x10A0, 0x10FF))),
    (15, 95, ((0x00C0, 0x02AF), (0x1E00, 0x1EFF))),  # Latin letters with diacritics
    (125, 200, ((0x0080, 0x00BF), (0x2000, 0x206F), (0x20A0, 0x20CF))),  # dashes, quotes, currencies
    (165, 205, ((0x02B0, 0x036F),)),  # combining marks
    (50, 70, ((0x0370, 0x03FF),)),  # Greek
    (170, 245, ((0x0400, 0x052F),)),  # Cyrillic letters that are not Russian
    (20, 10, ((0x0410, 0x044F),)),
    (60, 90, ((0x0590, 0x05FF),)),  # Hebrew
    (115, 155, ((0x0600, 0x06FF),)),  # Arabic letters of other languages
    (25, 40, ((0x060C, 0x060C), (0x0621, 0x064A))),
    (60, 95, ((0x0900, 0x097F),)),  # Devanagari
    (45, 55, ((0x0E00, 0x0E7F),)),  # Thai
    (45, 30, ((0x3040, 0x30FF),)),  # kana
    (160, 215, ((0x3400, 0x9FFF),)),  # rare or traditional Chinese characters
    (225, 270, ((0xAC00, 0xD7A3),)),  # rare Korean syllables
    (80, 100, ((0x3000, 0x303F), (0xFF00, 0xFF0F), (0xFF1A, 0xFF20))),  # CJK punctuation
    (80, 220, ((0x2070, 0x209F), (0x2100, 0x2BFF))),  # arrows, mathematics, box drawing
    (210, 350, ((0x1F000, 0x1FAFF), (0xFE00, 0xFE0F))),  # emoji
)
# Frequent characters, which a national standard lists first: codec, first and last lead byte, and the tokens
# of a character as above.
FREQUENT = (("gb2312", 0xB0, 0xD7, 70, 80), ("euc_kr", 0xB0, 0xC8, 50, 90))

ASCII = 128
WIDTH = ASCII + 1  # of the table of pairs, where everything beyond ASCII is one character
LAST = 0x1FFFF  # code points above count as this one
LOWER, CAPITAL, DIGIT, SPACE, BREAK, SIGN, CONTROL, BEYOND = range(8)

Weights = NDArray[np.float64]
Encode = Callable[[str], Sequence[int]]


class TokenCount(NamedTuple):
    """Tokens of a text.

    Attributes
    ----------
    expected : float
        Mean over common tokenizers, for the cost; independent of installed packages.
    most : float
        Upper estimate over common tokenizers, for context windows.
    """

    expected: float
    most: float


_encode: Encode | None = None


def use_tokenizer(encode: Encode | None) -> None:
    """Set the tokenizer that corrects `TokenCount.most` of long texts in this process; None: none."""
    global _encode
    _encode = encode


def count_tokens(text: str) -> TokenCount:
    """Estimate the tokens of a text; a lone surrogate counts as a character.

    A text longer than `MAX_COUNTED` characters is sampled, which bounds the time to 2 ms.
    """
    if not text:
        return TokenCount(0.0, 0.0)
    scale, counted = 1.0, text
    if len(text) > MAX_COUNTED:
        counted = "".join(_slices(text, SLICES, MAX_COUNTED // SLICES))
        scale = len(text) / len(counted)
    expected, most = (scale * tokens for tokens in _counted(counted))
    encode = _encode
    if encode is not None and most >= CHECKED_FROM:
        most = max(most, SAFETY * expected * _tokenizer_ratio(text, encode))
    return TokenCount(expected, most)


def _slices(text: str, count: int, each: int) -> list[str]:
    """Slices spread evenly from the first character to the last."""
    return [
        text[start : start + each]
        for start in range(0, len(text) - each + 1, (len(text) - each) // (count - 1))
    ]


def _tokenizer_ratio(text: str, encode: Encode) -> float:
    """A tokenizer's count over the expected count, on a few slices."""
    slices = _slices(text, *CHECKED) if len(text) > CHECKED[0] * CHECKED[1] else [text]
    return sum(len(encode(each)) for each in slices) / sum(_counted(each)[0] for each in slices)


def _counted(text: str) -> tuple[float, float]:
    """Expected tokens and upper estimate."""
    tables = _tables()
    expected = most = 0.0
    if text.isascii():
        codes = np.frombuffer(b"\n" + text.encode("ascii"), dtype=np.uint8).astype(np.intp)
    else:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        scripts = np.bincount(tables.script[np.minimum(points, LAST)], minlength=len(tables.of_script[0]))
        expected, most = (tables.of_script @ scripts).tolist()
        codes = np.concatenate([[ord("\n")], np.minimum(points, ASCII)])
    pairs = codes[:-1] * WIDTH + codes[1:]
    words = float(np.count_nonzero(tables.starts.take(pairs)))  # no token spans two
    expected = max(words, expected + float(tables.expected.take(pairs).sum()))
    return expected, max(expected, SAFETY * (most + float(tables.most.take(pairs).sum())))


class _Tables(NamedTuple):
    """Tokens by pair of characters and by script.

    Attributes
    ----------
    expected, most : ndarray of shape (`WIDTH` * `WIDTH`,)
        Tokens of the second character of a pair.
    starts : ndarray of bool of shape (`WIDTH` * `WIDTH`,)
        Whether a word starts between the two.
    script : ndarray of shape (`LAST` + 1,)
        Column in `of_script` by code point.
    of_script : ndarray of shape (2, scripts)
        Tokens per character, expected and upper estimate; the first column, for ASCII, is 0.
    """

    expected: Weights
    most: Weights
    starts: NDArray[np.bool_]
    script: NDArray[np.uint8]
    of_script: Weights


@cache
def _tables() -> _Tables:
    script = np.zeros(LAST + 1, dtype=np.uint8)
    columns = [(0, 0)]
    for expected, most, ranges in SCRIPTS:
        for first, last in ranges:
            script[first : last + 1] = len(columns)
        columns.append((expected, most))
    for codec, first, last, expected, most in FREQUENT:
        rows = (bytes((lead, trail)) for lead in range(first, last + 1) for trail in range(0xA1, 0xFF))
        script[[ord(character) for character in b"".join(rows).decode(codec, "ignore")]] = len(columns)
        columns.append((expected, most))
    kinds = np.array([_kind(code) for code in range(WIDTH)])
    blank = (kinds == SPACE) | (kinds == BREAK)
    return _Tables(
        _pair_table(kinds, EXPECTED_STEPS, EXPECTED_PAIR_FACTORS, (REPEATED_LETTER[0], REPEATED_SIGN[0])),
        _pair_table(kinds, UPPER_STEPS, UPPER_PAIR_FACTORS, (REPEATED_LETTER[1], REPEATED_SIGN[1])),
        (blank[:, None] & ~blank).reshape(-1),
        script,
        np.array(columns, dtype=np.float64).T / 100,
    )


def _pair_table(
    kinds: NDArray[np.intp],
    steps: tuple[tuple[int, ...], ...],
    factors: tuple[float, float, float],
    repeated: tuple[float, float],
) -> Weights:
    table = np.array(steps, dtype=np.float64)[kinds[:, None], kinds] / 100
    letters = np.frombuffer("".join(LETTER_PAIRS).encode(), dtype=np.uint8).reshape(26, 26)
    ends = (letters - float(ord("0"))) / 10
    inside, after_capital, capitals = factors
    lower, capital = (slice(ord(first), ord(first) + 26) for first in "aA")
    table[lower, lower] += inside * ends
    table[capital, lower] += after_capital * ends
    table[capital, capital] += capitals * ends
    again = np.arange(WIDTH)
    letter = (kinds == LOWER) | (kinds == CAPITAL)
    table[again[letter], again[letter]] = np.minimum(np.diag(table)[letter], repeated[0])
    table[again[kinds == SIGN], again[kinds == SIGN]] = repeated[1]
    flat: Weights = table.reshape(-1)
    return flat


def _kind(code: int) -> int:
    character = chr(code)
    if code >= ASCII:
        return BEYOND
    if character.isalnum():
        return DIGIT if character.isdigit() else LOWER if character.islower() else CAPITAL
    if character == " ":
        return SPACE
    return BREAK if character in "\n\r\t" else SIGN if character.isprintable() else CONTROL
