"""Hard limits: which cores may take a call, and the line that says why none may."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.core import ABILITIES, Core
from eccos_aios.predict import call_text
from eccos_aios.schedule import Requirements, allowed_cores, why_none

NAMES = ("a", "b", "c")
ABILITY_SETS = st.frozensets(st.sampled_from(sorted(ABILITIES)))
CORES = st.tuples(*(
    st.builds(Core, name=st.just(name), context_window=st.none() | st.integers(1, 100), supports=ABILITY_SETS)
    for name in NAMES
))  # fmt: skip
NEEDS = st.builds(
    Requirements,
    input_tokens=st.floats(0, 120),
    abilities=ABILITY_SETS,
    cores=st.none() | st.frozensets(st.sampled_from([*NAMES, "elsewhere"])),
    answer_tokens=st.sampled_from([0.0, 1.0, 30.0]),
    expected_tokens=st.floats(0, 120),
)


@settings(deadline=None, max_examples=200)
@given(cores=CORES, needs=st.lists(NEEDS, max_size=6))
def test_a_core_is_allowed_exactly_where_it_lacks_nothing(
    cores: tuple[Core, ...], needs: list[Requirements]
) -> None:
    allowed = allowed_cores(needs, cores)
    assert allowed.shape == (len(needs), len(cores))
    for row, need in enumerate(needs):

        def may(input_tokens: float, core: Core, need: Requirements = need) -> bool:
            room = core.context_window is None or input_tokens + need.answer_tokens <= core.context_window
            return (
                room and (need.cores is None or core.name in need.cores) and need.abilities <= core.supports
            )

        surely = [may(need.input_tokens, core) for core in cores]
        likely = [may(need.expected_tokens, core) for core in cores]
        assert allowed[row].tolist() == (surely if any(surely) else likely)
        assert allowed_cores([need], cores).tolist() == [allowed[row].tolist()]


@settings(deadline=None, max_examples=100)
@given(cores=CORES, need=NEEDS)
def test_why_none_names_every_core_with_what_bars_it(cores: tuple[Core, ...], need: Requirements) -> None:
    line = why_none(need, cores)
    assert "\n" not in line
    assert all(f"{core.name}: " in line for core in cores)
    assert line.count("may take it") == allowed_cores([need], cores).sum()


def test_why_none_says_what_each_core_lacks() -> None:
    cores = [
        Core(name="short", context_window=50),
        Core(name="plain", supports=frozenset()),
        Core(name="other"),
    ]
    line = why_none(Requirements(51, frozenset({"tools", "json"}), frozenset({"short", "plain"})), cores)
    assert "short: 51 input tokens exceed its context window of 50" in line
    assert "plain: does not support json, tools" in line
    assert "other: not among the cores that the call may go to" in line


WINDOWS = [Core(name="small", context_window=4096), Core(name="large", context_window=128_000)]


@pytest.mark.parametrize(
    ("most", "expected", "answer", "allowed"),
    [
        (3000.0, 2500.0, 1000.0, [True, True]),
        (3200.0, 2500.0, 1000.0, [False, True]),  # may be too long for the small one
        (3200.0, 2500.0, 0.0, [True, True]),
        (127_500.0, 99_000.0, 1000.0, [False, True]),  # may be too long for all, and is not expected to be
        (200_000.0, 180_000.0, 1000.0, [False, False]),
    ],
)
def test_the_answer_needs_room_and_doubts_go_to_the_larger_window(
    most: float, expected: float, answer: float, allowed: list[bool]
) -> None:
    needs = Requirements(most, answer_tokens=answer, expected_tokens=expected)
    assert allowed_cores([needs], WINDOWS).tolist() == [allowed]


def test_why_none_says_that_the_answer_needs_room() -> None:
    line = why_none(Requirements(500, answer_tokens=1000), [Core(name="tiny", context_window=1024)])
    assert "tiny: 500 input tokens and an answer of 1000 exceed its context window of 1024" in line


def test_old_manifests_keep_what_they_listed_and_get_no_more() -> None:
    listed = Core(name="listed", supports=frozenset({"tools", "json", "vision"}))
    everything = Core(name="everything")
    texts = [
        call_text([{"role": "user", "content": [part]}])
        for part in (
            {"type": "image_url", "image_url": {"url": "https://host/a.png"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "hologram", "hologram": {}},
        )
    ]
    allowed = allowed_cores([Requirements.of(text) for text in texts], [listed, everything])
    assert allowed.tolist() == [[True, True], [False, True], [False, True], [False, True]]
