"""The meaning of an attempt's end, and the outcome of a finished call for the history."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eccos_aios.core import Core
from eccos_aios.history import CallOutcome
from eccos_aios.hooks.question import checked
from eccos_aios.hooks.syscall import Syscall
from eccos_aios.predict import call_text
from eccos_aios.schedule import ANSWERED, Attempt, AttemptOutcome, Call, CallResult, OutcomeKind, Usage

# How AIOS's error begins where a core has answered in a form that AIOS cannot read.
UNDECODED = ("Tool call decoding error", "Response processing error", "Unhandled processing exception")
UNDECODED_WORD = "undecoded"
FIRST_ERROR_STATUS = 400
AIOS_STATUSES = {
    400: OutcomeKind.CORE_UNFIT,
    401: OutcomeKind.CORE_REFUSES,
    404: OutcomeKind.CORE_REFUSES,
    408: OutcomeKind.CORE_SILENT,
    429: OutcomeKind.CORE_BUSY,
}


@dataclass(frozen=True)
class SyscallPayload:
    """The payload of a call: its LLM syscall, and its tools as the agent wrote them.

    AIOS renames the tools of a syscall in place when it sends them.
    """

    syscall: Syscall
    tools: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, syscall: Syscall) -> SyscallPayload:
        """The payload of a syscall that AIOS has not sent yet."""
        tools = [tool for tool in syscall.query.tools or () if isinstance(tool, Mapping)]
        return cls(syscall, tuple(map(_as_written, tools)))


@dataclass(frozen=True)
class Answer:
    """A core's answer as AIOS's adapter returns it, and what the provider reported of it."""

    response: Any
    usage: Usage | None = None
    finish_reason: str | None = None


def attempt_outcome(attempt: Attempt, response: Any, *, with_tools: bool) -> AttemptOutcome:
    """What an attempt's end means, by what its client observed, else by AIOS's response.

    Parameters
    ----------
    attempt : Attempt
    response : LLMResponse
        As AIOS's adapter returns it.
    with_tools : bool
        Whether the call offers tools.
    """
    if attempt.answer is not None and attempt.answer.kind is not OutcomeKind.ANSWERED:
        return attempt.answer
    if response.error is None:
        said = (response.response_message or "").strip() or response.tool_calls or with_tools
        if attempt.answer is not None or said:
            return ANSWERED
        return AttemptOutcome(OutcomeKind.NO_ANSWER, "nothing said")
    if attempt.answer is not None or is_undecoded(response):
        return AttemptOutcome(OutcomeKind.CORE_UNFIT, UNDECODED_WORD, disputable=False)
    if attempt.saw_anything:
        return attempt.outcome()
    return _by_aios(response, sent=attempt.requests > 0)


def _by_aios(response: Any, *, sent: bool) -> AttemptOutcome:
    """By AIOS's status: 503 means no connection, 500 and 502 anything that it cannot classify."""
    status = response.status_code
    kind = AIOS_STATUSES.get(status, OutcomeKind.CORE_FAILS)
    if kind is OutcomeKind.CORE_UNFIT and not sent:
        kind = OutcomeKind.CALL_AT_FAULT
    return AttemptOutcome(kind, f"AIOS status {status}", disputable=status not in (401, 404, 503))


def is_final(result: CallResult) -> bool:
    """Whether a call ends with this result; False if only its time slice is over and it continues."""
    return not isinstance(result.value, Answer) or result.value.response.finished or result.core is None


def outcome_of(call: Call, result: CallResult, core: Core, finished_s: float) -> CallOutcome | None:
    """The outcome of a call that has been sent to a core; None while the call continues.

    Tokens that were not reported are counted as stage 1 counts them. The cost of a failed call is unknown
    where its tokens are.

    Parameters
    ----------
    call : Call
        Its payload is an `SyscallPayload`.
    result : CallResult
        Its value is an `Answer`, or None.
    core : Core
        The last one.
    finished_s : float
        Unix seconds.
    """
    if not is_final(result):
        return None
    asked: SyscallPayload = call.payload
    answer = result.value if isinstance(result.value, Answer) else Answer(None)
    usage = answer.usage
    input_tokens = usage.input_tokens if usage else math.ceil(call.text.input_tokens)
    output_tokens = usage.output_tokens if usage else None if result.failed else _counted(answer.response)
    # stages were checked when they came; a single core's answer is checked here, after it is given
    check = None
    if not result.failed and not result.stages and call.question is not None:
        check = checked(call, answer)
    return CallOutcome(
        call_id=call.id,
        core=core.name,
        query=call.text.text.removesuffix(call_text(None, asked.tools).text),
        tools=list(asked.tools) or None,
        agent=call.agent,
        input_token_length=input_tokens,
        output_token_length=output_tokens,
        token_source="provider" if usage else "counted",
        latency_s=result.service_s,
        cost_usd=None
        if output_tokens is None
        else _cost_usd(core, usage or Usage(input_tokens, output_tokens)),
        error=error_word(result) if result.failed else None,
        finished_s=finished_s,
        answer_key=None if check is None else check.key,
        answer_passes=None if check is None else check.passes,
    )


def error_word(result: CallResult) -> str:
    """The kind of error that a call ended with: an exception's name, ``http_503``, or ``undecoded``."""
    if result.error is not None:
        return type(result.error).__name__
    response = result.value.response if isinstance(result.value, Answer) else None
    status_code = getattr(response, "status_code", None) or 0
    if is_undecoded(response) or status_code < FIRST_ERROR_STATUS:
        return UNDECODED_WORD
    return f"http_{status_code}"


def is_undecoded(response: Any) -> bool:
    """Whether a core has answered in a form that AIOS cannot read."""
    return str(getattr(response, "error", "")).startswith(UNDECODED)


def _as_written(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    return {**tool, "function": {**function}} if isinstance(function, Mapping) else {**tool}


def _counted(response: Any) -> int:
    said = {"content": response.response_message, "tool_calls": response.tool_calls}
    return math.ceil(call_text([said]).input_tokens)


def _cost_usd(core: Core, usage: Usage) -> float | None:
    price = core.known_price
    if price is None:
        return None
    return price.usd(usage.input_tokens, usage.output_tokens, usage.cached_tokens)
