"""Real AIOS kernels with this package beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from aios_overlay import AIOS_HOME, Aios, NoAiosError, make_overlay, python_of

LONG = pytest.mark.skip(reason="a long drill on a real kernel; run with -m 'aios or aios_long'")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    long_too = "aios_long" in config.option.markexpr
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.aios)
            if item.get_closest_marker("aios_long") and not long_too:
                item.add_marker(LONG)


@pytest.fixture(scope="session")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This package, and what AIOS's environment lacks of its needs, without touching that environment."""
    target = tmp_path_factory.mktemp("overlay")
    try:
        make_overlay(target, AIOS_HOME, python_of(AIOS_HOME))
    except NoAiosError as reason:
        pytest.skip(str(reason))
    return target


@pytest.fixture(scope="session")
def aios(overlay: Path, tmp_path_factory: pytest.TempPathFactory) -> Aios:
    return Aios(AIOS_HOME, python_of(AIOS_HOME), overlay, lambda: tmp_path_factory.mktemp("kernel"))
