"""AnswerPlan: the cores that answer one call, in stages."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["single", "check", "agree"]
Stage = Literal["first", "middle", "last"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FIRST_STAGE: dict[Kind, int] = {"single": 1, "check": 1, "agree": 2}  # cores of the first stage
MOST_CORES: dict[Kind, int] = {"single": 1, "check": 1, "agree": 3}  # before the last stage


@dataclass(frozen=True)
class AnswerPlan:
    """What answers a call: one core, or cores in stages.

    - ``single``: one core.
    - ``check``: ask a core; where its answer fails its checks, ask another.
    - ``agree``: ask two cores; where both answers pass and agree, the first one's is given, else the next
      core is asked: another whose answer may agree with one of theirs, or the last.

    Attributes
    ----------
    kind : str
    cores : tuple of str
        The core, or the two or three among which agreement is sought; two are asked first.
    otherwise : str or None
        The core of the last stage; None for ``single`` alone.

    Raises
    ------
    ValueError
        The number of cores does not suit the kind, or one core is in two places.
    """

    kind: Kind
    cores: tuple[str, ...]
    otherwise: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: {self.kind!r}: must be {', '.join(KINDS)}")
        least, most = FIRST_STAGE[self.kind], MOST_CORES[self.kind]
        if not least <= len(self.cores) <= most or (self.otherwise is None) != (self.kind == "single"):
            given = (*self.cores, *((self.otherwise,) if self.otherwise is not None else ()))
            count = f"{least}" if least == most else f"{least} or {most}"
            wanted = f"{count} in cores" + ("" if self.kind == "single" else " and one in else")
            raise ValueError(f"cores: {given}: a plan of kind {self.kind} needs {wanted}")
        if len(set(self.every_core)) < len(self.every_core):
            raise ValueError(f"cores: {self.every_core}: a core may be asked once only")

    @classmethod
    def single(cls, core: str) -> AnswerPlan:
        """One core."""
        return cls("single", (core,))

    @classmethod
    def check(cls, core: str, otherwise: str) -> AnswerPlan:
        """A core, and another where the answer fails its checks."""
        return cls("check", (core,), otherwise)

    @classmethod
    def agree(cls, one: str, other: str, *rest: str) -> AnswerPlan:
        """Two cores, and where they disagree a third; or a third, and where it agrees with neither a last."""
        return cls("agree", (one, other, *rest[:-1]), rest[-1] if rest else None)

    @property
    def every_core(self) -> tuple[str, ...]:
        """All cores, in the order in which they are asked."""
        return self.cores if self.otherwise is None else (*self.cores, self.otherwise)

    @property
    def first(self) -> str:
        """The core that is asked first."""
        return self.cores[0]

    def __hash__(self) -> int:
        return hash(self.name)  # known after the first time, unlike that of all fields

    @cached_property
    def name(self) -> str:
        """For example ``a``, ``check:a>b``, ``agree:a+b>c``, ``agree:a+b+c>d``."""
        if self.kind == "single":
            return self.cores[0]
        return f"{self.kind}:{'+'.join(self.cores)}>{self.otherwise}"

    def in_words(self, reached: float, middle: float = 0.0) -> str:
        """What the plan does, for people.

        Parameters
        ----------
        reached, middle : float
            Probabilities that the last stage is reached, and the one before it where there are three.
        """
        first = " and ".join(self.cores[:2])
        if self.kind == "single":
            return f"asks {first}"
        if self.kind == "check":
            fail = f"{100 * reached:.0f} % of such answers fail their checks"
            return f"asks {first}; {fail}, then {self.otherwise}"
        if len(self.cores) == 2:
            return f"asks {first}; {100 * reached:.0f} % of such answers disagree, then {self.otherwise}"
        return (
            f"asks {first}; {100 * middle:.0f} % of such answers disagree, then {self.cores[2]}; "
            f"{100 * reached:.0f} % still disagree, then {self.otherwise}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: ``{"kind", "cores", "else"}``; no ``else`` for one core."""
        written: dict[str, Any] = {"kind": self.kind, "cores": list(self.cores)}
        if self.otherwise is not None:
            written["else"] = self.otherwise
        return written

    @classmethod
    def parse(cls, name: str, cores: Collection[str] = ()) -> AnswerPlan:
        """The plan of a name.

        Parameters
        ----------
        name : str
            As `name` gives it.
        cores : collection of str, optional
            The known cores. They decide where a core's own name holds ``+``, ``>`` or ``:``; without them it
            is taken to hold none, if it can.

        Raises
        ------
        ValueError
            It is no plan's name, names an unknown core, or can be read in two ways.
        """
        found = list(dict.fromkeys(_readings(name, cores)))
        if len(found) > 1 and not cores:
            plain = [plan for plan in found if not any(set(core) & set("+>:") for core in plan.every_core)]
            found = plain or found
        if len(found) == 1:
            return found[0]
        if not found:
            raise ValueError(f"plan: {name!r}: must be a core, check:A>B, agree:A+B>C, or agree:A+B+C>D")
        raise ValueError(f"plan: {name!r}: can be read in {len(found)} ways; the known cores must be given")


