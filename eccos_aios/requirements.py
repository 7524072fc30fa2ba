"""Requirements: hard limits on the cores that may take a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.core import ABILITIES, Ability, Core
from eccos_aios.predict import CallText


@dataclass(frozen=True)
class Requirements:
    """The requirements of a call on a core.

    Attributes
    ----------
    input_tokens : float
        Upper estimate of the input's tokens; with the answer they have to fit the core's context window.
    abilities : frozenset of str
        Those of ``tools``, ``json``, ``vision``, ``audio``, ``files`` that the core must support.
    cores : frozenset of str or None
        The only cores that may take it; None: any.
    answer_tokens : float
        Reserved for the answer: providers refuse a call whose input and answer together exceed the window.
    expected_tokens : float
        Expected tokens of the input. They decide where `input_tokens` fit no core, so that a call that
        would fit is not refused. Default: `input_tokens`.
    """

    input_tokens: float
    abilities: frozenset[Ability] = frozenset()
    cores: frozenset[str] | None = None
    answer_tokens: float = 0.0
    expected_tokens: float = -1.0

    def __post_init__(self) -> None:
        if not 0 <= self.expected_tokens <= self.input_tokens:
            object.__setattr__(self, "expected_tokens", self.input_tokens)

    @classmethod
    def of(
        cls,
        text: CallText,
        cores: frozenset[str] | None = None,
        *,
        json: bool = False,
        answer_tokens: float = 0.0,
    ) -> Requirements:
        """The requirements of a call by its text.

        Parameters
        ----------
        text : CallText
        cores : frozenset of str, optional
            The only cores that may take it. Default: any.
        json : bool
            Whether it asks for JSON.
        answer_tokens : float
            Reserved for the answer.
        """
        asked: frozenset[Ability] = frozenset({"json"}) if json else frozenset()
        return cls(text.most_tokens, text.abilities | asked, cores, answer_tokens, text.input_tokens)


def allowed_cores(requirements: Sequence[Requirements], cores: Sequence[Core]) -> NDArray[np.bool_]:
    """Which cores may take each call, shape (calls, cores)."""
    if len(requirements) == 1:
        return np.array([_row(requirements[0], cores)], dtype=np.bool_)
    answer = np.array([each.answer_tokens for each in requirements], dtype=np.float64)
    most = np.array([each.input_tokens for each in requirements], dtype=np.float64) + answer
    expected = np.array([each.expected_tokens for each in requirements], dtype=np.float64) + answer
    windows = np.array([core.context_window or np.inf for core in cores], dtype=np.float64)
    able = _able(requirements, cores)
    allowed: NDArray[np.bool_] = able & (most[:, None] <= windows)
    nowhere = ~allowed.any(axis=1)
    allowed[nowhere] = able[nowhere] & (expected[nowhere, None] <= windows)
    return allowed


def _able(requirements: Sequence[Requirements], cores: Sequence[Core]) -> NDArray[np.bool_]:
    """Which cores may take each call, regardless of its length."""
    able = np.ones((len(requirements), len(cores)), dtype=bool)
    for ability in sorted(ABILITIES):
        lacks = np.array([ability not in core.supports for core in cores], dtype=bool)
        asked = np.array([ability in each.abilities for each in requirements], dtype=bool)
        able &= ~(asked[:, None] & lacks)
    position = {core.name: column for column, core in enumerate(cores)}
    for row, each in enumerate(requirements):
        if each.cores is not None:
            named = np.zeros(len(cores), dtype=bool)
            named[[position[name] for name in each.cores if name in position]] = True
            able[row] &= named
    return able


def _row(requirements: Requirements, cores: Sequence[Core]) -> list[bool]:
    """Which cores may take one call, without arrays."""
    able = [
        (requirements.cores is None or core.name in requirements.cores)
        and requirements.abilities <= core.supports
        for core in cores
    ]
    allowed = [
        may and _fits(requirements.input_tokens, requirements, core)
        for may, core in zip(able, cores, strict=True)
    ]
    if any(allowed) or requirements.expected_tokens == requirements.input_tokens:
        return allowed
    return [
        may and _fits(requirements.expected_tokens, requirements, core)
        for may, core in zip(able, cores, strict=True)
    ]


def _fits(input_tokens: float, requirements: Requirements, core: Core) -> bool:
    return core.context_window is None or input_tokens + requirements.answer_tokens <= core.context_window


def why_none(requirements: Requirements, cores: Sequence[Core]) -> str:
    """One line with the reason of each core why it may not take the call."""
    reasons = "; ".join(
        f"{core.name}: {_reason(requirements, core, may)}"
        for core, may in zip(cores, _row(requirements, cores), strict=True)
    )
    return f"no core may take this call ({reasons or 'there are no cores'})"


def _reason(requirements: Requirements, core: Core, may: bool) -> str:
    if may:
        return "may take it"
    if requirements.cores is not None and core.name not in requirements.cores:
        return "not among the cores that the call may go to"
    lacking = sorted(requirements.abilities - core.supports)
    if lacking:
        return f"does not support {', '.join(lacking)}"
    tokens = (
        requirements.input_tokens
        if _fits(requirements.expected_tokens, requirements, core)
        else requirements.expected_tokens
    )
    answer = f" and an answer of {requirements.answer_tokens:.0f}" if requirements.answer_tokens else ""
    return f"{tokens:.0f} input tokens{answer} exceed its context window of {core.context_window}"
