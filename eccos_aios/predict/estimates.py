"""Estimates: what stage 1 predicts, checked; and what a call then costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.core import TOKENS_PER_PRICE_UNIT, Core, Price

UNKNOWN_PRICE = Price(input=1.0, output=4.0)  # of a mid-sized hosted model

FloatArray = NDArray[np.float64]

ROUNDING = 1e-6  # by which a sum of floats may miss its range
MAX_TOKENS = 1e9  # of one call; more is a predictor's mistake and would dwarf every price
RANGES = (("quality", 1.0), ("input_tokens", MAX_TOKENS), ("output_tokens", MAX_TOKENS), ("support", np.inf))


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
        Effective number of past calls behind each quality; 0 if there is only the prior.
    """

    quality: FloatArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    support: FloatArray

    def checked(self, calls: int, cores: Sequence[str]) -> tuple[Estimates, NDArray[np.bool_], str]:
        """Check shapes and ranges: the arrays as floats, which calls are sound, and the first fault.

        Values that miss their range by rounding are brought into it.

        Parameters
        ----------
        calls : int
        cores : sequence of str
            Names, in the order of the columns.

        Returns
        -------
        estimates : Estimates
        sound : ndarray of bool, shape (calls,)
        fault : str
            The first fault, with its call and core; empty if there is none.

        Raises
        ------
        TypeError, ValueError
            An array does not hold numbers, or its shape is not (calls, cores).
        """
        shape, arrays = (calls, len(cores)), {}
        sound, fault = np.ones(calls, dtype=np.bool_), ""
        for name, highest in RANGES:
            array = np.asarray(getattr(self, name), dtype=np.float64)
            if array.shape != shape:
                raise ValueError(f"{name}: shape {array.shape}, not {shape}")
            arrays[name] = array
            # a NaN makes both comparisons false
            if not array.size or (
                np.minimum.reduce(array, axis=None) >= 0.0 and np.maximum.reduce(array, axis=None) <= highest
            ):
                continue
            arrays[name] = array.clip(0.0, highest)
            wrong = ~((array >= -ROUNDING) & (array <= highest + ROUNDING))
            if not wrong.any():
                continue
            row, column = np.argwhere(wrong)[0].tolist()
            fault = (
                fault
                or f"{name} of call {row + 1} of {calls} on core {cores[column]!r}: {array[row, column]}"
            )
            sound &= ~wrong.any(axis=1)
        return Estimates(**arrays), sound, fault

    def with_rows_of(self, other: Estimates, rows: NDArray[np.bool_]) -> Estimates:
        """These estimates, with those of `other` where `rows`, shape (calls,), is true."""
        mask = rows[:, None]
        return Estimates(
            np.where(mask, other.quality, self.quality),
            np.where(mask, other.input_tokens, self.input_tokens),
            np.where(mask, other.output_tokens, self.output_tokens),
            np.where(mask, other.support, self.support),
        )

    def cost(self, cores: Sequence[Core]) -> FloatArray:
        """Expected US dollars of each call on each core, shape (calls, cores); `cores` in column order."""
        return self.cost_at(prices_of(cores))

    def cost_at(self, prices: FloatArray) -> FloatArray:
        """The same at known prices, as `prices_of` returns them."""
        dollars = self.input_tokens * prices[0] + self.output_tokens * prices[1]
        return np.asarray(dollars / TOKENS_PER_PRICE_UNIT, dtype=np.float64)


def prices_of(cores: Sequence[Core]) -> FloatArray:
    """US dollars per million input tokens and per million output tokens, shape (2, cores).

    A core without a known price is assumed to cost as much as the most expensive other core, and at least
    `UNKNOWN_PRICE`, so that a forgotten line does not draw all calls to it. Where no core has a price, all
    are 0.
    """
    prices = [core.known_price for core in cores]
    known = [price for price in prices if price is not None]
    input_, output = (
        max((getattr(price, side) for price in known), default=0.0) for side in ("input", "output")
    )
    unknown = (max(input_, UNKNOWN_PRICE.input), max(output, UNKNOWN_PRICE.output)) if known else (0.0, 0.0)
    each = [unknown if price is None else (price.input, price.output) for price in prices]
    array: FloatArray = np.array(each, dtype=np.float64).reshape(-1, 2).T
    return array
