"""The demo's three made-up cores: prices, quotas, and answers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from eccos_aios.collect.generated import MONTHS, WEEKDAYS, GeneratedQuestion, is_right
from eccos_aios.core import Core, Price
from eccos_aios.history import Outcome, Record
from eccos_aios.sandbox.reply import Reply, last_user_text, usage

STEEPNESS = 2.5  # of the logistic curve from margin to the probability of a right answer


@dataclass(frozen=True)
class MadeUpCore:
    """A made-up core.

    Attributes
    ----------
    core : Core
        Name, quota, price.
    skill : float
        The level at which half of its answers are right.
    skill_by_category : dict of str to float
        Added to the skill for questions of a category.
    style : str
        The wording of an answer; ``{}`` is the result.
    base_s, per_token_s : float
        Its latency: seconds before the first token, and for each output token.
    """

    core: Core
    skill: float
    skill_by_category: dict[str, float]
    style: str
    base_s: float
    per_token_s: float

    def outcome(self, question: GeneratedQuestion, seed: int) -> Outcome:
        """Its graded answer to `question`; the same for the same seed.

        The probability of a right answer is 1 / (1 + exp(`STEEPNESS` × (level − skill))).
        """
        rng = random.Random(f"{seed} {self.core.name} {question.text}")
        margin = self.skill + self.skill_by_category.get(question.category, 0.0) - question.level
        knows = rng.random() < 1 / (1 + math.exp(-STEEPNESS * margin))
        text = self.style.format(question.truth if knows else wrong_answer(question.truth, rng))
        request = {"model": self.core.name, "messages": [{"role": "user", "content": question.text}]}
        tokens = usage(request, Reply(text))
        latency_s = self.base_s + self.per_token_s * tokens["completion_tokens"]
        return Outcome(
            model_name=self.core.name,
            correctness=is_right(text, question.truth),
            input_token_length=tokens["prompt_tokens"],
            output_token_length=tokens["completion_tokens"],
            latency_s=round(latency_s * rng.lognormvariate(0, 0.2), 4),
            prediction=text,
        )


MADE_UP_CORES = (
    MadeUpCore(
        Core(name="large", quota=4, price=Price(input=2.5, output=10.0)),
        skill=3.6,
        skill_by_category={"strings": -0.3},
        style="Working through it step by step and checking the result once more, the answer is {}.",
        base_s=0.25,
        per_token_s=0.006,
    ),
    MadeUpCore(
        Core(name="medium", quota=6, price=Price(input=0.15, output=0.6)),
        skill=2.3,
        skill_by_category={"arithmetic": 1.0, "units": 0.5, "dates": -0.9, "strings": -0.7},
        style="Step by step, I get the following result: {}.",
        base_s=0.18,
        per_token_s=0.005,
    ),
    MadeUpCore(
        Core(name="small", quota=8, price=Price(input=0.05, output=0.08)),
        skill=1.1,
        skill_by_category={"units": 0.6, "stories": 0.4, "strings": -0.8},
        style="The answer is {}.",
        base_s=0.1,
        per_token_s=0.004,
    ),
)
"""In AIOS's order of models: AIOS's FIFO sends every call to the first."""

UNKNOWN = "I do not know."


def reply_of(
    made_up: MadeUpCore, questions: Iterable[GeneratedQuestion], seed: int
) -> Callable[[dict[str, Any]], Reply]:
    """A sandbox core's reply function: the answers of a made-up core to `questions`, and to no others."""
    known = {question.text: question for question in questions}

    def reply(request: dict[str, Any]) -> Reply:
        question = known.get(last_user_text(request["messages"]))
        if question is None:
            return Reply(UNKNOWN, latency_s=made_up.base_s)
        outcome = made_up.outcome(question, seed)
        return Reply(str(outcome.prediction), latency_s=outcome.latency_s)

    return reply


def record(
    question: GeneratedQuestion, position: int, seed: int, cores: Sequence[MadeUpCore] = MADE_UP_CORES
) -> Record:
    """A record of every core's answer to `question`."""
    return Record(
        id=f"demo-{position}",
        query=question.text,
        category=question.category,
        outputs=tuple(made_up.outcome(question, seed) for made_up in cores),
    )


def wrong_answer(truth: str, rng: random.Random) -> str:
    """A plausible wrong answer."""
    words = truth.split()
    if truth.lstrip("-").isdigit():
        value = int(truth)
        return str(rng.choice((value + 1, value - 1, value + 10, value - 10, value * 10, value + 100)))
    if truth in WEEKDAYS:
        return WEEKDAYS[(WEEKDAYS.index(truth) + rng.choice((1, 2, 6))) % len(WEEKDAYS)]
    if len(words) == 3:
        day, month = int(words[0]), MONTHS.index(words[1])
        return f"{day % 28 + 1} {MONTHS[(month + rng.choice((0, 1))) % len(MONTHS)]} {words[2]}"
    letter = rng.randrange(len(truth))
    replaced = rng.choice([other for other in "abcdefghijklmnopqrstuvwxyz" if other != truth[letter]])
    return truth[:letter] + replaced + truth[letter + 1 :]
