"""Generated records for `history_bench`: the same for the same seed, with topics as in real histories.

Independent random vectors would be as far from each other as can be: no neighbour means anything there,
and every index looks bad. Here most calls fill in a template of their subtopic, as calls of agents do, and
the others are words at random from the subtopic's, the topic's and the common ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from eccos_aios.history import Outcome, Record

TOPICS = 100
SUBTOPICS = 25  # of each topic
COMMON_WORDS = 3_000
TOPIC_WORDS = 300  # of each topic, drawn from all; topics share some
SUBTOPIC_WORDS = 40
WORD_SHARES = (0.45, 0.3, 0.25)  # of common words, of the topic's, of the subtopic's
TEMPLATES = 2  # of each subtopic
TEMPLATE_WORDS = 40  # of the longest; longer calls continue freely
TEMPLATED_SHARE = 0.7  # of the records that fill in a template
MAX_FILLED_IN = 0.4  # of a template's words
TOOL_SHARE = 0.6  # of the records that carry tools
TOOLS = 3_000
MAX_TOOLS = 4
UNKNOWN_SHARE = 0.3  # of the cells
CHUNK = 10_000  # records that are drawn at once
CORES = tuple(f"core-{number}" for number in range(1, 10))

_ONSETS = ("b", "br", "d", "dr", "f", "g", "gl", "k", "l", "m", "n", "p", "pr", "r", "s", "st", "t", "v")
_NUCLEI = ("a", "e", "i", "o", "u", "ai", "ea", "ou")
_CODAS = ("", "n", "r", "s", "l", "m", "t")

Numbers = NDArray[np.int64]


class GeneratedHistory:
    """Records of any number of questions, cores of different skill, unknown cells.

    Parameters
    ----------
    records : int
    seed : int
    """

    def __init__(self, records: int, seed: int = 0) -> None:
        self.records = records
        self._seed = seed
        random = np.random.default_rng(seed)
        syllables = ["".join(parts) for parts in product(_ONSETS, _NUCLEI, _CODAS)]
        pairs = random.permutation(len(syllables) ** 2)[: COMMON_WORDS + 40_000]
        words = [syllables[pair // len(syllables)] + syllables[pair % len(syllables)] for pair in pairs]
        self._words = np.array(words, dtype=object)
        self._topic_words = random.integers(COMMON_WORDS, len(words), (TOPICS, TOPIC_WORDS))
        self._subtopic_words = random.integers(COMMON_WORDS, len(words), (TOPICS * SUBTOPICS, SUBTOPIC_WORDS))
        self._templates = self._words_of(
            np.repeat(np.arange(TOPICS * SUBTOPICS), TEMPLATES * TEMPLATE_WORDS), random
        ).reshape(-1, TEMPLATES, TEMPLATE_WORDS)
        self._tools = [self._tool(number, random) for number in range(TOOLS)]
        self._skill = random.normal(np.linspace(-0.5, 1.5, len(CORES)), 0.8, (TOPICS, len(CORES)))
        self._ease = random.normal(0.0, 0.8, TOPICS * SUBTOPICS)

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, self.records, CHUNK):
            random = np.random.default_rng((self._seed, start))
            yield from self._chunk(start, min(CHUNK, self.records - start), random)

    def unseen(self, count: int) -> list[Record]:
        """Records of the same kind that are not among these."""
        return list(self._chunk(self.records, count, np.random.default_rng((self._seed, 1, self.records))))

    def _chunk(self, start: int, count: int, random: np.random.Generator) -> Iterator[Record]:
        topic = random.integers(0, TOPICS, count)
        subtopic = topic * SUBTOPICS + random.integers(0, SUBTOPICS, count)
        texts = self._texts(subtopic, random)
        tools = self._tool_choices(topic, random)
        odds = (
            self._skill[topic] + self._ease[subtopic][:, None] + random.normal(0.0, 0.5, (count, len(CORES)))
        )
        correct = random.random(odds.shape) < 1 / (1 + np.exp(-odds))
        known = random.random(odds.shape) >= UNKNOWN_SHARE
        known[np.arange(count), random.integers(0, len(CORES), count)] = True
        lengths = random.lognormal(4.0 + 0.5 * self._ease[subtopic][:, None], 0.4, odds.shape).astype(
            np.int64
        )
        for row in range(count):
            yield Record(
                id=f"generated-{start + row}",
                query=texts[row],
                tools=[self._tools[number] for number in tools[row]] or None,
                category=f"topic-{topic[row] % 20}",
                outputs=tuple(
                    Outcome(
                        model_name=CORES[core],
                        correctness=bool(correct[row, core]),
                        input_token_length=len(texts[row]) // 4 + core,
                        output_token_length=int(lengths[row, core]),
                    )
                    for core in np.flatnonzero(known[row])
                ),
            )

    def _texts(self, subtopic: Numbers, random: np.random.Generator) -> list[str]:
        lengths = np.clip(random.lognormal(3.0, 0.5, len(subtopic)), 5, 120).astype(np.int64)
        owner = np.repeat(np.arange(len(subtopic)), lengths)
        ends = np.cumsum(lengths)
        place = np.arange(len(owner)) - np.repeat(ends - lengths, lengths)
        words = self._words_of(subtopic[owner], random)
        template = self._templates[subtopic, random.integers(0, TEMPLATES, len(subtopic))]
        templated = random.random(len(subtopic)) < TEMPLATED_SHARE
        free = np.where(templated, random.uniform(0.0, MAX_FILLED_IN, len(subtopic)), 1.0)
        kept = (random.random(len(owner)) >= free[owner]) & (place < TEMPLATE_WORDS)
        words = np.where(kept, template[owner, np.minimum(place, TEMPLATE_WORDS - 1)], words)
        text = self._words[words]
        starts = [0, *ends[:-1].tolist()]
        return [" ".join(text[first:last]) for first, last in zip(starts, ends.tolist(), strict=True)]

    def _words_of(self, subtopic: Numbers, random: np.random.Generator) -> Numbers:
        """A word for each, by the shares."""
        kind = random.choice(3, p=WORD_SHARES, size=len(subtopic))
        common = _zipf(COMMON_WORDS, len(subtopic), random)
        of_topic = self._topic_words[subtopic // SUBTOPICS, _zipf(TOPIC_WORDS, len(subtopic), random)]
        of_subtopic = self._subtopic_words[subtopic, _zipf(SUBTOPIC_WORDS, len(subtopic), random)]
        return np.asarray(np.choose(kind, (common, of_topic, of_subtopic)))

    def _tool_choices(self, topic: Numbers, random: np.random.Generator) -> list[list[int]]:
        """Tools of each record: mostly some of its topic's few, sometimes any."""
        count = np.where(
            random.random(len(topic)) < TOOL_SHARE, random.integers(1, MAX_TOOLS + 1, len(topic)), 0
        )
        own = (topic[:, None] * 8 + random.integers(0, 8, (len(topic), MAX_TOOLS))) % TOOLS
        strange = random.integers(0, TOOLS, own.shape)
        chosen = np.where(random.random(own.shape) < 0.8, own, strange)
        return [
            sorted(set(row[:number])) for row, number in zip(chosen.tolist(), count.tolist(), strict=True)
        ]

    def _tool(self, number: int, random: np.random.Generator) -> dict[str, object]:
        words = self._words[random.integers(0, len(self._words), 8)]
        properties = {word: {"type": "string"} for word in words[6:]}
        return {
            "name": f"{words[0]}_{words[1]}",
            "description": " ".join(words[2:6]),
            "parameters": {"type": "object", "properties": properties},
        }


def _zipf(words: int, size: int, random: np.random.Generator) -> Numbers:
    """Positions whose frequency falls with their rank."""
    weights = 1 / np.arange(2, words + 2)
    return np.asarray(np.searchsorted(np.cumsum(weights / weights.sum())[:-1], random.random(size)))
