"""Affinity: remembers which core served a conversation last, and so holds its prefix in a cache."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REMEMBERED_CALLS = 30_000  # each call of a conversation has a key of its own
PREFIX_DISCOUNT = 0.1  # share of a call's cost that a warm prefix cache is assumed to save, if not priced
CACHED_S = 300.0  # seconds that providers keep a prefix which nobody reads


@dataclass(frozen=True)
class Conversation:
    """The key of a call, and the keys of earlier calls that it may continue.

    Attributes
    ----------
    known_as : str
        Key of the call.
    continues : tuple of str
        Keys of calls that it may continue, the latest first.
    """

    known_as: str
    continues: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prefix:
    """What a core has read of a conversation: input tokens of the last call, and when it was sent."""

    core: str
    tokens: float = 0.0
    read_s: float = float("-inf")


class Affinity:
    """Remembers the core of each conversation. Not thread-safe: the scheduler's lock guards it.

    A conversation that is a string has the same key at every call.
    """

    def __init__(self) -> None:
        self._prefixes: OrderedDict[str, Prefix] = OrderedDict()

    def served(
        self,
        conversation: Conversation | str | None,
        core: str,
        tokens: float = 0.0,
        now_s: float = float("-inf"),
    ) -> None:
        """Note that a call of the conversation was sent to a core.

        Parameters
        ----------
        conversation : Conversation, str or None
        core : str
        tokens : float
            The call's input tokens.
        now_s : float
            Seconds on the scheduler's clock.
        """
        if conversation is None:
            return
        key = conversation if isinstance(conversation, str) else conversation.known_as
        self._prefixes[key] = Prefix(core, tokens, now_s)
        self._prefixes.move_to_end(key)
        while len(self._prefixes) > REMEMBERED_CALLS:
            self._prefixes.popitem(last=False)

    def core_of(self, conversation: Conversation | str | None) -> str | None:
        """The core that served the conversation last; None where none is remembered."""
        prefix = self.prefix_of(conversation)
        return None if prefix is None else prefix.core

    def prefix_of(self, conversation: Conversation | str | None) -> Prefix | None:
        """What that core has read of it; None where none is remembered."""
        if conversation is None or not self._prefixes:
            return None
        keys = (conversation,) if isinstance(conversation, str) else conversation.continues
        return next((self._prefixes[key] for key in keys if key in self._prefixes), None)


def less(cost: NDArray[np.float64], column: int, saved: float) -> NDArray[np.float64]:
    """Costs of one call, shape (cores,), of which the core at `column` saves some, in US dollars."""
    cheaper = cost.copy()
    cheaper[column] = max(0.0, cheaper[column] - saved)
    return cheaper
