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
@click.option("--policies", help="Names with commas between.  [default: all]")
@options.out_folder(help="Folder for results.json and the plots.")
@options.seed(help="Of the folds.")
@options.plans(help="Replay plans on the recorded answers, too.")
@options.predictor
@options.skip_bad_records()
@options.as_json()
@click.pass_context
def bench(
    context: click.Context,
    history: Path | None,
    cores: Path | None,
    folds: int,
    policies: str | None,
    out: Path | None,
    seed: int,
    plans: Mode,
    spec: PredictorSpec,
    skip_bad_records: bool,
    as_json: bool,
) -> None:
    """Measure ECCOS against what it replaces: replay recorded outcomes under every policy.

    The history is split into folds by query; each fold is routed by predictors fitted on the others.
    Policies: eccos, eccos-r, eccos-t, smart (AIOS SmartRouting), first, random, balance, length, cheapest,
    best-single, knn-argmax, oracle; each without quotas and with quotas in proportion to the manifest's.
    --plans adds eccos-plans, without quotas: a core whose answer fails its checks is followed by another
    (check), two cores whose answers disagree by a third (agree). Only histories with answers show a gain.
    --predictor is for eccos; --embedder is for eccos, eccos-r, eccos-t, smart (AIOS uses minilm) and
    knn-argmax.

    \b
    Examples:
      eccos-aios bench --history history.jsonl.gz --cores cores.yaml --out results
      eccos-aios bench kernel --aios ~/AIOS
    """
    if context.invoked_subcommand is not None:
        return
    if history is None or cores is None or out is None:
        given = {"history": history, "cores": cores, "out": out}
        missing = next(name for name, value in given.items() if value is None)
        raise click.UsageError(f"missing option --{missing}", context)
    from eccos_aios.cli.bench_replay import run_replay

    names = [name.strip() for name in policies.split(",") if name.strip()] if policies else None
    run_replay(
        history,
        cores,
        folds,
        names,
        out,
        seed=seed,
        predictor=spec,
        plans=plans,
        skip_bad_records=skip_bad_records,
        as_json=as_json,
    )


bench.add_command(kernel)
