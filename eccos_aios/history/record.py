"""Record and Outcome: the format of a history."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator


def _whole_number(value: Any) -> Any:
    # pydantic accepts 12.0 as 12, which is right here, but also "12" and true.
    if isinstance(value, (str, bytes, bool)):
        raise ValueError("must be a whole number, or null if unknown")
    return value


def _true_or_false(value: Any) -> Any:
    # AIOS's bootstrap file may hold 0 and 1; pydantic would also accept "yes" and "off".
    if isinstance(value, str) or value not in (0, 1):
        raise ValueError("must be true or false")
    return bool(value)


Unit = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0, le=1_000_000_000), BeforeValidator(_whole_number)]
Correctness = Annotated[bool, BeforeValidator(_true_or_false)]
AnswerKey = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
PlanName = Annotated[str, Field(min_length=1)]
PlanCores = Annotated[int, Field(ge=1)]
# the kind's name, then base64
Embedding = Annotated[str, Field(pattern=r"^[\w.-]{1,40}:[A-Za-z0-9+/]*={0,2}$", max_length=10_000)]


class Outcome(BaseModel):
    """The result of a call at one core.

    Attributes
    ----------
    model_name : str
        The core's name.
    correctness : bool or None
        Whether the answer was right.
    quality : float or None
        0 to 1; wins over `correctness`.
    input_token_length, output_token_length : int or None
        Tokens as the core counted them. None: unknown, not zero.
    latency_s : float or None
        Seconds from sending the call to its answer. None: unknown.
    prediction : object
        The answer itself, in the form in which it was recorded.
    answer_passes : bool or None
        Whether the answer passed its checks when it came (`eccos_aios.verify`). None: it was not checked.
    answer_key : str or None
        Equal for answers that mean the same. None: the answer cannot be compared, or was not checked.
    selected : bool
        Whether the core was asked only because another's answer was not accepted. Such calls are harder than
        others, so nothing is learned of the core by itself.
    plan : str or None
        The name of the plan of several cores that gave this answer, where every core that it asked answered.
    plan_asked : int or None
        Cores that it asked.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    model_name: Annotated[str, Field(min_length=1)]
    correctness: Correctness | None = None
    quality: Unit | None = None
    input_token_length: Tokens | None = None
    output_token_length: Tokens | None = None
    latency_s: Seconds | None = None
    prediction: Any = None
    answer_passes: bool | None = None
    answer_key: AnswerKey | None = None
    selected: bool = False
    plan: PlanName | None = None
    plan_asked: PlanCores | None = None

    @model_validator(mode="after")
    def _is_graded(self) -> Outcome:
        if self.correctness is None and self.quality is None:
            raise ValueError("needs correctness (true or false) or quality (0 to 1)")
        return self

    @property
    def graded_quality(self) -> float:
        """`quality` if given, else `correctness` as 0 or 1."""
        return float(self.correctness or False) if self.quality is None else self.quality


class Record(BaseModel):
    """One past call and its outcomes; a core that is not among them is unknown, not wrong.

    Attributes
    ----------
    query : str
        What was asked; empty if the text was left out.
    outputs : tuple of Outcome
        One a core.
    id : str or None
        Unique.
    tools : list of dict or None
        In OpenAI's format.
    category : str or None
        A label given by the user.
    input_token_length : int or None
        Tokens of the call, by a count that is the same for all cores. None: unknown.
    query_hash : str or None
        SHA-256 of the query, in hexadecimal digits. Only where the text was left out.
    query_length : int or None
        Characters of the query. Only where the text was left out.
    embedding : str or None
        Replaces query and tools in stage 1, as ``kind:base64``. Only where the text was left out.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    query: str
    outputs: tuple[Outcome, ...]
    id: Annotated[str, Field(coerce_numbers_to_str=True)] | None = None
    tools: list[dict[str, Any]] | None = None
    category: str | None = None
    input_token_length: Tokens | None = None
    query_hash: str | None = None
    query_length: Annotated[int, Field(ge=0)] | None = None
    embedding: Embedding | None = None

    @field_validator("outputs")
    @classmethod
    def _cores_are_unique(cls, outputs: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
        names = [outcome.model_name for outcome in outputs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"a record holds one outcome of each core, model_name {twice!r} occurs twice")
        return outputs

    def without_text(self, embed: Embed | None = None) -> Record:
        """The same call without its query, tools and answers, but with hash, lengths and an embedding.

        Parameters
        ----------
        embed : callable, optional
            Gives a record's `embedding`. Default: none, and predictors learn nothing from the record but the
            cores' means.
        """
        if self.query_hash is not None:
            return self
        return self.model_copy(
            update={
                "query": "",
                "query_hash": text_hash(self.query),
                "query_length": len(self.query),
                "embedding": embed and embed(self),
                "tools": None,
                "outputs": tuple(outcome.model_copy(update={"prediction": None}) for outcome in self.outputs),
            }
        )


Embed = Callable[[Record], str]


def text_hash(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()
