"""The faults that a sandbox core can simulate."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

FaultKind = Literal[
    "500",
    "429",
    "400",
    "401",
    "hang",
    "cut",
    "malformed",
    "empty",
    "402",
    "403",
    "404",
    "413",
    "503",
    "529",
    "filter",
    "window",
    "null",
    "trickle",
    "redirect",
    "refused",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

RetryHeader = Literal["Retry-After", "retry-after-ms", "x-ratelimit-reset-requests"]
RETRY_HEADERS: tuple[RetryHeader, ...] = get_args(RetryHeader)

# By kind: status, error type, error code, parameter and message, as OpenAI, Azure and Anthropic word them.
ERRORS: dict[str, tuple[int, str | None, str | None, str | None, str]] = {
    "400": (400, "invalid_request_error", None, None, "bad request: this sandbox core is set to refuse it"),
    "401": (401, "authentication_error", "invalid_api_key", None, "Incorrect API key provided."),
    "402": (402, "insufficient_quota", "insufficient_quota", None, "Insufficient balance."),
    "403": (403, "permission_error", "permission_denied", None, "This key may not use this model."),
    "404": (
        404,
        "invalid_request_error",
        "model_not_found",
        None,
        "The model does not exist or you do not have access to it.",
    ),
    "413": (413, "request_too_large", None, None, "Request exceeds the maximum allowed number of bytes."),
    "429": (429, "requests", "rate_limit_exceeded", None, "Rate limit reached for requests."),
    "500": (500, "server_error", None, None, "this sandbox core is set to fail"),
    "503": (503, "server_error", None, None, "The engine is currently overloaded, please try again later."),
    "529": (529, "overloaded_error", None, None, "Overloaded"),
    "filter": (
        400,
        None,
        "content_filter",
        "prompt",
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
        "Please modify your prompt and retry.",
    ),
    "window": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "messages",
        "This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens. "
        "Please reduce the length of the messages.",
    ),
}


class Fault:
    """A fault that strikes a share of the requests until it is healed.

    Parameters
    ----------
    kind : FaultKind or sequence of FaultKind
        Of several, each request that is struck has one at random. An HTTP status; ``filter`` and
        ``window`` (status 400, for what the request says and for its length); ``null`` (status 200, no
        content, finish_reason length), ``empty`` (status 200, no body), ``malformed`` (status 200, body
        not JSON), ``redirect`` (status 307, to the same address); ``cut`` (the connection ends without an
        answer), ``hang`` (no answer until healed), ``trickle`` (the head of an answer, then a byte now
        and then until healed); or ``refused`` (nothing listens until healed, whatever the share; not one
        of several).
    share : float
        Part of the requests that it strikes, 0 to 1.
    seed : int
        Which requests those are.
    everywhere : bool
        Whether ``GET /v1/models`` has it as well.
    retry_after_s : float, optional
        Seconds that the core names in a header of each response with a status of 400 and above; they do
        not change how long the fault lasts.
    retry_header : RetryHeader
        The header that names them.

    Raises
    ------
    ValueError
        `kind` or `retry_header` is unknown, `share` is outside of 0 to 1, or `retry_after_s` is negative.
    """

    def __init__(
        self,
        kind: FaultKind | Sequence[FaultKind],
        share: float = 1.0,
        seed: int = 0,
        *,
        everywhere: bool = False,
        retry_after_s: float | None = None,
        retry_header: RetryHeader = "Retry-After",
    ) -> None:
        kinds = (kind,) if isinstance(kind, str) else tuple(kind)
        for each in kinds:
            if each not in FAULT_KINDS:
                raise ValueError(f"kind: {each!r}: must be one of {', '.join(FAULT_KINDS)}")
        if not kinds or (len(kinds) > 1 and "refused" in kinds):
            raise ValueError(f"kind: {kind!r}: must be one, or several of those that strike single requests")
        if not 0 <= share <= 1:
            raise ValueError(f"share: {share!r}: must be 0 to 1")
        if retry_header not in RETRY_HEADERS:
            raise ValueError(f"retry_header: {retry_header!r}: must be one of {', '.join(RETRY_HEADERS)}")
        if retry_after_s is not None and not 0 <= retry_after_s < math.inf:
            raise ValueError(f"retry_after_s: {retry_after_s!r}: must be 0 or more")
        self.refuses = "refused" in kinds
        self.everywhere = everywhere
        self.headers: dict[str, str] = {}
        if retry_after_s is not None:
            self.headers[retry_header] = _RETRY_VALUES[retry_header](retry_after_s)
        self.healed = threading.Event()
        self._kinds = kinds
        self._share = share
        self._random = random.Random(seed)
        self._lock = threading.Lock()  # guards _random, which every request draws from

    def strikes(self) -> FaultKind | None:
        """The kind that strikes the request at hand; None: it is served as if there were no fault."""
        with self._lock:
            if self._random.random() >= self._share:
                return None
            return self._kinds[0] if len(self._kinds) == 1 else self._random.choice(self._kinds)


def fault_error(kind: str) -> tuple[int, dict[str, Any]]:
    """Status and body of a fault that is an HTTP error, in OpenAI's shape."""
    status, error_type, code, param, message = ERRORS[kind]
    return status, {"error": {"message": message, "type": error_type, "param": param, "code": code}}


_RETRY_VALUES: dict[RetryHeader, Callable[[float], str]] = {
    "Retry-After": lambda seconds: str(math.ceil(seconds)),  # HTTP allows whole seconds only
    "retry-after-ms": lambda seconds: f"{1000 * seconds:g}",
    "x-ratelimit-reset-requests": lambda seconds: f"{seconds:g}s",
}
