"""Classifies an attempt without an answer by its status, headers, error body and exceptions."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eccos_aios.schedule.outcome_kinds import AttemptOutcome, OutcomeKind

LONGEST_RETRY_AFTER_S = 86_400.0  # seconds; a core that asks for more is still probed once a day
SHOWN_WORD_LENGTH = 60  # characters of a provider's error code in a cause
READ_BODY_BYTES = 65_536  # of an error's body that are examined

# Wordings of OpenAI, Azure, Anthropic, Gemini, Groq, Mistral, vLLM, llama.cpp and Ollama.
WINDOW = re.compile(
    r"context.?(length|window|size)|maximum.context|max_model_len|too many (input )?tokens|"
    r"(prompt|input|message|request)s? (is|are|was) too (long|large)|reduce the length|"
    r"request too large|exceeds? (the )?(maximum|max|limit|available)[^.]{0,40}(tokens?|context|length)|"
    r"input.?tokens?[^.]{0,40}exceed|string_above_max_length",
    re.I,
)
FILTER = re.compile(
    r"content.?(filter|policy|management|moderation)|responsible.?ai|moderation|flagged|"
    r"safety (system|setting|polic|reason)|prohibited.?content|blocked by|blockreason|guardrail",
    re.I,
)
REFUSAL = re.compile(
    r"credit|billing|insufficient.?(quota|balance|funds|credits?)|payment|"
    r"exceeded your (current|monthly) quota|"
    r"(spend|spending|usage|budget).?(limit|cap|exceeded)|arrears|"
    r"api.?key.{0,40}(not valid|invalid|expired|incorrect|revoked|missing|disabled)|"
    r"(invalid|incorrect|expired|missing|revoked|no).{0,10}api.?key|invalid_api_key|api_key_invalid|"
    r"(account|organization|project|subscription).{0,40}(deactivated|disabled|suspended|not active|inactive|"
    r"does not have access)|access.?denied|location is not supported|unsupported_country|"
    r"llm provider not provided",
    re.I,
)
USED_UP = re.compile(
    r"insufficient.?quota|per.?day|daily|\b(tpd|rpd)\b|per.?month|monthly|"
    r"exceeded your current quota|billing|credit",
    re.I,
)
NO_MODEL = re.compile(
    r"model.{0,80}(not.?found|does not exist|doesn't exist|not exist|no longer|decommissioned|deprecated|"
    r"is not available|not a valid|unknown|not supported in this region|does not have access|not loaded)|"
    r"(invalid|unknown|no such|not a valid) model|deployment.{0,40}(not.?found|does not exist)",
    re.I,
)
UNSUPPORTED = re.compile(
    r"unsupported|not.?support|unrecognized|unknown (parameter|argument|field)|extra inputs|"
    r"not (permitted|allowed)|"
    r"does not (accept|allow)|requires? .{0,40}--enable|tool.?choice|enable-auto-tool",
    re.I,
)
INVALID_MESSAGES = re.compile(
    r"invalid.{0,20}(messages?|role|image|audio|file|base64|utf.?8|unicode|url)|"
    r"messages?\b.{0,60}(must|required|expected|invalid|cannot|empty|missing)|"
    r"(failed|unable|error).{0,30}(download|fetch|decod|process|pars).{0,30}(image|audio|file|url)|"
    r"surrogate",
    re.I,
)

REFUSING_STATUSES = frozenset({401, 402, 403, 404, 405, 407, 410, 421, 426, 451})
BUSY_STATUSES = frozenset({425, 429, 503, 529})
UNFIT_STATUSES = frozenset({400, 406, 411, 413, 414, 415, 416, 422, 431})

# Exceptions by class name, of httpx, OpenAI's client, litellm and the standard library.
SILENT_ERRORS = frozenset(
    {
        "APITimeoutError",
        "Timeout",
        "TimeoutError",
        "ReadTimeout",
        "WriteTimeout",
        "TimeoutException",
        "timeout",
    }
)
UNCONNECTED_ERRORS = frozenset(
    {
        "ConnectError",
        "ConnectionRefusedError",
        "NotSentError",
        "ProxyError",
        "SSLCertVerificationError",
        "UnsupportedProtocol",
        "gaierror",
    }
)
UNENCODABLE_ERRORS = frozenset({"UnicodeEncodeError"})
UNFIT_ERRORS = frozenset(
    {
        "ContentPolicyViolationError",
        "ContextWindowExceededError",
        "RejectedRequestError",
        "UnsupportedParamsError",
    }
)
REFUSAL_ERRORS = frozenset(
    {"AuthenticationError", "BudgetExceededError", "NotFoundError", "PermissionDeniedError"}
)
BUSY_ERRORS = frozenset({"RateLimitError", "RouterRateLimitError", "ServiceUnavailableError"})
AT_FAULT_ERRORS = frozenset({"ImageFetchError"})


@dataclass(frozen=True)
class Observation:
    """What the client saw of an attempt without an answer.

    Attributes
    ----------
    status : int or None
        The HTTP status; None where no response came.
    headers : mapping of str to str
        Of the response, names in lower case.
    body : bytes
        Of the response, possibly truncated.
    errors : tuple of BaseException
        The exception and its causes, the outermost first.
    sent : bool
        Whether a request left at all.
    message : str
        An error message, where there is no body.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    errors: tuple[BaseException, ...] = ()
    sent: bool = True
    message: str = ""


