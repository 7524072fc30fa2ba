"""Whose fault a failed attempt was, in the words that providers use."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest

from eccos_aios.schedule import Attempt, Observation, OutcomeKind, classify
from eccos_aios.schedule.classify import LONGEST_RETRY_AFTER_S, retry_after

REFUSES, BUSY, FAILS = OutcomeKind.CORE_REFUSES, OutcomeKind.CORE_BUSY, OutcomeKind.CORE_FAILS
SILENT, UNFIT, AT_FAULT = OutcomeKind.CORE_SILENT, OutcomeKind.CORE_UNFIT, OutcomeKind.CALL_AT_FAULT


def seen(http: int, message: str = "", code: str | None = None, **fields: Any) -> Observation:
    error = {"message": message, "type": "error", "param": None, "code": code, **fields}
    return Observation(http, body=json.dumps({"error": error}).encode())


def raised(*kinds: str, sent: bool = True) -> Observation:
    return Observation(errors=tuple(type(kind, (Exception,), {})() for kind in kinds), sent=sent)


@pytest.mark.parametrize(
    ("observation", "kind"),
    [
        (seen(401, "Incorrect API key provided", "invalid_api_key"), REFUSES),
        (seen(402, "Insufficient Balance"), REFUSES),
        (seen(403, "Project does not have access to model"), REFUSES),
        (seen(404, "The model `gpt-9` does not exist", "model_not_found"), REFUSES),
        (seen(400, "Your credit balance is too low to access the API"), REFUSES),
        (seen(400, "API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT"), REFUSES),
        (seen(400, "The model `llama-2` has been decommissioned", "model_decommissioned"), REFUSES),
        (
            seen(429, "You exceeded your current quota, check your plan and billing", "insufficient_quota"),
            REFUSES,
        ),
        (seen(429, "Rate limit reached on tokens per day (TPD): Limit 500000"), REFUSES),
        (raised("AuthenticationError", sent=False), REFUSES),
        (seen(429, "Rate limit reached on requests per min", "rate_limit_exceeded"), BUSY),
        (seen(503, "overloaded"), BUSY),
        (seen(529, "Overloaded", type="overloaded_error"), BUSY),
        (raised("ServiceUnavailableError"), BUSY),
        (seen(500, "internal"), FAILS),
        (seen(502, "bad gateway"), FAILS),
        (seen(504, "gateway timeout"), FAILS),
        (seen(307), FAILS),
        (raised("ConnectError", "ConnectionRefusedError"), FAILS),
        (raised("RemoteProtocolError"), FAILS),
        (raised("APIConnectionError", "ReadError", "ConnectionResetError"), FAILS),
        (Observation(200, errors=(json.JSONDecodeError("x", "", 0),), body=b'{"choices": [{"mess'), FAILS),
        (Observation(200, body=b""), FAILS),
        (raised("APITimeoutError", "ReadTimeout"), SILENT),
        (raised("TimeoutError"), SILENT),
        (raised("ConnectTimeout", "TimeoutError"), SILENT),
        (seen(400, "This model's maximum context length is 4096 tokens", "context_length_exceeded"), UNFIT),
        (seen(400, "prompt is too long: 210000 tokens > 200000 maximum"), UNFIT),
        (seen(500, "the request exceeds the available context size. try increasing it"), UNFIT),
        (seen(413, "Request too large"), UNFIT),
        (
            seen(429, "Request too large for gpt-4 on tokens per min (TPM): Limit 10000, Requested 12000"),
            UNFIT,
        ),
        (seen(400, "filtered due to the content management policy", "content_filter"), UNFIT),
        (seen(403, "Your input was flagged by moderation"), UNFIT),
        (seen(400, "Unsupported parameter: 'temperature'", "unsupported_parameter"), UNFIT),
        (seen(400, '"auto" tool choice requires --enable-auto-tool-choice'), UNFIT),
        (seen(422, "Extra inputs are not permitted"), UNFIT),
        (seen(400, "bad request"), UNFIT),
        (raised("ContextWindowExceededError", "BadRequestError"), UNFIT),
        (
            seen(400, "Invalid value for role: must be one of user, assistant", param="messages[0].role"),
            AT_FAULT,
        ),
        (seen(400, "messages: at least one message is required"), AT_FAULT),
        (seen(400, "Failed to download image from https://example.org/x.png"), AT_FAULT),
        (raised("InternalServerError", "UnicodeEncodeError", sent=False), AT_FAULT),
        (
            Observation(errors=(TypeError("Object of type set is not JSON serializable"),), sent=False),
            AT_FAULT,
        ),
        (Observation(200, body=b'{"error": {"message": "Rate limited", "code": 429}}'), BUSY),
        (Observation(200, body=b'{"error": {"message": "No auth credentials", "code": 401}}'), REFUSES),
        (Observation(500, body=b"[1, 2"), FAILS),
        (Observation(400, body=b'[{"error": {"code": 400, "message": "API key expired"}}]'), REFUSES),
        (Observation(), FAILS),
    ],
)
def test_the_fault_is_found(observation: Observation, kind: OutcomeKind) -> None:
    assert classify(observation).kind is kind


def test_a_cause_names_status_and_code_and_nothing_of_the_text() -> None:
    outcome = classify(seen(401, "Incorrect API key provided: sk-secret", "invalid_api_key"))
    assert str(outcome) == "HTTP 401 invalid_api_key"


def test_no_connection_is_never_the_calls_doing() -> None:
    refused = classify(raised("ConnectError", "ConnectionRefusedError"))
    assert not refused.is_like(refused)
    failed = classify(seen(500, "internal"))
    assert failed.is_like(classify(seen(500, "internal")))
    assert not failed.is_like(classify(seen(502, "bad gateway")))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "15"}, 15.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, 360.0),
        ({"x-ratelimit-reset-tokens": "20ms", "x-ratelimit-remaining-tokens": "0"}, 0.02),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-requests": "9"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "1e300"}, LONGEST_RETRY_AFTER_S),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_what_a_core_says_of_when_to_come_back_is_heard(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers) == seconds
    assert classify(Observation(429, headers)).retry_after_s == seconds


def test_a_moment_is_as_good_as_a_duration() -> None:
    then = time.time() + 60
    for headers in (
        {"retry-after": formatdate(then, usegmt=True)},
        {"anthropic-ratelimit-requests-reset": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(then))},
        {"x-ratelimit-reset": str(int(then))},
    ):
        assert retry_after(headers) == pytest.approx(60, abs=10)


def test_an_attempt_remembers_what_its_last_request_gave() -> None:
    attempt = Attempt("core")
    attempt.note_request()
    attempt.note_response(500, {"X-Odd": "1"}, b"{}")
    attempt.note_request()
    attempt.note_response(429, {"Retry-After": "3"}, b"{}")
    assert attempt.outcome().retry_after_s == 3.0
    assert attempt.requests == 2


@pytest.mark.parametrize("tokens", [(None, None), (0, 0), (5, 0), (0, 5), (-1, 5), ("5", 5), (True, True)])
def test_tokens_that_cannot_be_true_are_not_believed(tokens: tuple[Any, Any]) -> None:
    attempt = Attempt("core")
    attempt.note_usage(*tokens)
    assert attempt.usage is None
    attempt.note_usage(93, 21)
    assert attempt.usage is not None
