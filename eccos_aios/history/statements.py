"""The SQL by which a store is written and read."""

from __future__ import annotations

from eccos_aios.history.rows import OUTCOME_COLUMNS

ADD_RECORD = (
    "INSERT INTO records (id, content_hash, body) SELECT ?1, ?2, ?3 "
    "WHERE NOT EXISTS (SELECT 1 FROM outcomes WHERE call_id = ?1) ON CONFLICT DO NOTHING"
)
_VALUES = ", ".join(f":{name}" for name in OUTCOME_COLUMNS)
ADD_OUTCOME = (
    f"INSERT INTO outcomes ({', '.join(OUTCOME_COLUMNS)}) SELECT {_VALUES} "
    "WHERE NOT EXISTS (SELECT 1 FROM records WHERE id = :call_id) ON CONFLICT DO NOTHING"
)
ADD_FEEDBACK = (
    "INSERT INTO feedback (call_id, quality, given_s) SELECT ?1, ?2, ?3 "
    "WHERE EXISTS (SELECT 1 FROM outcomes WHERE call_id = ?1)"
)
ADD_CHANGE = "INSERT INTO changes (core, since, lost, won, noticed_s) VALUES (?, ?, ?, ?, ?)"
CHANGES = """
SELECT core, since, lost, won FROM changes WHERE seq IN (SELECT max(seq) FROM changes GROUP BY core, since)
ORDER BY (
    SELECT min(seq) FROM changes AS first WHERE first.core = changes.core AND first.since = changes.since
)
"""
QUALITY = (
    "coalesce((SELECT quality FROM feedback WHERE feedback.call_id = outcomes.call_id "
    "ORDER BY feedback.seq DESC LIMIT 1), quality)"
)
_NOW = ", ".join(QUALITY if name == "quality" else name for name in OUTCOME_COLUMNS)
OUTCOMES = f"SELECT {_NOW} FROM outcomes "
GRADED = f"WHERE {QUALITY} IS NOT NULL "