def classify(seen: Observation) -> AttemptOutcome:
    """The outcome of an attempt without an answer."""
    code, text = _error_text(seen)
    status = _status(seen, text)
    names = [type(error).__name__ for error in seen.errors]
    if not UNENCODABLE_ERRORS.isdisjoint(names) or (not seen.sent and _is_unserializable(seen.errors)):
        return AttemptOutcome(OutcomeKind.CALL_AT_FAULT, "it cannot be encoded")
    if status is None:
        return _without_status(names, seen, text)
    cause = " ".join(filter(None, (f"HTTP {status}", code)))
    kind = _kind(status, text)
    retry_after_s = retry_after(seen.headers) if status in BUSY_STATUSES else None
    if 300 <= status < 400:
        return AttemptOutcome(kind, f"HTTP {status}, a redirect: AIOS's hostname must be the final address")
    return AttemptOutcome(kind, cause, retry_after_s, disputable=kind is not OutcomeKind.CORE_REFUSES)


def _kind(status: int, text: str) -> OutcomeKind:
    if status == 429:
        return _of_too_many(text)
    if status >= 400 and WINDOW.search(text):
        return OutcomeKind.CORE_UNFIT
    if status in BUSY_STATUSES:
        return OutcomeKind.CORE_BUSY
    if status == 403 and FILTER.search(text):
        return OutcomeKind.CORE_UNFIT
    if status in REFUSING_STATUSES:
        return OutcomeKind.CORE_REFUSES
    if status in UNFIT_STATUSES or (400 <= status < 500 and status not in (408, 409, 499)):
        return _of_bad_request(text)
    return OutcomeKind.CORE_FAILS


def _of_too_many(text: str) -> OutcomeKind:
    if re.search(r"request too large", text, re.I):
        return OutcomeKind.CORE_UNFIT
    return OutcomeKind.CORE_REFUSES if USED_UP.search(text) else OutcomeKind.CORE_BUSY


def _of_bad_request(text: str) -> OutcomeKind:
    """Whose fault a 400 is. One of unknown wording is tried on one more core."""
    if FILTER.search(text):
        return OutcomeKind.CORE_UNFIT
    if REFUSAL.search(text) or NO_MODEL.search(text):
        return OutcomeKind.CORE_REFUSES
    if UNSUPPORTED.search(text):
        return OutcomeKind.CORE_UNFIT
    return OutcomeKind.CALL_AT_FAULT if INVALID_MESSAGES.search(text) else OutcomeKind.CORE_UNFIT


