"""assign on Ray: the answer of the local engine, also where workers are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.batch import assign_files, summary, write_file
from eccos_aios.batch import ray_engine as engine
from eccos_aios.batch.ray_engine import PartedBatch, RayJob, assign_on_ray
from eccos_aios.cli.main import main
from eccos_aios.errors import MissingExtraError, QueryError
from eccos_aios.predict import PredictorSpec

SPEC = PredictorSpec("retrieval", {}, "hashed", {})
QUERIES = 5_000
MOST_OPEN = 200  # so few that prices place nearly all
CORES = ("small", "middle", "large")


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray of two workers."""
    pytest.importorskip("ray.data", reason="needs Ray: pip install 'eccos-aios[ray]'")
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CHUNK", 1024)
    monkeypatch.setattr(engine, "LEAST_BLOCK", 2**16)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A history of sums of up to five digits, at which cores are the better the dearer; queries of the kind."""
    draw = random.Random(0)
    records = []
    for _ in range(300):
        digits = draw.randint(1, 5)
        outputs = [
            {"model_name": name, "quality": float(draw.random() < 1 - digits / (5 + 4 * place))}
            for place, name in enumerate(CORES, start=1)
        ]
        records.append({"query": sum_of(draw, digits), "outputs": outputs})
    queries = [{"id": f"q{number}", "query": sum_of(draw, draw.randint(1, 5))} for number in range(QUERIES)]
    cores = [{"name": name, "price": {"input": 10**place}} for place, name in enumerate(CORES)]
    cores[1]["quota"] = QUERIES // 4
    folder = tmp_path / "queries"
    folder.mkdir()
    contents = {
        "history.jsonl": lines_of(records),
        "cores.yaml": json.dumps({"cores": cores}),
        "all.jsonl": lines_of(queries),
        "queries/a.jsonl": lines_of(queries[:1000]),
        "queries/b.jsonl": lines_of(queries[1000:]),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    return {"out": tmp_path / "out", "folder": folder, **{name: tmp_path / name for name in contents}}


def sum_of(draw: random.Random, digits: int) -> str:
    return "How much is " + " + ".join(str(draw.randrange(10**digits)) for _ in range(digits + 1)) + "?"


def lines_of(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def on_ray(
    files: dict[str, Path], on_step: Callable[[str], None] = lambda step: None, **changes: Any
) -> PartedBatch:
    options: dict[str, Any] = {
        "queries": str(files["folder"]),
        "targets": [0.5, 0.6],
        "out": str(files["out"]),
        "spec": SPEC,
        "most_open": MOST_OPEN,
        **changes,
    }
    return assign_on_ray(RayJob(files["history.jsonl"], files["cores.yaml"], **options), on_step=on_step)


def here(files: dict[str, Path]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the local engine tells and writes."""
    batch = assign_files(
        files["history.jsonl"],
        files["cores.yaml"],
        files["all.jsonl"],
        [0.5, 0.6],
        predictor=SPEC.make(),
    )
    out = files["out"].with_suffix(".jsonl")
    write_file(batch, out)
    return summary(batch), read_lines(out)


def read_lines(path: Path) -> list[dict[str, Any]]:
    parts = sorted(path.iterdir()) if path.is_dir() else [path]
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def assert_same(told: dict[str, Any], lines: list[dict[str, Any]], files: dict[str, Path]) -> None:
    """The answer of the local engine to within the gap: order, quotas, targets, values."""
    wanted, other = here(files)
    assert told.keys() == wanted.keys()
    assert told["queries"] == QUERIES
    assert [list(line) for line in lines] == [list(line) for line in other]
    assert [line["id"] for line in lines] == [line["id"] for line in other]
    for number, (target, once) in enumerate(zip(told["targets"], wanted["targets"], strict=True)):
        assert target.keys() == once.keys()
        assert target["met"] == once["met"]
        assert target["predicted_cost"] == pytest.approx(once["predicted_cost"], rel=1e-3)
        assert target["predicted_quality"] == pytest.approx(once["predicted_quality"], rel=1e-3)
        routed = lines[number :: len(told["targets"])]
        assert sum(line["predicted_cost"] for line in routed) == pytest.approx(target["predicted_cost"])
        counts = {name: sum(line["core"] == name for line in routed) for name in CORES}
        assert counts == target["per_core"]
        assert counts["middle"] <= QUERIES // 4
        assert sum(counts.values()) == QUERIES
    assert [target["met"] for target in told["targets"]] == [True, True]


def test_the_same_answer_as_here_in_files_by_input_order(ray: Any, files: dict[str, Path]) -> None:
    batch = on_ray(files)
    parts = sorted(part.name for part in files["out"].iterdir())
    assert len(parts) >= 3
    assert parts == [f"part-{number:05d}.jsonl" for number in range(len(parts))]
    assert_same(batch.summary(), read_lines(files["out"]), files)


def workers_of_this_process() -> dict[int, str]:
    """Ray's workers by process id, with their titles: children of the raylet that is a child of this one."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                titles[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            parents[int(folder.name)] = int(stat[1])
    raylets = {
        pid for pid, parent in parents.items() if parent == os.getpid() and "raylet" in titles.get(pid, "")
    }
    children = {pid: titles[pid] for pid, parent in parents.items() if parent in raylets}
    # a node does not survive its agents, which are no workers
    return {
        pid: title for pid, title in children.items() if title.startswith("ray::") and "Agent" not in title
    }


ONCE_KILLED = """
import os, signal
from pathlib import Path
from eccos_aios.predict import HashedEmbedder, register_persistence

