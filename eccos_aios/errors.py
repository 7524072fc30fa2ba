"""The tree of errors: one line each, naming the place, the value and what is allowed there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import ValidationError

SHOWN_VALUE_LENGTH = 80  # characters of a wrong value that an error repeats


class EccosError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(EccosError):
    """Something that the user wrote is wrong: where, what, and what would be right.

    Parameters
    ----------
    source : str
        The file, with its line where there is one (``history.jsonl:17``).
    key : str
        The key in that file (``cores[1].quota``); empty where the fault has none.
    value : object
        What was found; shortened in the message.
    allowed : str
        What may stand there.
    """

    def __init__(self, source: str, key: str, value: object, allowed: str) -> None:
        self.source = source
        self.key = key
        self.value = value
        self.allowed = allowed
        super().__init__(": ".join(part for part in (source, key, _shown(value), allowed) if part))


class ConfigError(InputError):
    """AIOS's config, its ``scheduler.eccos`` section or a core manifest is wrong."""


class HistoryError(InputError):
    """A history or a record in it is wrong."""


class QueryError(InputError):
    """A file of queries for ``assign`` is wrong."""


class AiosError(InputError):
    """What was named as an AIOS checkout is not one, or lacks what the kernel needs."""


class NoCoreError(EccosError):
    """No core may take a call: what it needs, and what each core lacks."""


ABSENT = object()
"""Stands for a value that is not there at all, as opposed to null."""

InputErrorT = TypeVar("InputErrorT", bound=InputError)


def from_validation(
    kind: type[InputErrorT], source: str, error: ValidationError, within: str = ""
) -> InputErrorT:
    """The first fault that pydantic found, as an error of this tree.

    Parameters
    ----------
    kind : type
        The class of the error to make.
    source : str
        The file, with its line where there is one.
    error : pydantic.ValidationError
        What pydantic raised.
    within : str
        The key of the section that was validated (``scheduler.eccos``).
    """
    details = error.errors(include_url=False)
    first = details[0]
    key = _key(within, first["loc"])
    missing = first["type"] == "missing"
    allowed = _allowed(first)
    if len(details) > 1:
        allowed += f" (and {len(details) - 1} more)"
    return kind(source, key, ABSENT if missing else first["input"], allowed)


def _allowed(detail: Any) -> str:
    if detail["type"] == "missing":
        return "required, but absent"
    if detail["type"] == "extra_forbidden":
        return "unknown key"
    message: str = detail["msg"]
    return message.removeprefix("Value error, ")


def _key(within: str, location: tuple[int | str, ...]) -> str:
    key = within
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            key += f".{part}" if key else part
    return key


def _shown(value: object) -> str:
    if value is ABSENT:
        return ""
    text = repr(value)
    return text if len(text) <= SHOWN_VALUE_LENGTH else text[:SHOWN_VALUE_LENGTH] + "…"
