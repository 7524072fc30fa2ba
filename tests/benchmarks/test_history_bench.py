"""The benchmark of long histories: its records are repeatable, its figures those of a fresh process."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner
from experiments.history import history_bench
from experiments.history_records import CORES, GeneratedHistory
from run import main


def test_records_are_seeded_varied_and_have_unknown_cells() -> None:
    records, again = list(GeneratedHistory(500)), list(GeneratedHistory(500))
    assert records == again
    assert records[:20] != list(islice(GeneratedHistory(500, seed=1), 20))
    assert len({record.query for record in records}) == 500
    assert len({word for record in records for word in record.query.split()}) > 2_000
    cells = sum(len(record.outputs) for record in records) / (500 * len(CORES))
    assert 0.6 < cells < 0.8
    assert 0.4 < sum(record.tools is not None for record in records) / 500 < 0.8
    stored = {record.query for record in records}
    assert not stored & {record.query for record in GeneratedHistory(500).unseen(100)}


@pytest.mark.integration
def test_a_small_run_measures_a_fresh_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("eccos_aios.predict.dataset.SAMPLE", 420)
    monkeypatch.setattr("eccos_aios.predict.retrieval.EXACT_UP_TO", 500)
    steps: list[str] = []
    result = history_bench(600, 32, tmp_path, batches=2, on_step=steps.append)
    assert result.recall_at_16 > 0.95
    assert (result.records, result.dimensions, result.cores) == (600, 32, len(CORES))
    assert result.build_s == pytest.approx(result.store_s + result.fit_s)
    assert 0 < result.search_one_ms_p50 <= result.search_one_ms_p99
    assert min(result.open_s, result.store_s, result.fit_s, result.predict_batch_ms_p99) > 0
    assert min(result.resident_mb, result.build_peak_mb, result.store_mb, result.predictor_mb) > 0
    assert json.loads(result.as_json())["records"] == 600
    assert steps[0] == "storing: 0 of 600 records"
    assert "fitting: 0 of 600 records read" in steps
    assert not list(tmp_path.iterdir())


def test_an_odd_width_is_refused_by_name() -> None:
    done = CliRunner().invoke(main, ["history", "--dimensions", "255"])
    assert done.exit_code == 2
    assert "--dimensions: 255 is not even" in done.output
