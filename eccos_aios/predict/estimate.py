"""Estimates: what stage 1 predicts of every call on every core, as arrays of shape (calls, cores)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.core import TOKENS_PER_PRICE_UNIT, Core

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Estimates:
    """What stage 1 predicts; every array has shape (calls, cores).

    Attributes
    ----------
    quality : ndarray
        Expected quality of the answer, 0 to 1, never NaN.
    input_tokens, output_tokens : ndarray
        Expected tokens, at least 0, never NaN.
    support : ndarray
        Effective number of past calls behind each quality; 0 where only the prior speaks.
    """

    quality: FloatArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    support: FloatArray

    def cost(self, cores: Sequence[Core]) -> FloatArray:
        """Expected US dollars of each call on each core, shape (calls, cores)."""
        prices = [core.resolved_price for core in cores]
        input_price = np.array([price.input for price in prices])
        output_price = np.array([price.output for price in prices])
        dollars = self.input_tokens * input_price + self.output_tokens * output_price
        return np.asarray(dollars / TOKENS_PER_PRICE_UNIT, dtype=np.float64)
