"""Extremely randomised trees: grown by scikit-learn, stored as plain arrays, evaluated by numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eccos_aios.predict.features import Features

TREES = 60
MIN_IN_LEAF = 10  # records; with fewer the forest promises more than it delivers
MAX_EVALUATED = 32_768  # nodes; to evaluate more takes longer than to follow the paths
FEATURE_SHARE = 0.3  # of the features, tried at each split


@dataclass(frozen=True)
class Forest:
    """All trees in one set of arrays; a leaf's children are the leaf itself.

    A call descends all trees at once, one numpy step per level. For one call the splits of all nodes are
    evaluated beforehand, unless there are too many, so that a step is a lookup.

    Attributes
    ----------
    feature, threshold : ndarray of shape (nodes,)
        A call goes right where its feature exceeds the threshold.
    children : ndarray of shape (2 x nodes,)
        Left and right child of node n at 2n and 2n + 1.
    value : ndarray of shape (nodes, targets)
    roots : ndarray of shape (trees,)
    depth : int
        Steps after which every call has reached a leaf.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    children: NDArray[np.int32]
    value: NDArray[np.float32]
    roots: NDArray[np.int32]
    depth: int
    _feature: NDArray[np.intp] = field(init=False, repr=False)
    _next: NDArray[np.intp] = field(init=False, repr=False)
    _roots: NDArray[np.intp] = field(init=False, repr=False)
    _splits: _Splits = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # `take` converts indices of any other width at every step
        object.__setattr__(self, "_feature", self.feature.astype(np.intp))
        object.__setattr__(self, "_next", self.children.astype(np.intp))
        object.__setattr__(self, "_roots", self.roots.astype(np.intp))
        object.__setattr__(self, "_splits", _Splits.of(self))

    def predict(self, features: Features) -> NDArray[np.float64]:
        """Mean over the trees, shape (calls, targets)."""
        calls = len(features)
        if calls == 1 and len(self.feature) <= MAX_EVALUATED:
            leaves = self._leaves_of_one(features[0])
        else:
            leaves = self._leaves(features)
        values = self.value.take(leaves, axis=0).reshape(len(self.roots), calls, self.value.shape[1])
        total = np.add.reduce(values, axis=0, dtype=np.float64)
        return np.asarray(total / len(self.roots), dtype=np.float64)

    def _leaves_of_one(self, features: Features) -> NDArray[np.intp]:
        """The leaf of one call in every tree, from the splits of all nodes."""
        splits = self._splits
        right = features.take(splits.feature) > splits.threshold
        follower = splits.itself.copy()
        follower[splits.node] = splits.left + right * splits.to_right
        node = self._roots
        for _ in range(self.depth):
            node = follower.take(node)
        return node

    def _leaves(self, features: Features) -> NDArray[np.intp]:
        """The leaves of calls, tree by tree, from the splits on their paths."""
        calls, width = features.shape
        flat = np.ascontiguousarray(features).ravel()
        node = np.repeat(self._roots, calls)
        offset = np.tile(np.arange(calls) * width, len(self._roots))
        for _ in range(self.depth):
            right = flat.take(self._feature.take(node) + offset) > self.threshold.take(node)
            node = self._next.take(2 * node + right)
        return node


class _Splits(NamedTuple):
    """The nodes that are no leaves, as one call needs them; arrays of shape (splits,).

    Attributes
    ----------
    node, feature, threshold, left : ndarray
        Number of the node, its fields, and its left child.
    to_right : ndarray
        From the left child to the right one: a sum is faster than a choice.
    itself : ndarray of shape (nodes,)
        Every node's own number, which stays that of a leaf.
    """

    node: NDArray[np.intp]
    feature: NDArray[np.intp]
    threshold: NDArray[np.float32]
    left: NDArray[np.intp]
    to_right: NDArray[np.intp]
    itself: NDArray[np.intp]

    @classmethod
    def of(cls, forest: Forest) -> _Splits:
        """The splits of a forest."""
        itself = np.arange(len(forest.feature), dtype=np.intp)
        left, right = forest.children[::2].astype(np.intp), forest.children[1::2].astype(np.intp)
        node = np.flatnonzero(left != itself)
        to_right = right[node] - left[node]
        return cls(
            node, forest.feature[node].astype(np.intp), forest.threshold[node], left[node], to_right, itself
        )


def grow_forest(features: Features, targets: NDArray[np.float64]) -> Forest:
    """Grow trees for all targets at once; `targets` of shape (records, targets) without NaN."""
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(
        TREES, min_samples_leaf=MIN_IN_LEAF, max_features=FEATURE_SHARE, random_state=0
    ).fit(features, targets)
    trees = [estimator.tree_ for estimator in model.estimators_]
    starts = np.cumsum([0] + [tree.node_count for tree in trees])
    children, feature = [], []
    for tree, start in zip(trees, starts[:-1], strict=True):
        leaf = tree.children_left < 0
        itself = np.arange(tree.node_count)
        pair = np.stack(
            [np.where(leaf, itself, side) for side in (tree.children_left, tree.children_right)], 1
        )
        children.append(pair.ravel() + start)
        feature.append(np.where(leaf, 0, tree.feature))
    return Forest(
        feature=np.concatenate(feature).astype(np.int32),
        threshold=_rounded_down(np.concatenate([tree.threshold for tree in trees])),
        children=np.concatenate(children).astype(np.int32),
        value=np.concatenate([tree.value[:, :, 0] for tree in trees]).astype(np.float32),
        roots=starts[:-1].astype(np.int32),
        depth=max(tree.max_depth for tree in trees),
    )


def _rounded_down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 not above: a float32 feature exceeds it exactly where it exceeds the float64."""
    rounded = threshold.astype(np.float32)
    return np.where(rounded > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)
