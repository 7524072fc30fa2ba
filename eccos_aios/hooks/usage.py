"""Observes what AIOS's clients send and receive during an attempt, and limits each to one request.

AIOS reduces a provider's answer to its text, and an error to its own wording. litellm and OpenAI's client,
which AIOS uses, both send with httpx. So three places are wrapped, with effect during an attempt only: the
client's answer (tokens, content), httpx's request and response (status, headers, error), and the number of
retries of OpenAI's client (none).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import wrapt

from eccos_aios.schedule import Attempt, current_attempt

logger = logging.getLogger(__name__)

TIMEOUTS = ("connect", "read", "write", "pool")  # httpx has one for each step, in seconds

_wrapped: set[tuple[str, str]] = set()


def listen_to_providers() -> None:
    """Wrap AIOS's clients; may be repeated.

    A client that is absent, or differs from the known one, is not wrapped: the tokens of its answers are then
    counted here, and its errors inferred from AIOS's wording.
    """
    places: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("litellm", "completion", _read_answer),
        ("openai.resources.chat.completions", "Completions.create", _read_answer),
        ("httpx", "Client.send", _send),
        ("openai._models", "FinalRequestOptions.get_max_retries", _ask_once),
    )
    for module, name, wrapper in places:
        if (module, name) in _wrapped:
            continue
        try:
            wrapt.wrap_function_wrapper(module, name, wrapper)
        except (ImportError, AttributeError) as error:
            logger.warning(
                "%s.%s differs from the known one, so less is known of its calls: %s", module, name, error
            )
        else:
            _wrapped.add((module, name))


def _read_answer(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    attempt = current_attempt()
    if attempt is None:
        return wrapped(*args, **kwargs)
    try:
        answer = wrapped(*args, **kwargs)
    except BaseException as error:
        attempt.note_error(error)
        raise
    # litellm may use OpenAI's client inside; its own answer comes last and counts
    usage = getattr(answer, "usage", None)
    details = getattr(usage, "prompt_tokens_details", None)
    attempt.note_usage(
        getattr(usage, "prompt_tokens", None),
        getattr(usage, "completion_tokens", None),
        getattr(details, "cached_tokens", None),
    )
    choices = getattr(answer, "choices", None)
    if isinstance(choices, list):
        _note_choice(attempt, choices[0] if choices else None)
    return answer


def _note_choice(attempt: Attempt, choice: Any) -> None:
    message = getattr(choice, "message", None)
    attempt.note_answer(
        getattr(message, "content", None),
        any(getattr(message, name, None) for name in ("tool_calls", "function_call", "audio")),
        getattr(choice, "finish_reason", None),
        refused=bool(getattr(message, "refusal", None)),
    )


def _ask_once(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    """Retries are ECCOS's decision, not that of a client inside a slot."""
    return 0 if current_attempt() is not None else wrapped(*args, **kwargs)


def _send(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    attempt = current_attempt()
    if attempt is None or not args:
        return wrapped(*args, **kwargs)
    request, streamed = args[0], bool(kwargs.pop("stream", False))
    attempt.note_request()
    request.extensions = {**request.extensions, "timeout": _timeouts(request, attempt.left_s())}
    # following a redirect is another request, and up to twenty at a core that redirects to itself
    kwargs["follow_redirects"] = False
    try:
        response = wrapped(*args, stream=True, **kwargs)
        response.stream = _bounded_stream()(response.stream, attempt)
        if not streamed:
            _read(response)
    except BaseException as error:
        attempt.note_error(error)
        raise
    attempt.note_response(response.status_code, response.headers, b"" if streamed else response.content)
    return response


def _timeouts(request: Any, left_s: float) -> dict[str, float]:
    given = request.extensions.get("timeout") or {}
    return {step: min(left_s, given.get(step) or left_s) for step in TIMEOUTS}


def _read(response: Any) -> None:
    try:
        response.read()
    except BaseException:
        response.close()
        raise


@cache
def _bounded_stream() -> Any:
    """The class of a response body that raises a timeout when the attempt's time is over.

    httpx's own timeouts apply to each read, so a body that trickles would never end. Made on first use, as
    httpx comes with AIOS.
    """
    import httpx

    class BoundedStream(httpx.SyncByteStream):  # type: ignore[misc,unused-ignore]
        def __init__(self, stream: Any, attempt: Attempt) -> None:
            self._stream = stream
            self._attempt = attempt

        def __iter__(self) -> Iterator[bytes]:
            for chunk in self._stream:
                if self._attempt.timed_out:
                    raise httpx.ReadTimeout("the attempt's time is over")
                yield chunk

        def close(self) -> None:
            self._stream.close()

    return BoundedStream
