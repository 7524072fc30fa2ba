"""The solver with holes gives what a plain solve of each target gives."""

from __future__ import annotations

import numpy as np

from eccos_aios.predict.kernel_ridge import LandmarkKernel


def test_holes_are_left_out_not_zero() -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((300, 4)).astype(np.float32)
    kernel = LandmarkKernel(width=0.5, landmarks=80)
    coordinates = kernel.fit(features)
    targets = (features @ random.standard_normal((4, 3))).astype(np.float32)
    known = random.random(targets.shape) < np.array([1.0, 0.5, 0.03])
    weights = kernel.solve(coordinates, np.where(known, targets, 0).astype(np.float32), known, penalty=2.0)
    for column in range(3):
        rows = coordinates[known[:, column]].astype(float)
        gram = rows.T @ rows + 2.0 * np.eye(rows.shape[1])
        exact = np.linalg.solve(gram, rows.T @ targets[known[:, column], column])
        assert np.allclose(coordinates @ weights[:, column], coordinates @ exact, atol=0.02)


def test_coordinates_reproduce_the_kernel() -> None:
    features = np.random.default_rng(1).standard_normal((60, 3)).astype(np.float32)
    kernel = LandmarkKernel(width=0.5, landmarks=60)
    coordinates = kernel.fit(features)
    distance = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    assert np.allclose(coordinates @ coordinates.T, np.exp(-0.5 * distance), atol=0.01)
