"""Estimates: what stage 1 predicts of every call on every core, as arrays of shape (calls, cores)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eccos_aios.core import TOKENS_PER_PRICE_UNIT, Core, Price

UNKNOWN_PRICE = Price(input=1.0, output=4.0)  # of a hosted model of middle size

FloatArray = NDArray[np.float64]

QUALITY_ROUNDING = 1e-6  # by which a sum of floats may miss its end
MOST_TOKENS = 1e9  # of one call; more is a predictor's mistake, and would drown every price


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

    def checked(self, calls: int, cores: Sequence[str]) -> tuple[Estimates, NDArray[np.bool_], str]:
        """The same as arrays of floats, the calls whose estimates are sound, and what is wrong with others.

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
            The first fault, with its call and core; empty where there is none.

        Raises
        ------
        TypeError, ValueError
            An array is no array of numbers, or has another shape than (calls, cores).
        """
        shape, arrays = (calls, len(cores)), {}
        sound, fault = np.ones(calls, dtype=np.bool_), ""
        for name, highest in (
            ("quality", 1.0 + QUALITY_ROUNDING),
            ("input_tokens", MOST_TOKENS),
            ("output_tokens", MOST_TOKENS),
            ("support", np.inf),
        ):
            array = np.asarray(getattr(self, name), dtype=np.float64)
            if array.shape != shape:
                raise ValueError(f"{name}: shape {array.shape}, not {shape}")
            arrays[name] = array
            # a NaN makes both comparisons false
            if not array.size or (array.min() >= -QUALITY_ROUNDING and array.max() <= highest):
                continue
            wrong = ~((array >= -QUALITY_ROUNDING) & (array <= highest))
            row, column = np.argwhere(wrong)[0].tolist()
            fault = (
                fault
                or f"{name} of call {row + 1} of {calls} on core {cores[column]!r}: {array[row, column]}"
            )
            sound &= ~wrong.any(axis=1)
        return Estimates(**arrays), sound, fault

    def with_rows_of(self, other: Estimates, rows: NDArray[np.bool_]) -> Estimates:
        """These estimates, but for some calls those of `other`; `rows` has shape (calls,)."""
        mask = rows[:, None]
        return Estimates(
            np.where(mask, other.quality, self.quality),
            np.where(mask, other.input_tokens, self.input_tokens),
            np.where(mask, other.output_tokens, self.output_tokens),
            np.where(mask, other.support, self.support),
        )

    def cost(self, cores: Sequence[Core], cached_share: FloatArray | None = None) -> FloatArray:
        """Expected US dollars of each call on each core, shape (calls, cores).

        Parameters
        ----------
        cores : sequence of Core
            In the order of the columns.
        cached_share : ndarray of shape (calls, cores), optional
            Share of each call's input tokens, 0 to 1, that the core is expected to read from its prefix
            cache and to charge nothing for; a provider that charges a part of the price is given as that
            much less. The hook for whoever knows the cores' caches. Default: none.
        """
        return self.cost_at(prices_of(cores), cached_share)

    def cost_at(self, prices: FloatArray, cached_share: FloatArray | None = None) -> FloatArray:
        """The same at prices that are known already, as `prices_of` tells them."""
        charged = self.input_tokens if cached_share is None else self.input_tokens * (1.0 - cached_share)
        dollars = charged * prices[0] + self.output_tokens * prices[1]
        return np.asarray(dollars / TOKENS_PER_PRICE_UNIT, dtype=np.float64)


def prices_of(cores: Sequence[Core]) -> FloatArray:
    """US dollars of a million input tokens and of as many output tokens, shape (2, cores).

    A core whose price nobody knows is taken to be as dear as the dearest of the others, and no cheaper than
    `UNKNOWN_PRICE`, lest it draws all calls because somebody forgot a line. Where none has a price, all
    are 0.
    """
    known = [core.known_price for core in cores]
    told = [price for price in known if price is not None]
    input_, output = (
        max((getattr(price, side) for price in told), default=0.0) for side in ("input", "output")
    )
    unknown = (max(input_, UNKNOWN_PRICE.input), max(output, UNKNOWN_PRICE.output)) if told else (0.0, 0.0)
    each = [unknown if price is None else (price.input, price.output) for price in known]
    prices: FloatArray = np.array(each, dtype=np.float64).reshape(-1, 2).T
    return prices
