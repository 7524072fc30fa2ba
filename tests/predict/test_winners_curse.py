"""The mean promise of chosen cells is what they deliver, and the order of the cores stays."""

from __future__ import annotations

import numpy as np

from eccos_aios.predict.winners_curse import fit_shrinkage, shrink_advantage


def test_noise_that_the_choice_exploits_is_taken_off() -> None:
    random = np.random.default_rng(0)
    truth = np.clip(0.6 + 0.1 * random.standard_normal((6000, 6)), 0, 1)
    means = np.full(6, 0.6) + np.arange(6) * 1e-3
    left_out, fresh = (np.clip(truth + 0.1 * random.standard_normal(truth.shape), 0, 1) for _ in range(2))
    outcome = (random.random(truth.shape) < truth).astype(float)
    shrinkage = fit_shrinkage(left_out, outcome, means)
    promise = shrink_advantage(fresh, means, shrinkage)
    rows, chosen = np.arange(len(truth)), fresh.argmax(axis=1)
    before = fresh[rows, chosen].mean() - truth[rows, chosen].mean()
    after = promise[rows, chosen].mean() - truth[rows, chosen].mean()
    assert before > 0.05
    assert abs(after) < 0.02


def test_the_order_of_the_cores_stays() -> None:
    quality = np.random.default_rng(1).random((200, 5))
    shrunk = shrink_advantage(quality, quality.mean(axis=0), 0.3)
    assert (shrunk.argsort(axis=1) == quality.argsort(axis=1)).all()
    assert (shrunk <= quality + 1e-12).all()


def test_estimates_that_keep_their_promise_keep_their_advantage() -> None:
    random = np.random.default_rng(2)
    truth = random.random((6000, 4))
    outcome = (random.random(truth.shape) < truth).astype(float)
    assert fit_shrinkage(truth, outcome, truth.mean(axis=0)) > 0.9
