"""The figures of a store."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from eccos_aios.errors import ABSENT, HistoryError
from eccos_aios.history.statements import QUALITY

# A graded outcome is one that predictors learn from: of a record, or of a call whose quality is known.
_GRADED = f"""
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
    SELECT core, {QUALITY} AS quality, output_token_length, latency_s FROM outcomes
    WHERE {QUALITY} IS NOT NULL
) GROUP BY core
"""
# Each finds the first row that holds what this package never writes, and the column.
_DAMAGED = (
    """
    SELECT 'call ' || call_id AS place, CASE
        WHEN typeof(core) <> 'text' OR core = '' THEN 'core'
        WHEN NOT (quality IS NULL OR typeof(quality) = 'real' AND quality BETWEEN 0 AND 1) THEN 'quality'
        WHEN NOT (output_token_length IS NULL OR typeof(output_token_length) = 'integer')
            THEN 'output_token_length'
        WHEN NOT (latency_s IS NULL OR typeof(latency_s) = 'real' AND latency_s BETWEEN 0 AND 1e15)
            THEN 'latency_s'
        WHEN NOT (cost_usd IS NULL OR typeof(cost_usd) = 'real' AND cost_usd BETWEEN 0 AND 1e15)
            THEN 'cost_usd'
    END AS fault FROM outcomes WHERE fault IS NOT NULL LIMIT 1
    """,
    """
    SELECT 'feedback on call ' || call_id, 'quality' FROM feedback
    WHERE NOT (typeof(quality) = 'real' AND quality BETWEEN 0 AND 1) LIMIT 1
    """,
    """
    SELECT 'record ' || seq AS place, CASE
        WHEN typeof(body) <> 'text' OR NOT json_valid(body) THEN 'body'
        WHEN coalesce(json_type(body, '$.outputs'), '') <> 'array' THEN 'outputs'
    END AS fault FROM records WHERE fault IS NOT NULL LIMIT 1
    """,
    """
    SELECT 'record ' || records.seq AS place, CASE
        WHEN output.type <> 'object' THEN 'outputs'
        WHEN coalesce(json_type(output.value, '$.model_name'), '') <> 'text' THEN 'model_name'
        WHEN coalesce(json_type(output.value, '$.quality'), json_type(output.value, '$.correctness'), '')
            NOT IN ('null', 'integer', 'real', 'true', 'false') THEN 'quality'
        WHEN coalesce(json_type(output.value, '$.output_token_length'), 'null')
            NOT IN ('null', 'integer', 'real') THEN 'output_token_length'
        WHEN coalesce(json_type(output.value, '$.latency_s'), 'null')
            NOT IN ('null', 'integer', 'real') THEN 'latency_s'
    END AS fault FROM records, json_each(records.body, '$.outputs') AS output WHERE fault IS NOT NULL LIMIT 1
    """,
)
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


def read_stats(read: sqlite3.Connection, path: Path) -> StoreStats:
    """Summarise a store.

    Parameters
    ----------
    read : sqlite3.Connection
        On which a transaction has begun.
    path : Path
        The store's file.

    Raises
    ------
    HistoryError
        A row is damaged.
    """
    for query in _DAMAGED:
        if (found := read.execute(query).fetchone()) is not None:
            place, key = found
            raise HistoryError(
                f"{path}: {place}", key, ABSENT, "is not what a store holds there: the store is damaged"
            )
    graded = {name: figures for name, *figures in read.execute(_GRADED)}
    calls = {name: figures for name, *figures in read.execute(_CALLS)}
    (records,) = read.execute("SELECT count(*) FROM records").fetchone()
    (graded_calls,) = read.execute(f"SELECT count({QUALITY}) FROM outcomes").fetchone()
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
