"""The ``json_schema`` grader: whether an answer's JSON is valid under a schema."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from eccos_aios.collect.grade.final import find_json
from eccos_aios.errors import MissingExtraError

if TYPE_CHECKING:
    from jsonschema.protocols import Validator
    from jsonschema.validators import Draft202012Validator

Schema = Mapping[str, Any] | bool
ROUNDING = 1e-9  # 0.3 is three times 0.1, though not in binary


def json_schema(answer: str, schema: Schema, wanted: Any = None) -> float:
    """1 where the answer holds JSON (alone, in a code block, in prose) that is valid under the schema.

    Parameters
    ----------
    answer : str
        What a core answered.
    schema : mapping or bool
        Checked by `check_schema`; of the draft that its ``$schema`` names, else of 2020-12.
    wanted : object, optional
        Where it is not None, the JSON must equal it as well; 1 equals 1.0, but not true.

    Raises
    ------
    MissingExtraError
        jsonschema is not installed.
    """
    try:
        value = find_json(answer)
    except ValueError:
        return 0.0
    try:
        is_right = _validator(schema).is_valid(value)
        return float(is_right and (wanted is None or _validator({"const": wanted}).is_valid(value)))
    except RecursionError:  # nested deeper than any answer should be, or a $ref that leads to itself
        return 0.0


def check_schema(schema: Any) -> None:
    """Check that every answer can be graded by a schema.

    Raises
    ------
    ValueError
        The schema is not valid, or refers to anything outside itself.
    MissingExtraError
        jsonschema is not installed.
    """
    validator = _validator_class(schema)
    from jsonschema import SchemaError
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    try:
        validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"schema{error.json_path[1:]}: {error.message}") from error
    root: Resource[Schema] = Resource.from_contents(schema, default_specification=DRAFT202012)
    resolver = Registry().with_resource("", root).resolver()
    for inner in _subschemas(root):
        reference = inner.get("$ref")
        if reference is None:
            continue
        if not reference.startswith("#"):
            raise ValueError(f"$ref {reference!r} leads out of the schema; it must start with #")
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            raise ValueError(f"$ref {reference!r} leads nowhere") from error


def _subschemas(resource: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(resource.contents, Mapping):
        yield resource.contents
    for inner in resource.subresources():
        yield from _subschemas(inner)


def _validator(schema: Schema) -> Draft202012Validator:
    validator = _validator_class(schema)
    from referencing import Registry

    return validator(schema, registry=Registry())  # an empty one: no $ref is ever fetched from the network


def _validator_class(schema: Schema) -> type[Draft202012Validator]:
    try:
        from jsonschema.validators import Draft202012Validator, validator_for
    except ModuleNotFoundError as error:
        raise MissingExtraError("jsonschema", "collect") from error
    return _tolerant(validator_for(schema, default=Draft202012Validator))


@functools.cache
def _tolerant(validator: type[Draft202012Validator]) -> type[Draft202012Validator]:
    """A class of validators whose ``multipleOf`` tolerates rounding."""
    from jsonschema.validators import extend

    tolerant: type[Draft202012Validator] = extend(  # type: ignore[no-untyped-call]
        validator, {"multipleOf": _check_multiple}
    )
    return tolerant


def _check_multiple(validator: Validator, divisor: float, value: Any, schema: Schema) -> Iterator[Any]:
    from jsonschema import ValidationError

    if not validator.is_type(value, "number"):
        return
    rest = float(Fraction(value) / Fraction(divisor) % 1)
    if min(rest, 1 - rest) >= ROUNDING:
        yield ValidationError(f"{value!r} is not a multiple of {divisor!r}")