def _without_status(names: list[str], seen: Observation, text: str) -> AttemptOutcome:
    shown = names[-1] if names else "no answer"
    for known, kind in (
        (AT_FAULT_ERRORS, OutcomeKind.CALL_AT_FAULT),
        (UNFIT_ERRORS, OutcomeKind.CORE_UNFIT),
        (REFUSAL_ERRORS, OutcomeKind.CORE_REFUSES),
    ):
        if found := [name for name in names if name in known]:
            return AttemptOutcome(kind, found[0], disputable=kind is not OutcomeKind.CORE_REFUSES)
    if not SILENT_ERRORS.isdisjoint(names):
        return AttemptOutcome(OutcomeKind.CORE_SILENT, "no answer in time")
    if not UNCONNECTED_ERRORS.isdisjoint(names):
        return AttemptOutcome(OutcomeKind.CORE_FAILS, f"no connection ({shown})", disputable=False)
    if not BUSY_ERRORS.isdisjoint(names):
        kind = OutcomeKind.CORE_REFUSES if USED_UP.search(text) else OutcomeKind.CORE_BUSY
        return AttemptOutcome(kind, shown, retry_after(seen.headers))
    if not seen.sent and "BadRequestError" in names:
        return AttemptOutcome(_of_bad_request(text), shown)
    return AttemptOutcome(OutcomeKind.CORE_FAILS, shown)


def _status(seen: Observation, text: str) -> int | None:
    """The status; some gateways answer 200 and put the status into the body's error."""
    if seen.status is None or seen.status >= 300:
        return seen.status
    error = _error_of(seen.body)
    for key in ("code", "status", "status_code"):
        value = error.get(key)
        if isinstance(value, int | str) and re.fullmatch(r"[45]\d\d", str(value)):
            return int(value)
    return 500 if error and text else None


def _is_unserializable(errors: tuple[BaseException, ...]) -> bool:
    return any(isinstance(error, TypeError | ValueError) and "serializable" in str(error) for error in errors)


def _error_text(seen: Observation) -> tuple[str, str]:
    """The provider's error code, and all text on the error."""
    error = _error_of(seen.body)
    words = [str(error[key]) for key in ("code", "type", "status", "param") if error.get(key) is not None]
    word = next((each for each in words if re.fullmatch(r"[A-Za-z][\w.-]*", each)), "")
    texts = [*words, str(error.get("message") or "")]
    inner = error.get("innererror")
    if isinstance(inner, Mapping):
        texts.append(str(inner.get("code", "")))
    if not error:
        texts.append(seen.body[:READ_BODY_BYTES].decode("utf-8", "replace"))
    texts.append(seen.message)
    texts += [str(raised) for raised in seen.errors[:1]] if not seen.body else []
    return word[:SHOWN_WORD_LENGTH], " ".join(texts)


def _error_of(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body[:READ_BODY_BYTES])
    except (ValueError, RecursionError):
        return {}
    if isinstance(content, list) and content:  # Gemini answers a list of one
        content = content[0]
    if not isinstance(content, Mapping):
        return {}
    error = content.get("error", content if "choices" not in content else None)
    if isinstance(error, str):
        return {"message": error}
    if not isinstance(error, Mapping):
        return {}
    return error if "error" in content or {"message", "detail", "code"} & error.keys() else {}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until a core wants to be asked again; None where its headers do not say.

    ``retry-after-ms``, ``retry-after`` (seconds or a date), then the reset of what is used up:
    ``x-ratelimit-reset-requests`` and ``-tokens`` (durations), ``anthropic-ratelimit-…-reset`` (dates).
    """
    asked = _number(headers.get("retry-after-ms"))
    if asked is not None:
        return _bounded(asked / 1000)
    value = headers.get("retry-after")
    if value is not None:
        asked = _number(value)
        return _bounded(asked if asked is not None else _until(value))
    resets = [
        seconds
        for name in headers
        if "ratelimit" in name and "reset" in name
        if headers.get(name.replace("reset", "remaining"), "0").strip() in ("0", "0.0")
        if (seconds := _reset(headers[name])) is not None
    ]
    return _bounded(max(resets)) if resets else None


def _reset(value: str) -> float | None:
    number = _number(value)
    if number is not None:
        # a moment in Unix seconds or milliseconds, or a duration in seconds
        for unit in (1.0, 1000.0):
            if number / unit > 1e9:
                return number / unit - time.time() if number / unit < 1e11 else None
        return number
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[dhms])", value)
    if parts and "".join(map("".join, parts)) == value.strip():
        units = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
        return sum(float(number) * units[unit] for number, unit in parts)
    return _until(value)


def _until(value: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        pass
    from datetime import datetime

    try:
        return datetime.fromisoformat(value.strip().replace("Z", "+00:00")).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(0.0, seconds), LONGEST_RETRY_AFTER_S)
