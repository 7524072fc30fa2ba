from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from eccos_aios.cli.explain import LEFT_OUT, explain
from eccos_aios.history import HistoryStore, Record, import_history
from eccos_aios.predict import HybridPredictor, embedding_of

pytestmark = pytest.mark.usefixtures("few_trees")

EASY, HARD = "What is two plus two?", "Prove that every planar graph has a proper colouring."


def files(folder: Path) -> list[str]:
    cores = [{"name": name, "price": {"output": price}} for name, price in (("small", 1), ("large", 9))]
    (folder / "cores.yaml").write_text(json.dumps({"cores": cores}))
    records = [
        {
            "query": query,
            "outputs": [
                {"model_name": name, "correctness": name == "large" or query == EASY}
                for name in ("small", "large")
            ],
        }
        for query in (EASY, HARD)
        for _ in range(30)
    ]
    (folder / "history.jsonl").write_text("\n".join(map(json.dumps, records)))
    return ["--history", str(folder / "history.jsonl"), "--cores", str(folder / "cores.yaml")]


def test_the_choice_its_reason_and_its_neighbours_are_printed(tmp_path: Path) -> None:
    done = CliRunner().invoke(explain, [*files(tmp_path), "--quality-target", "0.9", "--json", HARD])
    printed = json.loads(done.output)
    assert printed["core"] == "large"
    assert "small" in printed["why"]
    assert {row["core"] for row in printed["estimates"]} == {"small", "large"}
    assert printed["neighbours"][0]["query"] == HARD


def test_people_get_a_table(tmp_path: Path) -> None:
    done = CliRunner().invoke(explain, [*files(tmp_path), EASY])
    assert done.exit_code == 0
    assert "→ small" in done.output
    assert "2 of 2 cores" in done.output


def test_of_a_store_what_was_fitted_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_file = CliRunner().invoke(explain, [*files(tmp_path), "--json", HARD])
    with HistoryStore(tmp_path / "history.db") as store:
        import_history(store, tmp_path / "history.jsonl")
    arguments = ["--history", str(tmp_path / "history.db"), *files(tmp_path)[2:], "--json", HARD]
    first = CliRunner().invoke(explain, arguments)
    monkeypatch.setattr(HybridPredictor, "fit", lambda *_: pytest.fail("is fitted anew"))
    again = CliRunner().invoke(explain, arguments)
    assert json.loads(again.output) == json.loads(first.output)
    assert json.loads(first.output)["core"] == json.loads(from_file.output)["core"]


def test_past_calls_without_text_are_found_and_said_to_have_none(tmp_path: Path) -> None:
    arguments = files(tmp_path)
    with HistoryStore(tmp_path / "bare.db", store_text=False, embed=embedding_of) as store:
        import_history(store, tmp_path / "history.jsonl")
    done = CliRunner().invoke(explain, ["--history", str(tmp_path / "bare.db"), *arguments[2:], EASY])
    assert done.exit_code == 0
    assert "1.00" in done.output
    assert LEFT_OUT in done.output


def test_an_empty_query_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(explain, [*files(tmp_path), " "])
    assert done.exit_code == 2
    assert "QUERY: is empty" in done.output


def test_a_predictor_of_ones_own_is_explained_without_neighbours(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import numpy as np\n"
        "from eccos_aios.predict import Estimates, Predictor\n"
        "class Own(Predictor):\n"
        "    def __init__(self, quality: float) -> None:\n"
        "        self.quality = quality\n"
        "    def fit(self, history):\n"
        "        return self\n"
        "    def predict(self, calls, cores):\n"
        "        ones = np.ones((len(calls), len(cores)))\n"
        "        return Estimates(self.quality * ones, ones, ones, ones)\n"
    )
    own = ["--predictor", f"{tmp_path / 'own.py'}:Own", "--predictor-option", "quality=0.625"]
    done = CliRunner().invoke(explain, [*files(tmp_path), *own, "--json", HARD])
    shown = json.loads(done.output)
    assert {row["quality"] for row in shown["estimates"]} == {0.625}
    assert shown["neighbours"] == []


