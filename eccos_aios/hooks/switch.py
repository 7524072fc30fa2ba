"""What an AIOS config asks for: the scheduler, shadow mode, the router, or nothing of ECCOS."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from eccos_aios.errors import ConfigError
from eccos_aios.hooks.launcher import checkout_of_process
from eccos_aios.hooks.targets import ROUTER, SCHEDULER, SHADOW

SCHEDULER_TYPES = ("fifo", "rr", "eccos")
ROUTER_STRATEGY = "eccos"
CONFIG_IN_CHECKOUT = Path("aios") / "config" / "config.yaml"


def asks_for_scheduler(scheduler_section: Any, config_file: Path) -> bool:
    """Whether AIOS's ``scheduler`` section names ECCOS.

    Raises
    ------
    ConfigError
        ``scheduler_type`` is unknown although there is a ``scheduler.eccos`` section.
    """
    section = scheduler_section if isinstance(scheduler_section, dict) else {}
    scheduler_type = section.get("scheduler_type")
    if scheduler_type is None:
        return False
    if str(scheduler_type).lower() in SCHEDULER_TYPES:
        return str(scheduler_type).lower() == "eccos"
    if "eccos" in section:
        raise ConfigError(
            str(config_file),
            "scheduler.scheduler_type",
            scheduler_type,
            f"must be one of {', '.join(SCHEDULER_TYPES)}",
        )
    return False


def asks_for_router(llms_section: Any) -> bool:
    """Whether AIOS's ``llms`` section names ECCOS as its router strategy."""
    router = llms_section.get("router") if isinstance(llms_section, dict) else None
    return isinstance(router, dict) and router.get("strategy") == ROUTER_STRATEGY


def needs_of(scheduler_section: Any, llms_section: Any, config_file: Path) -> frozenset[str]:
    """What the sections ask for: scheduler or shadow mode, the router, both, or nothing.

    Raises
    ------
    ConfigError
        As `asks_for_scheduler`.
    """
    needs = {ROUTER} if asks_for_router(llms_section) else set()
    if asks_for_scheduler(scheduler_section, config_file):
        section = scheduler_section.get("eccos")
        needs.add(SHADOW if isinstance(section, dict) and section.get("mode") == "shadow" else SCHEDULER)
    return frozenset(needs)


def needs_of_process() -> frozenset[str]:
    """What this process's config asks for: as AIOS has loaded it, else as it is on disk.

    Raises
    ------
    ConfigError
        As `asks_for_scheduler`.
    """
    if "aios" not in sys.modules:  # its import may be under way, and must not start twice
        return needs_on_disk(checkout_of_process())
    try:
        from aios.config.config_manager import config

        scheduler, llms = config.get_scheduler_config(), config.get_llms_config()
        file = Path(config.config_path)
    except Exception:  # noqa: BLE001 - an AIOS that differs from the known one
        return needs_on_disk(checkout_of_process())
    return needs_of(scheduler, llms, file)


def has_config(checkout: Path) -> bool:
    """Whether a checkout has a config; each has one that was started before."""
    return (checkout / CONFIG_IN_CHECKOUT).is_file()


def needs_on_disk(checkout: Path | None) -> frozenset[str]:
    """What the config of a checkout asks for; nothing where it has none, or one that cannot be read.

    Raises
    ------
    ConfigError
        As `asks_for_scheduler`.
    """
    try:
        content = b"" if checkout is None else (checkout / CONFIG_IN_CHECKOUT).read_bytes()
    except OSError:
        return frozenset()
    # Without the word there is nothing to parse: this is all that a start with ECCOS off costs.
    if checkout is None or b"eccos" not in content.lower():
        return frozenset()
    import yaml  # AIOS needs it too, so it is there even if this package's installation is broken

    try:
        sections = yaml.safe_load(content)
    except yaml.YAMLError:
        return frozenset()  # AIOS reports it
    sections = sections if isinstance(sections, dict) else {}
    return needs_of(sections.get("scheduler"), sections.get("llms"), checkout / CONFIG_IN_CHECKOUT)
