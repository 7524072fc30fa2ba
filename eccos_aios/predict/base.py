"""The interfaces of stage 1: what a predictor must do, and what it may do besides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from eccos_aios.history import Change, Record
from eccos_aios.predict.drift import Drift
from eccos_aios.predict.estimates import Estimates
from eccos_aios.predict.text import CallText

if TYPE_CHECKING:
    from eccos_aios.predict.core_prior import CoreExperience
    from eccos_aios.predict.embedders.base import Embedder, Vectors

PredictorT = TypeVar("PredictorT", bound="Predictor")


class Predictor(ABC):
    """Learns from records of past calls, then estimates new ones.

    `fit` and `predict` are all that a predictor of your own needs: the kernel fits it on its history, and
    fits a new instance when enough new records have come. After `fit` any thread may call `predict`.
    """

    @abstractmethod
    def fit(self: PredictorT, history: Sequence[Record]) -> PredictorT:
        """Learn from `history`, which may be empty; return self. Names of fitted attributes end in ``_``."""

    @abstractmethod
    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        """Estimate every call on every core, in the order given, in one batch.

        Parameters
        ----------
        calls : sequence of CallText
            N calls.
        cores : sequence of str
            M names; a core that the history does not know gets a prior, not zero.

        Returns
        -------
        Estimates
            Arrays of shape (N, M).
        """

    def experience(self, cores: Sequence[str]) -> CoreExperience | None:
        """What the fit knows of each core on the whole.

        It lets a stated or cautious prior stand in for a core with few records, see `prior_shift`.
        None, the default: the estimates are taken as they are.
        """
        return None


def experience_of(predictor: Predictor, cores: Sequence[str]) -> CoreExperience | None:
    """`Predictor.experience`, also of a class that has `fit` and `predict` without being a `Predictor`."""
    asked = getattr(predictor, "experience", None)
    return None if asked is None else asked(cores)


class EmbeddingPredictor(Predictor):
    """A predictor that embeds calls. It also learns online in the kernel, by the residuals of similar calls.

    Attributes
    ----------
    embedder_ : Embedder
        Fitted.
    cores_ : tuple of str
        The cores that the history names.
    """

    embedder_: Embedder
    cores_: tuple[str, ...]

    @abstractmethod
    def predict_embedded(
        self, calls: Sequence[CallText], vectors: Vectors, cores: Sequence[str]
    ) -> Estimates:
        """As `predict`, for calls that are already embedded.

        Parameters
        ----------
        calls : sequence of CallText
        vectors : ndarray of shape (calls, dimensions)
            As `embed_calls` returns them.
        cores : sequence of str

        Returns
        -------
        Estimates
            Arrays of shape (calls, cores).
        """


class OnlinePredictor(Predictor):
    """A predictor that takes each outcome into account at once, between one fit and the next.

    Any thread may call any method. What was learned since the fit is not saved: the store has the records,
    and a restart learns them again.
    """

    @property
    @abstractmethod
    def calls(self) -> int:
        """Distinct calls learned since the fit."""

    @abstractmethod
    def learn(self, records: Sequence[Record]) -> list[Drift]:
        """Take outcomes into account; return the cores that have just been found to have changed.

        Parameters
        ----------
        records : sequence of Record
            In the order in which the calls were made. A record whose id was learned before corrects it.

        Raises
        ------
        ValueError
            A quality is not between 0 and 1; none of these records is learned.
        """

    @abstractmethod
    def rebase(self, fitted: Predictor, since: Sequence[Record]) -> list[Drift]:
        """Replace the fit by a newer one of the same configuration, at once for every reader.

        Parameters
        ----------
        fitted : Predictor
        since : sequence of Record
            The records that it has not seen.

        Raises
        ------
        ValueError
            As `learn`; the earlier fit then stays.
        """

    @property
    def learns_online(self) -> bool:
        """Whether outcomes count before the next fit."""
        return True

    @property
    def changes(self) -> list[Change]:
        """The cores that have changed since the fit, as far as is known; the next fit corrects for them."""
        return []

    @property
    def shifts(self) -> dict[str, float]:
        """By core, points of quality (0 to 1) that it delivers beyond what the last fit expects."""
        return {}

    @property
    def suspecting(self) -> bool:
        """Whether a core may have changed, without certainty yet; a fit then waits."""
        return False


@runtime_checkable
class NeighbourSearch(Protocol):
    """A predictor that can name the past calls behind an estimate, as ``explain`` shows them."""

    def nearest(self, call: CallText, count: int) -> list[tuple[int, float]]:
        """Positions in the history of the most similar calls, and their cosine similarities, best first."""
        ...


@dataclass(frozen=True)
class QualityGrounds:
    """What the estimated quality of one call on one core is made of; each from 0 to 1.

    Attributes
    ----------
    mean : float
        Of all the core's past calls.
    similar : float
        What similar past calls say, drawn towards the mean where they are few.
    trained : float or None
        What the model that was trained on all past calls says; None where there is none.
    """

    mean: float
    similar: float
    trained: float | None


@runtime_checkable
class GroundedPredictor(Protocol):
    """A predictor that can say what an estimate is made of, as ``explain`` shows it."""

    def grounds(self, call: CallText, cores: Sequence[str]) -> list[QualityGrounds]:
        """The parts of one call's estimated quality on each core."""
        ...

    def usual_similarity(self) -> float:
        """The similarity to their nearest other call that 99 % of the history's own calls have, or more.

        A call whose nearest past call is less similar is like none that was seen. 0 where too few are known.
        """
        ...
