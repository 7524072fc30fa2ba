"""An explanation names the choice, the reason, and past calls that resemble the query."""

from __future__ import annotations

import pytest

from eccos_aios.core import Core, Price
from eccos_aios.explain import explain
from eccos_aios.history import Outcome, Record
from eccos_aios.plans import PlanPredictor
from eccos_aios.reasons import CHEAPEST, NO_HISTORY, OUT_OF_REACH

pytestmark = pytest.mark.usefixtures("few_trees")

CORES = (
    Core(name="cheap", price=Price(input=0.1, output=0.1)),
    Core(name="dear", price=Price(input=10, output=10)),
)


def history() -> list[Record]:
    records = []
    for number in range(120):
        hard = number % 2 == 0
        query = f"prove theorem {number} of topology" if hard else f"say hello to guest {number}"
        outputs = (
            Outcome(model_name="cheap", correctness=not hard, output_token_length=50),
            Outcome(model_name="dear", correctness=True, output_token_length=50),
        )
        records.append(Record(query=query, outputs=outputs, category="hard" if hard else "easy"))
    return records


def test_the_cheapest_core_that_reaches_the_target_is_chosen_and_said_why() -> None:
    easy = explain(history(), CORES, "say hello to guest 7", quality_target=0.7)
    hard = explain(history(), CORES, "prove theorem 8 of topology", quality_target=0.7)
    assert (easy.core, hard.core) == ("cheap", "dear")
    assert easy.reason == hard.reason == CHEAPEST
    assert "cheapest" in easy.why
    assert "cheap would cost" in hard.why
    assert [neighbour.category for neighbour in hard.neighbours] == ["hard"] * 5
    assert hard.neighbours[0].quality == {"cheap": 0.0, "dear": 1.0}


def test_a_target_out_of_reach_is_said_as_such() -> None:
    fallible = []
    for number, record in enumerate(history()):
        cheap, dear = record.outputs
        outputs = (cheap, dear.model_copy(update={"correctness": number % 6 != 0}))
        fallible.append(record.model_copy(update={"outputs": outputs}))
    explained = explain(fallible, CORES, "prove theorem 8", quality_target=1.0)
    assert "no core reaches the target 1" in explained.why
    assert explained.reason == OUT_OF_REACH


def test_no_core_that_may_take_it_gives_none_and_the_reasons() -> None:
    small = [core.model_copy(update={"context_window": 3}) for core in CORES]
    told = explain(history(), small, "a query of more than three tokens, by far")
    assert (told.core, told.reason) == (None, None)
    assert "cheap" in told.why and "dear" in told.why


def test_an_empty_history_is_explained_too() -> None:
    told = explain([], CORES, "anything")
    assert told.core is not None
    assert told.reason == NO_HISTORY
    assert told.neighbours == ()
    assert all(estimate.support == 0 for estimate in told.estimates)


def test_a_plan_is_chosen_and_told_in_words() -> None:
    small = [f"small {number}" for number in range(2)]
    cores = (
        *(Core(name=name, price=Price(input=0.1, output=0.1)) for name in small),
        Core(name="dear", price=Price(input=10, output=10)),
    )
    records = []
    for number in range(240):
        wrong = {small[0]: number % 5 == 0, small[1]: number % 5 == 1, "dear": False}
        outputs = tuple(
            Outcome(
                model_name=name,
                correctness=not fails,
                output_token_length=50,
                prediction=f"no, says {name}" if fails else "right",
            )
            for name, fails in wrong.items()
        )
        records.append(Record(query=f"question {number * 7919}", outputs=outputs))
    predictor = PlanPredictor(cores, "agree").fit(records)
    explained = explain(records, cores, "question 4", quality_target=0.93, predictor=predictor)
    assert explained.plan is not None
    assert explained.plan.plan == {"kind": "agree", "cores": small, "else": "dear"}
    assert explained.core == small[0]
    assert "asks small 0 and small 1;" in explained.why
    assert "Alone, dear would be asked" in explained.why
    assert explained.plan in explained.plans


def test_an_explanation_as_a_frame_has_a_row_per_core() -> None:
    pytest.importorskip("pandas")
    frame = explain(history(), CORES, "prove theorem 8 of topology").to_frame()
    assert list(frame["core"]) == ["cheap", "dear"]
    assert {"quality", "cost", "error", "neighbours", "mean", "trained"} <= set(frame.columns)
