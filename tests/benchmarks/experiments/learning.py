"""From an empty history to the quality of a complete one, and past a core that degrades."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from eccos_aios.assign import solve
from eccos_aios.bench.fold import IntArray
from eccos_aios.candidates import Candidates
from eccos_aios.cli.table import make_table
from eccos_aios.core import Core
from eccos_aios.history import Change, Record, restated
from eccos_aios.predict import (
    HybridPredictor,
    ResidualOnlinePredictor,
    record_text,
    refit_is_due,
)
from eccos_aios.schedule.explore import Exploration
from eccos_aios.schedule.quality_debt import QualityDebt
from experiments.replayed import (
    OfflinePoint,
    Replayed,
    at_cost,
    offline_choice,
    offline_curve,
    replayed_of,
    targets_between,
)

LearnedOutcomes = Literal["chosen", "all"]

WINDOW = 100  # calls after the change within which the core has to lose its share
REMAINING = 0.1  # of its former share, from which down the share counts as lost


@dataclass(frozen=True)
class LearningRow:
    """One replay from an empty history.

    Attributes
    ----------
    outcomes : {"chosen", "all"}
        The outcomes learned from each call: the chosen core's, or every core's, as `collect` records.
    target : float
    learned : int
        Calls before the measured ones.
    measured : int
    quality, cost_usd : float
        Means over the measured calls.
    offline_quality : float
        The quality with a complete history on the same calls at the same mean cost.
    error : float
        Standard error of the difference between the two qualities.
    changed_core : str
        The core with the most measured calls; from then on it gives half its quality.
    share_before, share_after, share_informed : float
        Its share of the measured calls, of the second hundred after the change, and of these under offline
        estimates that include the change: a cheap core is still the right one for a call that no core can
        answer.
    calls_until_lost : int or None
        Calls after the change until it had lost nine tenths of its share above `share_informed`, over a
        hundred calls. None: later than a hundred calls.
    outcomes_until_noticed : int or None
        Its outcomes after the change until the change was noticed. None: never.
    """

    outcomes: LearnedOutcomes
    target: float
    learned: int
    measured: int
    quality: float
    cost_usd: float
    offline_quality: float
    error: float
    changed_core: str
    share_before: float
    share_after: float
    share_informed: float
    calls_until_lost: int | None
    outcomes_until_noticed: int | None


@dataclass
class Learner:
    """Learns from the calls as they come.

    Attributes
    ----------
    predictor : ResidualOnlinePredictor
    history : list of Record
        Every learned record.
    fitted : int
        Number of them in the last fit.
    changes : dict of tuple to Change
        The noticed changes, by core and first record after the change.
    """

    predictor: ResidualOnlinePredictor
    history: list[Record] = field(default_factory=list)
    fitted: int = 0
    changes: dict[tuple[str, str], Change] = field(default_factory=dict)

    def learn(self, record: Record) -> list[str]:
        """Learn from a record; returns the cores that were found to have changed."""
        self.history.append(record)
        news = self.predictor.learn([record])
        new = len(self.history) - self.fitted
        if refit_is_due(new, self.fitted, suspecting=self.predictor.suspecting):
            self.changes.update({(change.core, change.since): change for change in self.predictor.changes})
            self.fitted = len(self.history)
            corrected = list(restated(self.history, list(self.changes.values())))
            self.predictor.rebase(HybridPredictor().fit(corrected), ())
        return [drift.core for drift in news]


def learning_bench(
    history: Sequence[Record],
    cores: Sequence[Core],
    learned: int = 2000,
    measured: int = 1000,
    round_size: int = 4,
    exploration: float = 0.05,
    outcomes: Sequence[LearnedOutcomes] = ("all", "chosen"),
    targets: Sequence[float] = (),
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> list[LearningRow]:
    """Replay the history in a random order under predictors that start without any.

    Parameters
    ----------
    history : sequence of Record
    cores : sequence of Core
    learned : int
        Calls before the measured ones.
    measured : int
        Calls that are measured; then the core with the most of them degrades.
    round_size : int
        Calls per round.
    exploration : float
        Share of the calls that may explore where only the chosen core's outcome is learned.
    outcomes : sequence of {"chosen", "all"}
    targets : sequence of float
        Default: three between the quality of the cheapest core and the best that can be reached.
    seed : int
    on_step : callable, optional
        Called with a description of each step.

    Raises
    ------
    ValueError
        There are too few records.
    """
    needed = learned + measured + 2 * WINDOW
    records = [
        record for record in history if any(o.model_name in {c.name for c in cores} for o in record.outputs)
    ]
    if len(records) < needed:
        raise ValueError(f"history: {len(records)} records of these cores: {needed} are replayed")
    order = np.random.default_rng(seed).permutation(len(records))
    on_step(f"offline estimates of {len(records)} records")
    replayed = replayed_of([records[row] for row in order], cores, seed)
    window = np.arange(learned, learned + measured)
    curve = offline_curve(replayed, window, round_size)
    rows = []
    for whose in outcomes:
        for target in targets or targets_between(replayed, window):
            on_step(f"target {target:.3f}, outcomes of {whose}")
            run = _Run(replayed, target, whose, exploration if whose == "chosen" else 0.0, round_size, seed)
            rows.append(run.row(learned, measured, curve))
    return rows


def rows_as_json(rows: Sequence[LearningRow]) -> str:
    """The rows as one JSON object."""
    return json.dumps({"rows": [asdict(row) for row in rows]})


def rows_as_table(rows: Sequence[LearningRow]) -> Table:
    """A table of the rows."""
    table = make_table(
        "outcomes",
        "target",
        "quality",
        "complete history, same cost",
        "difference, points",
        "degraded core",
        "its share before, after (informed)",
        "noticed after, its outcomes",
        "lost after, calls",
        left=("degraded core",),
    )
    for row in rows:
        table.add_row(
            row.outcomes,
            f"{row.target:.3f}",
            f"{row.quality:.3f}",
            f"{row.offline_quality:.3f}",
            f"{100 * (row.quality - row.offline_quality):+.1f} ± {196 * row.error:.1f}",
            row.changed_core,
            f"{row.share_before:.0%}, {row.share_after:.0%} ({row.share_informed:.0%})",
            _counted(row.outcomes_until_noticed),
            _counted(row.calls_until_lost),
        )
    return table


def _counted(number: int | None) -> str:
    return "not" if number is None else str(number)


class _Run:
    """One replay from an empty history."""

    def __init__(
        self,
        replayed: Replayed,
        target: float,
        outcomes: LearnedOutcomes,
        exploration: float,
        round_size: int,
        seed: int,
    ) -> None:
        self.replayed = replayed
        self.target = target
        self.outcomes = outcomes
        self.exploration = Exploration(exploration, seed)
        self.round_size = round_size
        self.debt = QualityDebt()
        self.learner = Learner(ResidualOnlinePredictor(HybridPredictor().fit([])))
        self.quality = replayed.truth.quality.copy()
        self.chosen = np.full(len(self.quality), -1, dtype=np.int64)
        self.coin = np.random.default_rng(seed + 1)

    def row(self, learned: int, measured: int, curve: Sequence[OfflinePoint]) -> LearningRow:
        """Learn, measure, degrade the core with the most calls, and watch."""
        self.replay(0, learned + measured)
        window = np.arange(learned, learned + measured)
        served = window[self.chosen[window] >= 0]
        quality = self.quality[served, self.chosen[served]]
        cost = float(self.replayed.truth.cost[served, self.chosen[served]].mean())
        offline = at_cost(curve, cost)
        changed = int(np.bincount(self.chosen[served], minlength=len(self.replayed.cores)).argmax())
        change = learned + measured
        worse = self.quality[change:, changed]
        self.quality[change:, changed] = np.where(self.coin.random(len(worse)) < 0.5, 0.0, worse)
        noticed = self.replay(change, change + 2 * WINDOW, self.replayed.names[changed])
        after = self.chosen[change : change + 2 * WINDOW] == changed
        share_before = float(np.mean(self.chosen[served] == changed))
        estimates = self.replayed.offline.quality.copy()
        estimates[change:, changed] /= 2
        later = np.arange(change + WINDOW, change + 2 * WINDOW)
        replayed = replace(self.replayed, truth=replace(self.replayed.truth, quality=self.quality))
        informed = offline_choice(replayed, estimates, later, self.target, self.round_size)
        share_informed = float(np.mean(informed == changed))
        return LearningRow(
            outcomes=self.outcomes,
            target=self.target,
            learned=learned,
            measured=len(served),
            quality=float(quality.mean()),
            cost_usd=cost,
            offline_quality=float(offline.mean()),
            error=float((quality - offline[served - learned]).std() / np.sqrt(len(served))),
            changed_core=self.replayed.names[changed],
            share_before=share_before,
            share_after=float(after[WINDOW:].mean()),
            share_informed=share_informed,
            calls_until_lost=_calls_until_lost(
                after, share_informed + REMAINING * max(0.0, share_before - share_informed)
            ),
            outcomes_until_noticed=noticed,
        )

    def replay(self, first: int, last: int, watched: str | None = None) -> int | None:
        """Replay calls; returns the outcomes of a watched core until its change was noticed."""
        seen, noticed = 0, None
        for start in range(first, last, self.round_size):
            rows = np.arange(start, min(start + self.round_size, last))
            for row, column, predicted in self._assign(rows):
                self.chosen[row] = column
                self.debt.sent(self.target, predicted)
                self.debt.delivered(predicted, self.quality[row, column])
                record = self._learned_record(row, column)
                changed = self.learner.learn(record)
                seen += any(outcome.model_name == watched for outcome in record.outputs)
                if noticed is None and watched in changed:
                    noticed = seen
        return noticed

    def _assign(self, rows: IntArray) -> list[tuple[int, int, float]]:
        replayed = self.replayed
        calls = [record_text(replayed.records[row]) for row in rows]
        estimates = self.learner.predictor.predict(calls, replayed.names)
        cost, allowed = estimates.cost(replayed.cores), ~np.isnan(self.quality[rows])
        candidates = Candidates(estimates.quality, cost, allowed)
        problem = candidates.problem(self.target, target_deficit=self.debt.owed(len(rows)))
        placed = []
        for position, column in enumerate(solve(problem).core.tolist()):
            explored = self.exploration.choose(
                estimates.quality[position],
                cost[position],
                estimates.support[position],
                allowed[position],
                self.target,
            )
            column = column if explored is None else explored
            if column >= 0:
                placed.append((int(rows[position]), column, float(estimates.quality[position, column])))
        return placed

    def _learned_record(self, row: int, chosen: int) -> Record:
        """The record of a call, with the outcomes that are learned."""
        columns = {name: column for column, name in enumerate(self.replayed.names)}
        record = self.replayed.records[row]
        outputs = tuple(
            outcome.model_copy(update={"quality": float(self.quality[row, columns[outcome.model_name]])})
            for outcome in record.outputs
            if outcome.model_name in columns
            and (self.outcomes == "all" or columns[outcome.model_name] == chosen)
        )
        return record.model_copy(update={"id": str(row), "outputs": outputs})


def _calls_until_lost(after: NDArray[np.bool_], share: float) -> int | None:
    """The call from which on the core holds no more than a share of the next hundred."""
    for calls in range(len(after) - WINDOW + 1):
        if after[calls : calls + WINDOW].mean() <= share:
            return calls
    return None
