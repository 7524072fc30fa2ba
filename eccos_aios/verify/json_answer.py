"""JsonCheck: the JSON that was asked for parses and fits its schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from eccos_aios.verify.base import PASSES, Answer, AnswerCheck, Check, Question, fails, key_of
from eccos_aios.verify.normalised import normalised

_FENCED = re.compile(r"\A\s*```[\w-]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_FORMAT_TYPES = ("text", "json_object", "json_schema")  # of OpenAI's response_format


class JsonCheck(Check):
    """Where JSON is asked for, the answer must be JSON, alone or in a code block, and valid by its schema.

    The schema is checked where jsonschema is installed; without it, and where the schema itself is not
    valid, parsing is all. The key of an answer is that of its value, so blanks and the order of keys do
    not count.
    """

    def check(self, question: Question, answer: Answer) -> AnswerCheck:
        asked, schema = asked_schema(question.response_format)
        if not asked or answer.tool_calls:
            return PASSES
        fenced = _FENCED.match(answer.text or "")
        try:
            value = json.loads(fenced[1] if fenced else answer.text or "", parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            return fails(f"not JSON: {error}")
        fault = None if schema is None else schema_fault(value, schema)
        if fault is not None:
            return fails(f"does not fit the schema: {fault}")
        return AnswerCheck(passes=True, key=key_of("json", normalised(value)))


def asked_schema(response_format: Mapping[str, Any] | None) -> tuple[bool, Mapping[str, Any] | None]:
    """Whether JSON is asked for, and its schema, if there is one."""
    if not response_format:
        return False, None
    kind = response_format.get("type")
    if kind not in _FORMAT_TYPES or "properties" in response_format:
        return True, response_format  # a bare schema, as AIOS's queries hold it
    if kind != "json_schema":
        return kind == "json_object", None
    described = response_format.get("json_schema")
    schema = described.get("schema") if isinstance(described, Mapping) else None
    return True, schema if isinstance(schema, Mapping) else None


def schema_fault(value: Any, schema: Mapping[str, Any]) -> str | None:
    """The first fault of a value under a schema; None where there is none or it cannot be checked."""
    try:
        from jsonschema import SchemaError, ValidationError
        from jsonschema.validators import Draft202012Validator, validator_for
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    except ModuleNotFoundError:
        return None
    make = validator_for(schema, default=Draft202012Validator)
    try:
        make.check_schema(dict(schema))
        # an empty registry: no $ref is ever fetched from the network
        make(dict(schema), registry=Registry()).validate(value)
    except ValidationError as error:
        return error.message[:200]
    except (SchemaError, Unresolvable, RecursionError):
        return None
    return None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
