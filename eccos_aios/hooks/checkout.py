"""An AIOS checkout on disk: what makes it one, and its config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eccos_aios.config import CONFIG_IN_CHECKOUT
from eccos_aios.core import read_yaml
from eccos_aios.errors import ABSENT, AiosError

LAUNCHER = Path("runtime") / "launch.py"


def require_checkout(aios: Path) -> Path:
    """The folder, absolute, if it is an AIOS checkout with a config.

    Raises
    ------
    AiosError
        It is not; says what is missing and what to do.
    """
    aios = aios.expanduser().resolve()
    if not (aios / LAUNCHER).is_file():
        raise AiosError(
            str(aios),
            "",
            ABSENT,
            f"is no AIOS checkout: there is no {LAUNCHER}; name the folder AIOS was cloned to",
        )
    if not (aios / CONFIG_IN_CHECKOUT).is_file():
        raise AiosError(
            str(aios / CONFIG_IN_CHECKOUT),
            "",
            ABSENT,
            "there is no such file; copy config.yaml.example beside it and name your cores there",
        )
    return aios


def read_checkout_config(aios: Path) -> dict[str, Any]:
    """AIOS's config as it stands on disk.

    Raises
    ------
    AiosError, ConfigError
        The folder is no checkout, or its config is not YAML.
    """
    return read_yaml(require_checkout(aios) / CONFIG_IN_CHECKOUT)
