from __future__ import annotations

import numpy as np

from eccos_aios.core import Core, Price
from eccos_aios.predict import Estimates

CORES = [Core(name="a", price=Price(input=1, output=2)), Core(name="b", price=Price(input=10, output=20))]
ESTIMATES = Estimates(
    quality=np.ones((1, 2)),
    input_tokens=np.array([[1e6, 2e6]]),
    output_tokens=np.array([[0.5e6, 0.0]]),
    support=np.ones((1, 2)),
)


def test_cost_is_tokens_times_the_price_per_million() -> None:
    assert ESTIMATES.cost(CORES).tolist() == [[2.0, 20.0]]


def test_a_cached_prefix_is_not_charged() -> None:
    assert ESTIMATES.cost(CORES, cached_share=np.array([[0.5, 0.25]])).tolist() == [[1.5, 15.0]]
