"""Puts the hooks in place when AIOS is imported; they stay idle unless AIOS's config asks for ECCOS."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import wrapt

from eccos_aios.errors import ConfigError, EccosError
from eccos_aios.hooks.claim import claim
from eccos_aios.hooks.clients import is_for_nobody
from eccos_aios.hooks.kernel_app import extend, kernel_module
from eccos_aios.hooks.seat import SEAT

if TYPE_CHECKING:
    from eccos_aios.config import EccosConfig

SCHEDULER_TYPES = ("fifo", "rr", "eccos")
ROUTER_STRATEGY = "eccos"
_registered: list[str] = []


def activate() -> None:
    """Register the import hooks; once is enough."""
    if _registered:
        return
    for name, hook in (
        ("aios.hooks.modules.scheduler", _wrap_scheduler_module),
        ("aios.hooks.stores.queue", _wrap_queue_module),
        ("aios.llm_core.adapter", _wrap_adapter_module),
    ):
        _registered.append(name)
        wrapt.register_post_import_hook(hook, name)


def asks_for_scheduler(scheduler_section: Any, config_file: Path) -> bool:
    """Whether AIOS's ``scheduler`` section names ECCOS.

    Raises
    ------
    ConfigError
        ``scheduler_type`` is none of the known ones although there is a ``scheduler.eccos`` section.
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


def _scheduler_asked() -> bool:
    from aios.config.config_manager import config

    return asks_for_scheduler(config.get_scheduler_config(), Path(config.config_path))


def _router_asked() -> bool:
    from aios.config.config_manager import config

    return asks_for_router(config.get_llms_config())


def _wrap_scheduler_module(module: ModuleType) -> None:
    for name in ("fifo_scheduler_nonblock", "rr_scheduler_nonblock"):
        wrapt.wrap_function_wrapper(module, name, _make_scheduler)
    _check_before_start()


def _check_before_start() -> None:
    """Refuse a wrong config before AIOS has loaded models and started threads and servers."""
    if kernel_module() is None:
        return
    try:
        if _scheduler_asked() or _router_asked():
            from eccos_aios.hooks.setup import check, kernel_config, kernel_model_names

            config = kernel_config()
            check(config, kernel_model_names())
            if _schedules(config):
                claim(config.manifest, may_wait=True)
                _try_store(config)
    except EccosError as error:
        _refuse(error)


def _schedules(config: EccosConfig) -> bool:
    """Whether ECCOS's own scheduler runs, which asks no router."""
    return _scheduler_asked() and config.mode == "schedule"


def _try_store(config: EccosConfig) -> None:
    from eccos_aios.hooks.history import open_store

    store = open_store(config)
    if store is not None:
        store.close()


def _make_scheduler(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    try:
        if not _scheduler_asked():
            scheduler = wrapped(*args, **kwargs)
            SEAT.leave(scheduler)
            return scheduler
        from eccos_aios.hooks.setup import kernel_config

        config = kernel_config()
        if config.mode == "shadow":
            return _watch(wrapped, config, args, kwargs)
        claim(config.manifest)
        from eccos_aios.hooks.modules import eccos_scheduler_nonblock

        scheduler = eccos_scheduler_nonblock(*args, **kwargs)
    except EccosError as error:
        _refuse(error)
    extend(scheduler)
    return scheduler


def _watch(wrapped: Any, config: EccosConfig, args: Any, kwargs: Any) -> Any:
    """AIOS's own scheduler, with ECCOS looking on."""
    from eccos_aios.hooks.shadow import ShadowRouting

    llm = kwargs["llm"]
    llm.router = shadow = ShadowRouting(llm.router, config)
    scheduler = wrapped(*args, **kwargs)
    SEAT.leave(scheduler, shadow)
    extend(None)
    return scheduler


def _wrap_queue_module(module: ModuleType) -> None:
    wrapt.wrap_function_wrapper(module, "addMessage", _add_message)


def _add_message(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    """Queue a syscall; after ``/core/cleanup`` nobody would ever read it, so it is answered at once."""
    if is_for_nobody(args[-1]):
        return None
    added = wrapped(*args, **kwargs)
    ours = SEAT.ours
    if ours is not None and ours.stopped:
        ours.refuse_queued()
    return added


def _wrap_adapter_module(module: ModuleType) -> None:
    module.config = _SequentialWhereEccos(module.config)  # type: ignore[attr-defined]
    wrapt.wrap_function_wrapper(module, "LLMAdapter.__init__", _init_adapter)


def _init_adapter(wrapped: Any, adapter: Any, args: Any, kwargs: Any) -> None:
    wrapped(*args, **kwargs)
    if not _router_asked():
        return
    try:
        from eccos_aios.hooks.setup import kernel_config

        config = kernel_config()
        if _schedules(config):
            return  # the scheduler names the core of each call: a router would only learn the history twice
        from eccos_aios.hooks.llm_core import EccosRouting

        adapter.router = EccosRouting(adapter.llm_configs, config)
    except EccosError as error:
        _refuse(error)


class _SequentialWhereEccos(wrapt.ObjectProxy):  # type: ignore[misc,type-arg,unused-ignore]
    """AIOS's config as its adapter sees it: the adapter refuses a strategy that it does not know.

    It is told the default, and given the ECCOS router once it stands.
    """

    def get_router_config(self) -> dict[str, Any]:
        section: dict[str, Any] = self.__wrapped__.get_router_config()
        return {**section, "strategy": "sequential"} if _router_asked() else section


def _refuse(error: EccosError) -> NoReturn:
    """Stop a kernel that starts with one line; fail a refresh, and leave what runs as it is."""
    if SEAT.taken:
        raise error
    raise SystemExit(f"eccos-aios: {error}")