class OnceKilled(HashedEmbedder):
    def transform(self, texts):
        killed = Path(__file__).with_name("killed")
        if len(texts) > 100 and os.getpid() != {owner} and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().transform(texts)

register_persistence(OnceKilled, lambda each: ({{}}, {{}}), lambda content, arrays: OnceKilled())
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers in /proc")
def test_killed_workers_cost_a_retry_not_the_job(ray: Any, files: dict[str, Path]) -> None:
    plug_in = files["out"].with_name("once_killed.py")
    plug_in.write_text(ONCE_KILLED.format(owner=os.getpid()))
    killed: dict[str, int] = {}

    def kill_once(step: str) -> None:
        stage = step.split()[0]
        if stage in ("assigning", "writing") and stage not in killed:
            workers = workers_of_this_process()
            killed[stage] = len(workers)
            for worker in workers:
                os.kill(worker, signal.SIGKILL)

    spec = PredictorSpec("retrieval", {}, f"{plug_in}:OnceKilled", {})
    batch = on_ray(files, on_step=kill_once, spec=spec)
    assert plug_in.with_name("killed").exists()
    assert killed["assigning"] and killed["writing"]
    assert_same(batch.summary(), read_lines(files["out"]), files)


def test_a_bad_line_is_named_as_here(ray: Any, files: dict[str, Path]) -> None:
    bad = files["folder"] / "b.jsonl"
    content = bad.read_text().splitlines()
    content[700] = '{"id": "x", "query": 5}'
    content[900] = "nonsense"
    bad.write_text("\n".join(content))
    with pytest.raises(QueryError) as caught:
        on_ray(files)
    assert str(caught.value) == f"{bad}:701: query: 5: must be text"


def test_queries_that_name_no_core_or_fit_none(ray: Any, files: dict[str, Path]) -> None:
    with files["all.jsonl"].open("a") as queries:
        queries.write('{"id": "x", "query": "q", "llms": ["gtp"]}\n')
    with pytest.raises(QueryError, match=rf"all\.jsonl:{QUERIES + 1}: llms: \['gtp'\]: names no core"):
        on_ray(files, queries=str(files["all.jsonl"]))


def test_parquet_in_and_out_and_one_file(ray: Any, files: dict[str, Path]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = read_lines(files["all.jsonl"])
    table = pa.table({"id": [row["id"] for row in rows], "query": [row["query"] for row in rows]})
    parquet.write_table(table, files["folder"].parent / "all.parquet")
    queries, changes = str(files["folder"].parent / "all.parquet"), {"targets": [0.5]}
    on_ray(files, queries=queries, with_estimates=True, **changes)
    parts = sorted(files["out"].iterdir())
    assert {part.suffix for part in parts} == {".parquet"}
    found = [row for part in parts for row in parquet.read_table(part).to_pylist()]
    one = files["out"].with_suffix(".jsonl")
    on_ray(files, queries=queries, out=str(one), with_estimates=True, **changes)
    assert found == read_lines(one)
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    for row in found[:5]:
        assert set(row["estimates"]) == set(CORES)
        assert row["predicted_cost"] == row["estimates"][row["core"]]["cost"]


def test_a_batch_without_queries(ray: Any, files: dict[str, Path]) -> None:
    files["all.jsonl"].write_text("\n")
    told = on_ray(files, queries=str(files["all.jsonl"])).summary()
    assert (told["queries"], told["targets"][0]["met"]) == (0, False)
    assert read_lines(files["out"]) == []


def test_a_folder_that_holds_something_is_refused(ray: Any, files: dict[str, Path]) -> None:
    files["out"].mkdir()
    (files["out"] / "part-00099.jsonl").write_text("")
    with pytest.raises(Exception, match=r"out: cannot be written: is a folder that is not empty"):
        on_ray(files)


def test_the_command(ray: Any, files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    named = {
        "--history": files["history.jsonl"],
        "--cores": files["cores.yaml"],
        "--queries": files["folder"],
        "--out": files["out"],
        "--quality-target": 0.5,
        "--predictor": "retrieval",
        "--embedder": "hashed",
    }
    options = [str(part) for pair in named.items() for part in pair]
    with pytest.raises(SystemExit) as ended:
        main(["assign", "--engine", "ray", *options, "--json"], prog_name="eccos-aios")
    printed = capsys.readouterr()
    assert (ended.value.code or 0, printed.err) == (0, "")
    told = json.loads(printed.out)
    assert set(told) == {"targets", "seconds", "queries"}
    assert set(told["seconds"]) == {"load", "fit", "predict", "solve"}
    assert sum(told["targets"][0]["per_core"].values()) == QUERIES == len(read_lines(files["out"]))


def test_a_killed_worker_is_not_reported_in_the_output(
    ray: Any, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plug_in = files["out"].with_name("once_killed.py")
    plug_in.write_text(ONCE_KILLED.format(owner=os.getpid()))
    named = {
        "--history": files["history.jsonl"],
        "--cores": files["cores.yaml"],
        "--queries": files["folder"],
        "--out": files["out"],
        "--quality-target": 0.5,
        "--predictor": "retrieval",
        "--embedder": f"{plug_in}:OnceKilled",
    }
    options = [str(part) for pair in named.items() for part in pair]
    with pytest.raises(SystemExit) as ended:
        main(["assign", "--engine", "ray", *options, "--json"], prog_name="eccos-aios")
    printed = capsys.readouterr()
    assert plug_in.with_name("killed").exists()
    assert (ended.value.code or 0) == 0, printed.err
    assert json.loads(printed.out)["queries"] == QUERIES


def test_without_ray_the_extra_is_named(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'eccos-aios\[ray\]'"):
        on_ray(files)
