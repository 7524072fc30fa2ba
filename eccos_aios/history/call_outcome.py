"""CallOutcome: the result of one finished call of a running kernel."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from eccos_aios.history.record import (
    AnswerKey,
    Embed,
    Embedding,
    Outcome,
    PlanCores,
    PlanName,
    Record,
    Seconds,
    Tokens,
    Unit,
    text_hash,
)


def _writable(text: Any) -> Any:
    # An agent's JSON may hold half a surrogate pair, which UTF-8 cannot encode; the call is served anyway.
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else text


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {_writable(str(key)): _as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, int, float)) else _writable(str(value))


Text = Annotated[str, BeforeValidator(_writable)]
Name = Annotated[Text, Field(min_length=1)]


class CallOutcome(BaseModel):
    """One finished call: who asked what, which core served it, and the result.

    Attributes
    ----------
    call_id : str
        Unique over all kernels (a UUID); feedback refers to it.
    core : str
        The core that served it, by name.
    query : str
        What was asked; empty if the text was left out.
    tools : list of dict or None
        In OpenAI's format; a value that is not JSON is replaced by its text.
    agent : str
        Who asked.
    input_token_length, output_token_length : int or None
        Tokens. None: unknown, not zero.
    token_source : {"provider", "counted"} or None
        Whether the provider reported the tokens or they were counted here. None: unknown.
    latency_s : float or None
        Seconds from sending the call to its answer.
    cost_usd : float or None
        US dollars.
    error : str or None
        The kind of error that the call ended with, one word (``TimeoutError``, ``http_503``). Never its
        message, which may repeat the query.
    quality : float or None
        0 to 1. None: not graded.
    finished_s : float
        Unix seconds; now, unless given.
    answer_key, answer_passes : str or None, bool or None
        As in `Outcome`.
    selected, plan, plan_asked : bool, str or None, int or None
        As in `Outcome`.
    query_hash, query_length : str or None, int or None
        SHA-256 and characters of the query. Only where the text was left out.
    embedding : str or None
        As in `Record`. Only where the text was left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    call_id: Name
    core: Name
    query: Text = ""
    tools: Annotated[list[dict[str, Any]], BeforeValidator(_as_json)] | None = None
    agent: Text = ""
    input_token_length: Tokens | None = None
    output_token_length: Tokens | None = None
    token_source: Literal["provider", "counted"] | None = None
    latency_s: Seconds | None = None
    cost_usd: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None = None
    error: Annotated[str, Field(pattern=r"^[\w.:-]{1,80}$")] | None = None
    quality: Unit | None = None
    finished_s: Annotated[float, Field(allow_inf_nan=False)] = Field(default_factory=time.time)
    query_hash: str | None = None
    query_length: Annotated[int, Field(ge=0)] | None = None
    embedding: Embedding | None = None
    answer_key: AnswerKey | None = None
    answer_passes: bool | None = None
    selected: bool = False
    plan: PlanName | None = None
    plan_asked: PlanCores | None = None

    def without_text(self, embed: Embed | None = None) -> CallOutcome:
        """The same outcome without the query and the tools, as `Record.without_text`."""
        if self.query_hash is not None:
            return self
        update = {
            "query": "",
            "tools": None,
            "query_hash": text_hash(self.query),
            "query_length": len(self.query),
            "embedding": embed and embed(Record(query=self.query, tools=self.tools, outputs=())),
        }
        return self.model_copy(update=update)

    def record(self) -> Record:
        """The call as a record of one outcome; requires a known quality."""
        outcome = Outcome(
            model_name=self.core,
            quality=self.quality,
            input_token_length=self.input_token_length,
            output_token_length=self.output_token_length,
            latency_s=self.latency_s,
            answer_key=self.answer_key,
            answer_passes=self.answer_passes,
            selected=self.selected,
            plan=self.plan,
            plan_asked=self.plan_asked,
        )
        return Record(
            id=self.call_id,
            query=self.query,
            tools=self.tools,
            outputs=(outcome,),
            query_hash=self.query_hash,
            query_length=self.query_length,
            embedding=self.embedding,
        )
