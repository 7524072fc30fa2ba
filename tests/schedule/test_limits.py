"""Hard limits: which cores may take a call, and the line that says why none may."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.core import ABILITIES, Core
from eccos_aios.schedule import Needs, allowed_cores, why_none

NAMES = ("a", "b", "c")
ABILITY_SETS = st.frozensets(st.sampled_from(sorted(ABILITIES)))
CORES = st.tuples(*(
    st.builds(Core, name=st.just(name), context_window=st.none() | st.integers(1, 100), supports=ABILITY_SETS)
    for name in NAMES
))  # fmt: skip
NEEDS = st.builds(
    Needs,
    input_tokens=st.floats(0, 120),
    abilities=ABILITY_SETS,
    cores=st.none() | st.frozensets(st.sampled_from([*NAMES, "elsewhere"])),
)


@settings(deadline=None, max_examples=100)
@given(cores=CORES, needs=st.lists(NEEDS, max_size=6))
def test_a_core_is_allowed_exactly_where_it_lacks_nothing(
    cores: tuple[Core, ...], needs: list[Needs]
) -> None:
    allowed = allowed_cores(needs, cores)
    assert allowed.shape == (len(needs), len(cores))
    for row, need in enumerate(needs):
        for column, core in enumerate(cores):
            fits = core.context_window is None or need.input_tokens <= core.context_window
            named = need.cores is None or core.name in need.cores
            assert allowed[row, column] == (fits and named and need.abilities <= core.supports)


@settings(deadline=None, max_examples=100)
@given(cores=CORES, need=NEEDS)
def test_why_none_names_every_core_with_what_bars_it(cores: tuple[Core, ...], need: Needs) -> None:
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
    line = why_none(Needs(51, frozenset({"tools", "json"}), frozenset({"short", "plain"})), cores)
    assert "short: 51 input tokens exceed its context window of 50" in line
    assert "plain: does not support json, tools" in line
    assert "other: not among the cores that the call may go to" in line
