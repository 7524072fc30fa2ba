"""Keys of AIOS's config that are spelt almost right, or stand in the wrong section: AIOS ignores them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from eccos_aios.hooks.doctor.finding import Finding
from eccos_aios.hooks.switch import ROUTER_STRATEGY, SCHEDULER_TYPES

SIMILAR = 0.75  # of difflib
# By section the keys that ECCOS reads.
KEYS = {
    "": ("llms", "scheduler"),
    "scheduler": ("scheduler_type", "eccos"),
    "llms": ("models", "router"),
    "llms.router": ("strategy",),
}


def check_spelling(content: Mapping[str, Any]) -> Iterator[Finding]:
    """Near misses among keys and values, by section."""
    for section, keys in KEYS.items():
        found = _section(content, section)
        for key in map(str, found):
            if key not in keys:
                yield from _misspelt(section, key, [each for each in keys if each not in found])
        yield from _misplaced(section, found)
    yield from _near_value("scheduler.scheduler_type", _section(content, "scheduler"), SCHEDULER_TYPES)
    strategies = ("sequential", "smart", ROUTER_STRATEGY)
    yield from _near_value("llms.router.strategy", _section(content, "llms.router"), strategies)


def _section(content: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    found: Any = content
    for part in path.split(".") if path else ():
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _misspelt(section: str, key: str, absent: list[str]) -> Iterator[Finding]:
    for meant in get_close_matches(key.lower(), absent, n=1, cutoff=SIMILAR):
        yield Finding(
            "fail",
            "spelling",
            f"{_path(section, key)}: AIOS and ECCOS ignore this key",
            f"write it {meant}",
        )


def _misplaced(section: str, found: Mapping[str, Any]) -> Iterator[Finding]:
    for key in KEYS["scheduler"]:
        if section != "scheduler" and key in found:
            place = "move it into the section scheduler"
            yield Finding("fail", "spelling", f"{_path(section, key)} is ignored there", place)


def _near_value(path: str, section: Mapping[str, Any], allowed: tuple[str, ...]) -> Iterator[Finding]:
    value = section.get(path.rpartition(".")[2])
    if not isinstance(value, str) or value.lower() in allowed:
        return
    for meant in get_close_matches(value.lower(), allowed, n=1, cutoff=SIMILAR):
        yield Finding(
            "fail", "spelling", f"{path}: {value!r} is none of {', '.join(allowed)}", f"write it {meant}"
        )


def _path(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key
