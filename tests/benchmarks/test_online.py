from __future__ import annotations

import random

import pytest
from experiments.online import online_bench

from eccos_aios.core import Core, Price
from eccos_aios.history import Outcome, Record

CORES = [Core(name="cheap", price=Price(output=1)), Core(name="dear", price=Price(output=20))]
SKILL = {"add": {"cheap": 0.9, "dear": 0.95}, "prove": {"cheap": 0.2, "dear": 0.85}}


def history(count: int) -> list[Record]:
    draw = random.Random(3)
    kinds = [draw.choice(sorted(SKILL)) for _ in range(count)]
    return [
        Record(
            query=f"{kind} the numbers {draw.randrange(10**6)} and {number}",
            outputs=tuple(
                Outcome(model_name=name, correctness=draw.random() < skill)
                for name, skill in SKILL[kind].items()
            ),
        )
        for number, kind in enumerate(kinds)
    ]


def test_the_target_holds_over_time_though_the_predictor_errs() -> None:
    rows = online_bench(history(500), CORES, calls=600)
    assert {row.bias for row in rows} == {-0.05, 0.0, 0.05}
    for row in rows:
        assert row.delivered == pytest.approx(row.target, abs=0.02)
    unbiased = [row for row in rows if row.bias == 0 and row.lasting_price and not row.primed]
    assert unbiased[0].cost_usd < unbiased[-1].cost_usd
    assert all(row.cost_usd >= 0.999 * row.least_usd for row in rows)
    assert sum(row.cost_usd for row in rows if row.lasting_price and not row.primed) < sum(
        row.cost_usd for row in rows if not row.lasting_price
    )
    over_optimum = [
        sum(row.cost_usd / row.least_usd for row in rows if (row.lasting_price, row.primed) == kind)
        for kind in ((False, False), (True, False), (True, True))
    ]
    assert over_optimum[0] > over_optimum[1] > over_optimum[2] - 0.1


def test_one_query_is_too_few() -> None:
    with pytest.raises(ValueError, match="history: 1 different queries"):
        online_bench(history(1), CORES)
