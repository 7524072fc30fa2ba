"""Checks of what is installed: AIOS's revision and shape, and this package in AIOS's environment."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from eccos_aios.errors import EccosError
from eccos_aios.hooks.checkout import revision_of
from eccos_aios.hooks.doctor.finding import Finding
from eccos_aios.hooks.serve import NEEDED
from eccos_aios.hooks.shape import faults_on_disk
from eccos_aios.hooks.switch import CONFIG_IN_CHECKOUT, needs_of
from eccos_aios.hooks.targets import ANY_NEED, TARGETS, WRITTEN_FOR

CLONE = "git clone https://github.com/agiresearch/AIOS"
ENVIRONMENTS = (".venv", "venv")  # where AIOS's own instructions put its packages


def check_shape(aios: Path, content: Mapping[str, Any]) -> Iterator[Finding]:
    """AIOS's revision, and the places that ECCOS hooks into, by its source."""
    needs = _needs(aios, content)
    if not (aios / "aios" / "hooks").is_dir():
        yield Finding(
            "fail" if needs else "warn",
            "hooks",
            f"{aios} is another AIOS than agiresearch's: it has no aios/hooks, where ECCOS hooks in",
            f"pass a checkout of agiresearch/AIOS with --aios ({CLONE})",
        )
        return
    revision = revision_of(aios)
    if revision is not None and revision != WRITTEN_FOR:
        yield Finding(
            "warn",
            "revision",
            f"AIOS is at {revision}, ECCOS was written for {WRITTEN_FOR}",
            f"if something does not work, try git -C {quote(str(aios))} checkout {WRITTEN_FOR}",
        )
    faults = faults_on_disk(aios, TARGETS)
    for fault in faults:
        asked = needs.intersection(fault.target.needed_for)
        yield Finding(
            "fail" if asked else "warn",
            "hooks",
            f"{fault}: needed for "
            f"{', '.join(sorted(asked) or fault.target.needed_for) or 'a check at start'}",
            f"check out AIOS at {WRITTEN_FOR}, or update eccos-aios",
        )
    if not faults:
        yield Finding("ok", "hooks", f"AIOS has all {len(TARGETS)} places that ECCOS relies on")


def _needs(aios: Path, content: Mapping[str, Any]) -> frozenset[str]:
    try:
        return needs_of(content.get("scheduler"), content.get("llms"), aios / CONFIG_IN_CHECKOUT)
    except EccosError:
        return frozenset(ANY_NEED)  # it asks for ECCOS with an error, which the check of the config reports


def check_environment(aios: Path) -> Iterator[Finding]:
    """Whether this package is where AIOS runs, with its start-up hook."""
    other = _environment_of(aios)
    if other is not None and other.resolve() != Path(sys.prefix).resolve():
        yield _other_environment(other)
        return
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        yield Finding(
            "warn",
            "environment",
            f"{sys.executable} lacks {', '.join(missing)}, so this is not AIOS's environment",
            "install eccos-aios into the environment that runs AIOS, and run doctor there",
        )
    pth = Path(sysconfig.get_paths()["purelib"]) / "eccos-aios.pth"
    if pth.is_file():
        yield Finding("ok", "activation", f"start-up hook at {pth}")
    else:
        yield Finding(
            "warn",
            "activation",
            f"there is no {pth}",
            "reinstall eccos-aios, or start AIOS with eccos-aios serve",
        )


def _environment_of(aios: Path) -> Path | None:
    folders = (aios / name for name in ENVIRONMENTS)
    return next((folder for folder in folders if (folder / "pyvenv.cfg").is_file()), None)


def _other_environment(environment: Path) -> Finding:
    """doctor runs elsewhere than AIOS: what it sees of packages is not what the kernel will see."""
    python = quote(str(environment / "bin" / "python"))
    if any(environment.glob("lib/python*/site-packages/eccos-aios.pth")):
        return Finding(
            "warn",
            "environment",
            f"AIOS's environment is {environment}; doctor runs in {sys.prefix} and checks what is there",
            f"run {quote(str(environment / 'bin' / 'eccos-aios'))} doctor instead",
        )
    return Finding(
        "fail",
        "environment",
        f"eccos-aios is installed in {sys.prefix}, and not in AIOS's environment {environment}: a kernel "
        "started there knows nothing of it and schedules by FIFO",
        f"{python} -m pip install eccos-aios, and run doctor there",
    )
