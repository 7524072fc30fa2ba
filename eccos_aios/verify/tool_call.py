"""ToolCallCheck: calls of offered tools with the parameters that they take."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eccos_aios.verify.base import PASSES, Answer, AnswerCheck, Check, Question, fails, key_of
from eccos_aios.verify.normalised import normalised

_NAME = re.compile(r"\W")  # providers forbid dots in names, so cores answer with underscores
_STRINGS, _NUMBERS = (str,), (int, float)
# Python types by a schema's type name, in lower case; a name that is not here is not checked.
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("string",), _STRINGS),
    **dict.fromkeys(("integer", "int", "long", "number", "float", "double"), _NUMBERS),
    **dict.fromkeys(("boolean", "bool"), (bool,)),
    **dict.fromkeys(("array", "list", "tuple", "arraylist"), (list,)),
    **dict.fromkeys(("object", "dict", "hashmap"), (dict,)),
}


@dataclass(frozen=True)
class OfferedTool:
    """A tool's parameters, by name, and those that a call must have."""

    parameters: Mapping[str, Any]
    required: frozenset[str]
    open_ended: bool


class ToolCallCheck(Check):
    """Tool calls must name offered tools, and hold every required parameter and no unknown one.

    Types and enums must fit. Where a call is required, by `Question.tool_choice` or
    `Question.call_expected`, an answer without one fails. The key is of the set of calls, with normalised
    arguments, without those that equal the parameter's default.
    """

    def check(self, question: Question, answer: Answer) -> AnswerCheck:
        if not answer.tool_calls:
            required = question.tool_choice not in (None, "auto", "none")
            if question.tools and question.tool_choice != "none" and (required or question.call_expected):
                return fails("no tool call")
            return PASSES
        offered = dict(map(_described, question.tools))
        forms = []
        for call in answer.tool_calls:
            parsed = parsed_call(call)
            if parsed is None:
                return fails("a tool call cannot be parsed")
            name, arguments = parsed
            tool = offered.get(same_name(name))
            if tool is None:
                return fails(f"tool {name!r} was not offered")
            fault = _fault(arguments, tool)
            if fault is not None:
                return fails(f"{name}: {fault}")
            forms.append(same_name(name) + normalised(_without_defaults(arguments, tool)))
        return AnswerCheck(passes=True, key=key_of("tools", "|".join(sorted(forms))))


def same_name(name: str) -> str:
    """Equal for a tool's name with dots and with underscores."""
    return _NAME.sub("_", name)


def parsed_call(call: Any) -> tuple[str, Mapping[str, Any]] | None:
    """Name and arguments of a call in either format; None where it cannot be parsed."""
    if not isinstance(call, Mapping):
        return None
    inner = call.get("function")
    function = inner if isinstance(inner, Mapping) else call
    name, arguments = function.get("name"), function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            return None
    arguments = {} if arguments is None else arguments
    if not isinstance(name, str) or not name or not isinstance(arguments, Mapping):
        return None
    return name, arguments


def _described(tool: Mapping[str, Any]) -> tuple[str, OfferedTool]:
    inner = tool.get("function")
    function = inner if isinstance(inner, Mapping) else tool
    schema = function.get("parameters")
    schema = schema if isinstance(schema, Mapping) else {}
    parameters, required = schema.get("properties"), schema.get("required")
    known = isinstance(parameters, Mapping)
    return same_name(str(function.get("name", ""))), OfferedTool(
        parameters if isinstance(parameters, Mapping) else {},
        frozenset(map(str, required)) if isinstance(required, Sequence) else frozenset(),
        open_ended=not known or bool(schema.get("additionalProperties")),
    )


def _fault(arguments: Mapping[str, Any], tool: OfferedTool) -> str | None:
    missing = sorted(tool.required - arguments.keys())
    if missing:
        return f"parameter {missing[0]!r} is missing"
    for name, value in arguments.items():
        if name not in tool.parameters:
            if tool.open_ended:
                continue
            return f"parameter {name!r} is unknown"
        described = tool.parameters[name]
        if isinstance(described, Mapping) and (
            fault := _value_fault(value, described, name in tool.required)
        ):
            return f"parameter {name!r}: {fault}"
    return None


def _value_fault(value: Any, described: Mapping[str, Any], required: bool) -> str | None:
    if value is None and not required:  # left out, in the manner of some cores
        return None
    options = described.get("enum")
    if isinstance(options, list) and options:
        values = value if isinstance(value, list) else [value]  # BFCL writes the enum of a list's items so
        if any(normalised(each) not in map(normalised, options) for each in values):
            return f"{str(value)[:80]!r} is not among its values"
    types = _TYPES.get(str(described.get("type")).lower())
    if types is None or _is_of(value, types) or (isinstance(value, str) and _is_of(_read(value), types)):
        return None
    return f"must be of type {described['type']}"


def _is_of(value: Any, types: tuple[type, ...]) -> bool:
    # True is an int in Python, but no number in JSON
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _read(text: str) -> Any:
    """The value that a text writes down: cores often quote numbers, booleans and lists."""
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except (ValueError, RecursionError):
        return None


def _without_defaults(arguments: Mapping[str, Any], tool: OfferedTool) -> dict[str, Any]:
    left = {}
    for name, value in arguments.items():
        described = tool.parameters.get(name)
        if (
            name not in tool.required
            and isinstance(described, Mapping)
            and "default" in described
            and normalised(value) == normalised(described["default"])
        ):
            continue
        left[name] = value
    return left
