"""What is chosen delivers what it promises, and routing never does worse than the mix of single cores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eccos_aios.predict.winners_curse import Calibration, fit_calibration


def test_noise_that_the_choice_exploits_is_removed() -> None:
    random = np.random.default_rng(0)
    truth = np.clip(0.6 + 0.1 * random.standard_normal((6000, 6)), 0, 1)
    means = truth.mean(axis=0)
    left_out, fresh = (np.clip(truth + 0.1 * random.standard_normal(truth.shape), 0, 1) for _ in range(2))
    outcome = (random.random(truth.shape) < truth).astype(float)
    promise = fit_calibration(left_out, outcome, means).apply(fresh, means)
    rows, chosen = np.arange(len(truth)), promise.argmax(axis=1)
    naive = fresh.argmax(axis=1)
    before = fresh[rows, naive].mean() - truth[rows, naive].mean()
    after = promise[rows, chosen].mean() - truth[rows, chosen].mean()
    assert before > 0.05
    assert abs(after) < 0.02


@pytest.mark.parametrize("records", [150, 300])
@pytest.mark.parametrize("seed", range(4))
def test_estimates_that_know_nothing_of_single_calls_become_the_mix(records: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    means = np.linspace(0.5, 0.8, 24)
    outcome = (random.random((records, 24)) < means).astype(float)
    left_out = np.clip(means + 0.1 * random.standard_normal(outcome.shape), 0, 1)
    fresh = np.clip(means + 0.1 * random.standard_normal((4000, 24)), 0, 1)
    promise = fit_calibration(left_out, outcome, means).apply(fresh, means)
    delivered = means[promise.argmax(axis=1)].mean()
    assert delivered > means[fresh.argmax(axis=1)].mean() + 0.02
    assert promise.max(axis=1).mean() - delivered < 0.05


def test_the_order_of_the_cores_is_that_of_the_calibrated_parts() -> None:
    quality = np.random.default_rng(1).random((200, 5))
    means = quality.mean(axis=0)
    calibration = Calibration.default(means)
    plain = replace(calibration, advantage=1.0).apply(quality, means)
    shrunk = replace(calibration, advantage=0.3).apply(quality, means)
    assert (shrunk.argsort(axis=1) == plain.argsort(axis=1)).all()
    assert (shrunk <= plain + 1e-12).all()


def test_estimates_that_are_right_stay() -> None:
    random = np.random.default_rng(2)
    truth = random.random((6000, 4))
    outcome = (random.random(truth.shape) < truth).astype(float)
    fitted = fit_calibration(truth, outcome, truth.mean(axis=0))
    assert min(fitted.difficulty, fitted.specific.min(), fitted.advantage) > 0.9
    assert fitted.level == pytest.approx(truth.mean(axis=0), abs=0.01)


def test_unknown_outcomes_say_nothing() -> None:
    random = np.random.default_rng(3)
    truth = random.random((400, 3))
    outcome = (random.random(truth.shape) < truth).astype(float)
    means = truth.mean(axis=0)
    padded = np.vstack([outcome, np.full((1, 3), np.nan)])
    with_unknown = fit_calibration(np.vstack([truth, [[0.9, 0.1, 0.5]]]), padded, means)
    assert with_unknown.specific == pytest.approx(fit_calibration(truth, outcome, means).specific, abs=0.02)
    nothing = fit_calibration(np.empty((0, 3)), np.empty((0, 3)), means)
    assert vars(nothing).keys() == vars(Calibration.default(means)).keys()
    assert nothing.advantage == Calibration.default(means).advantage


def test_the_advantage_barely_moves_between_small_histories() -> None:
    random = np.random.default_rng(4)
    factors = []
    for _ in range(8):
        truth = np.clip(0.7 + 0.1 * random.standard_normal((200, 12)), 0, 1)
        outcome = (random.random(truth.shape) < truth).astype(float)
        left_out = np.clip(truth + 0.1 * random.standard_normal(truth.shape), 0, 1)
        factors.append(fit_calibration(left_out, outcome, truth.mean(axis=0)).advantage)
    assert np.ptp(factors) < 0.3


def test_the_best_of_means_that_differ_by_chance_promises_no_more_than_the_others() -> None:
    random = np.random.default_rng(5)
    over, before = [], []
    for _ in range(20):
        outcome = (random.random((150, 8)) < 0.7).astype(float)
        means = outcome.mean(axis=0)
        left_out = np.broadcast_to(means, outcome.shape)
        promise = fit_calibration(left_out, outcome, means).apply(left_out[:1], means)
        over.append(promise.max() - 0.7)
        before.append(means.max() - 0.7)
    assert np.mean(before) > 0.04
    assert np.mean(over) < 0.015


def test_plans_are_calibrated_apart_from_cores() -> None:
    random = np.random.default_rng(6)
    group = np.array([0] * 6 + [1] * 6)
    truth = np.clip(0.6 + 0.15 * random.standard_normal((3000, 12)) * (group == 0), 0, 1)
    left_out = np.clip(truth + 0.05 * random.standard_normal(truth.shape), 0, 1)
    outcome = (random.random(truth.shape) < truth).astype(float)
    fitted = fit_calibration(left_out, outcome, truth.mean(axis=0), group)
    assert fitted.specific[group == 0].min() > 0.8
    assert fitted.specific[group == 1].max() < 0.2
