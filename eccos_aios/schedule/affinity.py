"""Affinity: which core served a conversation last."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

REMEMBERED_CONVERSATIONS = 10_000
PREFIX_DISCOUNT = 0.1  # share of a call's cost; what a warm prefix cache is taken to be worth


class Affinity:
    """Remembers the core of each conversation. Not thread-safe: the scheduler's lock guards it."""

    def __init__(self) -> None:
        self._cores: OrderedDict[str, str] = OrderedDict()

    def served(self, conversation: str | None, core: str) -> None:
        """A call of the conversation was sent to a core."""
        if conversation is None:
            return
        self._cores[conversation] = core
        self._cores.move_to_end(conversation)
        while len(self._cores) > REMEMBERED_CONVERSATIONS:
            self._cores.popitem(last=False)

    def core_of(self, conversation: str | None) -> str | None:
        """The core that served it last; None where none is remembered."""
        return None if conversation is None else self._cores.get(conversation)


def discounted(cost: NDArray[np.float64], column: int) -> NDArray[np.float64]:
    """Costs of one call, shape (cores,), where the core at `column` holds its prefix."""
    cheaper = cost.copy()
    cheaper[column] *= 1 - PREFIX_DISCOUNT
    return cheaper
