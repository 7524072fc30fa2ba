"""The SQL that several modules of the store share."""

from __future__ import annotations

from eccos_aios.history.rows import OUTCOME_COLUMNS

ADD_RECORD = """
INSERT INTO records (id, content_hash, body) SELECT :id, :content_hash, :body
WHERE NOT EXISTS (SELECT 1 FROM outcomes WHERE call_id = :id) ON CONFLICT DO NOTHING
"""
_VALUES = ", ".join(f":{name}" for name in OUTCOME_COLUMNS)
ADD_OUTCOME = f"""
INSERT INTO outcomes ({", ".join(OUTCOME_COLUMNS)}) SELECT {_VALUES}
WHERE NOT EXISTS (SELECT 1 FROM records WHERE id = :call_id) ON CONFLICT DO NOTHING
"""
ADD_FEEDBACK = """
INSERT INTO feedback (call_id, quality, given_s) SELECT :call_id, :quality, :given_s
WHERE EXISTS (SELECT 1 FROM outcomes WHERE call_id = :call_id)
"""
# In a body a query's own quotes have backslashes before them, so that these words are keys.
HOLDS_ANSWERS = """
SELECT EXISTS (SELECT 1 FROM outcomes WHERE answer_passes IS NOT NULL)
    OR EXISTS (SELECT 1 FROM records WHERE instr(body, '"prediction":') OR instr(body, '"answer_passes":'))
"""
ADD_CHANGE = "INSERT INTO changes (core, since, lost, won, noticed_s) VALUES (?, ?, ?, ?, ?)"
CHANGES = """
SELECT core, since, lost, won FROM changes WHERE seq IN (SELECT max(seq) FROM changes GROUP BY core, since)
ORDER BY (
    SELECT min(seq) FROM changes AS first WHERE first.core = changes.core AND first.since = changes.since
)
"""


def _latest_quality(feedback: str = "1") -> str:
    """The quality of a row of ``outcomes``: that of the latest feedback on it, else its own.

    `feedback` is a condition on the rows of ``feedback`` that count.
    """
    return (
        "coalesce((SELECT quality FROM feedback WHERE feedback.call_id = outcomes.call_id "
        f"AND {feedback} ORDER BY feedback.seq DESC LIMIT 1), quality)"
    )


def _outcomes(quality: str) -> str:
    """The columns of ``outcomes``, with that expression as the quality."""
    return ", ".join(quality if name == "quality" else name for name in OUTCOME_COLUMNS)


QUALITY = _latest_quality()
OUTCOMES = f"SELECT {_outcomes(QUALITY)} FROM outcomes "
GRADED = f"WHERE {QUALITY} IS NOT NULL "

# The same as of a mark, whose row numbers are bound as :records, :outcomes and :feedback.
QUALITY_AT_MARK = _latest_quality("feedback.seq <= :feedback")
OUTCOMES_AT_MARK = f"SELECT {_outcomes(QUALITY_AT_MARK)} "

RECORDS_SINCE = "FROM records WHERE seq > :since_records AND seq <= :records "
# Found by row numbers, so that the cost grows with the new rows, not with the store.
CALLS_SINCE = f"""FROM outcomes WHERE {QUALITY_AT_MARK} IS NOT NULL AND seq IN (
    SELECT seq FROM outcomes WHERE seq > :since_outcomes AND seq <= :outcomes
    UNION
    SELECT graded.seq FROM feedback JOIN outcomes AS graded ON graded.call_id = feedback.call_id
    WHERE feedback.seq > :since_feedback AND feedback.seq <= :feedback
) """
