"""The budget: money spent, money reserved, and whether another call may be sent."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

from eccos_aios.core import Price

# Input tokens that a provider may add to a request: roles, turn markers, its own tool prompt.
FRAME_TOKENS = 64
TOOL_FRAME_TOKENS = 1024


def most_input_tokens(body: Mapping[str, Any]) -> int:
    """An upper bound of a request's input tokens under any tokenizer: one a byte, and the frame.

    Byte-level and byte-fallback tokenizers make no token of less than a byte. Tools count twice, since
    providers render them again in a form of their own.
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
    """Admits a call only if the budget holds even where it and all calls under way cost the most they can.

    Parameters
    ----------
    max_usd : float or None
        US dollars; None: unlimited.
    spent_usd : float
        Already spent.
    """

    def __init__(self, max_usd: float | None = None, spent_usd: float = 0.0) -> None:
        self.max_usd = math.inf if max_usd is None else max_usd
        self._changed = threading.Condition()  # guards the sums below
        self._spent_usd = spent_usd
        self._reserved_usd = 0.0  # upper bound of the calls under way
        self._under_way = 0  # calls with a reservation above 0
        self._unknown_usd = 0.0  # upper bound of failed attempts that may be billed

    @property
    def spent_usd(self) -> float:
        """US dollars for answers, by their tokens."""
        with self._changed:
            return self._spent_usd

    @property
    def unknown_usd(self) -> float:
        """Upper bound, US dollars, of attempts without an answer, which the provider may bill."""
        with self._changed:
            return self._unknown_usd

    def reserve(self, usd: float, stopped: Callable[[], bool]) -> bool:
        """Reserve the most that a call can cost; waits while calls under way may settle for less.

        Returns
        -------
        bool
            False if the budget does not allow the call, or `stopped` returns True.
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
        """End a reservation.

        Parameters
        ----------
        reserved_usd : float
            The reservation.
        spent_usd : float
            The cost of the call.
        unknown_usd : float
            The most that it may have cost, if the cost is unknown.
        """
        with self._changed:
            self._under_way -= reserved_usd > 0
            # Sums of floats drift: with no call under way the reservation is exactly 0.
            self._reserved_usd = max(0.0, self._reserved_usd - reserved_usd) if self._under_way else 0.0
            self._spent_usd += spent_usd
            self._unknown_usd += unknown_usd
            self._changed.notify_all()

    def wake(self) -> None:
        """Have every waiting `reserve` check `stopped` again."""
        with self._changed:
            self._changed.notify_all()

    @property
    def _committed_usd(self) -> float:
        return self._spent_usd + self._reserved_usd + self._unknown_usd
