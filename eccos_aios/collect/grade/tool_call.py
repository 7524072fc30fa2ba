"""The ``tool_call`` grader: names and arguments of tool calls, compared as BFCL's AST check does.

The rules are those of ``ast_checker.py`` of the Berkeley Function Calling Leaderboard for Python: every
required argument and no unknown one; types must be right, but a whole number may stand for a float;
strings are compared without case, spaces and ``, . / - _ * ^``; the order of arguments and of parallel
calls does not count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eccos_aios.collect.grade.final import find_json, strict_json

OMITTED = ""  # among BFCL's possible values: the argument may be left out

_IGNORED_IN_STRINGS = re.compile(r"[ ,./\-_*^]")
_FORBIDDEN_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "int": (int,),
    "number": (float, int),
    "float": (float, int),
    "boolean": (bool,),
    "bool": (bool,),
    "array": (list,),
    "tuple": (list,),
    "list": (list,),
    "object": (dict,),
    "dict": (dict,),
}


@dataclass(frozen=True)
class ToolCall:
    """A tool call: name and arguments; None for arguments that are not a JSON object."""

    name: str
    arguments: Mapping[str, Any] | None


@dataclass(frozen=True)
class ExpectedCall:
    """A tool call that the question wants.

    Attributes
    ----------
    name : str
    arguments : dict of str to list
        The values that each argument may take; `OMITTED` among them: it may be left out.
    nested : bool
        Whether mappings inside the values hold lists of possible values too, as in BFCL's files.
    """

    name: str
    arguments: Mapping[str, Sequence[Any]]
    nested: bool


def tool_call(
    calls: Sequence[ToolCall], expected: Sequence[ExpectedCall], tools: Sequence[Mapping[str, Any]]
) -> float:
    """1 if the calls are exactly the expected ones, in any order, else 0.

    Parameters
    ----------
    calls : sequence of ToolCall
        The answer's.
    expected : sequence of ExpectedCall
    tools : sequence of mapping
        The offered tools, with their parameters' schemas.
    """
    if len(calls) != len(expected):
        return 0.0
    parameters = {safe_name(name): schema for name, schema in map(_described, tools)}
    left = list(calls)
    for wanted in expected:
        schema = parameters.get(safe_name(wanted.name), {})
        match = next((call for call in left if _is_call(call, wanted, schema)), None)
        if match is None:
            return 0.0
        left.remove(match)
    return 1.0


def expected_calls(answer: Any) -> list[ExpectedCall]:
    """The calls that a question's answer wants.

    Each is ``{"name", "arguments"}`` with exact values, or, as in BFCL's ``possible_answer`` files,
    ``{name: {argument: [possible values]}}``.

    Raises
    ------
    ValueError
        It is neither.
    """
    calls = answer if isinstance(answer, list) else [answer]
    if not calls:
        raise ValueError("needs one tool call at least")
    return [_expected(call) for call in calls]


def given_calls(tool_calls: Sequence[Mapping[str, Any]] | None, text: str) -> list[ToolCall]:
    """An answer's calls: its ``tool_calls`` in OpenAI's format, else the calls in its text as JSON."""
    if tool_calls:
        return [_given(call) for call in tool_calls]
    try:
        written = find_json(text)
    except ValueError:
        return []
    calls = written if isinstance(written, list) else [written]
    return [_given(call) for call in calls if isinstance(call, Mapping)]


def safe_name(name: str) -> str:
    """A tool's name as OpenAI's API accepts it: forbidden characters become underscores."""
    return _FORBIDDEN_IN_NAMES.sub("_", name)


def standardise(text: str) -> str:
    """A string in the form in which BFCL compares it."""
    return _IGNORED_IN_STRINGS.sub("", text).lower().replace("'", '"')


def _expected(call: Any) -> ExpectedCall:
    if isinstance(call, Mapping) and {"name", "arguments"} == set(call):
        if isinstance(call["name"], str) and isinstance(call["arguments"], Mapping):
            exact = {name: [value] for name, value in call["arguments"].items()}
            return ExpectedCall(call["name"], exact, nested=False)
    elif isinstance(call, Mapping) and len(call) == 1:
        ((name, arguments),) = call.items()
        if isinstance(arguments, Mapping) and all(isinstance(values, list) for values in arguments.values()):
            return ExpectedCall(name, arguments, nested=True)
    raise ValueError(
        'must be {"name", "arguments"}, or {name: {argument: [possible values]}}, or a list of those'
    )


def _given(call: Mapping[str, Any]) -> ToolCall:
    inner = call.get("function")
    function = inner if isinstance(inner, Mapping) else call
    arguments = function.get("arguments", function.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = strict_json(arguments or "{}")
        except ValueError:
            arguments = None
    return ToolCall(str(function.get("name", "")), arguments if isinstance(arguments, Mapping) else None)


def _described(tool: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    inner = tool.get("function")
    function = inner if isinstance(inner, Mapping) else tool
    parameters = function.get("parameters")
    return str(function.get("name", "")), parameters if isinstance(parameters, Mapping) else {}


def _is_call(call: ToolCall, wanted: ExpectedCall, schema: Mapping[str, Any]) -> bool:
    if call.arguments is None or safe_name(call.name) != safe_name(wanted.name):
        return False
    properties = schema.get("properties") or {}
    if any(name not in call.arguments for name in schema.get("required") or ()):
        return False
    for name, value in call.arguments.items():
        if name not in wanted.arguments or not _is_value(
            value, wanted.arguments[name], properties.get(name) or {}, wanted.nested
        ):
            return False
    return all(
        name in call.arguments or (wanted.nested and OMITTED in values)
        for name, values in wanted.arguments.items()
    )


def _is_value(value: Any, possible: Sequence[Any], described: Mapping[str, Any], nested: bool) -> bool:
    if any(_same(value, allowed, nested) for allowed in possible if not (nested and allowed == OMITTED)):
        # A possible value of another type than the description's denotes a variable in BFCL's files.
        return _is_typed(value, described) or any(type(value) is type(allowed) for allowed in possible)
    return nested and value == OMITTED and OMITTED in possible and _is_typed(value, described)


def _is_typed(value: Any, described: Mapping[str, Any]) -> bool:
    types = _TYPES.get(str(described.get("type")))
    if types is None:
        return True
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, types)


def _same(value: Any, allowed: Any, nested: bool) -> bool:
    if isinstance(value, bool) or isinstance(allowed, bool):
        return value is allowed
    if isinstance(value, str) and isinstance(allowed, str):
        return standardise(value) == standardise(allowed)
    if isinstance(value, list) and isinstance(allowed, list):
        return len(value) == len(allowed) and all(
            _same(one, other, nested) for one, other in zip(value, allowed, strict=True)
        )
    if isinstance(value, Mapping) and isinstance(allowed, Mapping):
        return _same_mapping(value, allowed, nested)
    return bool(value == allowed)


def _same_mapping(value: Mapping[str, Any], allowed: Mapping[str, Any], nested: bool) -> bool:
    if not nested:
        return value.keys() == allowed.keys() and all(
            _same(value[key], allowed[key], nested) for key in value
        )
    possible = {key: values if isinstance(values, list) else [values] for key, values in allowed.items()}
    return all(
        key in possible and any(_same(inner, one, nested) for one in possible[key])
        for key, inner in value.items()
    ) and all(key in value or OMITTED in values for key, values in possible.items())
