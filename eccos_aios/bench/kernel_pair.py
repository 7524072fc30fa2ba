"""The two cores and the questions of ``bench kernel``."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eccos_aios.collect.generated import GeneratedQuestion, is_right, make_questions
from eccos_aios.core import TOKENS_PER_PRICE_UNIT, Core, Price
from eccos_aios.history import Outcome, Record
from eccos_aios.sandbox.reply import Reply, canned_reply, last_user_text, usage
from eccos_aios.sandbox.server import ReplyFunction, SandboxCore

PAST_QUESTIONS = 480  # in the history; twenty of each kind
CHANCE = 0.97  # probability of a right answer to a question within a core's level
WRONG = "I am not sure, perhaps none of these."
RIGHT = "Step by step, the answer is {}."


@dataclass(frozen=True)
class PairCore:
    """A core of the bench.

    Attributes
    ----------
    name : str
    price : Price
    level : int
        The hardest questions that it can answer.
    """

    name: str
    price: Price
    level: int

    def answer(self, question: GeneratedQuestion, seed: int) -> str:
        """Its answer; the same for the same seed."""
        lucky = random.Random(f"{seed} {self.name} {question.text}").random() < CHANCE
        return RIGHT.format(question.truth) if lucky and question.level <= self.level else WRONG


PAIR = (
    PairCore("dear", Price(input=2.5, output=10.0), level=3),
    PairCore("cheap", Price(input=0.15, output=0.6), level=1),
)
"""In AIOS's order of models: AIOS's own scheduler sends every call to the first."""


def pair_at(price_ratio: float | None) -> tuple[PairCore, PairCore]:
    """The pair, the dear core priced at so many times the cheap one; None: as in `PAIR`."""
    dear, cheap = PAIR
    if price_ratio is None:
        return PAIR
    price = Price(input=price_ratio * cheap.price.input, output=price_ratio * cheap.price.output)
    return replace(dear, price=price), cheap


@dataclass(frozen=True)
class PairQuestions:
    """Questions of the history, and others of the same kinds that agents ask."""

    past: Sequence[GeneratedQuestion]
    asked: Sequence[GeneratedQuestion]
    seed: int

    def history(self) -> list[Record]:
        """The graded answers of both cores to the past questions."""
        return [
            Record(
                query=question.text,
                category=question.category,
                outputs=tuple(self._outcome(core, question) for core in PAIR),
            )
            for question in self.past
        ]

    def reply_of(self, core: PairCore) -> ReplyFunction:
        """A sandbox core's reply function; anything but the asked questions gets a canned sentence."""
        known = {question.text: core.answer(question, self.seed) for question in self.asked}

        def reply(request: dict[str, Any]) -> Reply:
            text = known.get(last_user_text(request["messages"]))
            return canned_reply(request) if text is None else Reply(text)

        return reply

    def _outcome(self, core: PairCore, question: GeneratedQuestion) -> Outcome:
        text = core.answer(question, self.seed)
        tokens = usage({"messages": [{"role": "user", "content": question.text}]}, Reply(text))
        return Outcome(
            model_name=core.name,
            correctness=is_right(text, question.truth),
            input_token_length=tokens["prompt_tokens"],
            output_token_length=tokens["completion_tokens"],
            prediction=text,
        )


def pair_questions(count: int, seed: int = 0) -> PairQuestions:
    """`count` questions to ask and other questions for the history, all kinds mixed."""
    every = make_questions(count + PAST_QUESTIONS, seed)
    random.Random(f"order {seed}").shuffle(every)
    return PairQuestions(every[count:], every[:count], seed)


def manifest_cores(quota: int, pair: Sequence[PairCore] = PAIR) -> list[Core]:
    """The two cores as in a manifest."""
    return [Core(name=core.name, quota=quota, price=core.price) for core in pair]


def cost_usd(servers: Iterable[SandboxCore], pair: Sequence[PairCore] = PAIR) -> float:
    """US dollars of the tokens that the cores counted."""
    prices = {core.name: core.price for core in pair}
    total = 0.0
    for server in servers:
        price, stats = prices[server.name], server.stats
        total += price.input * stats["input_tokens"] + price.output * stats["output_tokens"]
    return total / TOKENS_PER_PRICE_UNIT
