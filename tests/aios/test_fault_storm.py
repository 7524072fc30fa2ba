"""A short storm on a real kernel: four cores, each failing one request in five in every way there is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from aios_overlay import Aios

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from fault_drills import Bench, Options, storm

CALLS, MAX_ATTEMPTS = 100, 6


@pytest.mark.aios_long
def test_every_call_of_a_storm_is_answered_well_within_the_quotas_and_the_attempts(aios: Aios) -> None:
    figures = {figure.name: figure for figure in storm(Bench(aios, Options(MAX_ATTEMPTS, calls=CALLS)))}
    assert figures["answered well, no faults"].value == CALLS
    assert figures["answered well, faults"].value == CALLS, figures["errors"].value
    assert figures["most in flight over a quota"].value == 0
    most = figures["requests per call, most"].value
    assert isinstance(most, int)
    assert most <= MAX_ATTEMPTS
