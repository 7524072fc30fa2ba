"""The budget: what is spent, what is promised, and whether another call may still be sent."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

from eccos_aios.core import Price

# Input tokens that a provider may add to what is sent: roles, the mark of a turn, its own tool prompt.
FRAME_TOKENS = 64
TOOL_FRAME_TOKENS = 1024


def most_input_tokens(body: Mapping[str, Any]) -> int:
    """More input tokens than a request can have, whatever the tokenizer: one a byte, and the frame.

    Byte-level and byte-fallback tokenizers make no token of less than a byte. Tools count twice, since
    providers print them anew in a form of their own.
    """
    texts = sum(len(str(message["content"]).encode()) for message in body["messages"])
    tools = body.get("tools")
    if not tools:
        return texts + FRAME_TOKENS
    return texts + FRAME_TOKENS + TOOL_FRAME_TOKENS + 2 * len(json.dumps(tools).encode())


def worst_cost_usd(price: Price, body: Mapping[str, Any]) -> float:
    """The most that one attempt at a request can cost."""
    return price.usd(most_input_tokens(body), body["max_tokens"])


class Budget:
    """Lets a call be sent only if the budget holds even where it and all calls under way cost their most.

    Parameters
    ----------
    max_usd : float or None
        US dollars; None: no bound.
    spent_usd : float
        Spent before.
    """

    def __init__(self, max_usd: float | None = None, spent_usd: float = 0.0) -> None:
        self.max_usd = math.inf if max_usd is None else max_usd
        self._changed = threading.Condition()  # guards the sums below
        self._spent_usd = spent_usd
        self._reserved_usd = 0.0  # calls under way, at their most
        self._under_way = 0  # those of them that cost something
        self._unknown_usd = 0.0  # failed attempts that may be on the bill, at their most

    @property
    def spent_usd(self) -> float:
        """US dollars for answers, as their tokens say."""
        with self._changed:
            return self._spent_usd

    @property
    def unknown_usd(self) -> float:
        """US dollars at most for attempts without an answer, which the provider may have counted."""
        with self._changed:
            return self._unknown_usd

    def reserve(self, usd: float, stopped: Callable[[], bool]) -> bool:
        """Set aside what a call costs at most; waits while calls under way may yet cost less than theirs.

        Returns
        -------
        bool
            False where the budget does not allow the call, or `stopped` says so.
        """
        with self._changed:
            while not stopped():
                if not usd or self._committed_usd + usd <= self.max_usd:
                    self._reserved_usd += usd
                    self._under_way += usd > 0
                    return True
                if not self._under_way:
                    return False
                self._changed.wait()
            return False

    def settle(self, reserved_usd: float, *, spent_usd: float = 0.0, unknown_usd: float = 0.0) -> None:
        """End a reservation: what the call really cost, or may have cost."""
        with self._changed:
            self._under_way -= reserved_usd > 0
            # Sums of floats drift; nothing is under way at nothing reserved.
            self._reserved_usd = max(0.0, self._reserved_usd - reserved_usd) if self._under_way else 0.0
            self._spent_usd += spent_usd
            self._unknown_usd += unknown_usd
            self._changed.notify_all()

    def wake(self) -> None:
        """Have every waiting `reserve` ask again whether it is to stop."""
        with self._changed:
            self._changed.notify_all()

    @property
    def _committed_usd(self) -> float:
        return self._spent_usd + self._reserved_usd + self._unknown_usd
