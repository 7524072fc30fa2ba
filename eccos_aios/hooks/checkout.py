"""An AIOS checkout on disk: what makes it one, and its config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eccos_aios.core import read_yaml
from eccos_aios.errors import ABSENT, AiosError
from eccos_aios.hooks.switch import CONFIG_IN_CHECKOUT

LAUNCHER = Path("runtime") / "launch.py"
REVISION_DIGITS = 7


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
            f"is not an AIOS checkout: there is no {LAUNCHER}; name the folder AIOS was cloned to",
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
    """AIOS's config on disk.

    Raises
    ------
    AiosError, ConfigError
        The folder is not a checkout, or its config is not YAML.
    """
    return read_yaml(require_checkout(aios) / CONFIG_IN_CHECKOUT)


def revision_of(checkout: Path) -> str | None:
    """The commit that a checkout is at, its first seven digits; None if it has no git history."""
    try:
        folder = _git_folder(checkout)
        head = (folder / "HEAD").read_text(encoding="utf-8").strip()
        if head.startswith("ref: "):
            head = _commit_of(folder, head.removeprefix("ref: "))
    except (OSError, ValueError):
        return None
    return head[:REVISION_DIGITS] if set(head) <= set("0123456789abcdef") and head else None


def _git_folder(checkout: Path) -> Path:
    """The git folder: a worktree's or a submodule's ``.git`` is a file that names it."""
    git = checkout / ".git"
    if git.is_file():
        return checkout / git.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
    return git


def _commit_of(folder: Path, reference: str) -> str:
    """The commit of a branch; a worktree's branches are in the folder that it shares."""
    common = folder / "commondir"
    if common.is_file():
        folder = folder / common.read_text(encoding="utf-8").strip()
    if (folder / reference).is_file():
        return (folder / reference).read_text(encoding="utf-8").strip()
    for line in (folder / "packed-refs").read_text(encoding="utf-8").splitlines():
        commit, _, name = line.partition(" ")
        if name == reference:
            return commit
    return ""
