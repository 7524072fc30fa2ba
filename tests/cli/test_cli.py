"""The command line: what scripts read on stdout, and one line on stderr with exit 2 on bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eccos_aios.cli.main import main
from eccos_aios.hooks import doctor
from eccos_aios.version import __version__


@dataclass
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments], prog_name="eccos-aios")
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A history in which the dear core alone can do sums; two queries; room for one of them at each core."""
    outcomes = {"cheap": False, "dear": True}
    record = {
        "query": "How much is 2 + 3?",
        "outputs": [
            {"model_name": name, "correctness": right, "output_token_length": 10}
            for name, right in outcomes.items()
        ],
    }
    contents = {
        "history": "\n".join(json.dumps(record) for _ in range(8)),
        "cores": json.dumps({"cores": [core("cheap", 1), core("dear", 9)]}),
        "queries": "\n".join(json.dumps({"id": name, "query": "How much is 4 + 5?"}) for name in "ab"),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    return {name: tmp_path / name for name in (*contents, "out")}


def core(name: str, price: float) -> dict[str, Any]:
    return {"name": name, "quota": 1, "price": {"output": price}}


def assign(files: dict[str, Path], *more: str, target: str = "0.5") -> list[object]:
    named = [part for name in ("history", "cores", "queries", "out") for part in (f"--{name}", files[name])]
    return ["assign", *named, "--quality-target", target, *more]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_tells_its_version(run: Run) -> None:
    assert __version__ in run("--version").out


@pytest.mark.integration
def test_help_lists_every_command_and_imports_nothing_slow() -> None:
    program = (
        "import sys\n"
        "slow = {'numpy', 'sklearn', 'faiss', 'scipy', 'pydantic', 'rich'}\n"
        "from eccos_aios.cli.main import main\n"
        "try: main(['--help'], prog_name='eccos-aios')\n"
        "finally: print('slow:', sorted(slow & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "slow: []" in out
    for command in ("assign", "demo", "doctor", "serve"):
        assert f"\n  {command} " in out


@pytest.mark.parametrize("arguments", [[], ["history"]])
def test_a_group_without_arguments_prints_its_help(run: Run, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Usage: eccos-aios")
    assert "\nCommands:\n" in ran.out


@pytest.mark.parametrize("command", ["assign", "doctor", "serve"])
def test_a_commands_help_shows_how_to_call_it(run: Run, command: str) -> None:
    ran = run(command, "--help")
    assert ran.code == 0
    assert f"\n    eccos-aios {command} " in ran.out
    assert "--json" in ran.out


def test_assign_for_machines(run: Run, files: dict[str, Path]) -> None:
    ran = run(*assign(files, "--quality-target", "0.0", "--estimates", "--json"))
    assert (ran.code, ran.err) == (0, "")
    printed = json.loads(ran.out)
    assert set(printed) == {"targets", "seconds", "queries"}
    assert set(printed["seconds"]) == {"load", "fit", "predict", "solve"}
    assert [set(target) for target in printed["targets"]] == 2 * [
        {"quality_target", "met", "predicted_quality", "predicted_cost", "lower_bound", "gap", "per_core"}
        | {"dual_prices"}
    ]
    assert [target["per_core"] for target in printed["targets"]] == 2 * [{"cheap": 1, "dear": 1}]
    written = lines(files["out"])
    assert [(line["id"], line["quality_target"]) for line in written] == [
        ("a", 0.5),
        ("a", 0.0),
        ("b", 0.5),
        ("b", 0.0),
    ]
    for line in written:
        assert set(line["estimates"]) == {"cheap", "dear"}
        assert line["estimates"]["dear"]["quality"] > line["estimates"]["cheap"]["quality"]
        assert line["predicted_cost"] == line["estimates"][line["core"]]["cost"]


def test_assign_for_people(run: Run, files: dict[str, Path]) -> None:
    ran = run(*assign(files, target="0.25"))
    assert (ran.code, ran.err) == (0, "")
    for shown in ("2 queries over 2 cores", "0.25", "cheap", "dear", "solve"):
        assert shown in ran.out
    assert "estimates" not in lines(files["out"])[0]


def test_a_query_for_which_no_room_is_left_has_no_core(run: Run, files: dict[str, Path]) -> None:
    with files["queries"].open("a") as queries:
        queries.write('\n{"id": "c", "query": "How much is 6 + 7?"}\n')
    assert run(*assign(files, "--json")).code == 0
    assert sorted(str(line["core"]) for line in lines(files["out"])) == ["None", "cheap", "dear"]


def test_bad_records_can_be_skipped_and_are_counted(run: Run, files: dict[str, Path]) -> None:
    with files["history"].open("a") as history:
        history.write('\n{"query": 5}\nnonsense\n')
    ran = run(*assign(files, "--skip-bad-records", "--json"))
    assert ran.code == 0
    assert (
        ran.err
        == f"bad records left out: 2, the first: {files['history']}:9: query: 5: must be text (and 1 more)\n"
    )
    assert json.loads(ran.out)["queries"] == 2


def test_queries_that_no_core_may_take_are_counted(run: Run, files: dict[str, Path]) -> None:
    files["cores"].write_text("cores: [{name: cheap, context_window: 50}]")
    files["queries"].write_text('{"id": "long", "query": "q", "input_token_length": 51}')
    ran = run(*assign(files, "--json"))
    assert ran.code == 0
    assert ran.err.startswith(f"queries that no core may take: 1, the first: {files['queries']}:1: ")
    assert "51 input tokens exceed its context window of 50" in ran.err


def refused(ran: Ran) -> str:
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith("\n")
    assert ran.err.count("\n") == 1
    return ran.err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "history",
            '{"query": "q", "outputs": [{"model_name": "m"}]}',
            ":1: outputs[0]: {'model_name': 'm'}: needs",
        ),
        ("history", "nonsense", ":1: is not JSON"),
        (
            "cores",
            "cores: [{name: cheap, quota: 0}]",
            ": cores[0].quota: 0: must be greater than or equal to 1",
        ),
        ("queries", '{"id": "a"}', ":1: {'id': 'a'}: needs either query or messages"),
        (
            "queries",
            '{"id": "a", "query": "q", "llms": ["x"]}',
            ":1: llms: ['x']: names no core of the manifest",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    run: Run, files: dict[str, Path], name: str, content: str, message: str
) -> None:
    files[name].write_text(content)
    assert refused(run(*assign(files, "--json"))).startswith(f"{files[name]}{message}")
    assert not files["out"].exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--predictor", "hybird"), "--predictor: 'hybird': must be hybrid, retrieval, trained, module:Class or"),
        (("--predictor-option", "alpha=1"), "--predictor-option alpha: 1: unknown option; hybrid takes no options"),
        (("--embedder", "no.such:Thing"), "--embedder: 'no.such:Thing': cannot be imported"),
    ],
)  # fmt: skip
def test_a_wrong_plug_in_is_named_before_the_work(
    run: Run, files: dict[str, Path], arguments: tuple[str, ...], message: str
) -> None:
    files["history"].unlink()
    assert refused(run(*assign(files, *arguments))).startswith(message)


