"""The figures of the ``decisions`` experiment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from experiments.decisions import CROWD, CROWD_CALLS, CROWD_CORES
from run import main

LATENCY_S = {"swift": 0.25, "slow": 2.0}


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    history, cores = tmp_path / "history.jsonl", tmp_path / "cores.yaml"
    records = [
        {
            "query": f"question {number} about topic {number % 3}",
            "outputs": [
                {"model_name": name, "quality": 1.0, "output_token_length": 9, "latency_s": seconds}
                for name, seconds in LATENCY_S.items()
            ],
        }
        for number in range(60)
    ]
    history.write_text("".join(json.dumps(record) + "\n" for record in records))
    cores.write_text(
        "cores:\n"
        "  - {name: swift, quota: 4, price: {input: 1, output: 1}}\n"
        "  - {name: slow, quota: 4, price: {input: 9, output: 9}}\n"
    )
    return ["--history", str(history), "--cores", str(cores)]


def test_the_share_is_decision_time_over_recorded_response_time(paths: list[str]) -> None:
    options = ["--calls", "12", "--callers", "1", "--callers", "3", "--time-scale", "0.001", "--json"]
    done = CliRunner().invoke(main, ["decisions", *paths, *options])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["time_scale"] == 0.001
    alone, three, crowd = result["rows"]
    assert (alone["load"], alone["callers"], alone["cores"], alone["calls"]) == ("replay", 1, 2, 12)
    assert (three["load"], three["callers"], three["calls"]) == ("replay", 3, 12)
    assert (crowd["load"], crowd["callers"], crowd["cores"]) == ("crowd", CROWD, CROWD_CORES)
    assert crowd["calls"] == CROWD_CALLS
    # Both are good enough, so every call goes to the cheap one, which takes as long as it is recorded.
    assert alone["response_s"] == pytest.approx(12 * LATENCY_S["swift"])
    for row in result["rows"]:
        assert row["decision_s"] == pytest.approx(row["calls"] * row["decision_ms_mean"] / 1000)
        assert row["share"] == pytest.approx(row["decision_s"] / row["response_s"])
        assert 0 < row["decision_ms_p50"] <= row["decision_ms_p99"]


def test_a_history_without_latencies_is_refused(paths: list[str]) -> None:
    history = Path(paths[1])
    history.write_text(history.read_text().replace('"latency_s": 2.0', '"latency_s": null'))
    done = CliRunner().invoke(main, ["decisions", *paths])
    assert done.exit_code == 2
    assert "latency_s: no outcome of core 'slow' has one" in done.stderr
