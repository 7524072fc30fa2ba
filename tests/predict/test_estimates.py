from __future__ import annotations

import numpy as np

from eccos_aios.core import Core, Price
from eccos_aios.predict import Estimates, prices_of

CORES = [Core(name="a", price=Price(input=1, output=2)), Core(name="b", price=Price(input=10, output=20))]
ESTIMATES = Estimates(
    quality=np.ones((1, 2)),
    input_tokens=np.array([[1e6, 2e6]]),
    output_tokens=np.array([[0.5e6, 0.0]]),
    support=np.ones((1, 2)),
)


def test_cost_is_tokens_times_the_price_per_million() -> None:
    assert ESTIMATES.cost(CORES).tolist() == [[2.0, 20.0]]


def test_a_core_of_unknown_price_is_never_the_cheapest() -> None:
    unknown = Core(name="nobody knows")
    assert prices_of([*CORES, unknown]).tolist() == [[1, 10, 10], [2, 20, 20]]
    free = Core(name="own", price=Price(input=0, output=0))
    inputs, outputs = prices_of([free, unknown])
    assert inputs[1] > inputs[0] == 0
    assert outputs[1] > outputs[0] == 0
    assert unknown.resolved_price == Price(input=0, output=0)  # what is booked


def test_where_no_core_has_a_price_all_cost_nothing() -> None:
    assert prices_of([Core(name="a"), Core(name="b")]).tolist() == [[0, 0], [0, 0]]
    assert prices_of([]).shape == (2, 0)
