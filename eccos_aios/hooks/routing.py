"""EccosRouting: a router strategy for AIOS's LLM adapter, routing without quotas."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from eccos_aios.assign import WAITS, solve
from eccos_aios.candidates import Candidates
from eccos_aios.config import EccosConfig
from eccos_aios.core import Core
from eccos_aios.hooks.kernel_config import kernel_config, kernel_cores, models_of
from eccos_aios.log_once import LogOnce
from eccos_aios.predict import call_text, experience_of
from eccos_aios.requirements import Requirements
from eccos_aios.runtime.configuration import make_learner

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoutedBatch:
    """The column of each call's core, and the estimates that it was chosen by."""

    columns: list[int]
    candidates: Candidates


class EccosRouting:
    """``llms.router.strategy: eccos``: each batch to the cheapest cores that reach the quality target.

    Parameters
    ----------
    llm_configs : list
        AIOS's cores, each with a ``name``; AIOS replaces the attribute of the same name when it registers
        a core later.
    config : EccosConfig, optional
        Default: the ``scheduler.eccos`` section of AIOS's config.

    Raises
    ------
    ConfigError, HistoryError
        The configuration, the manifest or the history is wrong.
    """

    def __init__(self, llm_configs: list[Any], config: EccosConfig | None = None) -> None:
        self.llm_configs = llm_configs
        config = config or kernel_config()
        self.quality_target = config.quality_target
        self.reach_slack = config.reach_slack
        self._cores = kernel_cores(config, llm_configs)
        self._predictor = make_learner(config).predictor
        self._log = LogOnce(logger)

    def get_model_idxs(
        self, selected_llm_lists: list[list[dict[str, Any]]], queries: list[list[dict[str, Any]]]
    ) -> list[int]:
        """The index in `llm_configs` of the core of each query.

        Parameters
        ----------
        selected_llm_lists : list of list of dict
            The cores that each query may go to, each with a ``name``.
        queries : list of list of dict
            The messages of each query.
        """
        if not queries:
            return []
        try:
            return self.route(selected_llm_lists, queries).columns
        except Exception as error:  # noqa: BLE001 - AIOS leaves the batch waiting for ever when its router raises
            self._log.error("failed", "routing failed: calls go to their first core", exc_info=error)
            names = [llm.name for llm in self.llm_configs]
            return [
                min(map(names.index, cores), default=0) for cores in self._named(selected_llm_lists, names)
            ]

    def _named(
        self, selected_llm_lists: list[list[dict[str, Any]]], names: list[str]
    ) -> list[frozenset[str]]:
        """The cores that each query may go to: AIOS lists every core where the agent named none."""
        manifest = frozenset(core.name for core in self._cores)
        everything = frozenset(names)
        named = [frozenset(llm["name"] for llm in selected) & everything for selected in selected_llm_lists]
        return [manifest if cores in (everything, frozenset()) else cores for cores in named]

    def route(
        self, selected_llm_lists: list[list[dict[str, Any]]], queries: list[list[dict[str, Any]]]
    ) -> RoutedBatch:
        """Stage 1 and stage 2 for a batch; parameters as `get_model_idxs`, but may raise."""
        names = [llm.name for llm in self.llm_configs]
        allowed = self._named(selected_llm_lists, names)
        known = {core.name: core for core in self._cores}
        models = models_of(self.llm_configs)
        cores = [known.get(each.name) or Core(name=each.name).at_backend(each.backend) for each in models]
        texts = [call_text(messages) for messages in queries]
        # AIOS gives its router neither the tools nor the length of the answer.
        requirements = [Requirements.of(text, named) for text, named in zip(texts, allowed, strict=True)]
        # Not by Router: two of AIOS's models may have the same name.
        estimates = self._predictor.predict(texts, names)
        candidates = Candidates.of(
            estimates, requirements, cores, experience=experience_of(self._predictor, names)
        )
        assignment = solve(candidates.problem(self.quality_target, reach_slack=self.reach_slack))
        columns = [
            min(map(names.index, named)) if column == WAITS else column
            for column, named in zip(assignment.core.tolist(), allowed, strict=True)
        ]
        return RoutedBatch(columns, candidates)
