"""Small histories that every predictor is tried on."""

from __future__ import annotations

import pytest

from eccos_aios.history import Outcome, Record

TOPICS = ("prove the lemma about prime numbers", "write a poem about the autumn sea")
WORDS = ("oak", "birch", "elm", "ash", "fir", "pine", "yew", "beech", "larch", "alder", "hazel", "rowan")


@pytest.fixture(scope="session")
def two_topics() -> list[Record]:
    """Core `a` can prove and not rhyme and is brief, core `b` the other way round."""
    records = []
    for number in range(240):
        proof = number % 2 == 0
        query = f"{TOPICS[number % 2]} with {WORDS[number % 12]} and {WORDS[number % 7]} {number}"
        outputs = (
            Outcome(model_name="a", quality=float(proof), output_token_length=10, input_token_length=50),
            Outcome(
                model_name="b", quality=float(not proof), output_token_length=200, input_token_length=150
            ),
        )
        records.append(
            Record(
                query=query, outputs=outputs, category="proof" if proof else "poem", input_token_length=100
            )
        )
    return records
