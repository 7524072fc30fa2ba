"""Installs the hooks when AIOS is imported; they stay idle unless AIOS's config asks for ECCOS.

Every hook runs inside `shielded` and touches only places listed in `targets`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import wrapt

from eccos_aios.errors import EccosError
from eccos_aios.hooks import targets
from eccos_aios.hooks.active import ACTIVE
from eccos_aios.hooks.clients import drop_if_client_gone
from eccos_aios.hooks.launcher import checkout_of_process, kernel_module, server_of_worker
from eccos_aios.hooks.shield import Refusal, check_shape, shielded
from eccos_aios.hooks.switch import asks_for_router, needs_of_process
from eccos_aios.hooks.targets import ROUTER, SCHEDULER, SHADOW

if TYPE_CHECKING:
    from eccos_aios.config import EccosConfig
    from eccos_aios.hooks.scheduler import EccosScheduler
    from eccos_aios.hooks.shadow import ShadowRouting

LOADED_FOR = {
    SCHEDULER: ("factories", "kernel_app"),
    SHADOW: ("shadow", "kernel_app"),
    ROUTER: ("routing",),
}

_registered: list[str] = []


def activate(kernel: Path | None = None) -> str | None:
    """Register the import hooks; once is enough.

    Parameters
    ----------
    kernel : Path, optional
        The checkout whose kernel this process is about to start. Default: found out.

    Returns
    -------
    str or None
        The message to exit with, where this process is a kernel whose config asks for ECCOS but whose AIOS
        lacks what ECCOS needs; None: continue.
    """
    if not _registered:
        for module, hook in (
            (targets.FACTORIES, _hook_factories),
            (targets.QUEUE, _hook_queue),
            (targets.ADAPTER, _hook_adapter),
            (targets.OWN_SCHEDULERS, _hook_own_schedulers),
        ):
            _registered.append(module)
            wrapt.register_post_import_hook(_after_import(hook), module)
    try:
        check_shape(kernel)
    except Refusal as refusal:
        return str(refusal)
    return None


def _after_import(hook: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def after_import(module: ModuleType) -> None:
        check_shape()  # of a kernel that starts after AIOS was first imported
        hook(module)

    return after_import


def _wrap(module: ModuleType, path: str, wrapper: Callable[..., Any], *needed_for: str) -> None:
    with shielded(needed_for, importing=True):
        wrapt.wrap_function_wrapper(module, path, wrapper)


def _hook_factories(module: ModuleType) -> None:
    for name in targets.FACTORY_NAMES:
        _wrap(module, name, _make_scheduler, SCHEDULER, SHADOW)
    with shielded(importing=True):
        _check_before_start()


def _hook_queue(module: ModuleType) -> None:
    _wrap(module, targets.ADD_MESSAGE, _add_message, SCHEDULER)


def _hook_adapter(module: ModuleType) -> None:
    _wrap(module, targets.MAKE_ADAPTER, _make_adapter, ROUTER)


def _hook_own_schedulers(module: ModuleType) -> None:
    # ECCOS does not need this place: an AIOS that starts its schedulers otherwise only loses a check.
    if targets.attribute(module, targets.START_THREADS) is not None:
        _wrap(module, targets.START_THREADS, _start_own_scheduler)


def _check_before_start() -> None:
    """Refuse a wrong config before AIOS has loaded models and started threads and servers."""
    if kernel_module() is None:
        return
    needs = needs_of_process()
    if not needs:
        return
    from eccos_aios.hooks.kernel_config import check, kernel_config, kernel_model_names

    config = kernel_config()
    check(config, kernel_model_names())
    for need in needs:
        for module in LOADED_FOR[need]:  # an import error shows here, not in the running kernel
            import_module(f"eccos_aios.hooks.{module}")
    if SCHEDULER in needs:
        _claim(config, server_of_worker())
        _try_store(config)


def _claim(config: EccosConfig, server: int | None = None) -> None:
    from eccos_aios.runtime.claim import claim

    claim(config.manifest, shared=config.shared is not None, server=server)


def _try_store(config: EccosConfig) -> None:
    from eccos_aios.runtime.outcome_log import open_store

    store = open_store(config)
    if store is not None:
        store.close()


def _make_scheduler(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    scheduler: EccosScheduler | None = None
    shadow: ShadowRouting | None = None
    with shielded((SCHEDULER, SHADOW)):
        needs = needs_of_process()
        if SCHEDULER in needs:
            scheduler = _eccos_scheduler(kwargs)
        elif SHADOW in needs:
            shadow = _shadow(kwargs["llm"])
    if scheduler is not None:
        return scheduler
    own = wrapped(*args, **kwargs)
    with shielded((SHADOW,)):
        ACTIVE.set_aios(own, shadow)
        if shadow is not None:
            _extend(None)
    return own


def _eccos_scheduler(parameters: dict[str, Any]) -> EccosScheduler:
    from eccos_aios.hooks.kernel_config import kernel_config

    config = kernel_config()  # errors in the config are reported before those about AIOS
    _require_targets(SCHEDULER)
    _claim(config)
    from eccos_aios.hooks.factories import eccos_scheduler_nonblock

    scheduler = eccos_scheduler_nonblock(**parameters)
    _extend(scheduler)
    return scheduler


def _shadow(llm: Any) -> ShadowRouting:
    """Shadow mode: ECCOS watches AIOS's own scheduler and router."""
    from eccos_aios.hooks.kernel_config import kernel_config

    config = kernel_config()
    _require_targets(SHADOW)
    from eccos_aios.hooks.shadow import ShadowRouting

    llm.router = shadow = ShadowRouting(llm.router, config)
    return shadow


