"""The plan of a collection: the questions left for each core, and their cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eccos_aios.collect.ask import input_tokens
from eccos_aios.collect.budget import worst_cost_usd
from eccos_aios.collect.journal import RecordedOutcomes
from eccos_aios.collect.prompt import request_body
from eccos_aios.collect.question import Grader, Question
from eccos_aios.core import Core, Manifest
from eccos_aios.predict import call_text

# Output tokens assumed for a core without answers yet: a short derivation, or the answer.
ASSUMED_OUTPUT_TOKENS: dict[Grader, int] = {
    "multiple_choice": 100,
    "numeric": 150,
    "exact": 100,
    "f1": 10,
    "contains": 50,
    "json_schema": 100,
    "tool_call": 50,
}
ENOUGH_ANSWERS = 10  # of a core, from which its own mean replaces the assumption


@dataclass(frozen=True)
class CorePlan:
    """The questions left for one core.

    Attributes
    ----------
    core : Core
    todo : tuple of Question
    recorded : tuple of outcomes
        Of the questions that the history holds already.
    unsuited : int
        Questions that it cannot take: they need tools, or are longer than its context window.
    expected_usd, most_usd : float
        US dollars: as expected, and if every answer had the most tokens.
    """

    core: Core
    todo: tuple[Question, ...]
    recorded: tuple[Mapping[str, Any], ...]
    unsuited: int
    expected_usd: float
    most_usd: float

    def summary(self) -> dict[str, Any]:
        """Fields of the ``--json`` output."""
        return {
            "to_ask": len(self.todo),
            "recorded": len(self.recorded),
            "unsuited": self.unsuited,
            "expected_usd": self.expected_usd,
            "most_usd": self.most_usd,
            "price": self.core.resolved_price.model_dump(exclude_none=True),
            "quota": self.core.slots,
        }


@dataclass(frozen=True)
class Plan:
    """The remaining questions of every core, in the manifest's order."""

    cores: tuple[CorePlan, ...]
    questions: int
    max_output_tokens: int

    @property
    def to_ask(self) -> int:
        """Number of calls left."""
        return sum(len(core.todo) for core in self.cores)

    @property
    def expected_usd(self) -> float:
        """US dollars, as expected."""
        return sum(core.expected_usd for core in self.cores)

    @property
    def most_usd(self) -> float:
        """US dollars, if every answer had the most tokens and no call failed."""
        return sum(core.most_usd for core in self.cores)

    @property
    def recorded_usd(self) -> float:
        """US dollars that the recorded outcomes of these questions have cost."""
        return sum(float(outcome.get("cost_usd") or 0.0) for core in self.cores for outcome in core.recorded)

    def summary(self) -> dict[str, Any]:
        """Fields of the ``--json`` output."""
        return {
            "questions": self.questions,
            "to_ask": self.to_ask,
            "expected_usd": self.expected_usd,
            "most_usd": self.most_usd,
            "cores": {plan.core.name: plan.summary() for plan in self.cores},
        }


def make_plan(
    manifest: Manifest, questions: Sequence[Question], history: RecordedOutcomes, max_output_tokens: int
) -> Plan:
    """Plan the questions that the history does not hold yet.

    Parameters
    ----------
    manifest : Manifest
    questions : sequence of Question
    history : RecordedOutcomes
        Outcomes recorded so far.
    max_output_tokens : int
        Of one answer.
    """
    cores = tuple(_core_plan(core, questions, history, max_output_tokens) for core in manifest.cores)
    return Plan(cores, len(questions), max_output_tokens)


def _core_plan(
    core: Core, questions: Sequence[Question], history: RecordedOutcomes, max_output_tokens: int
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
