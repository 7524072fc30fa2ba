"""Exchanges of calls between cores: they prove an assignment optimal, or improve it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from eccos_aios.assign.instance import Instance
from eccos_aios.assign.problem import FloatArray, IntArray

MOST_EXCHANGES = 1000
PRECISION = 1e-11  # relative: smallest difference of prices that counts
HERE = -1  # in a chain of cores: it starts here, this core gives a call away for nothing in return


def priced(instance: Instance, price: float) -> FloatArray:
    """Value less the worth of the gain, shape (n, M)."""
    return instance.value - price * instance.gain


def dual_bound(instance: Instance, price: float, slot_price: FloatArray) -> float:
    """The Lagrangian: a lower bound on the value, for any multipliers of at least 0."""
    least = (priced(instance, price) + slot_price).min(axis=1).sum()
    return float(least - slot_price @ instance.quota + price * instance.required)


def settle(instance: Instance, core: IntArray, price: float) -> tuple[IntArray, FloatArray, int]:
    """The best assignment at a price of gain, from a good one; slot prices; the number of exchanges."""
    worth = priced(instance, price)
    own = np.abs(worth[np.arange(len(core)), core])
    graph = CoreGraph(worth, core.copy(), instance.quota, PRECISION * float(own.max()))
    slot_price = np.maximum(graph.settle(MOST_EXCHANGES), 0.0)
    return graph.core, slot_price, graph.exchanges


class CoreGraph:
    """Cores as nodes; the weight of the edge j → k is the cost of the cheapest move of a call from j to k.

    An assignment is optimal for its prices if and only if no cycle, and no chain to a core with a slot left,
    has a negative weight (the residual graph of a transportation problem, the calls contracted). The
    shortest chains to each core are then the prices of its slots: the saving by one more slot.

    Parameters
    ----------
    priced : ndarray of shape (n, M)
        Cost of each call at each core, the gain priced in; infinite where it may not go.
    core : ndarray of int of shape (n,)
        Where the calls are; changed in place.
    quota : ndarray of shape (M,)
    precision : float
        Smallest improvement that counts.
    """

    def __init__(self, priced: FloatArray, core: IntArray, quota: IntArray, precision: float) -> None:
        self.priced = priced
        self.core = core
        self.precision = precision
        cores = len(quota)
        self.left = quota - np.bincount(core, minlength=cores)
        self.extra = np.full((cores, cores), np.inf)
        self.exchanges = 0
        self._columns = np.arange(cores)
        for each in range(cores):
            self._refresh(each)

    def settle(self, most_exchanges: int) -> FloatArray:
        """Exchange until nothing improves, or as often as allowed; returns the prices of the slots."""
        for _ in range(most_exchanges):
            distance, chain = self._search()
            if not chain:
                return -distance
            self._apply(chain)
            self.exchanges += 1
        return -self._search()[0]

    def _search(self) -> tuple[FloatArray, list[int]]:
        """Bellman and Ford's distances; a chain or cycle of negative weight where there is one."""
        cores = len(self.left)
        distance = np.zeros(cores)
        before = np.full(cores, HERE)
        room = self.left > 0
        for _ in range(cores + 1):
            through = distance[:, None] + self.extra
            nearest = through.argmin(axis=0)
            shorter = through[nearest, self._columns]
            better = np.flatnonzero(shorter < distance - self.precision)
            if not better.size:
                return distance, []
            distance[better] = shorter[better]
            before[better] = nearest[better]
            ends = better[room[better]]
            if ends.size:
                return distance, _walk_back(before.tolist(), int(ends[distance[ends].argmin()]))
        return distance, _walk_back(before.tolist(), int(better[0]), cycle=True)

    def _apply(self, chain: list[int]) -> None:
        """Move calls along every edge of the chain, which is a cycle where it ends at its start.

        One call each, and further ones as long as the next cheapest of all edges together still pay.
        """
        edges = list(pairwise(chain))
        here = {start: np.flatnonzero(self.core == start) for start, _ in edges}
        most = min(len(rows) for rows in here.values())
        if chain[0] != chain[-1]:
            most = min(most, int(self.left[chain[-1]]))
        movers = []
        total = np.zeros(most)
        for start, end in edges:
            extra = self.priced[here[start], end] - self.priced[here[start], start]
            order = np.argsort(extra, kind="stable")[:most]
            total += extra[order]
            movers.append(here[start][order])
        count = max(1, int(np.searchsorted(total, -self.precision)))
        for (_, end), calls in zip(edges, movers, strict=True):
            self.core[calls[:count]] = end
        self.left[chain[0]] += count
        self.left[chain[-1]] -= count
        for touched in set(chain):
            self._refresh(touched)

    def _refresh(self, core: int) -> None:
        here = np.flatnonzero(self.core == core)
        if not here.size:
            self.extra[core] = np.inf
            return
        rows = self.priced[here]
        rows -= rows[:, core, None].copy()
        self.extra[core] = rows.min(axis=0)
        self.extra[core, core] = np.inf


def _walk_back(before: list[int], end: int, cycle: bool = False) -> list[int]:
    """The cores from the start to `end`; a cycle (its first core again at the end) where one is met."""
    if cycle:
        for _ in before:
            end = before[end] if before[end] != HERE else end
    chain, seen = [end], {end}
    while before[chain[-1]] != HERE:
        previous = before[chain[-1]]
        chain.append(previous)
        if previous in seen:
            first = chain.index(previous)
            return chain[first:][::-1]
        seen.add(previous)
    return chain[::-1]
