"""The core manifest: what it may say, and the one line that tells what is wrong with it."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_aios.core import ABILITIES, DEFAULT_QUOTA, Core, Manifest, Price, read_manifest
from eccos_aios.errors import ConfigError


@pytest.fixture
def manifest_file(tmp_path: Path) -> Path:
    return tmp_path / "cores.yaml"


def fault_of(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_reads_what_the_manifest_says(manifest_file: Path) -> None:
    manifest_file.write_text(
        """
        cores:
          - name: small
            quota: 16
            price: {input: 0.15, output: 0.60}
            context_window: 128000
            supports: [tools, json]
          - name: large
        """
    )
    small, large = read_manifest(manifest_file).cores
    assert (small.name, small.quota, small.slots, small.context_window) == ("small", 16, 16, 128_000)
    assert small.price == Price(input=0.15, output=0.6)
    assert small.supports == {"tools", "json"}
    assert (large.quota, large.slots, large.context_window) == (None, DEFAULT_QUOTA, None)
    assert large.supports == ABILITIES


def test_a_byte_order_mark_does_no_harm(manifest_file: Path) -> None:
    manifest_file.write_bytes(b"\xef\xbb\xbfcores: [{name: small}]")
    assert read_manifest(manifest_file).names == ("small",)


@pytest.mark.parametrize(
    ("core", "message"),
    [
        ("{name: a, quota: true}", "cores[0].quota: True: must be a whole number"),
        ("{name: a, quota: 0}", "cores[0].quota: 0: must be greater than or equal to 1"),
        ("{name: a, quota: '4'}", "cores[0].quota: '4': must be a whole number"),
        ("{name: a, quota: 4.0}", "cores[0].quota: 4.0: must be a whole number"),
        (
            "{name: a, quota: 1" + "0" * 30 + "}",
            "cores[0].quota: 1" + "0" * 30 + ": must be less than or equal to",
        ),
        ("{name: a, price: {input: .nan}}", "cores[0].price.input: nan: must be a finite number"),
        ("{name: a, price: {output: -1}}", "cores[0].price.output: -1: must be greater than or equal to 0"),
        ("{name: a, price: {output: '1'}}", "cores[0].price.output: '1': must be a number"),
        ("{name: a, price: 3}", "cores[0].price: 3: must be a mapping of keys to values"),
        (
            "{name: a, price: {inptu: 1}}",
            "cores[0].price.inptu: 1: unknown key; did you mean input? known are input, output",
        ),
        (
            "{name: a, quotas: 1}",
            "cores[0].quotas: 1: unknown key; did you mean quota? known are name, quota, price, context_window, quality, supports",
        ),
        (
            "{name: a, supports: [sound]}",
            "cores[0].supports[0]: 'sound': must be 'tools', 'json', 'vision', 'audio' or 'files'",
        ),
        ("{name: a, supports: tools}", "cores[0].supports: 'tools': must be a list"),
        ("{name: a, context_window: -5}", "cores[0].context_window: -5: must be greater than or equal to 1"),
        ("{name: 5}", "cores[0].name: 5: must be text"),
        ("{name: ''}", "cores[0].name: '': must not be empty"),
        ("{quota: 1}", "cores[0].name: required, but absent"),
        ("a", "cores[0]: 'a': must be a mapping of keys to values"),
    ],
)
def test_a_wrong_core_is_named_with_key_value_and_what_is_allowed(
    manifest_file: Path, core: str, message: str
) -> None:
    assert fault_of(manifest_file, f"cores: [{core}]").startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "None: must be a mapping of keys to values"),
        ("cores: []", "cores: []: needs at least one core"),
        ("cores: {name: a}", "cores: {'name': 'a'}: must be a list"),
        ("models: []", "cores: required, but absent"),
        ("cores: [", "is not YAML: "),
        ("cores: 2020-13-45", "is not YAML: month must be in 1..12"),
        (b"cores: [{name: \xff}]", "is not YAML: "),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(
    manifest_file: Path, content: str | bytes, message: str
) -> None:
    assert fault_of(manifest_file, content).startswith(message)


def test_a_name_that_stands_twice_is_named(manifest_file: Path) -> None:
    assert "'twin' occurs twice" in fault_of(manifest_file, "cores: [{name: twin}, {name: b}, {name: twin}]")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file"):
        read_manifest(tmp_path / "nowhere.yaml")


CORES = st.builds(
    Core,
    name=st.text(min_size=1, max_size=8),
    quota=st.none() | st.integers(1, 10**9),
    price=st.none() | st.builds(Price, input=st.floats(0, 1000), output=st.floats(0, 1000)),
    context_window=st.none() | st.integers(1, 10**9),
    supports=st.frozensets(st.sampled_from(sorted(ABILITIES))),
)


@settings(deadline=None, max_examples=50)
@given(cores=st.lists(CORES, min_size=1, max_size=4, unique_by=lambda core: core.name))
def test_a_manifest_that_is_written_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory, cores: list[Core]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    path.write_text(
        yaml.safe_dump({"cores": [json.loads(core.model_dump_json()) for core in cores]}), encoding="utf-8"
    )
    assert read_manifest(path) == Manifest(cores=tuple(cores))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
CORE_KEYS = st.sampled_from(["name", "quota", "price", "context_window", "supports", "input"]) | st.text(
    max_size=3
)
CONTENT = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CORE_KEYS, inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(content=CONTENT | st.fixed_dictionaries({"cores": CONTENT}))
def test_any_content_is_a_manifest_or_a_one_line_error(
    tmp_path_factory: pytest.TempPathFactory, content: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8", errors="replace")
    try:
        read_manifest(path)
    except ConfigError as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)


def test_a_price_that_is_left_out_comes_from_litellm_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from eccos_aios import core

    litellm = types.ModuleType("litellm")
    litellm.model_cost = {"known": {"input_cost_per_token": 1.5e-7, "output_cost_per_token": 6e-7}}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "litellm", litellm)
    core._litellm_price_map.cache_clear()
    try:
        assert Core(name="known").resolved_price.input == pytest.approx(0.15)
        assert Core(name="known").resolved_price.output == pytest.approx(0.60)
        assert Core(name="unknown").resolved_price == Price(input=0, output=0)
        assert Core(name="known", price=Price(input=9)).resolved_price == Price(input=9, output=0)
    finally:
        core._litellm_price_map.cache_clear()


@pytest.fixture
def litellm_prices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from eccos_aios import core

    litellm = types.ModuleType("litellm")
    per_token = {
        "gpt": (1e-6, 2e-6),
        "groq/llama-70b": (5e-7, 8e-7),
        "gemini/flash": (1e-7, 4e-7),
        "openrouter/maker/large": (3e-6, 9e-6),
        "free/model": (0.0, 0.0),
        "pictures": (None, None),
        "absurd": (float("nan"), -1.0),
    }
    litellm.model_cost = {  # type: ignore[attr-defined]
        name: {"input_cost_per_token": first, "output_cost_per_token": second}
        for name, (first, second) in per_token.items()
    } | {"sample_spec": "text"}
    monkeypatch.setitem(sys.modules, "litellm", litellm)
    core._litellm_price_map.cache_clear()
    yield
    core._litellm_price_map.cache_clear()


@pytest.mark.parametrize(
    ("name", "backend", "price"),
    [
        ("llama-70b", "groq", (0.5, 0.8)),
        ("groq/llama-70b", "groq", (0.5, 0.8)),
        ("groq/llama-70b", None, (0.5, 0.8)),
        ("openai/gpt", "openai", (1, 2)),
        ("gpt", "openai", (1, 2)),
        ("gpt", "azure", (1, 2)),
        ("flash", "google", (0.1, 0.4)),
        ("models/flash", "gemini", (0.1, 0.4)),
        ("maker/large", "openrouter", (3, 9)),
        ("model", "free", (0, 0)),
        ("llama3:8b", "ollama", (0, 0)),
        ("gpt", "ollama", (0, 0)),
        ("org/mine", "hflocal", (0, 0)),
        ("llama-70b", "vllm", None),
        ("llama-70b", None, None),
        ("pictures", "openai", None),
        ("absurd", "openai", None),
        ("sample_spec", "openai", None),
    ],
)
@pytest.mark.usefixtures("litellm_prices")
def test_a_price_is_found_under_what_litellm_calls_the_model(
    name: str, backend: str | None, price: tuple[float, float] | None
) -> None:
    known = Core(name=name).at_backend(backend).known_price
    assert (known and (pytest.approx(known.input), pytest.approx(known.output))) == price


@pytest.mark.usefixtures("litellm_prices")
def test_a_price_of_the_manifest_stands_whatever_the_backend_says() -> None:
    core = Core(name="llama-70b", price=Price(input=0, output=0))
    assert core.at_backend("groq").known_price == Price(input=0, output=0)


MANIFESTS = Path(__file__).parents[1] / "manifests"


@pytest.mark.parametrize("name", ["ollama-pair", "vllm-pair", "mixed-api"])
def test_the_ready_manifests_load(name: str) -> None:
    cores = read_manifest(MANIFESTS / f"{name}.yaml").cores
    assert len(cores) >= 2
    assert all(core.quota and core.price and core.context_window for core in cores)


def test_a_core_may_say_where_it_is(manifest_file: Path) -> None:
    manifest_file.write_text(
        "cores: [{name: small, base_url: 'http://localhost:8000/v1/', api_key_env: SMALL_KEY}]"
    )
    (small,) = read_manifest(manifest_file).cores
    assert (small.base_url, small.api_key_env) == ("http://localhost:8000/v1", "SMALL_KEY")


@pytest.mark.parametrize(
    "address", ["localhost:8000", "ftp://core/v1", "http://", "http://user:word@core/v1"]
)
def test_an_address_that_is_none_is_named(manifest_file: Path, address: str) -> None:
    fault = fault_of(manifest_file, f"cores: [{{name: small, base_url: '{address}'}}]")
    assert fault.startswith("cores[0].base_url: ")
    assert "must be an address" in fault
