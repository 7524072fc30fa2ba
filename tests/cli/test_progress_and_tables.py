"""What every command shows: steps on a terminal only, and tables whose figures are never cut off."""

from __future__ import annotations

import sys

import pytest

from eccos_aios.cli.progress import show_progress
from eccos_aios.cli.table import dollars, figure, make_table, note_faults, print_tables


def test_steps_are_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with show_progress() as on_step:
        on_step("reading [all]", 1, 2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with show_progress() as on_step:
        on_step("starting")
        on_step("reading [all]", 1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "reading [all]" in captured.err
    assert "1/2" in captured.err


def test_a_narrow_terminal_cuts_no_figure_off_and_names_are_shown_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    table = make_table("core", "a quite long heading", "another long heading", title="[title]")
    table.add_row("core-[bold]-of-a-long-name", figure(0.123456, ".6f"), figure(None, ".6f"))
    print_tables(table, "a line [bold]")
    printed = capsys.readouterr().out
    for shown in ("[title]", "core-[bold]-of-a-long-name", "another long heading", "0.123456", "–"):
        assert shown in printed
    assert printed.endswith("a line [bold]\n")


def test_faults_are_counted_and_the_first_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    note_faults([], "bad records left out")
    note_faults(["h.jsonl:3: is not JSON", "h.jsonl:9: is not JSON"], "bad records left out")
    assert capsys.readouterr().err == "bad records left out: 2, the first: h.jsonl:3: is not JSON\n"


def test_on_a_terminal_too_narrow_for_a_table_each_row_is_a_paragraph(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    table = make_table(
        "", "core", *(f"figure {number}" for number in range(8)), left=("core",), title="above"
    )
    for name in ("one", "two"):
        table.add_row("→", f"core-{name}", *(f"0.{number}5 ± 0.01" for number in range(8)))
    print_tables(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[:2] == ["above", "→ core-one"]
    shown = " ".join(lines)
    for number in range(8):
        assert shown.count(f"figure {number} 0.{number}5 ± 0.01") == 2


@pytest.mark.parametrize(
    ("usd", "shown"),
    [(12.345, "$12.35"), (1, "$1.00"), (0, "$0.00"), (0.0123, "$0.0123"), (0.01, "$0.0100"), (1.94e-5, "$0.000019"), (None, "–")],
)  # fmt: skip
def test_dollars_have_the_digits_that_matter(usd: float | None, shown: str) -> None:
    assert dollars(usd) == shown
