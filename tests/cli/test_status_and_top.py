"""``status`` and ``top`` against a server of the endpoints: figures, narrow terminals, faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from eccos_aios.cli.main import main

STATUS = {
    "scheduler": "eccos",
    "version": "1.2.3",
    "pending": 7,
    "pending_by_agent": {"an agent \x1b[31m": 7},
    "quality_target": 0.8,
    "quality_owed": 1.5,
    "cores": {
        "gpt-4o-mini": {"quota": 16, "in_flight": 3, "completed": 123456, "failed": 1, "state": "ok"},
        "sonnet": {"quota": 4, "in_flight": 0, "completed": 9, "failed": 5, "state": "open", "cause": "HTTP 401"},
    },
    "totals": {
        "completed": 123, "failed": 6, "predicted_quality": 0.83, "cost_usd": 0.0123, "decision_ms_p99": 2.1,
    },
    "baselines": {"best": {"core": "sonnet", "predicted_quality": 0.9, "cost_usd": 1.5}},
}  # fmt: skip
DECISIONS = {
    "decisions": [
        {
            "call": 123456, "core": "gpt-4o-mini", "predicted_quality": 0.812, "predicted_cost": 0.000071,
            "outcome": "completed", "reason": "the better core was full " * 3,
        }
    ]
}  # fmt: skip
TOKEN = "0123456789abcdef"


class Kernel(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, content = 200, STATUS if self.path == "/eccos/status" else DECISIONS
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            status, content = 401, {"error": "this needs the token"}
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Kernel) as server:
        thread = threading.Thread(target=server.serve_forever, name="kernel-stand-in")
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("ECCOS_TOKEN", TOKEN)


def test_status_for_people_cuts_no_figure_and_obeys_no_control_character(url: str) -> None:
    result = CliRunner().invoke(main, ["status", "--url", url])
    assert result.exit_code == 0
    for shown in ("0.830", "0.800", "$0.0123", "$1.50", "sonnet", "3/16", "123456", "open HTTP 401"):
        assert shown in result.stdout
    assert "\x1b" not in result.stdout


def test_status_for_machines(url: str) -> None:
    result = CliRunner().invoke(main, ["status", "--url", url, "--json"])
    assert json.loads(result.stdout) == STATUS


def test_top_shows_the_figures_on_a_narrow_terminal(url: str) -> None:
    result = CliRunner().invoke(main, ["top", "--url", url, "--count", "1"])
    assert result.exit_code == 0
    for shown in ("gpt-4o-mini", "123456", "0.812", "$0.0710", "the better"):
        assert shown in result.stdout


def test_a_token_of_a_named_variable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", TOKEN)
    monkeypatch.delenv("ECCOS_TOKEN")
    assert CliRunner().invoke(main, ["status", "--url", url, "--token-env", "OTHER"]).exit_code == 0
    refused = CliRunner().invoke(main, ["status", "--url", url])
    assert refused.exit_code == 2
    assert "this needs the token" in refused.stderr
    unset = CliRunner().invoke(main, ["top", "--url", url, "--token-env", "NOT_SET"])
    assert unset.exit_code == 2
    assert "NOT_SET" in unset.stderr


def test_status_fails_and_top_goes_on_where_no_kernel_answers() -> None:
    result = CliRunner().invoke(main, ["status", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 2
    assert result.stderr.startswith("http://127.0.0.1:9/eccos/status: no answer")
    result = CliRunner().invoke(
        main, ["top", "--url", "http://127.0.0.1:9", "--count", "2", "--interval", "0.2"]
    )
    assert result.exit_code == 0
    assert "trying again" in result.stdout
