"""What ``eccos-aios init`` writes: a manifest of AIOS's models, and the lines that switch ECCOS on."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eccos_aios.atomic_file import replaced_file
from eccos_aios.core import DEFAULT_QUOTA, LOCAL_BACKENDS, Core, Price, read_manifest
from eccos_aios.errors import ABSENT, AiosError, ConfigError
from eccos_aios.hooks.checkout import read_checkout_config, require_checkout
from eccos_aios.hooks.kernel_config import Model, models_of, never_served
from eccos_aios.hooks.switch import CONFIG_IN_CHECKOUT, SCHEDULER_TYPES
from eccos_aios.yaml_edit import UneditableYamlError, as_lines, with_values

CONTEXT_LINES = 2  # of the diff
NEW_FILE_MODE = 0o644  # a manifest holds no secret
_SECRET = re.compile(r"(\b\w*(?:key|token|secret|password|shared)\w*\s*:\s*)\S.*", re.IGNORECASE)
_HEAD = """\
# The cores that ECCOS may send calls to: AIOS's llms.models, written by eccos-aios init.
# quota: calls that a core may hold at once. price: US dollars per million tokens.
cores:
"""


@dataclass(frozen=True)
class Choices:
    """What is to be written; None and absent names: as it is, else the default.

    Attributes
    ----------
    manifest, history : str or None
        Relative to the folder of AIOS's config, or absolute. Default: ``cores.yaml``, ``history.db``.
    quality_target : float or None
        0 to 1. Default: 0.8.
    quotas : mapping of str to int
        By core.
    prices : mapping of str to Price
        By core. Default: litellm's price, where it is installed and knows the model.
    """

    manifest: str | None = None
    history: str | None = None
    quality_target: float | None = None
    quotas: Mapping[str, int] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)


@dataclass(frozen=True)
class FileChange:
    """A file and its text before, None if there is none, and after."""

    path: Path
    before: str | None
    after: str

    def diff(self) -> list[str]:
        """The change as a unified diff, without the values of keys and tokens around it."""
        before = [] if self.before is None else self.before.splitlines()
        source = "/dev/null" if self.before is None else str(self.path)
        lines = difflib.unified_diff(
            before, self.after.splitlines(), source, str(self.path), n=CONTEXT_LINES, lineterm=""
        )
        return [_SECRET.sub(r"\1…", line) for line in lines]


@dataclass(frozen=True)
class Setup:
    """What `init` is to write.

    Attributes
    ----------
    aios : Path
        The checkout.
    manifest, history : Path
    quality_target : float
    changes : tuple of FileChange
        The files that differ; none where everything is set up already.
    notes : tuple of str
        What needs the user's attention.
    """

    aios: Path
    manifest: Path
    history: Path
    quality_target: float
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...]

    def write(self) -> list[Path]:
        """Write the changes; returns the copies of the files that were there before.

        Raises
        ------
        AiosError
            A file cannot be written.
        """
        return [backup for change in self.changes for backup in _written(change)]


def unpriced_models(aios: Path) -> list[str]:
    """The models of AIOS's config for which neither litellm nor the backend gives a price.

    Raises
    ------
    AiosError, ConfigError
        As `plan_setup`.
    """
    aios = require_checkout(aios)
    models = _served(read_checkout_config(aios), aios / CONFIG_IN_CHECKOUT)
    return [model.name for model in models if _known_price(model) is None]


def served_models(aios: Path) -> list[Model]:
    """The models that become cores.

    Raises
    ------
    AiosError, ConfigError
        As `plan_setup`.
    """
    aios = require_checkout(aios)
    return _served(read_checkout_config(aios), aios / CONFIG_IN_CHECKOUT)


def plan_setup(aios: Path, choices: Choices) -> Setup:
    """Compare what AIOS's config and manifest should say with what they say; changes nothing.

    A manifest that exists is kept as it is.

    Raises
    ------
    AiosError
        The folder is not an AIOS checkout.
    ConfigError
        AIOS's config is not YAML, names no models, or is written in a form that cannot be edited; or the
        manifest that exists is wrong.
    """
    aios = require_checkout(aios)
    content = read_checkout_config(aios)
    file = (aios / CONFIG_IN_CHECKOUT).resolve()
    models = _served(content, file)
    values = _section(content, choices, file)
    section = values["eccos"]
    manifest, history = file.parent / section["manifest"], file.parent / section["history"]
    changes = [_config_change(file, {"scheduler": values})]
    notes = [
        f"AIOS's config lists {later.name} again; AIOS uses the first, at {first.hostname or first.backend}"
        for later, first in never_served(models_of(_entries(content)))
    ]
    if manifest.exists():
        notes += _kept(manifest, models)
    else:
        changes.insert(0, FileChange(manifest, None, _manifest(models, choices)))
    differing = tuple(change for change in changes if change.before != change.after)
    return Setup(aios, manifest, history, section["quality_target"], differing, tuple(notes))


def _entries(content: Mapping[str, Any]) -> Sequence[Any]:
    llms = content.get("llms")
    entries = llms.get("models") if isinstance(llms, dict) else None
    return entries if isinstance(entries, list) else []


def _served(content: Mapping[str, Any], file: Path) -> list[Model]:
    entries = _entries(content)
    if not entries:
        raise ConfigError(
            str(file), "llms.models", ABSENT, "lists no models: name AIOS's cores there, then run init again"
        )
    for position, entry in enumerate(entries):
        for key in ("name", "backend"):
            if not isinstance(entry, dict) or not isinstance(entry.get(key), str) or not entry[key]:
                value = entry.get(key, ABSENT) if isinstance(entry, dict) else entry
                at = f"llms.models[{position}].{key}"
                raise ConfigError(str(file), at, value, "must be text: AIOS leaves such a model out")
    by_name: dict[str, Model] = {}
    for model in models_of(entries):
        by_name.setdefault(model.name, model)
    return list(by_name.values())


def _section(content: Mapping[str, Any], choices: Choices, file: Path) -> dict[str, Any]:
    """The values to set in ``scheduler``; of the options that are there already only those chosen."""
    scheduler = content.get("scheduler") or {}
    if not isinstance(scheduler, dict):
        raise ConfigError(str(file), "scheduler", scheduler, "must be a mapping of keys to values")
    kind = scheduler.get("scheduler_type", "fifo")
    if str(kind).lower() not in SCHEDULER_TYPES:
        allowed = f"must be one of {', '.join(SCHEDULER_TYPES)}"
        raise ConfigError(str(file), "scheduler.scheduler_type", kind, allowed)
    eccos = scheduler.get("eccos") or {}
    if not isinstance(eccos, dict):
        raise ConfigError(str(file), "scheduler.eccos", eccos, "must be a mapping of keys to values")
    chosen = {
        "manifest": (choices.manifest, "cores.yaml"),
        "history": (choices.history, "history.db"),
        "quality_target": (choices.quality_target, 0.8),
    }
    values = {
        key: eccos.get(key, default) if value is None else value for key, (value, default) in chosen.items()
    }
    return {"scheduler_type": "eccos", "eccos": values}


def _config_change(file: Path, values: Mapping[str, Any]) -> FileChange:
    before = file.read_bytes().decode("utf-8")
    mark, text = ("\ufeff", before[1:]) if before.startswith("\ufeff") else ("", before)
    try:
        return FileChange(file, before, mark + with_values(text, values))
    except UneditableYamlError as error:
        lines = " / ".join(line.strip() for line in as_lines(values["scheduler"]))
        reason = f"{error}: write these lines there yourself: {lines}"
        raise ConfigError(str(file), "scheduler", ABSENT, reason) from error


def _kept(manifest: Path, models: Sequence[Model]) -> Iterator[str]:
    names = set(read_manifest(manifest).names)
    missing = [model.name for model in models if model.name not in names]
    if missing:
        yield (
            f"{manifest} is kept; it lacks {', '.join(missing)} of AIOS's config: add them, or move it away "
            "and run init again"
        )


def _manifest(models: Sequence[Model], choices: Choices) -> str:
    return _HEAD + "\n".join(line for model in models for line in _core_lines(model, choices)) + "\n"


def _core_lines(model: Model, choices: Choices) -> Iterator[str]:
    name = as_lines({"name": model.name})[0]
    yield f"  - {name}"
    stated = choices.quotas.get(model.name)
    yield f"    quota: {stated or DEFAULT_QUOTA}" + ("" if stated else "  # the default")
    price, remark = choices.prices.get(model.name), ""
    if price is None:
        price = _known_price(model)
        is_local = model.backend in LOCAL_BACKENDS
        remark = "  # your own hardware" if is_local else "  # by litellm's list: check it"
    if price is None:
        yield "    # price: {input: 0.00, output: 0.00}  # unknown: counts as the dearest other core's"
        return
    figures = ", ".join(f"{side}: {getattr(price, side):.6g}" for side in ("input", "output"))
    yield f"    price: {{{figures}}}{remark}"


def _known_price(model: Model) -> Price | None:
    return Core(name=model.name).at_backend(model.backend).known_price


def _written(change: FileChange) -> list[Path]:
    """Write a change; returns the copy of the file that was there before."""
    try:
        backups = [] if change.before is None else [_backup(change.path)]
        with replaced_file(change.path) as file:
            file.write(change.after.encode())
            mode = NEW_FILE_MODE if change.before is None else change.path.stat().st_mode
            os.fchmod(file.fileno(), stat.S_IMODE(mode))
    except OSError as error:
        raise AiosError(str(change.path), "", ABSENT, f"cannot be written: {error.strerror}") from error
    return backups


def _backup(path: Path) -> Path:
    """A copy beside a file; an earlier copy is never overwritten."""
    number = 0
    while (copy := path.with_name(f"{path.name}.bak{number or ''}")).exists():
        number += 1
    shutil.copy2(path, copy)
    return copy
