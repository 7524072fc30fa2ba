"""The prompt of a question: zero-shot, one system message and one user message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from eccos_aios.collect.grade import safe_name
from eccos_aios.collect.question import Grader, Question

# The format of the answer is in the system message, so that the user message, which the history stores and
# embeds, is only the question.
_INSTRUCTIONS: dict[Grader, str] = {
    "multiple_choice": "Answer the multiple-choice question. Think as briefly as you can, then end with a "
    "line of the form: The answer is X — where X is the letter of the right choice.",
    "numeric": "Solve the problem. Think as briefly as you can, then end with a line of the form: "
    "The answer is X — where X is the number alone.",
    "exact": "Solve the problem. Think as briefly as you can, then end with a line of the form: "
    "The answer is X — where X is the answer alone.",
    "f1": "Answer the question in as few words as possible, with a part of the passage where there is one, "
    "and say nothing else. If there is a passage and it does not hold the answer, say: unanswerable",
    "contains": "Answer the question briefly.",
    "json_schema": "Answer with JSON alone, which fits this JSON schema:\n",
    "tool_call": "Do what is asked by calling the tools. Call every tool that is needed, with the arguments "
    "that the question gives, and no other.",
}
_TYPES_OF_BFCL = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}


def request_body(question: Question, model: str, max_output_tokens: int) -> dict[str, Any]:
    """The body of a chat completion in OpenAI's format.

    Parameters
    ----------
    question : Question
    model : str
        The core's name at its endpoint.
    max_output_tokens : int
    """
    instruction = _INSTRUCTIONS[question.grader]
    if question.grader == "json_schema":
        instruction += json.dumps(question.json_schema, ensure_ascii=False)
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": instruction},
            {"role": "user", "content": question.query},
        ],
        "max_tokens": max_output_tokens,
        "temperature": 0,
    }
    if question.tools:
        body["tools"] = [_openai_tool(tool) for tool in question.tools]
    return body


def _openai_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    inner = tool.get("function")
    function = dict(inner if isinstance(inner, Mapping) else tool)
    function["name"] = safe_name(str(function.get("name", "")))
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    return {"type": "function", "function": {**function, "parameters": _openai_types(parameters)}}


def _openai_types(schema: Any) -> Any:
    """A schema with the type names of JSON schema in place of BFCL's Python names."""
    if isinstance(schema, list):
        return [_openai_types(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    converted = {key: _openai_types(value) for key, value in schema.items()}
    if isinstance(schema.get("type"), str):
        converted["type"] = _TYPES_OF_BFCL.get(schema["type"], schema["type"])
    return converted
