from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from eccos_aios.explain_command import explain

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


def test_the_choice_its_reason_and_its_neighbours_are_told(tmp_path: Path) -> None:
    done = CliRunner().invoke(explain, [*files(tmp_path), "--quality-target", "0.9", "--json", HARD])
    told = json.loads(done.output)
    assert told["core"] == "large"
    assert "small" in told["why"]
    assert {row["core"] for row in told["estimates"]} == {"small", "large"}
    assert told["neighbours"][0]["query"] == HARD


def test_people_get_a_table(tmp_path: Path) -> None:
    done = CliRunner().invoke(explain, [*files(tmp_path), EASY])
    assert done.exit_code == 0
    assert "→ small" in done.output
    assert "2 of 2 cores" in done.output
