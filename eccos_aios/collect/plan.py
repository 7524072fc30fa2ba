"""What is left to ask, and what that will cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eccos_aios.collect.ask import input_tokens
from eccos_aios.collect.budget import worst_cost_usd
from eccos_aios.collect.journal import Recorded
from eccos_aios.collect.prompt import request_body
from eccos_aios.collect.question import Grader, Question
from eccos_aios.core import Core, Manifest
from eccos_aios.predict import call_text

# Output tokens that are assumed of a core that has answered nothing yet: a short derivation, or the answer.
ASSUMED_OUTPUT_TOKENS: dict[Grader, int] = {
    "multiple_choice": 100,
    "numeric": 150,
    "exact": 100,
    "f1": 10,
    "contains": 50,
    "json_schema": 100,
    "tool_call": 50,
}
ENOUGH_ANSWERS = 10  # of a core, to expect its mean in the place of what is assumed


@dataclass(frozen=True)
class CorePlan:
    """What is left to ask one core.

    Attributes
    ----------
    core : Core
    todo : tuple of Question
    recorded : dict of outcomes
        By the question's place in the set; recorded before.
    unsuited : int
        Questions that it is not asked: they need tools that it lacks, or are longer than its context.
    expected_usd, most_usd : float
        US dollars: as expected, and if every answer were as long as is allowed.
    """

    core: Core
    todo: tuple[Question, ...]
    recorded: tuple[Mapping[str, Any], ...]
    unsuited: int
    expected_usd: float
    most_usd: float

    def summary(self) -> dict[str, Any]:
        """For machines."""
        return {
            "to_ask": len(self.todo),
            "recorded": len(self.recorded),
            "unsuited": self.unsuited,
            "expected_usd": self.expected_usd,
            "most_usd": self.most_usd,
            "price": self.core.resolved_price.model_dump(),
            "quota": self.core.slots,
        }


@dataclass(frozen=True)
class Plan:
    """What is left to ask every core, in the manifest's order."""

    cores: tuple[CorePlan, ...]
    questions: int
    max_output_tokens: int

    @property
    def to_ask(self) -> int:
        """Calls that are left."""
        return sum(len(core.todo) for core in self.cores)

    @property
    def expected_usd(self) -> float:
        """US dollars, as expected."""
        return sum(core.expected_usd for core in self.cores)

    @property
    def most_usd(self) -> float:
        """US dollars, if every answer were as long as is allowed and no call failed."""
        return sum(core.most_usd for core in self.cores)

    @property
    def recorded_usd(self) -> float:
        """US dollars that the recorded outcomes of these questions have cost."""
        return sum(float(outcome.get("cost_usd") or 0.0) for core in self.cores for outcome in core.recorded)

    def summary(self) -> dict[str, Any]:
        """For machines."""
        return {
            "questions": self.questions,
            "to_ask": self.to_ask,
            "expected_usd": self.expected_usd,
            "most_usd": self.most_usd,
            "cores": {plan.core.name: plan.summary() for plan in self.cores},
        }


def make_plan(
    manifest: Manifest, questions: Sequence[Question], history: Recorded, max_output_tokens: int
) -> Plan:
    """What the history does not hold yet."""
    cores = tuple(_core_plan(core, questions, history, max_output_tokens) for core in manifest.cores)
    return Plan(cores, len(questions), max_output_tokens)


def _core_plan(
    core: Core, questions: Sequence[Question], history: Recorded, max_output_tokens: int
) -> CorePlan:
    todo: list[Question] = []
    recorded: list[Mapping[str, Any]] = []
    unsuited = 0
    for question in questions:
        outcome = history.outcomes(question).get(core.name)
        if outcome is not None:
            recorded.append(outcome)
        elif _suits(core, question, max_output_tokens):
            todo.append(question)
        else:
            unsuited += 1
    expected_usd, most_usd = _price(core, todo, recorded, max_output_tokens)
    return CorePlan(core, tuple(todo), tuple(recorded), unsuited, expected_usd, most_usd)


def _suits(core: Core, question: Question, max_output_tokens: int) -> bool:
    if question.tools and "tools" not in core.supports:
        return False
    if core.context_window is None:
        return True
    body = request_body(question, core.name, max_output_tokens)
    most = call_text(body["messages"], body.get("tools")).most_tokens
    return most + max_output_tokens <= core.context_window


def _price(
    core: Core, todo: Sequence[Question], recorded: Sequence[Mapping[str, Any]], max_output_tokens: int
) -> tuple[float, float]:
    known = [tokens for outcome in recorded if (tokens := outcome.get("output_token_length")) is not None]
    mean = sum(known) / len(known) if len(known) >= ENOUGH_ANSWERS else None
    price = core.resolved_price
    expected_usd = most_usd = 0.0
    for question in todo:
        body = request_body(question, core.name, max_output_tokens)
        output = ASSUMED_OUTPUT_TOKENS[question.grader] if mean is None else mean
        expected_usd += price.usd(input_tokens(body), min(output, max_output_tokens))
        most_usd += worst_cost_usd(price, body)
    return expected_usd, most_usd
