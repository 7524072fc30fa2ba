from __future__ import annotations

import pytest
import yaml

from eccos_aios.yaml_edit import UneditableYamlError, with_values

WANTED = {
    "scheduler": {"scheduler_type": "eccos", "eccos": {"manifest": "cores.yaml", "quality_target": 0.8}}
}
LINES = "  scheduler_type: eccos\n  eccos:\n    manifest: cores.yaml\n    quality_target: 0.8\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "a: 1 # one\n\nscheduler:\n  log_mode: console # or file\n\n# agents\nb: 2\n",
            f"a: 1 # one\n\nscheduler:\n  log_mode: console # or file\n{LINES}\n# agents\nb: 2\n",
        ),
        ("scheduler:  # how\nb: 2\n", f"scheduler:  # how\n{LINES}b: 2\n"),
        ("b: 2", f"b: 2\nscheduler:\n{LINES}"),
        ("b: |\n  two\n", f"b: |\n  two\nscheduler:\n{LINES}"),
        (
            "scheduler:\n  scheduler_type: 'fifo'  # was rr\n",
            "scheduler:\n  scheduler_type: eccos  # was rr\n"
            "  eccos:\n    manifest: cores.yaml\n    quality_target: 0.8\n",
        ),
        (
            "scheduler:\n    scheduler_type: eccos\n    eccos:\n        manifest: other.yaml\n        plans: off\n",
            "scheduler:\n    scheduler_type: eccos\n    eccos:\n        manifest: cores.yaml\n        plans: off\n"
            "        quality_target: 0.8\n",
        ),
        (
            "{scheduler: {log_mode: console}, b: 2}\n",
            "{scheduler: {log_mode: console, scheduler_type: eccos, "
            "eccos: {manifest: cores.yaml, quality_target: 0.8}}, b: 2}\n",
        ),
        (
            "scheduler:\n  passes:\n  - a\n  - b\nc: 3\n",
            f"scheduler:\n  passes:\n  - a\n  - b\n{LINES}c: 3\n",
        ),
    ],
)
def test_only_what_is_wanted_changes(before: str, after: str) -> None:
    assert with_values(before, WANTED) == after
    assert with_values(after, WANTED) == after
    if before.count("\n") > 1:
        windows = before.replace("\n", "\r\n")
        assert with_values(windows, WANTED) == after.replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("scheduler: fifo\n", "scheduler is no section"),
        ("scheduler: {}\nb: 1\nscheduler: {}\n", "scheduler occurs twice"),
        ("b: &x {log_mode: file}\nscheduler: *x\n", "scheduler is an alias"),
        ("scheduler:\n  scheduler_type: [fifo]\n", "scheduler.scheduler_type is no single value"),
        ("scheduler: {log_mode: file,}\n", "form"),
        ("- a\n", "no mapping"),
    ],
)
def test_a_form_that_cannot_be_edited_is_refused(text: str, fault: str) -> None:
    with pytest.raises(UneditableYamlError, match=fault):
        with_values(text, WANTED)


def test_values_that_yaml_would_misread_are_quoted() -> None:
    values = {"name": "yes", "other": "a: b # c", "number": "1.5"}
    assert yaml.safe_load(with_values("x: 1\n", values)) == {"x": 1, **values}
