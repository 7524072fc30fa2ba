"""Trees as arrays answer like scikit-learn's."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from eccos_aios.predict.forest import FEATURE_SHARE, MIN_IN_LEAF, TREES, grow_forest


def test_arrays_answer_like_the_estimator() -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((400, 12)).astype(np.float32)
    targets = np.stack([features[:, 0] > 0, features[:, 1] * features[:, 2]], axis=1).astype(float)
    estimator = ExtraTreesRegressor(
        TREES, min_samples_leaf=MIN_IN_LEAF, max_features=FEATURE_SHARE, random_state=0
    ).fit(features, targets)
    fresh = random.standard_normal((100, 12)).astype(np.float32)
    assert np.allclose(grow_forest(features, targets).predict(fresh), estimator.predict(fresh), atol=1e-5)
