"""What a store holds, in figures."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

# A graded outcome is one that predictors learn from: of a record, or of a call whose quality is known.
_GRADED = """
SELECT core, count(*), avg(quality), avg(output_tokens), avg(latency_s) FROM (
    SELECT
        json_extract(output.value, '$.model_name') AS core,
        coalesce(
            json_extract(output.value, '$.quality'), json_extract(output.value, '$.correctness')
        ) AS quality,
        json_extract(output.value, '$.output_token_length') AS output_tokens,
        json_extract(output.value, '$.latency_s') AS latency_s
    FROM records, json_each(records.body, '$.outputs') AS output
    UNION ALL
    SELECT core, {quality} AS quality, output_token_length, latency_s FROM outcomes
    WHERE {quality} IS NOT NULL
) GROUP BY core
"""
_CALLS = "SELECT core, count(*), count(error), total(cost_usd) FROM outcomes GROUP BY core"


@dataclass(frozen=True)
class CoreStats:
    """One core's figures.

    Attributes
    ----------
    graded : int
        Outcomes whose quality is known, of records and of calls.
    quality, output_tokens, latency_s : float or None
        Means over those of the graded where the figure is known. None: known of none.
    calls : int
        Calls of running kernels, graded or not.
    failed : int
        Those of the calls that ended with an error.
    cost_usd : float
        US dollars of the calls whose cost is known.
    """

    graded: int = 0
    quality: float | None = None
    output_tokens: float | None = None
    latency_s: float | None = None
    calls: int = 0
    failed: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True)
class StoreStats:
    """A store's figures.

    Attributes
    ----------
    schema_version : int
        Of its tables.
    size_bytes : int
        Of its file and its write-ahead log.
    records : int
        Records that were imported, collected or appended.
    calls : int
        Finished calls of running kernels.
    graded_calls : int
        Those of the calls whose quality is known.
    without_text : int
        Records and calls whose text was left out.
    cores : dict of str to CoreStats
        By name, in alphabetical order.
    """

    schema_version: int
    size_bytes: int
    records: int
    calls: int
    graded_calls: int
    without_text: int
    cores: dict[str, CoreStats]


def read_stats(read: sqlite3.Connection, path: Path, *, quality: str) -> StoreStats:
    """Sum up a store.

    Parameters
    ----------
    read : sqlite3.Connection
        On which a transaction has begun.
    path : Path
        The store's file.
    quality : str
        The SQL expression for the quality of a row of ``outcomes`` that counts now.
    """
    graded = {name: figures for name, *figures in read.execute(_GRADED.format(quality=quality))}
    calls = {name: figures for name, *figures in read.execute(_CALLS)}
    (records,) = read.execute("SELECT count(*) FROM records").fetchone()
    (graded_calls,) = read.execute(f"SELECT count({quality}) FROM outcomes").fetchone()
    (without_text,) = read.execute(
        "SELECT (SELECT count(*) FROM outcomes WHERE query_hash IS NOT NULL) + "
        "(SELECT count(*) FROM records WHERE json_extract(body, '$.query_hash') IS NOT NULL)"
    ).fetchone()
    (version,) = read.execute("PRAGMA user_version").fetchone()
    files = (path, path.with_name(path.name + "-wal"))
    return StoreStats(
        schema_version=version,
        size_bytes=sum(file.stat().st_size for file in files if file.exists()),
        records=records,
        calls=sum(count for count, _, _ in calls.values()),
        graded_calls=graded_calls,
        without_text=without_text,
        cores={
            name: CoreStats(*graded.get(name, (0, None, None, None)), *calls.get(name, (0, 0, 0.0)))
            for name in sorted({*graded, *calls})
        },
    )
