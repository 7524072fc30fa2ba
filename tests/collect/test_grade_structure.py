"""Graders of structure: JSON by its schema, tool calls as BFCL compares them."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.collect.grade import check_schema, expected_calls, given_calls, json_schema, tool_call
from eccos_aios.collect.grade.tool_call import ToolCall
from eccos_aios.errors import MissingExtraError

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ('{"name": "Ada", "age": 36}', True),
        ('```json\n{"name": "Ada"}\n```', True),
        ('Here it is:\n```\n{"name": "Ada"}\n```\nAnything else?', True),
        ('Sure! {"name": "Ada"} is the object.', True),
        ('{"name": "Ada", "age": "36"}', False),
        ('{"name": "Ada", "age": -1}', False),
        ('{"name": "Ada", "age": true}', False),
        ('{"age": 36}', False),
        ('{"name": "Ada", "born": 1815}', False),
        ('[{"name": "Ada"}]', False),
        ('{"name": NaN}', False),
        ("Ada", False),
        ("", False),
    ],
)
def test_json_is_found_and_held_against_its_schema(answer: str, right: bool) -> None:
    assert json_schema(answer, PERSON) == right


def test_where_a_value_is_wanted_the_json_must_equal_it() -> None:
    assert json_schema('{"age": 36.0, "name": "Ada"}', PERSON, {"name": "Ada", "age": 36}) == 1
    assert json_schema('{"name": "Bob"}', PERSON, {"name": "Ada"}) == 0
    assert json_schema("true", True, 1) == 0


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": ["string", "null"]}, None, 1),
        ({"type": "integer"}, 2.0, 2.5),
        ({"type": "number"}, 10**400, "1"),
        ({"enum": ["a", 1]}, 1, True),
        ({"const": {"a": [1]}}, {"a": [1.0]}, {"a": [2]}),
        ({"items": {"type": "integer"}}, [1, 2], [1, "2"]),
        ({"prefixItems": [{"type": "string"}], "items": False}, ["a"], ["a", 1]),
        ({"contains": {"const": 1}}, [0, 1], [0]),
        ({"minItems": 1, "maxItems": 2}, [1], []),
        ({"uniqueItems": True}, [1, True], [1, 1.0]),
        ({"minLength": 2, "pattern": "^a"}, "ab", "a"),
        ({"exclusiveMinimum": 1, "maximum": 2}, 2, 1),
        ({"multipleOf": 0.1}, 0.3, 0.35),
        ({"minProperties": 1, "patternProperties": {"^x": {"type": "integer"}}}, {"x1": 1}, {"x1": "1"}),
        ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, 3, 2),
        ({"oneOf": [{"minimum": 1}, {"minimum": 3}]}, 2, 3),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 2, 4),
        ({"not": {"type": "null"}}, 0, None),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, 1, "1"),
        (
            {"additionalProperties": {"type": "integer"}, "properties": {"a": True}},
            {"a": "", "b": 1},
            {"b": ""},
        ),
        ({"properties": {"a": True}, "unevaluatedProperties": False}, {"a": 1}, {"b": 1}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}, ["a"], [1]),
        (True, None, ...),
        (False, ..., None),
    ],
)
def test_the_keywords_of_a_schema(schema: Any, good: Any, bad: Any) -> None:
    check_schema(schema)
    assert good is ... or json_schema(json.dumps(good), schema) == 1
    assert bad is ... or json_schema(json.dumps(bad), schema) == 0


def test_a_schema_may_name_itself() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}}, "additionalProperties": False}
    assert json_schema('{"left": {"left": {}}}', tree) == 1
    assert json_schema('{"left": {"right": {}}}', tree) == 0
    assert json_schema("{}", {"$ref": "#"}) == 0


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"type": "text"}, "schema.type: 'text' is not valid"),
        ({"properties": {"a": {"minimum": "1"}}}, "schema.properties.a.minimum: '1' is not of type 'number'"),
        ({"pattern": "("}, "schema.pattern: '(' is not a 'regex'"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
        ({"$ref": "http://example.org/schema"}, "must start with #"),
        ({"anyOf": []}, "schema.anyOf"),
        ("string", "schema: 'string' is not of type"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault.replace("$", r"\$").replace("(", r"\(")):
        check_schema(schema)


def test_without_jsonschema_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema.validators", None)
    with pytest.raises(MissingExtraError, match=r"jsonschema is not installed: .*eccos-aios\[collect\]"):
        check_schema({"type": "string"})


@settings(deadline=None)
@given(JSON)
def test_a_value_fits_itself_as_a_constant(value: Any) -> None:
    assert json_schema(json.dumps(value), {"const": value}, None) == 1
    assert json_schema(f"```json\n{json.dumps(value, indent=2)}\n```", {"enum": [value]}) == 1


TOOLS = [
    {
        "name": "math.area",
        "parameters": {
            "type": "dict",
            "properties": {
                "base": {"type": "integer"},
                "height": {"type": "float"},
                "unit": {"type": "string"},
                "exact": {"type": "boolean"},
            },
            "required": ["base", "height"],
        },
    },
    {
        "type": "function",
        "function": {
            "name": "find",
            "parameters": {
                "type": "object",
                "properties": {
                    "where": {"type": "object"},
                    "rows": {"type": "array", "items": {"type": "integer"}},
                },
            },
        },
    },
]
AREA = {"math.area": {"base": [10], "height": [5.0], "unit": ["square metres", "m2", ""]}}


def quality(answer: Any, *calls: tuple[str, Any]) -> float:
    given = [ToolCall(name, arguments) for name, arguments in calls]
    return tool_call(given, expected_calls(answer), TOOLS)


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ({"base": 10, "height": 5.0, "unit": "m2"}, True),
        ({"unit": "m2", "height": 5.0, "base": 10}, True),
        ({"base": 10, "height": 5}, True),  # a whole number stands for a float; the unit may be left out
        ({"base": 10, "height": 5, "unit": "Square-Metres."}, True),
        ({"base": 10.0, "height": 5}, False),  # but a float is no whole number
        ({"base": "10", "height": 5}, False),
        ({"base": True, "height": 5}, False),
        ({"base": 11, "height": 5}, False),
        ({"base": 10}, False),
        ({"base": 10, "height": 5, "unit": "feet"}, False),
        ({"base": 10, "height": 5, "colour": "red"}, False),
        (None, False),
    ],
)
def test_arguments_are_compared_as_bfcl_does(arguments: Any, right: bool) -> None:
    assert quality(AREA, ("math.area", arguments)) == right


def test_a_name_that_the_api_forbids_is_known_in_the_form_it_was_sent_in() -> None:
    assert quality(AREA, ("math_area", {"base": 10, "height": 5})) == 1
    assert quality(AREA, ("area", {"base": 10, "height": 5})) == 0


def test_exact_values_must_all_be_there() -> None:
    answer = {"name": "math.area", "arguments": {"base": 10, "height": 5, "exact": True}}
    assert quality(answer, ("math.area", {"exact": True, "base": 10, "height": 5.0})) == 1
    assert quality(answer, ("math.area", {"exact": 1, "base": 10, "height": 5.0})) == 0
    assert quality(answer, ("math.area", {"base": 10, "height": 5.0})) == 0


def test_parallel_calls_have_no_order_but_a_number() -> None:
    answer = [AREA, {"math.area": {"base": [1], "height": [2]}}]
    first, second = ("math.area", {"base": 10, "height": 5}), ("math.area", {"base": 1, "height": 2})
    assert quality(answer, first, second) == quality(answer, second, first) == 1
    assert (
        quality(answer, first) == quality(answer, first, first) == quality(answer, first, second, second) == 0
    )


def test_lists_keep_their_order_and_mappings_their_keys() -> None:
    bfcl = {"find": {"where": [{"city": ["Rome", "Roma"], "year": [2020, ""]}], "rows": [[1, 2]]}}
    assert quality(bfcl, ("find", {"where": {"city": "roma"}, "rows": [1, 2]})) == 1
    assert quality(bfcl, ("find", {"where": {"city": "Rome", "year": 2021}, "rows": [1, 2]})) == 0
    assert quality(bfcl, ("find", {"where": {"city": "Rome"}, "rows": [2, 1]})) == 0
    exact = {"name": "find", "arguments": {"where": {"city": "Rome"}}}
    assert quality(exact, ("find", {"where": {"city": "Rome"}})) == 1
    assert quality(exact, ("find", {"where": {"city": "Rome", "year": 1}})) == 0


@pytest.mark.parametrize(
    ("tool_calls", "text"),
    [
        ([{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}], ""),
        ([{"function": {"name": "f", "arguments": {"a": 1}}}], ""),
        (None, '{"name": "f", "arguments": {"a": 1}}'),
        (None, 'I call it:\n```json\n[{"name": "f", "parameters": {"a": 1}}]\n```'),
    ],
)
def test_calls_are_read_from_the_message_or_its_text(tool_calls: Any, text: str) -> None:
    assert given_calls(tool_calls, text) == [ToolCall("f", {"a": 1})]


def test_arguments_that_are_no_json_are_wrong() -> None:
    calls = given_calls([{"function": {"name": "math.area", "arguments": '{"base": 10'}}], "")
    assert tool_call(calls, expected_calls(AREA), TOOLS) == 0


@pytest.mark.parametrize("answer", [[], "f", {"name": "f"}, {"f": {"a": 1}}, [{"f": {}, "g": {}}]])
def test_an_answer_that_names_no_calls_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError):
        expected_calls(answer)


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=4), JSON, max_size=4), st.randoms())
def test_a_call_is_right_whatever_the_order_of_its_arguments(arguments: dict[str, Any], chance: Any) -> None:
    order = list(arguments)
    chance.shuffle(order)
    answer = expected_calls({"name": "free", "arguments": arguments})
    tools = [{"name": "free", "parameters": {}}]
    shuffled = {key: arguments[key] for key in order}
    given = given_calls([{"function": {"name": "free", "arguments": json.dumps(shuffled)}}], "")
    assert tool_call(given, answer, tools) == 1
    assert tool_call([ToolCall("free", {**shuffled, "one more": 1})], answer, tools) == 0