def _require_targets(need: str) -> None:
    from eccos_aios.hooks.shape import faults_in_process, require_none

    require_none(faults_in_process(targets.targets_for((need,))), checkout_of_process())


def _extend(scheduler: EccosScheduler | None) -> None:
    from eccos_aios.hooks.kernel_app import extend

    extend(scheduler)


def _start_own_scheduler(wrapped: Any, scheduler: Any, args: Any, kwargs: Any) -> Any:
    """AIOS starts its own scheduler, which is an error if the config asks for ECCOS."""
    with shielded((SCHEDULER,)):
        if kernel_module() is not None and SCHEDULER in needs_of_process():
            made = " or ".join(targets.FACTORY_NAMES)
            raise EccosError(
                f"AIOS starts its {type(scheduler).__name__} although scheduler_type is eccos: it makes its "
                f"scheduler by something else than {targets.FACTORIES}.{made}; this was written for AIOS "
                f"{targets.WRITTEN_FOR}"
            )
    if not ACTIVE.was_set:  # not made through the hooks; from now on a refusal fails a refresh only
        ACTIVE.set_aios(scheduler)
    return wrapped(*args, **kwargs)


def _add_message(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
    """Queue a syscall; after ``/core/cleanup`` no thread reads the queue, so it is answered at once."""
    scheduler = ACTIVE.scheduler
    if scheduler is None:
        return wrapped(*args, **kwargs)
    with shielded((SCHEDULER,)):
        if drop_if_client_gone(kwargs["message"] if "message" in kwargs else args[-1]):
            return None
    added = wrapped(*args, **kwargs)
    with shielded((SCHEDULER,)):
        if scheduler.service.stopped:
            scheduler.refuse_queued()
    return added


def _make_adapter(wrapped: Any, adapter: Any, args: Any, kwargs: Any) -> None:
    needs: frozenset[str] = frozenset()
    with shielded((ROUTER,)):
        if _router_is_asked():
            needs = needs_of_process()
            _hide_strategy(sys.modules[targets.ADAPTER])
    wrapped(*args, **kwargs)
    # The scheduler chooses the core of each call: a router would only read the history again.
    if ROUTER in needs and SCHEDULER not in needs:
        with shielded((ROUTER,)):
            _give_router(adapter)


def _give_router(adapter: Any) -> None:
    from eccos_aios.hooks.kernel_config import kernel_config

    config = kernel_config()
    _require_targets(ROUTER)
    from eccos_aios.hooks.routing import EccosRouting

    adapter.router = EccosRouting(adapter.llm_configs, config)


def _router_is_asked() -> bool:
    from aios.config.config_manager import config

    return asks_for_router(config.get_llms_config())


def _hide_strategy(module: Any) -> None:
    """Hide ECCOS's router strategy from AIOS's adapter, which rejects strategies that it does not know."""
    if not isinstance(module.config, _SequentialWhereEccos):
        module.config = _SequentialWhereEccos(module.config)


class _SequentialWhereEccos(wrapt.ObjectProxy):  # type: ignore[misc,type-arg,unused-ignore]
    """AIOS's config with the default strategy in place of ECCOS's, whose router is set afterwards."""

    def get_router_config(self) -> dict[str, Any]:
        section: dict[str, Any] = self.__wrapped__.get_router_config()
        return {**section, "strategy": "sequential"} if _router_is_asked() else section
