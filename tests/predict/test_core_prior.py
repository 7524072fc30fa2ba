"""Cores with few records or none: what is believed of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eccos_aios.core import Core, Price
from eccos_aios.history import Outcome, Record
from eccos_aios.predict import CoreExperience, HybridPredictor, online_predictor, prior_shift


def core(name: str, price: float, quality: object = None) -> Core:
    return Core(name=name, price=Price(input=price, output=price), quality=quality)  # type: ignore[arg-type]


def believed(cores: list[Core], records: list[float], quality: list[float]) -> list[float]:
    experience = CoreExperience(np.array(records), np.array(quality))
    shift = prior_shift(cores, experience)
    return [] if shift is None else (experience.quality + shift).round(6).tolist()


def test_a_new_core_is_never_believed_better_than_the_known_one_that_is_cheaper() -> None:
    cores = [core("small", 1), core("large", 9), core("tiny", 0.1), core("middle", 3), core("huge", 99)]
    quality = [0.6, 0.9, 0.75, 0.75, 0.75]  # the last three: what a predictor expects of unknown cores
    found = believed(cores, [200, 200, 0, 0, 0], quality)
    assert found == pytest.approx([0.6, 0.9, 0.5, 0.58, 0.88])


def test_without_any_records_the_dearer_core_is_believed_better() -> None:
    found = believed([core("small", 1), core("large", 9), core("also", 9)], [0, 0, 0], [0.5] * 3)
    assert found[0] < found[1] == found[2]


def test_a_stated_quality_counts_by_its_weight_in_records() -> None:
    cores = [core("a", 1, {"mean": 0.9, "records": 30}), core("b", 2)]
    assert believed(cores, [0, 99], [0.5, 0.7])[0] == pytest.approx(0.9)
    assert believed(cores, [90, 99], [0.5, 0.7])[0] == pytest.approx(0.6)
    assert core("a", 1, 0.7).quality == core("a", 1, {"mean": 0.7}).quality


@given(st.integers(0, 200))
def test_the_guess_fades_as_records_come(records: int) -> None:
    cores = [core("known", 1), core("new", 2)]
    now, later = (believed(cores, [500, n], [0.6, 0.9]) or [0.6, 0.9] for n in (records, records + 1))
    assert 0.58 <= now[1] <= later[1] <= 0.9


def test_cores_with_records_are_taken_as_they_are() -> None:
    assert believed([core("a", 1), core("b", 2)], [50, 50], [0.5, 0.7]) == []


def records(count: int, *names: str) -> list[Record]:
    return [
        Record(
            query=f"question {number} of {names}",
            outputs=tuple(Outcome(model_name=name, quality=1.0) for name in names),
        )
        for number in range(count)
    ]


def test_outcomes_that_came_after_the_fit_count_as_experience() -> None:
    predictor = online_predictor(HybridPredictor().fit(records(20, "a")))
    before = predictor.experience(["a", "b"])
    predictor.learn(records(5, "b"))
    after = predictor.experience(["a", "b"])
    assert before is not None
    assert after is not None
    assert before.records.tolist() == [20, 0]
    assert after.records.tolist() == [20, 5]
