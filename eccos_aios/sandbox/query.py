"""Queries and responses of agents, field by field as in the Cerebrum SDK."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

QueryKind = Literal["llm", "memory", "storage", "tool"]


class Query(BaseModel):
    """Base of the four kinds of queries."""

    query_class: QueryKind


class LLMQuery(Query):
    """A query for an LLM core."""

    query_class: Literal["llm"] = "llm"
    llms: list[dict[str, Any]] | None = None
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = Field(default_factory=list)
    action_type: Literal[
        "chat", "chat_with_json_output", "chat_with_tool_call_output", "call_tool", "operate_file"
    ] = "chat"
    temperature: float = 1.0
    max_new_tokens: int = 1000
    message_return_type: Literal["text", "json"] = "text"
    response_format: dict[str, Any] | None = None


class MemoryQuery(Query):
    """A query for the memory."""

    query_class: Literal["memory"] = "memory"
    operation_type: str = "add_memory"
    params: dict[str, Any] = Field(default_factory=dict)


class StorageQuery(Query):
    """A query for the storage."""

    query_class: Literal["storage"] = "storage"
    operation_type: str = "text"
    params: dict[str, Any] = Field(default_factory=dict)


class ToolQuery(Query):
    """A query for the tools."""

    query_class: Literal["tool"] = "tool"
    tool_calls: list[dict[str, Any]]


class Response(BaseModel):
    """Base of the responses."""

    response_class: QueryKind
    response_message: str | None = None
    finished: bool = False
    error: str | None = None
    status_code: int = 200


class LLMResponse(Response):
    """The response to an LLM query; ``tool_calls`` are ``{"name", "parameters", "id"}`` each."""

    response_class: Literal["llm"] = "llm"
    tool_calls: list[dict[str, Any]] | None = None


def error_response(kind: str, error: str, status_code: int) -> Response:
    """The final response to a query that could not be served.

    Parameters
    ----------
    kind : str
        One of `QueryKind`.
    error : str
    status_code : int
        HTTP's.
    """
    if kind == "llm":
        return LLMResponse(error=error, finished=True, status_code=status_code)
    fields = {"response_class": kind, "error": error, "finished": True, "status_code": status_code}
    return Response.model_validate(fields)
