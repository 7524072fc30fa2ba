"""Grading: the quality of an answer, 0 to 1, by its text and tool calls only."""

from eccos_aios.collect.grade.choice import LETTERS, multiple_choice, selected_choice
from eccos_aios.collect.grade.final import find_json, without_thinking
from eccos_aios.collect.grade.number import final_number, numeric, truth_number
from eccos_aios.collect.grade.schema import check_schema, json_schema
from eccos_aios.collect.grade.text import contains, exact, f1, normalised
from eccos_aios.collect.grade.tool_call import expected_calls, given_calls, safe_name, tool_call

__all__ = [
    "LETTERS",
    "check_schema",
    "contains",
    "exact",
    "expected_calls",
    "f1",
    "final_number",
    "find_json",
    "given_calls",
    "json_schema",
    "multiple_choice",
    "normalised",
    "numeric",
    "safe_name",
    "selected_choice",
    "tool_call",
    "truth_number",
    "without_thinking",
]
