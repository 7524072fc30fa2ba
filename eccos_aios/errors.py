"""The errors of this package; the message of each is one line.

::

    EccosError
    ├── InputError: wrong input of the user; names the place, the value and what is allowed
    │   ├── ConfigError         AIOS's config, its scheduler.eccos section, a manifest
    │   ├── HistoryError        a history, or a record in it
    │   ├── QueryError          a file of queries for assign, or an agent's query
    │   ├── QuestionError       a file of questions for collect
    │   └── AiosError           an AIOS checkout
    ├── MissingExtraError       an optional package is not installed
    ├── NoCoreError             no core can take a call
    ├── UnknownCallError        feedback on a call that is not known
    ├── FeedbackLimitError      too much feedback
    ├── eccos_aios.shared.SharedUnavailableError   the Redis that kernels share does not answer
    └── eccos_aios.schedule     how a call may end without an answer of a core
        └── StoppedError, CallTimeoutError, AbandonedError, OverloadedError, UnavailableError,
            CallFailedError, BudgetExhaustedError
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

# With a colon also across slashes: somebody may have written a password with a slash as it is.
_USER_INFO = re.compile(r"//(?:[^/@\s]+|[^/@\s]*:[^@\s]*)@")
_KEY = re.compile(r"\b(sk-|gsk_|hf_|xai-|AIza|nvapi-|r8_|pplx-)[A-Za-z0-9_-]{8,}")
SHOWN_VALUE_LENGTH = 80  # characters of a wrong value that a message shows


class EccosError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(EccosError):
    """Wrong input of the user.

    Parameters
    ----------
    source : str
        The file, with its line if there is one (``history.jsonl:17``).
    key : str
        The key in that file (``cores[1].quota``); empty if there is none.
    value : object
        The wrong value, shortened in the message; `ABSENT` where there is nothing to show.
    allowed : str
        The allowed values, or the fault.
    """

    def __init__(self, source: str, key: str, value: object, allowed: str) -> None:
        self.source = source
        self.key = key
        self.value = value
        self.allowed = allowed
        message = ": ".join(part for part in (source, key, _shown(value), allowed) if part)
        super().__init__(" ".join(message.splitlines()))


class ConfigError(InputError):
    """AIOS's config, its ``scheduler.eccos`` section or a core manifest is wrong."""


class HistoryError(InputError):
    """A history or a record in it is wrong."""


class QueryError(InputError):
    """A file of queries for ``assign``, or an agent's query, is wrong."""


class QuestionError(InputError):
    """A file of questions for ``collect`` is wrong."""


class AiosError(InputError):
    """A folder is not an AIOS checkout, or lacks what the kernel needs."""


class MissingExtraError(EccosError):
    """A package that comes with an extra of this one is not installed.

    Parameters
    ----------
    package : str
        The package.
    extra : str
        The extra of eccos-aios that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'eccos-aios[{extra}]'")


class NoCoreError(EccosError):
    """No core can take a call; names what it needs, and what each core lacks."""


class UnknownCallError(EccosError):
    """Feedback names a call or an agent that is unknown, or a call that has not finished."""


class FeedbackLimitError(EccosError):
    """A call, an agent or an address has more feedback than is allowed.

    Parameters
    ----------
    message : str
    retry_after_s : float
        Seconds until the next is accepted.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


ABSENT = object()
"""In place of a value that is absent, as opposed to null."""

_PLAIN_WORDS = {
    "dict_type": "must be a mapping of keys to values",
    "float_type": "must be a number",
    "frozen_set_type": "must be a list",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a number of fewer digits",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "model_type": "must be a mapping of keys to values",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "tuple_type": "must be a list",
}

InputErrorT = TypeVar("InputErrorT", bound=InputError)


def from_validation(
    kind: type[InputErrorT], source: str, error: ValidationError, model: type[BaseModel], within: str = ""
) -> InputErrorT:
    """The first fault that pydantic found, as an `InputError`.

    Parameters
    ----------
    kind : type
        The class of the error to make.
    source : str
        The file, with its line if there is one.
    error : pydantic.ValidationError
        What pydantic raised.
    model : type of BaseModel
        The model that was validated; its keys are listed where one is unknown.
    within : str
        The key of the section that was validated (``scheduler.eccos``).
    """
    details = error.errors(include_url=False)
    first = details[0]
    allowed = _allowed(first, model)
    if len(details) > 1:
        allowed += f" (and {len(details) - 1} more)"
    nothing_to_show = first["type"] in ("missing", "json_invalid") or _is_secret(model, first)
    return kind(source, _key(within, first["loc"]), ABSENT if nothing_to_show else first["input"], allowed)


def _is_secret(model: type[BaseModel], detail: Any) -> bool:
    """Whether a fault is in a field that holds a secret, or between the fields of a section."""
    fields = model.model_fields
    secret = {name for name, field in fields.items() if "SecretStr" in repr(field.annotation)}
    if not detail["loc"]:
        return bool(secret) and detail["type"] == "value_error"
    return detail["loc"][0] in secret


def _allowed(detail: Any, model: type[BaseModel]) -> str:
    if detail["type"] == "missing":
        return "required, but absent"
    if detail["type"] == "extra_forbidden":
        return _unknown_key(str(detail["loc"][-1]), _known_keys(model, detail["loc"][:-1]))
    if detail["type"] in _PLAIN_WORDS:
        return _PLAIN_WORDS[detail["type"]]
    message: str = detail["msg"]
    if detail["type"] == "json_invalid":
        # Only single lines of files are validated as JSON; `source` has the line's number.
        return message.replace("Invalid JSON", "is not JSON", 1).replace(" at line 1 column", " at column")
    return message.removeprefix("Value error, ").replace("Input should", "must", 1)


def _unknown_key(key: str, known: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(key, known, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"unknown key; {meant}known are {', '.join(known)}"


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        if isinstance(part, str):
            model = next(_models_in(model.model_fields[part].annotation))
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if hasattr(annotation, "model_fields"):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _key(within: str, location: tuple[int | str, ...]) -> str:
    key = within
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            key += f".{part}" if key else part
    return key


def without_secrets(text: str) -> str:
    """A text without the users and passwords of addresses, and without anything that looks like a key."""
    return _KEY.sub(r"\1…", _USER_INFO.sub("//…@", text))


def _shown(value: object) -> str:
    if value is ABSENT:
        return ""
    text = without_secrets(repr(value))
    return text if len(text) <= SHOWN_VALUE_LENGTH else text[:SHOWN_VALUE_LENGTH] + "…"
