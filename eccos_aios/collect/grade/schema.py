"""The ``json_schema`` grader: whether an answer's JSON fits a schema.

The keywords are those that structured outputs of OpenAI and vLLM know; a schema that uses another one is
refused when the questions are read, not passed over when answers are graded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sized
from fractions import Fraction
from typing import Any

from eccos_aios.collect.grade.final import find_json

Schema = Mapping[str, Any] | bool
_Root = Mapping[str, Any]

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
}
_ANNOTATIONS = frozenset(
    {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples"}
    | {"format", "deprecated", "readOnly", "writeOnly", "strict"}
)


def json_schema(answer: str, schema: Schema, wanted: Any = None) -> float:
    """1 where the answer holds JSON (alone, in a code block, in prose) that fits the schema.

    Parameters
    ----------
    answer : str
        What a core answered.
    schema : mapping or bool
        Checked by `check_schema`.
    wanted : object, optional
        Where it is not None, the JSON must equal it as well.
    """
    try:
        value = find_json(answer)
    except ValueError:
        return 0.0
    root = schema if isinstance(schema, Mapping) else {}
    try:
        return float(fits(value, schema, root) and (wanted is None or equal(value, wanted)))
    except RecursionError:  # nested deeper than any answer should be, or a $ref that leads to itself
        return 0.0


def fits(value: Any, schema: Schema, root: _Root) -> bool:
    """Whether a JSON value fits a schema; `root` is where ``$ref`` starts from."""
    if isinstance(schema, bool):
        return schema
    return all(
        _KEYWORDS[key](value, argument, schema, root) for key, argument in schema.items() if key in _KEYWORDS
    )


def check_schema(schema: Any, root: _Root | None = None, at: str = "schema") -> None:
    """ValueError where a schema says what this module does not know."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise ValueError(f"{at} must be a mapping or true or false")
    root = schema if root is None else root
    for key, argument in schema.items():
        if key not in _KEYWORDS and key not in _ANNOTATIONS and key != "additionalProperties":
            raise ValueError(f"{at}.{key} is a keyword that is not supported")
        _check_keyword(key, argument, root, f"{at}.{key}")


