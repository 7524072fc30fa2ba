"""What every error of this package promises: one line, with the place, the value and what is allowed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.errors import (
    ABSENT,
    SHOWN_VALUE_LENGTH,
    ConfigError,
    EccosError,
    HistoryError,
    InputError,
    QueryError,
)


def test_names_place_key_value_and_what_is_allowed() -> None:
    error = ConfigError("cores.yaml", "cores[1].quota", 0, "must be greater than or equal to 1")
    assert str(error) == "cores.yaml: cores[1].quota: 0: must be greater than or equal to 1"
    assert (error.source, error.key, error.value) == ("cores.yaml", "cores[1].quota", 0)


def test_a_value_that_is_absent_is_not_shown_and_null_is() -> None:
    assert str(HistoryError("h.jsonl:3", "query", ABSENT, "required")) == "h.jsonl:3: query: required"
    assert (
        str(HistoryError("h.jsonl:3", "query", None, "must be text"))
        == "h.jsonl:3: query: None: must be text"
    )


def test_a_fault_of_the_whole_file_needs_no_key() -> None:
    assert str(QueryError("q.jsonl", "", ABSENT, "cannot be read")) == "q.jsonl: cannot be read"


@pytest.mark.parametrize("kind", [ConfigError, HistoryError, QueryError])
def test_one_except_clause_catches_them_all(kind: type[InputError]) -> None:
    with pytest.raises(EccosError):
        raise kind("file", "key", 1, "allowed")


@settings(deadline=None, max_examples=100)
@given(source=st.text(), key=st.text(), value=st.text() | st.binary(), allowed=st.text())
def test_is_one_line_whatever_stands_in_it(source: str, key: str, value: object, allowed: str) -> None:
    assert len(str(InputError(source, key, value, allowed)).splitlines()) <= 1


def test_a_long_value_is_shortened() -> None:
    message = str(ConfigError("f", "k", "x" * 10_000, "shorter"))
    assert len(message) < SHOWN_VALUE_LENGTH + 20
    assert message.endswith("…: shorter")
