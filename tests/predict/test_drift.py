"""A core that changes is noticed, one that does not is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_aios.predict.drift import MIN_CALLS, DriftDetector


def outcomes(quality: float, count: int, seed: int) -> list[float]:
    return (np.random.default_rng(seed).random(count) < quality).astype(float).tolist()


@pytest.mark.parametrize(("before", "after"), [(0.8, 0.4), (0.4, 0.8), (0.95, 0.5)])
def test_a_core_that_changes_is_noticed_within_fifty_outcomes(before: float, after: float) -> None:
    noticed = 0
    for seed in range(20):
        detector = DriftDetector()
        for quality in outcomes(before, 200, seed):
            detector.add(before, quality)
        for quality in outcomes(after, 50, 1000 + seed):
            detector.add(before, quality)
        noticed += detector.noticed and np.sign(detector.shift) == np.sign(after - before)
    assert noticed >= 18


def test_the_shift_follows_the_change_and_tells_when_it_came() -> None:
    detector = DriftDetector()
    for quality in outcomes(0.8, 300, 0):
        detector.add(0.8, quality)
    assert abs(detector.shift) < 0.05
    for quality in outcomes(0.3, 60, 1):
        detector.add(0.8, quality)
    assert detector.shift == pytest.approx(-0.5, abs=0.12)
    assert detector.outcomes_since == pytest.approx(60, abs=10)


def test_a_steady_core_is_left_alone() -> None:
    suspected = 0
    for seed in range(20):
        detector = DriftDetector()
        for quality in outcomes(0.6, 500, seed):
            detector.add(0.6, quality)
            suspected += detector.noticed
    assert suspected == 0


def test_a_core_that_came_back_is_believed_again() -> None:
    detector = DriftDetector()
    for quality in [*outcomes(0.8, 100, 0), *outcomes(0.2, 60, 1), *outcomes(0.8, 100, 2)]:
        detector.add(0.8, quality)
    assert not detector.noticed
    assert abs(detector.shift) < 0.1


def test_what_is_guessed_of_a_new_core_gives_way_at_once_and_is_no_change() -> None:
    detector = DriftDetector(is_new=True)
    for _ in range(10):
        detector.add(0.5, 1.0)
    assert detector.shift > 0.25
    assert not detector.noticed


def test_no_change_is_noticed_before_enough_calls_speak_for_it() -> None:
    detector = DriftDetector()
    for quality in outcomes(0.92, 100, 3):
        detector.add(0.92, quality)
    noticed = []
    for _ in range(MIN_CALLS + 2):
        detector.add(0.92, 0.0)
        noticed.append(detector.noticed)
    assert not any(noticed[: MIN_CALLS - 2]) and noticed[-1]


def test_three_wrong_answers_in_a_row_condemn_no_core() -> None:
    detector = DriftDetector()
    for quality in outcomes(0.92, 100, 3):
        detector.add(0.92, quality)
    for _ in range(3):
        detector.add(0.92, 0.0)
    assert detector.shift > -0.25


def test_a_copy_goes_its_own_way() -> None:
    detector = DriftDetector()
    for quality in outcomes(0.8, 50, 0):
        detector.add(0.8, quality, "call")
    before, other = detector.change, detector.copy()
    for _ in range(20):
        other.add(0.8, 0.0)
    assert detector.change == before
    assert other.shift < -0.3