def test_a_predictor_and_an_embedder_by_name(run: Run, files: dict[str, Path]) -> None:
    chosen = ("--predictor", "retrieval", "--predictor-option", "neighbours=4", "--embedder", "hashed")
    estimates = []
    for arguments in ((), chosen):
        assert run(*assign(files, "--estimates", *arguments)).code == 0
        estimates.append(lines(files["out"])[0]["estimates"])
    assert estimates[0] != estimates[1]
    assert estimates[1]["dear"]["quality"] > estimates[1]["cheap"]["quality"]


@pytest.mark.parametrize("name", ["history", "cores", "queries"])
def test_a_file_that_is_not_there_is_named(run: Run, files: dict[str, Path], name: str) -> None:
    files[name].unlink()
    assert f"{files[name]}: cannot be read: No such file" in refused(run(*assign(files)))


@pytest.mark.parametrize("target", ["1.5", "-0.1", "nan", "high"])
def test_a_quality_target_lies_between_0_and_1(run: Run, files: dict[str, Path], target: str) -> None:
    assert "--quality-target" in refused(run(*assign(files, target=target)))


def test_a_place_that_cannot_be_written_is_refused_before_the_work(run: Run, files: dict[str, Path]) -> None:
    files["history"].unlink()
    files["out"] = files["out"].parent / "nowhere" / "out"
    assert "cannot be written: there is no folder" in refused(run(*assign(files)))


@pytest.mark.parametrize(
    "arguments", [["nope"], ["assign"], ["assign", "--hstory"], ["serve"], ["doctor", "--port", "1"]]
)
def test_a_wrong_command_line_is_one_line_and_exit_2(
    run: Run, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIOS_HOME", raising=False)
    assert " --help)" in refused(run(*arguments))


def test_serve_refuses_a_folder_that_is_no_checkout(run: Run, tmp_path: Path) -> None:
    assert str(tmp_path) in refused(run("serve", "--aios", tmp_path))


def test_doctor_says_what_is_broken_and_exits_with_2(run: Run, tmp_path: Path) -> None:
    ran = run("doctor", "--aios", tmp_path, "--json")
    assert ran.code == 2
    (finding,) = json.loads(ran.out)
    assert (finding["level"], set(finding)) == ("fail", {"level", "subject", "message", "remedy"})
    assert finding["remedy"] in " ".join(run("doctor", "--aios", tmp_path).out.split())


def test_doctor_exits_with_0_where_nothing_is_broken(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = [
        doctor.Finding("ok", "AIOS", "[found]"),
        doctor.Finding("warn", "history", "short", "collect more"),
    ]
    monkeypatch.setattr(doctor, "diagnose", lambda aios: findings)
    ran = run("doctor", "--aios", tmp_path)
    assert ran.code == 0
    assert "AIOS: [found]" in ran.out
    assert "→ collect more" in ran.out


HELPED = ["", "assign", "bench", "bench kernel", "collect", "demo", "doctor", "explain", "history", "history import", "history export", "history stats", "init", "sandbox", "serve", "status", "top"]  # fmt: skip


@pytest.mark.parametrize("command", HELPED)
def test_no_line_of_the_help_is_wider_than_a_terminal(run: Run, command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("group", ["", "history"])
def test_a_bare_group_prints_its_help(run: Run, group: str) -> None:
    done = run(*group.split())
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Usage: eccos-aios")
    assert "Commands:" in done.out