def stages_of(plan: AnswerPlan) -> list[Stage]:
    """The stage in which each of a plan's cores is asked, in the order of `every_core`."""
    first = FIRST_STAGE[plan.kind]
    later: list[Stage] = ["middle", "last"]
    start: list[Stage] = ["first"] * first
    return [*start, *later[len(later) - len(plan.every_core) + first :]]


@dataclass(frozen=True, eq=False)
class StageMatrices:
    """Which core each of P plans asks in which stage; arrays of shape (P, M), 1 where it is asked.

    Attributes
    ----------
    first, middle, last : ndarray
    later : tuple of (int, str)
        Plan and stage of every stage after a first one.
    """

    first: NDArray[np.float64]
    middle: NDArray[np.float64]
    last: NDArray[np.float64]
    later: tuple[tuple[int, Stage], ...]

    def by_stage(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums of values of shape (calls, M) over the cores of each stage, shape (calls, 3, P)."""
        found: NDArray[np.float64] = values @ self._all
        return found.reshape(len(values), 3, -1)

    def sums(
        self, values: NDArray[np.float64], middle: NDArray[np.float64], reached: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Sums over the cores that a plan is expected to ask, shape (calls, P).

        Parameters
        ----------
        values : ndarray of shape (calls, M)
        middle, reached : ndarray of shape (calls, P)
            Probability that the middle and the last stage is reached.
        """
        found = self.by_stage(values)
        total: NDArray[np.float64] = found[:, 0] + middle * found[:, 1] + reached * found[:, 2]
        return total

    @cached_property
    def asked_first(self) -> NDArray[np.float64]:
        """Cores of each plan's first stage, shape (P,)."""
        return np.asarray(self.first.sum(axis=1), dtype=np.float64)

    @cached_property
    def has_middle(self) -> NDArray[np.bool_]:
        """Which plans have a stage between the first and the last, shape (P,)."""
        return np.asarray(self.middle.any(axis=1), dtype=np.bool_)

    @cached_property
    def cores(self) -> NDArray[np.float64]:
        """Cores that each plan may ask, shape (P,)."""
        return np.asarray((self.first + self.middle + self.last).sum(axis=1), dtype=np.float64)

    @cached_property
    def _all(self) -> NDArray[np.float64]:
        """All stages side by side, shape (M, 3 P)."""
        return np.ascontiguousarray(np.concatenate([self.first, self.middle, self.last]).T)


@lru_cache(maxsize=16)
def stage_matrices(plans: tuple[AnswerPlan, ...], cores: tuple[str, ...]) -> StageMatrices:
    """The matrices of plans over named cores, all of which are among these."""
    column = {core: number for number, core in enumerate(cores)}
    arrays = {stage: np.zeros((len(plans), len(cores))) for stage in get_args(Stage)}
    later: list[tuple[int, Stage]] = []
    for number, plan in enumerate(plans):
        for core, stage in zip(plan.every_core, stages_of(plan), strict=True):
            arrays[stage][number, column[core]] = 1.0
            if stage != "first":
                later.append((number, stage))
    return StageMatrices(**arrays, later=tuple(later))


def _readings(name: str, cores: Collection[str]) -> Iterator[AnswerPlan]:
    kind, colon, rest = name.partition(":")
    is_staged = bool(colon) and kind in ("check", "agree")
    if name and (name in cores or (not cores and not is_staged)):
        yield AnswerPlan.single(name)
    if not is_staged:
        return
    for first, otherwise in _cuts(rest, ">"):
        for stage in ((first,),) if kind == "check" else _groups(first):
            every = {*stage, otherwise}
            if len(every) == len(stage) + 1 and (not cores or every <= set(cores)):
                yield AnswerPlan("check" if kind == "check" else "agree", stage, otherwise)


def _groups(text: str) -> Iterator[tuple[str, ...]]:
    """The ways to read two or three cores with ``+`` between."""
    for first, rest in _cuts(text, "+"):
        yield first, rest
        for second, third in _cuts(rest, "+"):
            yield first, second, third


def _cuts(text: str, mark: str) -> Iterator[tuple[str, str]]:
    """Every way to cut a text at one of the marks into two parts that are not empty."""
    for place, character in enumerate(text):
        if character == mark and text[:place] and text[place + 1 :]:
            yield text[:place], text[place + 1 :]
