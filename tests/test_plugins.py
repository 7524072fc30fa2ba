"""Predictors and embedders are found by name, and a wrong name or option is one line that says what is right."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from eccos_aios import plugins
from eccos_aios.errors import ConfigError
from eccos_aios.plugins import Where, load, names
from eccos_aios.predict import HashedEmbedder, HybridPredictor, PredictorSpec, RetrievalPredictor

OWN = """
from eccos_aios.predict import Predictor

class Own(Predictor):
    def __init__(self, factor: float, label: str = "x") -> None:
        if factor < 0:
            raise ValueError("factor must not be negative")
        self.factor = factor

    def fit(self, history):
        return self

    def predict(self, calls, cores):
        raise NotImplementedError

number = 7
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path / 'own.py'}:Own"


@pytest.mark.parametrize("name", ["retrieval", "eccos_aios.predict.retrieval:RetrievalPredictor"])
def test_a_name_and_a_path_make_the_same(name: str) -> None:
    predictor = load("predictor", name, {"neighbours": "5"})  # as a command line gives it
    assert isinstance(predictor, RetrievalPredictor)
    assert predictor.neighbours == 5


def test_every_built_in_name_is_there_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda group: ())
    assert names("predictor") == ["hybrid", "retrieval", "trained"]
    assert isinstance(load("predictor", "hybrid"), HybridPredictor)
    assert isinstance(load("embedder", "hashed"), HashedEmbedder)


def test_another_package_declares_its_own_by_entry_point(monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    def declared(group: str) -> list[EntryPoint]:
        return [EntryPoint("theirs", "eccos_aios.predict.hybrid:HybridPredictor", group)]

    monkeypatch.setattr(plugins, "entry_points", declared)
    assert isinstance(load("predictor", "theirs"), HybridPredictor)
    with pytest.raises(ConfigError, match="hybrid, retrieval, trained, theirs, module:Class"):
        load("predictor", "nobody")


def test_a_file_is_loaded_once_and_options_are_converted(own: str) -> None:
    first, second = (load("predictor", own, {"factor": 2}) for _ in range(2))
    assert type(first) is type(second)
    assert first.factor == 2.0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hybird", {}, "scheduler.eccos.predictor: 'hybird': must be hybrid, retrieval, trained"),
        ("no.such.module:X", {}, "scheduler.eccos.predictor: 'no.such.module:X': cannot be imported: ModuleNotF"),
        ("eccos_aios.predict:Nobody", {}, "cannot be imported: AttributeError"),
        ("retrieval", {"neighbour": 3}, "predictor_options.neighbour: 3: unknown option; retrieval takes neighbours"),
        ("retrieval", {"neighbours": "many"}, "predictor_options.neighbours: 'many': .* integer"),
        ("retrieval", {"neighbours": 0}, "neighbours: 0 is out of range"),
        ("eccos_aios.predict:HashedEmbedder", {}, "must make an instance of Predictor, not HashedEmbedder"),
        ("eccos_aios.predict.hybrid:WEIGHT_PRIOR_STRENGTH", {}, "must be a class, not float"),
    ],
)  # fmt: skip
def test_a_wrong_name_or_option_names_file_key_and_value(
    name: str, options: dict[str, Any], message: str
) -> None:
    where = Where("config.yaml", "scheduler.eccos.{kind}", "scheduler.eccos.{kind}_options.{option}")
    with pytest.raises(ConfigError, match=message) as fault:
        load("predictor", name, options, where)
    assert str(fault.value).startswith("config.yaml: scheduler.eccos.predictor")
    assert "\n" not in str(fault.value)


def test_a_constructor_that_refuses_or_needs_more_is_named(own: str) -> None:
    with pytest.raises(ConfigError, match=r"predictor_options\.factor: required by"):
        load("predictor", own)
    with pytest.raises(ConfigError, match="factor must not be negative"):
        load("predictor", own, {"factor": -1})
    with pytest.raises(ConfigError, match="takes no embedder"):
        PredictorSpec(own, {"factor": 1}, embedder="hashed").make()


def test_a_spec_makes_what_it_says_also_after_a_way_through_json() -> None:
    spec = PredictorSpec("retrieval", {"sharpness": 2.0}, "tfidf", {"dimensions": 9})
    again = PredictorSpec.from_json(spec.as_json())
    assert again == spec
    predictor = again.make()
    assert isinstance(predictor, RetrievalPredictor)
    assert predictor.sharpness == 2.0
    assert predictor.embedder.inner.dimensions == 9  # type: ignore[attr-defined]
