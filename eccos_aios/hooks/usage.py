"""What AIOS's clients send and get while a call is with a core: one request an attempt, and all that comes.

AIOS reads a provider's answer and keeps no more of it than the text, and of an error its own words. litellm
and OpenAI's client, which AIOS asks through, both send with httpx. So this looks at three places, within an
attempt alone: the answer as the client gives it (tokens, content), the request and response as httpx has
them (status, headers, error), and how often OpenAI's client may ask again (never).
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
    """Look at what AIOS's clients do within an attempt; once is enough.

    A client that is not there, or has another form than the one known here, is left alone: the tokens of
    its answers are then counted, and its errors read from AIOS's words.
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
                "%s.%s is not as known, less is seen of what goes through it: %s", module, name, error
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
    # litellm asks through OpenAI's client too, and answers last
    usage = getattr(answer, "usage", None)
    attempt.note_usage(getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))
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
    """ECCOS decides whether and where a call is tried again, not the client inside a slot."""
    return 0 if current_attempt() is not None else wrapped(*args, **kwargs)


def _send(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    attempt = current_attempt()
    if attempt is None or not args:
        return wrapped(*args, **kwargs)
    request, streamed = args[0], bool(kwargs.pop("stream", False))
    attempt.note_request()
    request.extensions = {**request.extensions, "timeout": _timeouts(request, attempt.left_s())}
    # a redirect followed is a second request, and to a core that redirects to itself they are twenty
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
    """The class of a body that ends with a timeout when the attempt's time is over, whatever trickles.

    Made once, and not before httpx is asked for: AIOS brings it.
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
