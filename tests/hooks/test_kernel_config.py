"""What a start says of the cores: prices that nobody knows, two of one name, a tokenizer that is there."""

from __future__ import annotations

import json
import logging
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eccos_aios.config import EccosConfig
from eccos_aios.core import Core
from eccos_aios.errors import ConfigError
from eccos_aios.hooks.kernel_config import Model, kernel_cores, models_of, never_served
from eccos_aios.predict import count_tokens, query_text, use_tokenizer
from eccos_aios.runtime.configuration import make_learner, predictor_spec


@pytest.fixture(autouse=True)
def no_tokenizer() -> Iterator[None]:
    yield
    use_tokenizer(None)


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from eccos_aios import core

    module: Any = types.ModuleType("litellm")
    module.model_cost = {"groq/llama-70b": {"input_cost_per_token": 5e-7, "output_cost_per_token": 8e-7}}
    monkeypatch.setitem(sys.modules, "litellm", module)
    monkeypatch.delenv("CUSTOM_TIKTOKEN_CACHE_DIR", raising=False)
    core._litellm_price_map.cache_clear()
    yield module
    core._litellm_price_map.cache_clear()


def config(folder: Path, *cores: dict[str, Any]) -> EccosConfig:
    (folder / "cores.yaml").write_text(json.dumps({"cores": cores}))
    return EccosConfig(manifest=folder / "cores.yaml")


def llm(name: str, backend: str, hostname: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(name=name, backend=backend, hostname=hostname, api_key="never looked at")


@pytest.mark.usefixtures("litellm")
def test_a_core_has_the_price_of_its_backend_and_one_that_has_none_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("llama-70b", "own", "mystery", "told")
    manifest = [{"name": name} for name in names[:3]] + [{"name": "told", "price": {"input": 0, "output": 0}}]
    backends = ("groq", "ollama", "vllm", "vllm")
    with caplog.at_level(logging.WARNING, "eccos_aios"):
        cores = kernel_cores(config(tmp_path, *manifest), list(map(llm, names, backends)))
    prices = [core.known_price and core.known_price.usd(1e6, 1e6) for core in cores]
    assert prices == [pytest.approx(1.3), 0, None, 0]
    lines = [record.getMessage() for record in caplog.records if "price" in record.getMessage()]
    assert len(lines) == 1
    assert "'mystery'" in lines[0]
    assert str(tmp_path / "cores.yaml") in lines[0]


def test_the_second_of_two_models_of_one_name_is_named_with_both_hosts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = {"name": "llama3:8b", "quota": 8, "price": {"input": 0, "output": 0}}
    hosts = ("http://one:11434", "http://two:11434")
    with caplog.at_level(logging.WARNING, "eccos_aios"):
        cores = kernel_cores(config(tmp_path, manifest), [llm("llama3:8b", "ollama", host) for host in hosts])
    assert [core.name for core in cores] == ["llama3:8b"]
    (line,) = [record.getMessage() for record in caplog.records if "never serves" in record.getMessage()]
    assert all(part in line for part in ("'llama3:8b'", *hosts))


def test_models_are_told_apart_by_name_and_read_from_objects_and_mappings() -> None:
    entries = [llm("a", "vllm", "h1"), {"name": "b", "backend": "groq"}, {"name": "a", "hostname": "h2"}]
    models = models_of(entries)
    assert models == [Model("a", "vllm", "h1"), Model("b", "groq"), Model("a", None, "h2")]
    assert never_served(models) == [(models[2], models[0])]


def test_the_tokenizer_that_litellm_has_loaded_checks_long_texts(tmp_path: Path, litellm: Any) -> None:
    text = "word " * 1000
    before = count_tokens(text)
    litellm.encoding = SimpleNamespace(encode_ordinary=lambda part: [0] * len(part))
    kernel_cores(config(tmp_path, {"name": "a"}), [llm("a", "ollama")])
    assert count_tokens(text).most > 2 * before.most
    del litellm.encoding  # a litellm that has none, or cannot load it
    kernel_cores(config(tmp_path, {"name": "a"}), [llm("a", "ollama")])
    assert count_tokens(text) == before


def test_a_core_at_no_backend_of_ours_keeps_what_is_known_by_its_name() -> None:
    assert Core(name="nobody knows").at_backend(None).known_price is None


OWN = """
import numpy as np
from eccos_aios.predict import Estimates, Predictor

class Own(Predictor):
    def __init__(self, quality: float = 0.5) -> None:
        self.quality = quality

    def fit(self, history):
        return self

    def predict(self, calls, cores):
        ones = np.ones((len(calls), len(cores)))
        return Estimates(self.quality * ones, ones, ones, ones)
"""


def test_the_predictor_that_the_config_names_estimates(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    own = EccosConfig(
        manifest=tmp_path / "cores.yaml",
        predictor=f"{tmp_path / 'own.py'}:Own",
        predictor_options={"quality": 0.25},
    )
    learner = make_learner(own)
    assert learner.predictor.predict([query_text("q")], ["a"]).quality.tolist() == [[0.25]]
    assert learner.status()["online"] is False


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"predictor": "hybird"}, "scheduler.eccos.predictor: 'hybird': must be hybrid, retrieval, trained"),
        ({"embedder": "mini"}, "scheduler.eccos.embedder: 'mini': must be tfidf, hashed, minilm"),
        ({"predictor_options": {"x": 1}}, "scheduler.eccos.predictor_options.x: 1: unknown option"),
        (
            {"embedder_options": {"dimensions": 0}},
            "scheduler.eccos.embedder: 'tfidf': with {'dimensions': 0}: dimensions must be at least 1",
        ),
    ],
)
def test_a_wrong_predictor_stops_the_start_with_file_key_and_value(
    tmp_path: Path, section: dict[str, Any], message: str
) -> None:
    spec = predictor_spec(EccosConfig(manifest=tmp_path / "cores.yaml", **section), "config.yaml")
    with pytest.raises(ConfigError) as fault:
        spec.make()
    assert str(fault.value).startswith(f"config.yaml: {message}")
