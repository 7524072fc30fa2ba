"""Tokens are estimated near what tokenizers count, and for limits not below it."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.predict import count_tokens, use_tokenizer
from eccos_aios.predict.tokens import CHECKED, MAX_COUNTED, _counted

BYTES = random.Random(3).randbytes(1500)
TEXTS = {
    "English": "The committee met on Tuesday to consider whether the old bridge should be repaired or replaced. Several residents spoke in favour of keeping it, since it had carried their grandparents to market, while the engineer explained patiently that its foundations had been moving by a few millimetres every winter. ",
    "code": "def merged(first: list[int], second: list[int]) -> list[int]:\n    result = []\n    while first and second:\n        result.append((first if first[0] <= second[0] else second).pop(0))\n    return result + first + second\n",
    "JSON": '{"id": 17, "name": "Ada Lovelace", "tags": ["maths", "engine"], "active": true, "score": 0.93}\n',
    "hex": BYTES.hex(),
    "base64": base64.b64encode(BYTES).decode(),
    "digits": str(int.from_bytes(BYTES, "big")),
    "UUIDs": "550e8400-e29b-41d4-a716-446655440000\n3f2504e0-4f89-11d3-9a0c-0305e82c3301\n",
    "Chinese": "请把这份租房合同逐条改写成普通人能看懂的话并指出对租客不利的地方。",
    "old Chinese": "那是一個寒冷的冬夜，北風呼嘯著穿過空蕩蕩的街道。老人裹緊了身上的舊棉襖，慢慢地走在回家的路上。",
    "Japanese": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所でニャーニャー泣いていた事だけは記憶している。",
    "Korean": "그날 아침에는 비가 내리고 있었다. 할머니는 우산을 들고 시장에 가셨고, 나는 창가에 앉아 빗소리를 들으며 책을 읽었다. ",
    "Russian": "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. ",
    "Arabic": "كان الرجل العجوز يعيش في قرية صغيرة قرب النهر. كل صباح كان يخرج مبكرا إلى الحقل ويعود مع غروب الشمس. ",
    "Hindi": "एक समय की बात है, नदी के किनारे एक छोटे से गाँव में एक बूढ़ा आदमी रहता था। ",
    "Thai": "กาลครั้งหนึ่งนานมาแล้ว มีชายชราคนหนึ่งอาศัยอยู่ในหมู่บ้านเล็กๆ ใกล้แม่น้ำ ",
    "Georgian": "ერთხელ მდინარის პირას პატარა სოფელში მოხუცი კაცი ცხოვრობდა. ",
    "Amharic": "በአንድ ወቅት በወንዝ አጠገብ በሚገኝ አነስተኛ መንደር ውስጥ አንድ ሽማግሌ ይኖር ነበር። ",
    "German": "Jemand musste Josef K. verleumdet haben, denn ohne dass er etwas Böses getan hätte, wurde er eines Morgens verhaftet. ",
    "Finnish": "Oli kerran pieni kylä, jonka asukkaat elivät rauhassa ja sovussa keskenään. ",
    "emoji": "😀🎉🚀🥺🦄💯🔥🫠",
    "rare": "".join(map(chr, range(0x4E00, 0x9F00, 97))),
}  # fmt: skip
# Of each, repeated to 1,500 characters: the mean of what cl100k, o200k, Qwen's and Llama 3's tokenizers count,
# and the most of these and Mistral's tekken.
COUNTED = {
    "English": (276, 276), "code": (392, 392), "JSON": (616, 656), "hex": (1946, 2682), "base64": (1430, 1513),
    "digits": (1807, 3613), "UUIDs": (1118, 1512), "Chinese": (1380, 1886), "old Chinese": (1720, 2496),
    "Japanese": (1358, 1716), "Korean": (1151, 1542), "Russian": (592, 834), "Arabic": (657, 1036),
    "Hindi": (1051, 1561), "Thai": (1003, 1617), "Georgian": (1869, 2775), "Amharic": (2977, 3619),
    "German": (433, 443), "Finnish": (601, 661), "emoji": (3290, 6016), "rare": (3384, 4064),
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_tokenizer() -> Iterator[None]:
    yield
    use_tokenizer(None)


def text_of(kind: str) -> str:
    return TEXTS[kind] * -(-1500 // len(TEXTS[kind]))


@pytest.mark.parametrize("kind", TEXTS)
def test_tokens_are_near_what_tokenizers_count_and_for_limits_not_below(kind: str) -> None:
    mean, dearest = COUNTED[kind]
    counted = count_tokens(text_of(kind))
    assert 0.65 * mean <= counted.expected <= 1.35 * mean
    assert dearest <= counted.most <= 2.1 * dearest


def test_english_prose_is_near_four_characters_a_token_and_hardly_overestimated() -> None:
    text = text_of("English")
    counted = count_tokens(text)
    assert counted.expected == pytest.approx(len(text) / 4, rel=0.3)
    assert counted.most <= 1.3 * COUNTED["English"][1]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300) | st.lists(st.integers(0, 0x10FFFF).map(chr), max_size=30).map("".join))
def test_any_text_is_counted_and_at_most_by_a_token_a_byte(text: str) -> None:
    counted = count_tokens(text)
    assert 0 <= counted.expected <= counted.most
    assert counted.most <= 3 * len(text.encode("utf-8", "surrogatepass")) + 3


def test_words_are_not_joined() -> None:
    assert count_tokens("a " * 1000).expected >= 1000


@pytest.mark.parametrize("kind", ["English", "Chinese", "hex"])
def test_of_a_huge_text_a_sample_is_counted(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []

    def counted_by_length(text: str) -> tuple[float, float]:
        lengths.append(len(text))
        return _counted(text)

    once = text_of(kind)
    times = 20 * MAX_COUNTED // len(once)
    of_once = count_tokens(once)
    monkeypatch.setattr("eccos_aios.predict.tokens._counted", counted_by_length)
    assert count_tokens(once * times).expected == pytest.approx(times * of_once.expected, rel=0.03)
    assert 0 < sum(lengths) <= MAX_COUNTED


def test_a_tokenizer_that_is_there_raises_the_most_of_a_long_text_alone() -> None:
    asked: list[str] = []

    def dear(text: str) -> list[int]:
        asked.append(text)
        return [0] * 2 * len(text)

    long, short = text_of("English") * 5, text_of("English")
    before = count_tokens(long), count_tokens(short)
    use_tokenizer(dear)
    assert count_tokens(short) == before[1]
    assert not asked
    counted = count_tokens(long)
    assert counted.expected == before[0].expected
    assert counted.most == pytest.approx(2 * len(long), rel=0.15)
    assert sum(map(len, asked)) <= CHECKED[0] * CHECKED[1]
    use_tokenizer(lambda text: [])
    assert count_tokens(long) == before[0]
