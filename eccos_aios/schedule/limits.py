"""Hard limits: which cores may take a call at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.core import ABILITIES, Core


@dataclass(frozen=True)
class Needs:
    """What a call asks of a core.

    Attributes
    ----------
    input_tokens : float
        Has to fit the core's context window.
    abilities : frozenset of str
        Those of ``tools``, ``json``, ``vision`` that the core must support.
    cores : frozenset of str or None
        The only cores that may take it; None: any.
    """

    input_tokens: float
    abilities: frozenset[str] = frozenset()
    cores: frozenset[str] | None = None


def allowed_cores(needs: Sequence[Needs], cores: Sequence[Core]) -> NDArray[np.bool_]:
    """Where each call may go, shape (calls, cores)."""
    if len(needs) == 1:
        return np.array([[_may_take(needs[0], core) for core in cores]], dtype=np.bool_)
    tokens = np.array([need.input_tokens for need in needs], dtype=np.float64)
    windows = np.array([core.context_window or np.inf for core in cores], dtype=np.float64)
    allowed: NDArray[np.bool_] = tokens[:, None] <= windows
    for ability in sorted(ABILITIES):
        lacks = np.array([ability not in core.supports for core in cores], dtype=bool)
        needed = np.array([ability in need.abilities for need in needs], dtype=bool)
        allowed &= ~(needed[:, None] & lacks)
    position = {core.name: column for column, core in enumerate(cores)}
    for row, need in enumerate(needs):
        if need.cores is not None:
            named = np.zeros(len(cores), dtype=bool)
            named[[position[name] for name in need.cores if name in position]] = True
            allowed[row] &= named
    return allowed


def _may_take(needs: Needs, core: Core) -> bool:
    return (
        (needs.cores is None or core.name in needs.cores)
        and (core.context_window is None or needs.input_tokens <= core.context_window)
        and needs.abilities <= core.supports
    )


def why_none(needs: Needs, cores: Sequence[Core]) -> str:
    """One line that says for each core why it may not take the call."""
    reasons = "; ".join(f"{core.name}: {_reason(needs, core)}" for core in cores)
    return f"no core may take this call ({reasons or 'there are no cores'})"


def _reason(needs: Needs, core: Core) -> str:
    if needs.cores is not None and core.name not in needs.cores:
        return "not among the cores that the call may go to"
    if core.context_window is not None and needs.input_tokens > core.context_window:
        return f"{needs.input_tokens:.0f} input tokens exceed its context window of {core.context_window}"
    lacking = sorted(needs.abilities - core.supports)
    return f"does not support {', '.join(lacking)}" if lacking else "may take it"
