"""Affinity: remembers which core served a conversation last."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REMEMBERED_CALLS = 30_000  # each call of a conversation has a key of its own
PREFIX_DISCOUNT = 0.1  # share of a call's cost that a warm prefix cache is assumed to save


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


class Affinity:
    """Remembers the core of each conversation. Not thread-safe: the scheduler's lock guards it.

    A conversation that is a string has the same key at every call.
    """

    def __init__(self) -> None:
        self._cores: OrderedDict[str, str] = OrderedDict()

    def served(self, conversation: Conversation | str | None, core: str) -> None:
        """Note that a call of the conversation was sent to a core."""
        if conversation is None:
            return
        key = conversation if isinstance(conversation, str) else conversation.known_as
        self._cores[key] = core
        self._cores.move_to_end(key)
        while len(self._cores) > REMEMBERED_CALLS:
            self._cores.popitem(last=False)

    def core_of(self, conversation: Conversation | str | None) -> str | None:
        """The core that served the conversation last; None where none is remembered."""
        if conversation is None or not self._cores:
            return None
        keys = (conversation,) if isinstance(conversation, str) else conversation.continues
        return next((self._cores[key] for key in keys if key in self._cores), None)


def discounted(cost: NDArray[np.float64], column: int) -> NDArray[np.float64]:
    """Costs of one call, shape (cores,), where the core at `column` holds its prefix."""
    cheaper = cost.copy()
    cheaper[column] *= 1 - PREFIX_DISCOUNT
    return cheaper
