"""The ``bench`` command: the replay of recorded outcomes, and the group of ``bench kernel``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eccos_aios.cli import options
from eccos_aios.cli.bench_kernel import kernel

if TYPE_CHECKING:
    from eccos_aios.plans import Mode
    from eccos_aios.predict import PredictorSpec


@click.group("bench", invoke_without_command=True)
@options.history(required=False)
@options.cores(required=False)
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True)
@click.option(
    "--splits", type=click.IntRange(min=2), help="In place of folds: this many random splits; mean ± error."
)
@click.option(
    "--train-records",
    type=options.COUNT,
    help="Records that a split learns from, to see a short history.  [default: half of the queries]",
)
@click.option("--test", type=options.FILE, help="In place of folds: learn from the history, measure on this.")
@click.option("--policies", help="Names with commas between.  [default: all; with --splits the main ones]")
@options.out_folder(help="Folder for results.json and the plots.")
@options.seed(help="Of the folds or splits.")
@options.plans(help="Replay plans on the recorded answers, too.")
@options.max_calls()
@options.predictor
@options.skip_bad_records()
@options.as_json()
@click.pass_context
def bench(
    context: click.Context,
    history: Path | None,
    cores: Path | None,
    folds: int,
    splits: int | None,
    train_records: int | None,
    test: Path | None,
    policies: str | None,
    out: Path | None,
    seed: int,
    plans: Mode,
    max_calls: float,
    spec: PredictorSpec,
    skip_bad_records: bool,
    as_json: bool,
) -> None:
    """Measure ECCOS against what it replaces: replay recorded outcomes under every policy.

    The history is split into folds by query; each fold is routed by predictors fitted on the others. With
    --splits, random splits by query are measured instead, without quotas, and every figure is the mean over
    them with its corrected standard error. With --test, one predictor learns from the history alone.

    Policies: eccos, eccos-r, eccos-t, smart (AIOS SmartRouting), first, random, balance, length, cheapest,
    best-single, knn-argmax, mix, oracle; each without quotas and, but for mix, with quotas in proportion to
    the manifest's. mix spreads the calls over single cores by their means alone. --plans adds eccos-plans,
    without quotas: a core whose answer fails its checks is followed by another (check), two cores whose
    answers disagree by a third (agree), and eccos-plans-unbounded shows what the bound on calls costs. Only
    histories with answers show a gain.

    --predictor is for eccos; --embedder is for eccos, eccos-r, eccos-t, smart (AIOS uses minilm) and
    knn-argmax.

    \b
    Examples:
      eccos-aios bench --history history.db --cores cores.yaml --out results
      eccos-aios bench --history history.db --cores cores.yaml --out results \\
        --splits 12 --train-records 200 --plans agree
      eccos-aios bench kernel --aios ~/AIOS
    """
    if context.invoked_subcommand is not None:
        return
    if history is None or cores is None or out is None:
        given = {"history": history, "cores": cores, "out": out}
        missing = next(name for name, value in given.items() if value is None)
        raise click.UsageError(f"missing option --{missing}", context)
    if splits is not None and test is not None:
        raise click.UsageError("--splits and --test: give one of them", context)
    if train_records is not None and splits is None:
        raise click.UsageError("--train-records: needs --splits", context)
    from eccos_aios.bench import Options
    from eccos_aios.cli.bench_replay import Scheme, run_replay

    names = [name.strip() for name in policies.split(",") if name.strip()] if policies else None
    run_replay(
        history,
        cores,
        out,
        Options(names=names, predictor=spec, plans=plans, max_calls=max_calls),
        Scheme(folds=folds, splits=splits, train_records=train_records, test=test, seed=seed),
        skip_bad_records=skip_bad_records,
        as_json=as_json,
    )


bench.add_command(kernel)