def equal(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0, but true is no 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def _check_keyword(key: str, argument: Any, root: _Root, at: str) -> None:
    if key in ("properties", "patternProperties", "$defs", "definitions"):
        if not isinstance(argument, Mapping):
            raise ValueError(f"{at} must be a mapping")
        for name, inner in argument.items():
            check_schema(inner, root, f"{at}.{name}")
    elif key in ("items", "additionalProperties", "not", "contains"):
        check_schema(argument, root, at)
    elif key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if not isinstance(argument, list) or not argument:
            raise ValueError(f"{at} must be a list of schemas")
        for place, inner in enumerate(argument):
            check_schema(inner, root, f"{at}[{place}]")
    elif key == "type":
        for name in [argument] if isinstance(argument, str) else argument:
            if name not in _TYPES:
                raise ValueError(f"{at}: {name!r} is no type; types are {', '.join(_TYPES)}")
    elif key == "pattern":
        _compiled(argument, at)
    elif key == "$ref":
        _resolved(argument, root)
    if key == "patternProperties":
        for pattern in argument:
            _compiled(pattern, at)


def _compiled(pattern: Any, at: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(f"{at} is no regular expression: {error}") from error


def _resolved(reference: Any, root: _Root) -> Schema:
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise ValueError(
            f"$ref {reference!r} does not start with #: only parts of the same schema can be named"
        )
    place: Any = root
    for part in reference.lstrip("#").strip("/").split("/"):
        if part:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(place, Mapping) or name not in place:
                raise ValueError(f"$ref {reference!r} leads nowhere")
            place = place[name]
    found: Schema = place
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_type(value: Any, argument: Any, *_: Any) -> bool:
    return any(_TYPES[name](value) for name in ([argument] if isinstance(argument, str) else argument))


def _additional(value: Any, argument: Schema, schema: Mapping[str, Any], root: _Root) -> bool:
    if not isinstance(value, dict):
        return True
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    rest = [key for key in value if key not in known and not any(re.search(p, key) for p in patterns)]
    return all(fits(value[key], argument, root) for key in rest)


def _properties(value: Any, argument: Mapping[str, Schema], _: Any, root: _Root) -> bool:
    return not isinstance(value, dict) or all(
        fits(value[key], inner, root) for key, inner in argument.items() if key in value
    )


def _pattern_properties(value: Any, argument: Mapping[str, Schema], _: Any, root: _Root) -> bool:
    return not isinstance(value, dict) or all(
        fits(value[key], inner, root)
        for pattern, inner in argument.items()
        for key in value
        if re.search(pattern, key)
    )


def _items(value: Any, argument: Schema, schema: Mapping[str, Any], root: _Root) -> bool:
    first = len(schema.get("prefixItems", ()))
    return not isinstance(value, list) or all(fits(item, argument, root) for item in value[first:])


def _prefix_items(value: Any, argument: list[Schema], _: Any, root: _Root) -> bool:
    return not isinstance(value, list) or all(
        fits(item, inner, root)
        for item, inner in zip(value, argument)  # noqa: B905 - either may be longer
    )


def _unique(value: Any, argument: bool, *_: Any) -> bool:
    return (
        not argument
        or not isinstance(value, list)
        or not any(equal(one, other) for place, one in enumerate(value) for other in value[:place])
    )


def _multiple(value: Any, argument: float, *_: Any) -> bool:
    if not _is_number(value):
        return True
    if isinstance(value, int) and isinstance(argument, int):
        return value % argument == 0
    times = float(Fraction(value) / Fraction(argument) % 1)
    return min(times, 1 - times) < 1e-9  # 0.3 is three times 0.1, though not in binary


def _bound(
    measure: Callable[[Any], float | None], keeps: Callable[[float, float], bool]
) -> Callable[..., bool]:
    def check(value: Any, argument: float, *_: Any) -> bool:
        measured = measure(value)
        return measured is None or keeps(measured, argument)

    return check


def _size_of(kind: type[Sized]) -> Callable[[Any], float | None]:
    return lambda value: len(value) if isinstance(value, kind) else None


def _magnitude(value: Any) -> float | None:
    return value if _is_number(value) else None


_KEYWORDS: dict[str, Callable[[Any, Any, Mapping[str, Any], _Root], bool]] = {
    "type": _is_type,
    "enum": lambda value, argument, *_: any(equal(value, allowed) for allowed in argument),
    "const": lambda value, argument, *_: equal(value, argument),
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional,
    "required": lambda value, argument, *_: not isinstance(value, dict) or all(k in value for k in argument),
    "minProperties": _bound(_size_of(dict), lambda size, least: size >= least),
    "maxProperties": _bound(_size_of(dict), lambda size, most: size <= most),
    "items": _items,
    "prefixItems": _prefix_items,
    "contains": lambda value, argument, _, root: (
        not isinstance(value, list) or any(fits(item, argument, root) for item in value)
    ),
    "minItems": _bound(_size_of(list), lambda size, least: size >= least),
    "maxItems": _bound(_size_of(list), lambda size, most: size <= most),
    "uniqueItems": _unique,
    "minLength": _bound(_size_of(str), lambda size, least: size >= least),
    "maxLength": _bound(_size_of(str), lambda size, most: size <= most),
    "pattern": lambda value, argument, *_: not isinstance(value, str) or bool(re.search(argument, value)),
    "minimum": _bound(_magnitude, lambda size, least: size >= least),
    "maximum": _bound(_magnitude, lambda size, most: size <= most),
    "exclusiveMinimum": _bound(_magnitude, lambda size, least: size > least),
    "exclusiveMaximum": _bound(_magnitude, lambda size, most: size < most),
    "multipleOf": _multiple,
    "allOf": lambda value, argument, _, root: all(fits(value, inner, root) for inner in argument),
    "anyOf": lambda value, argument, _, root: any(fits(value, inner, root) for inner in argument),
    "oneOf": lambda value, argument, _, root: sum(fits(value, inner, root) for inner in argument) == 1,
    "not": lambda value, argument, _, root: not fits(value, argument, root),
    "$ref": lambda value, argument, _, root: fits(value, _resolved(argument, root), root),
}