def test_a_plan_is_told_in_words_and_printed_for_machines(tmp_path: Path) -> None:
    arguments = files(tmp_path)
    records = [
        {
            "query": f"{HARD} Case {number * 7919}.",
            "outputs": [
                # every other answer of the small core is empty, which needs no right answer to be seen
                {
                    "model_name": "small",
                    "correctness": number % 2 == 0,
                    "prediction": "" if number % 2 else "yes",
                },
                {"model_name": "large", "correctness": True, "prediction": "yes"},
            ],
        }
        for number in range(160)
    ]
    (tmp_path / "history.jsonl").write_text("\n".join(map(json.dumps, records)))
    arguments += ["--plans", "check", "--quality-target", "0.9"]
    printed = json.loads(CliRunner().invoke(explain, [*arguments, "--json", HARD]).output)
    assert printed["plan"]["plan"] == {"kind": "check", "cores": ["small"], "else": "large"}
    assert printed["core"] == "small"
    table = CliRunner().invoke(explain, [*arguments, HARD]).output
    assert "% of such answers fail their checks, then large" in " ".join(table.split())


def test_a_file_is_fitted_once_and_of_its_records_only_those_shown_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*files(tmp_path), "--json", HARD]
    first = CliRunner().invoke(explain, arguments)
    monkeypatch.setattr(HybridPredictor, "fit", lambda *_: pytest.fail("is fitted anew"))
    read = Record.model_validate_json
    lines: list[object] = []
    monkeypatch.setattr(Record, "model_validate_json", lambda line: (lines.append(line), read(line))[1])
    again = CliRunner().invoke(explain, arguments)
    assert json.loads(again.output) == json.loads(first.output)
    assert 0 < len(lines) < 60


def test_where_the_folder_is_read_only_the_fit_is_kept_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*files(tmp_path), EASY]
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("os.access", lambda place, _: Path(place) != tmp_path)
    assert CliRunner().invoke(explain, arguments).exit_code == 0
    assert not list(tmp_path.glob("*.npz"))
    monkeypatch.setattr(HybridPredictor, "fit", lambda *_: pytest.fail("is fitted anew"))
    assert CliRunner().invoke(explain, arguments).exit_code == 0


def test_each_estimate_has_its_uncertainty_and_its_grounds(tmp_path: Path) -> None:
    shown = json.loads(CliRunner().invoke(explain, [*files(tmp_path), "--json", HARD]).output)
    assert shown["seen"] is True
    small = next(each for each in shown["grounds"] if each["core"] == "small")
    assert small["neighbours"] < small["mean"] == pytest.approx(0.5, abs=0.05)
    assert 0 < small["error"] < 0.5
    text = CliRunner().invoke(explain, [*files(tmp_path), HARD]).output
    assert " ± " in text


def test_a_query_like_none_before_is_said_to_be_one(tmp_path: Path) -> None:
    text = CliRunner().invoke(explain, [*files(tmp_path), "Где мой кот"]).output
    assert "Nothing like this was seen" in text
    assert "Nothing like this" not in CliRunner().invoke(explain, [*files(tmp_path), HARD]).output


def test_what_other_targets_would_choose_is_told(tmp_path: Path) -> None:
    arguments = [*files(tmp_path), "--json", "--quality-target"]
    low = json.loads(CliRunner().invoke(explain, [*arguments, "0", HARD]).output)
    assert (low["core"], low["cheaper"], low["dearer"]["core"]) == ("small", None, "large")
    high = json.loads(CliRunner().invoke(explain, [*arguments, "0.7", HARD]).output)
    assert (high["core"], high["cheaper"]["core"], high["dearer"]) == ("large", "small", None)


def test_a_dual_price_is_told_only_where_the_target_costs_something(tmp_path: Path) -> None:
    arguments = [*files(tmp_path), "--quality-target"]
    assert "The target binds" not in CliRunner().invoke(explain, [*arguments, "0.1", EASY]).output
    assert "The target binds" in CliRunner().invoke(explain, [*arguments, "0.7", HARD]).output
