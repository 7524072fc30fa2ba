from __future__ import annotations

from eccos_aios.attainable import attainable_targets
from eccos_aios.core import Core, Price
from eccos_aios.history import Outcome, Record

CORES = (
    Core(name="cheap", price=Price(input=0.1, output=0.1)),
    Core(name="dear", price=Price(input=10, output=10)),
)


def history(records: int = 240) -> list[Record]:
    """Half of the calls are hard: only the dear core answers them."""
    made = []
    for number in range(records):
        hard = number % 2 == 0
        query = f"prove theorem {number} of topology" if hard else f"say hello to guest {number}"
        outputs = (
            Outcome(model_name="cheap", correctness=not hard, output_token_length=50),
            Outcome(model_name="dear", correctness=True, output_token_length=50),
        )
        made.append(Record(query=query, outputs=outputs))
    return made


def test_what_a_target_gives_and_costs_is_measured_on_calls_that_were_not_learned() -> None:
    found = attainable_targets(history(), CORES)
    assert found is not None
    assert (found.learned, found.asked) == (160, 80)
    assert (found.best_core, found.best_quality) == ("dear", 1.0)
    assert found.highest.target > 0.9
    assert found.suggested.quality >= 0.98
    assert found.suggested.cost_share is not None
    assert 0.4 < found.suggested.cost_share < 0.7  # the easy half goes to the cheap core
    cheap = found.at(0.4)
    assert cheap is not None
    assert cheap.cost_share is not None
    assert cheap.cost_share < 0.1


def test_too_little_history_tells_nothing() -> None:
    assert attainable_targets(history(40), CORES) is None
    assert attainable_targets([], CORES) is None


def test_without_prices_no_cost_is_compared() -> None:
    free = [core.model_copy(update={"price": Price()}) for core in CORES]
    found = attainable_targets(history(), free)
    assert found is not None
    assert found.suggested.cost_share is None
