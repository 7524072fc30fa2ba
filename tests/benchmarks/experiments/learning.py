"""``bench learning``: from an empty history to what a complete one gives, and past a core that gets worse."""

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

Told = Literal["chosen", "all"]

WINDOW = 100  # calls after the change within which the core has to lose its own
LEFT = 0.1  # of its former share: what counts as lost


@dataclass(frozen=True)
class LearningRow:
    """One replay from an empty history.

    Attributes
    ----------
    told : {"chosen", "all"}
        Whose outcomes are learned after each call: the chosen core's, or every core's, as `collect` records.
    target : float
    learned : int
        Calls before the measured ones.
    measured : int
    quality, cost_usd : float
        Means over the measured calls.
    offline_quality : float
        What a complete history gives on the same calls at the same mean cost.
    error : float
        Standard error of the difference between the two qualities.
    changed_core : str
        Which had the most of the measured calls, and gives half its quality from then on.
    share_before, share_after, share_informed : float
        Of the calls that it got among the measured ones, among the second hundred after the change, and what
        the offline estimates give it of these where they are told of the change: a cheap core is still the
        right one for a call that no core can answer.
    calls_until_lost : int or None
        Calls after the change from which on it had lost nine tenths of what it had beyond the informed share,
        over a hundred calls. None: later than a hundred calls.
    outcomes_until_noticed : int or None
        Outcomes of it after the change until the change was noticed. None: never.
    """

    told: Told
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
    """What is learned while the calls go by.

    Attributes
    ----------
    predictor : ResidualOnlinePredictor
    history : list of Record
        All that was told.
    fitted : int
        Records of it that the fit has seen.
    changes : dict of tuple to Change
        Those that were noticed, by core and by the first record after each.
    """

    predictor: ResidualOnlinePredictor
    history: list[Record] = field(default_factory=list)
    fitted: int = 0
    changes: dict[tuple[str, str], Change] = field(default_factory=dict)

    def learn(self, record: Record) -> list[str]:
        """Take a record in; the cores that are found to have changed."""
        self.history.append(record)
        news = self.predictor.learn([record])
        new = len(self.history) - self.fitted
        if refit_is_due(new, self.fitted, suspecting=self.predictor.suspecting):
            self.changes.update({(change.core, change.since): change for change in self.predictor.changes})
            self.fitted = len(self.history)
            taught = list(restated(self.history, list(self.changes.values())))
            self.predictor.rebase(HybridPredictor().fit(taught), ())
        return [drift.core for drift in news]


def learning_bench(
    history: Sequence[Record],
    cores: Sequence[Core],
    learned: int = 2000,
    measured: int = 1000,
    round_size: int = 4,
    exploration: float = 0.05,
    told: Sequence[Told] = ("all", "chosen"),
    targets: Sequence[float] = (),
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> list[LearningRow]:
    """Replay the history in a random order under predictors that know nothing at first.

    Parameters
    ----------
    history : sequence of Record
    cores : sequence of Core
    learned : int
        Calls before it is measured.
    measured : int
        Calls that are measured; then the core with the most of them gets worse.
    round_size : int
        Calls that are decided together.
    exploration : float
        Share of the calls that may explore where only the chosen core's outcome is told.
    told : sequence of {"chosen", "all"}
    targets : sequence of float
        None: three between what the cheapest core gives and what can be reached.
    seed : int
    on_step : callable, optional
        Told what is being done.

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
    for whose in told:
        for target in targets or targets_between(replayed, window):
            on_step(f"target {target:.3f}, told of {whose}")
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
        "its share before, after (as if told)",
        "noticed after, its outcomes",
        "lost after, calls",
        left=("degraded core",),
    )
    for row in rows:
        table.add_row(
            row.told,
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
        self, replayed: Replayed, target: float, told: Told, exploration: float, round_size: int, seed: int
    ) -> None:
        self.replayed = replayed
        self.target = target
        self.told = told
        self.exploration = Exploration(exploration, seed)
        self.round_size = round_size
        self.debt = QualityDebt()
        self.learner = Learner(ResidualOnlinePredictor(HybridPredictor().fit([])))
        self.quality = replayed.truth.quality.copy()
        self.chosen = np.full(len(self.quality), -1, dtype=np.int64)
        self.coin = np.random.default_rng(seed + 1)

    def row(self, learned: int, measured: int, curve: Sequence[OfflinePoint]) -> LearningRow:
        """Learn, measure, make the core with the most calls worse, watch."""
        self.go_on(0, learned + measured)
        window = np.arange(learned, learned + measured)
        served = window[self.chosen[window] >= 0]
        quality = self.quality[served, self.chosen[served]]
        cost = float(self.replayed.truth.cost[served, self.chosen[served]].mean())
        offline = at_cost(curve, cost)
        changed = int(np.bincount(self.chosen[served], minlength=len(self.replayed.cores)).argmax())
        change = learned + measured
        worse = self.quality[change:, changed]
        self.quality[change:, changed] = np.where(self.coin.random(len(worse)) < 0.5, 0.0, worse)
        noticed = self.go_on(change, change + 2 * WINDOW, self.replayed.names[changed])
        after = self.chosen[change : change + 2 * WINDOW] == changed
        share_before = float(np.mean(self.chosen[served] == changed))
        estimates = self.replayed.offline.quality.copy()
        estimates[change:, changed] /= 2
        later = np.arange(change + WINDOW, change + 2 * WINDOW)
        replayed = replace(self.replayed, truth=replace(self.replayed.truth, quality=self.quality))
        informed = offline_choice(replayed, estimates, later, self.target, self.round_size)
        share_informed = float(np.mean(informed == changed))
        return LearningRow(
            told=self.told,
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
                after, share_informed + LEFT * max(0.0, share_before - share_informed)
            ),
            outcomes_until_noticed=noticed,
        )

    def go_on(self, first: int, last: int, watched: str | None = None) -> int | None:
        """Replay calls; how many outcomes of a watched core it took until its change was noticed."""
        outcomes, noticed = 0, None
        for start in range(first, last, self.round_size):
            rows = np.arange(start, min(start + self.round_size, last))
            for row, column, predicted in self._placed(rows):
                self.chosen[row] = column
                self.debt.sent(self.target, predicted)
                self.debt.delivered(predicted, self.quality[row, column])
                record = self._told_of(row, column)
                changed = self.learner.learn(record)
                outcomes += any(outcome.model_name == watched for outcome in record.outputs)
                if noticed is None and watched in changed:
                    noticed = outcomes
        return noticed

    def _placed(self, rows: IntArray) -> list[tuple[int, int, float]]:
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

    def _told_of(self, row: int, chosen: int) -> Record:
        """The record of a call, with the outcomes that are told."""
        columns = {name: column for column, name in enumerate(self.replayed.names)}
        record = self.replayed.records[row]
        outputs = tuple(
            outcome.model_copy(update={"quality": float(self.quality[row, columns[outcome.model_name]])})
            for outcome in record.outputs
            if outcome.model_name in columns and (self.told == "all" or columns[outcome.model_name] == chosen)
        )
        return record.model_copy(update={"id": str(row), "outputs": outputs})


def _calls_until_lost(after: NDArray[np.bool_], share: float) -> int | None:
    """The call from which on the core holds no more than a share of the next hundred."""
    for calls in range(len(after) - WINDOW + 1):
        if after[calls : calls + WINDOW].mean() <= share:
            return calls
    return None
