"""The tokens that a provider reports: AIOS reads its answer and keeps no more of it than the text."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import wrapt

logger = logging.getLogger(__name__)

# How AIOS's adapter asks a core: litellm, or OpenAI's client for its vllm and sglang backends.
ASKED_THROUGH = (
    ("litellm", "completion"),
    ("openai.resources.chat.completions", "Completions.create"),
)


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them."""

    input_tokens: int
    output_tokens: int


class Reports:
    """What providers reported while one call was with a core."""

    def __init__(self) -> None:
        self.last: Usage | None = None


_listening: ContextVar[Reports | None] = ContextVar("eccos_usage", default=None)
_wrapped: set[tuple[str, str]] = set()


def listen_to_providers() -> None:
    """Look at the answers that AIOS's clients get, within `provider_reports` alone; once is enough.

    A client that is not there, or has another form than the one known here, is left alone: the tokens of
    its answers are then counted.
    """
    for module, name in ASKED_THROUGH:
        if (module, name) in _wrapped:
            continue
        try:
            wrapt.wrap_function_wrapper(module, name, _note)
        except (ImportError, AttributeError) as error:
            logger.info("tokens are counted, not reported, for what goes through %s: %s", module, error)
        else:
            _wrapped.add((module, name))


@contextmanager
def provider_reports() -> Iterator[Reports]:
    """Collect what is reported in this thread meanwhile."""
    reports = Reports()
    token = _listening.set(reports)
    try:
        yield reports
    finally:
        _listening.reset(token)


def _note(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    answer = wrapped(*args, **kwargs)
    reports = _listening.get()
    if reports is not None:
        # litellm asks through OpenAI's client too, and answers last.
        reports.last = _usage_of(answer) or reports.last
    return answer


def _usage_of(answer: Any) -> Usage | None:
    usage = getattr(answer, "usage", None)
    tokens = [getattr(usage, f"{side}_tokens", None) for side in ("prompt", "completion")]
    counts = [count for count in tokens if isinstance(count, int) and count >= 0]
    return Usage(*counts) if len(counts) == len(tokens) else None
