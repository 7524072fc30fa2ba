"""What ECCOS is compared with besides FIFO: AIOS's SmartRouting, and every call to one core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eccos_aios.bench.fold import held_out
from eccos_aios.bench.fold_estimates import FoldEstimates
from eccos_aios.bench.policy import SMART_THRESHOLD, Smart
from eccos_aios.core import Core
from eccos_aios.demo.load import record_key
from eccos_aios.demo.scenario import Scenario
from eccos_aios.sandbox.reply import last_user_text


class RoutingByText:
    """A router of the embedded adapter: each query to the core that was chosen for its text.

    Parameters
    ----------
    chosen : mapping of str to int
        Column of the core, by the user's message.
    """

    def __init__(self, chosen: Mapping[str, int]) -> None:
        self._chosen = chosen

    def get_model_idxs(
        self, selected_llm_lists: Sequence[Sequence[dict[str, Any]]], queries: Sequence[Any]
    ) -> list[int]:
        """Index of the core of each query; 0 for an unknown one."""
        return [self._chosen.get(last_user_text(messages).strip(), 0) for messages in queries]


def smart_routing(scenario: Scenario) -> RoutingByText:
    """AIOS's SmartRouting by its own rule, at its own threshold, over this package's embedding.

    Without past records it knows nothing, and takes the first core, as AIOS does.
    """
    if not scenario.past:
        return RoutingByText({})
    fold = held_out(scenario.past, scenario.asked, scenario.cores, seed=0)
    unlimited = np.full(len(scenario.cores), len(scenario.asked), dtype=np.int64)
    choices = Smart().choices(FoldEstimates(fold), unlimited)
    columns = next(choice.core for choice in choices if choice.level == SMART_THRESHOLD)
    texts = (record_key(record)[0] for record in fold.records)
    return RoutingByText(dict(zip(texts, columns.tolist(), strict=True)))


def single_cores(scenario: Scenario) -> list[int]:
    """Columns of the best core for every call, and of the best of those that are cheaper.

    By the past records; without any, by price alone.
    """
    costs = [_price(core) for core in scenario.cores]
    known = [_past_quality(scenario, core.name) for core in scenario.cores]
    worth = costs if any(each is None for each in known) else [each or 0.0 for each in known]
    columns = range(len(scenario.cores))
    best = max(columns, key=lambda column: (worth[column], -costs[column]))
    cheaper = [column for column in columns if costs[column] < costs[best]]
    if not cheaper:
        return [best]
    return [max(cheaper, key=lambda column: worth[column]), best]


def _price(core: Core) -> float:
    price = core.resolved_price
    return price.input + price.output


def _past_quality(scenario: Scenario, name: str) -> float | None:
    qualities = [
        outcome.graded_quality
        for record in scenario.past
        for outcome in record.outputs
        if outcome.model_name == name
    ]
    return float(np.mean(qualities)) if qualities else None
