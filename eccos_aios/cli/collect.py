"""The ``collect`` command."""

from __future__ import annotations

import json
import random
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from eccos_aios.cli import options
from eccos_aios.cli.interrupt import on_interrupt
from eccos_aios.cli.main import INTERRUPTED
from eccos_aios.collect import Format
from eccos_aios.errors import ABSENT, ConfigError

if TYPE_CHECKING:
    from eccos_aios.core import Manifest

FAILED = 1  # exit code: calls failed, so that outcomes are missing


@click.command("collect")
@options.cores()
@click.option(
    "--questions",
    "paths",
    required=True,
    multiple=True,
    help="Question set: JSON lines, a file of GSM8K, MMLU, SQuAD or HotpotQA, or 'builtin' for 300 generated "
    "questions. May be repeated.",
)
@options.out(help="The history: .jsonl, .jsonl.gz or .json. Records are appended; a store imports it later.")
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(Format)),
    help="Of the sets.  [default: recognised by content]",
)
@click.option("--limit", type=click.IntRange(1), help="Ask this many of the questions, chosen at random.")
@options.seed(type=int, help="Of the questions' order and choice.")
@click.option(
    "--max-usd",
    type=click.FloatRange(0),
    help="Budget of the whole history; collecting stops before exceeding it.",
)
@click.option(
    "--max-output-tokens",
    type=click.IntRange(1),
    default=1024,
    show_default=True,
    help="Of the longest answer.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds without a byte.",
)
@click.option(
    "--retries",
    type=click.IntRange(0, 20),
    default=5,
    show_default=True,
    help="Times that a call is sent again.",
)
@options.aios(
    required=False, envvar=None, help="AIOS's checkout; its config has the cores' addresses and keys."
)
@click.option("--base-url", help="OpenAI-compatible API of all cores that have no address of their own.")
@click.option("--api-key-env", help="The environment variable that holds the key for --base-url.")
@click.option("--no-text", is_flag=True, help="Record the grades of the answers, but not their text.")
@click.option("--dry-run", is_flag=True, help="Print the plan with the expected price; ask nothing.")
@click.option("--yes", is_flag=True, help="Start without asking.")
@options.as_json()
def collect(
    cores: Path,
    paths: tuple[str, ...],
    out: Path,
    form: Any,
    limit: int | None,
    seed: int,
    max_usd: float | None,
    max_output_tokens: int,
    timeout: float,
    retries: int,
    aios: Path | None,
    base_url: str | None,
    api_key_env: str | None,
    no_text: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Ask every core every question, grade the answers, and record them as a history.

    A core's address is its base_url in the manifest (its key is in the environment variable that
    api_key_env names there), or what AIOS's config says (--aios), or --base-url, or follows from a name
    like groq/llama-3.1-8b-instant. No core ever holds more calls than its quota.

    After Ctrl-C the calls under way end first; a second Ctrl-C drops them. The same command then continues
    where it stopped. --max-usd includes what the history has cost before, and reserves for every call the
    most that it can cost. Exits with 0 when all is recorded or the budget is used up, with 1 where calls
    failed.

    \b
    Examples:
      eccos-aios collect --cores cores.yaml --questions builtin \\
        --out history.jsonl --dry-run
      eccos-aios collect --cores cores.yaml --questions builtin \\
        --out history.jsonl --max-usd 2
      eccos-aios collect --cores cores.yaml --aios ~/AIOS --limit 500 \\
        --questions gsm8k.jsonl --questions mmlu/astronomy_test.csv \\
        --out history.jsonl.gz
    """
    from eccos_aios.cli.collect_table import live_table, print_collected, print_plan
    from eccos_aios.collect.ask import Backoff
    from eccos_aios.collect.endpoint import endpoints, is_address
    from eccos_aios.collect.formats import read_questions
    from eccos_aios.collect.journal import Journal, RecordedOutcomes
    from eccos_aios.collect.plan import make_plan
    from eccos_aios.collect.run import Collection
    from eccos_aios.core import read_manifest
    from eccos_aios.http_client import require_httpx

    if base_url is not None and not is_address(base_url):
        raise ConfigError("--base-url", "", base_url, "must be an address like http://localhost:8000/v1")
    manifest = read_manifest(cores)
    if max_usd is not None:
        _require_prices(manifest, cores)
    questions = read_questions(paths, form)
    # In random order, so that whatever is recorded when it stops is a fair sample of the set.
    questions = random.Random(seed).sample(questions, min(limit or len(questions), len(questions)))
    if dry_run:
        plan = make_plan(manifest, questions, RecordedOutcomes(out), max_output_tokens)
        if as_json:
            click.echo(json.dumps({"plan": plan.summary()}))
        else:
            print_plan(plan, max_usd)
        return
    require_httpx()
    where = endpoints(manifest, str(cores), aios=aios, base_url=base_url, api_key_env=api_key_env)
    with closing(Journal(out)) as journal:
        plan = make_plan(manifest, questions, journal, max_output_tokens)
        if not as_json and plan.to_ask:
            print_plan(plan, max_usd, err=True)
        if plan.expected_usd and not yes and sys.stdin.isatty() and sys.stderr.isatty():
            click.confirm("Start?", abort=True, err=True)
        collection = Collection(
            plan,
            where,
            journal,
            max_usd=max_usd,
            timeout_s=timeout,
            backoff=Backoff(attempts=retries + 1),
            keep_text=not no_text,
        )
        with on_interrupt(collection.interrupt), live_table(collection.tallies) as on_progress:
            collected = collection.run(on_progress, _print_interrupt)
    if as_json:
        result = {"out": str(out), "questions": len(questions), **collected.summary(), "plan": plan.summary()}
        click.echo(json.dumps(result))
    else:
        print_collected(collected, str(out))
    codes = {"incomplete": FAILED, "interrupted": INTERRUPTED}
    click.get_current_context().exit(codes.get(collected.ended, 0))


def _require_prices(manifest: Manifest, source: Path) -> None:
    """A budget is meaningless where a core counts as free because its price is unknown."""
    for place, core in enumerate(manifest.cores):
        if core.price is None and not any(core.resolved_price.model_dump().values()):
            raise ConfigError(
                str(source),
                f"cores[{place}].price",
                ABSENT,
                f"required by --max-usd: none is known for {core.name!r}; 0 is fine for your own hardware",
            )


def _print_interrupt(under_way: int) -> None:
    if under_way:
        click.echo(f"waiting for {under_way} calls under way; press Ctrl-C again to drop them", err=True)
