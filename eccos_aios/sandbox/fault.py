"""Faults that a sandbox core can be told to have."""

from __future__ import annotations

import random
import threading
from typing import Literal, get_args

FaultKind = Literal["500", "429", "400", "401", "hang", "cut", "malformed", "empty"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

STATUS_ERRORS = {
    "400": ("invalid_request_error", "bad request: the sandbox core was told to refuse it"),
    "401": ("authentication_error", "the sandbox core was told to refuse this key"),
    "429": ("rate_limit_exceeded", "rate limit: the sandbox core was told to be busy"),
    "500": ("server_error", "the sandbox core was told to fail"),
}


class Fault:
    """One fault that strikes a share of the requests until it is healed.

    Parameters
    ----------
    kind : FaultKind
        An HTTP status; or ``hang`` (no answer until healed), ``cut`` (the connection ends without an
        answer), ``malformed`` (status 200, body not JSON), ``empty`` (status 200, no body).
    share : float
        Part of the requests that it strikes, 0 to 1.
    seed : int
        Which requests those are.

    Raises
    ------
    ValueError
        `kind` is unknown or `share` is outside of 0 to 1.
    """

    def __init__(self, kind: FaultKind, share: float, seed: int) -> None:
        if kind not in FAULT_KINDS:
            raise ValueError(f"kind: {kind!r}: must be one of {', '.join(FAULT_KINDS)}")
        if not 0 <= share <= 1:
            raise ValueError(f"share: {share!r}: must be 0 to 1")
        self.kind = kind
        self.healed = threading.Event()
        self._share = share
        self._random = random.Random(seed)
        self._lock = threading.Lock()  # guards _random, which every request draws from

    def strikes(self) -> bool:
        """Whether it strikes the request at hand."""
        with self._lock:
            return self._random.random() < self._share
