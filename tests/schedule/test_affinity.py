"""What a conversation is remembered by."""

from __future__ import annotations

from eccos_aios.schedule.affinity import REMEMBERED_CALLS, Affinity, Conversation


def test_a_call_finds_the_latest_of_those_it_goes_on_from() -> None:
    affinity = Affinity()
    affinity.served(Conversation("second"), "a")
    affinity.served(Conversation("third", ("second",)), "b")
    assert affinity.core_of(Conversation("fourth", ("third", "second"))) == "b"
    assert affinity.core_of(Conversation("other third", ("second",))) == "a"
    assert affinity.core_of(Conversation("second")) is None  # it goes on from nothing


def test_a_string_is_the_key_at_every_call_and_none_is_no_conversation() -> None:
    affinity = Affinity()
    affinity.served(None, "a")
    assert affinity.core_of(None) is None
    affinity.served("talk", "a")
    assert affinity.core_of("talk") == "a"


def test_no_more_calls_are_remembered_than_a_bound() -> None:
    affinity = Affinity()
    for number in range(REMEMBERED_CALLS + 1):
        affinity.served(str(number), "a")
    assert affinity.core_of("0") is None
    assert affinity.core_of("1") == "a"
