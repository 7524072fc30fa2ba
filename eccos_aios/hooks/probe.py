"""CoreProber: checks, as AIOS would reach it, whether a core that is down has recovered."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from types import SimpleNamespace
from typing import IO, Any

from eccos_aios.hooks.outcome import attempt_outcome
from eccos_aios.schedule import ANSWERED, AttemptOutcome, OutcomeKind, attempt_under_way

LOOK_TIMEOUT_S = 2.0  # seconds; a list of models is short
NO_SUCH_LIST = frozenset({404, 405, 501})  # statuses of a server that has no list of models
PLACEHOLDER_KEY = "sk-placeholder"  # what AIOS's vllm and sglang backends send without a key


class CoreProber:
    """Lists a core's models if it can, then sends a call of one token through AIOS's adapter.

    Parameters
    ----------
    llm : LLMAdapter
        AIOS's.
    """

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._opener = urllib.request.build_opener(_NoRedirects)

    def look(self, core: str) -> AttemptOutcome | None:
        """List the core's models; None if the core has no list, or AIOS does not know it."""
        config = next((each for each in self._llm.llm_configs if each.name == core), None)
        hostname = getattr(config, "hostname", None)
        if config is None or not str(hostname or "").startswith(("http://", "https://")):
            return None
        url = f"{str(hostname).rstrip('/')}/{'api/tags' if config.backend == 'ollama' else 'models'}"
        key = getattr(config, "api_key", None) or _key_of(config.backend)
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
        attempt = attempt_under_way()
        try:
            with self._opener.open(request, timeout=LOOK_TIMEOUT_S) as response:
                response.read(1)
        except urllib.error.HTTPError as error:
            if error.code in NO_SUCH_LIST:
                return None
            attempt.note_response(error.code, dict(error.headers.items()))
            return attempt.outcome()
        except (OSError, HTTPException) as error:
            cause = getattr(error, "reason", None)  # urllib wraps the socket's exception
            attempt.note_error(cause if isinstance(cause, OSError) else error)
            return attempt.outcome()
        return ANSWERED

    def ping(self, core: str) -> AttemptOutcome:
        """Send a call of one word and one token."""
        names = self._llm.available_llm_names
        if core not in names:
            return AttemptOutcome(OutcomeKind.CORE_REFUSES, "AIOS no longer has it")
        attempt = attempt_under_way()
        _, response = self._llm.execute_llm_syscall(names.index(core), PingSyscall())
        return attempt_outcome(attempt, response, with_tools=False)


@dataclass
class PingSyscall:
    """The part of an LLM syscall that AIOS's adapter uses."""

    query: Any = field(
        default_factory=lambda: SimpleNamespace(
            messages=[{"role": "user", "content": "ping"}],
            tools=None,
            message_return_type="text",
            response_format=None,
            temperature=0.0,
            max_new_tokens=1,
            llms=None,
        )
    )
    agent_name: str = "eccos"

    def set_status(self, status: str) -> None:
        """Nothing reads it."""

    def set_start_time(self, time: float) -> None:
        """Nothing reads it."""

    def get_pid(self) -> int | None:
        return None

    def get_time_limit(self) -> float | None:
        return None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a key goes to the core's own address only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        return None


def _key_of(backend: str | None) -> str:
    return os.environ.get(f"{str(backend).upper()}_API_KEY") or PLACEHOLDER_KEY
