"""The places of AIOS that ECCOS relies on: the one list that activation, doctor and tests share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

WRITTEN_FOR = "2155966"  # the revision of AIOS that the list was written for

SHOWN_FAULTS = 4  # in one line

SCHEDULER = "scheduler"  # scheduler_type: eccos
SHADOW = "shadow"  # the same with mode: shadow
ROUTER = "router"  # llms.router.strategy: eccos
USAGE = "usage"  # token counts of the provider; without them tokens are counted here

ANY_NEED = (SCHEDULER, SHADOW, ROUTER)

OF_CHECKOUT = ("aios", "runtime")  # packages of AIOS's checkout; all others are installed beside it


@dataclass(frozen=True)
class Target:
    """One place of AIOS.

    Attributes
    ----------
    module : str
        Its module's full name.
    path : str
        The attribute, through classes and instances (``LLMAdapter.execute_llm_syscall``).
    use : str
        What ECCOS does with it.
    needed_for : tuple of str
        What cannot work without it. Empty: it is used if it is there.
    parameters : tuple of str, optional
        Positional parameters that it is called with; empty: those that AIOS passes. None: it is not called.
    of_instance : bool
        Whether only instances of the class have it.
    """

    module: str
    path: str
    use: str
    needed_for: tuple[str, ...] = ()
    parameters: tuple[str, ...] | None = ()
    of_instance: bool = False

    @property
    def name(self) -> str:
        """Module and attribute."""
        return f"{self.module}.{self.path}"


CONFIG = "aios.config.config_manager"
FACTORIES = "aios.hooks.modules.scheduler"
QUEUE = "aios.hooks.stores.queue"
ADAPTER = "aios.llm_core.adapter"
LAUNCHER = "runtime.launch"
OWN_SCHEDULERS = "aios.scheduler.base"

FACTORY_NAMES = ("fifo_scheduler_nonblock", "rr_scheduler_nonblock")
ADD_MESSAGE = "addMessage"
MAKE_ADAPTER = "LLMAdapter.__init__"
START_THREADS = "BaseScheduler.start_processing_threads"

WRAPPED_MODULES = (FACTORIES, QUEUE, ADAPTER)

_KINDS = ("llm", "memory", "storage", "tool")
_CALLED_ON_SYSCALLS = {
    "get_pid": (),
    "get_priority": (),
    "get_start_time": (),
    "set_start_time": ("time",),
    "set_end_time": ("time",),
    "set_status": ("status",),
    "set_response": ("response",),
    "set_time_limit": ("time_limit",),
}

TARGETS: tuple[Target, ...] = (
    Target(CONFIG, "config.get_scheduler_config", "says whether ECCOS schedules", ANY_NEED),
    Target(CONFIG, "config.get_llms_config", "names the cores and the router strategy", ANY_NEED),
    Target(CONFIG, "config.config_path", "where relative paths start", ANY_NEED, None),
    *(
        Target(FACTORIES, name, "makes the scheduler: ECCOS's takes its place", (SCHEDULER, SHADOW))
        for name in FACTORY_NAMES
    ),
    Target("aios.hooks.types.scheduler", "SchedulerParams", "what a scheduler is made with", (SCHEDULER,)),
    *(
        Target(
            "aios.hooks.stores._global",
            f"global_{kind}_req_queue_get_message",
            f"gives the next {kind} syscall",
            (SCHEDULER,),
        )
        for kind in _KINDS
    ),
    Target(QUEUE, ADD_MESSAGE, "queues a syscall: after a cleanup it is answered there", (SCHEDULER,)),
    Target(
        ADAPTER,
        "LLMAdapter.execute_llm_syscall",
        "sends a call to its core",
        (SCHEDULER,),
        ("model_idx", "llm_syscall"),
    ),
    Target(
        ADAPTER,
        "LLMAdapter.available_llm_names",
        "the cores that AIOS has",
        (SCHEDULER,),
        None,
        of_instance=True,
    ),
    Target(
        ADAPTER,
        "LLMAdapter._dynamic_register_ollama_model",
        "registers an Ollama model that an agent names",
        (),
        ("model_name",),
    ),
    Target(ADAPTER, MAKE_ADAPTER, "makes the router: ECCOS's takes its place", (ROUTER,)),
    Target(ADAPTER, "config.get_router_config", "names the router strategy", (ROUTER,)),
    Target(ADAPTER, "LLMAdapter.llm_configs", "the cores to route to", (ROUTER,), None, of_instance=True),
    Target(ADAPTER, "LLMAdapter.router", "holds the router", (ROUTER, SHADOW), None, of_instance=True),
    Target(
        "aios.llm_core.routing",
        "SequentialRouting.get_model_idxs",
        "how AIOS asks a router",
        (ROUTER, SHADOW),
        ("selected_llm_lists", "queries"),
    ),
    Target(
        "aios.llm_core.routing",
        "SequentialRouting.llm_configs",
        "the cores that a router knows",
        (SHADOW,),
        None,
        of_instance=True,
    ),
    *(
        Target("aios.syscall", f"Syscall.{name}", "reads and answers a syscall", (SCHEDULER,), parameters)
        for name, parameters in _CALLED_ON_SYSCALLS.items()
    ),
    *(
        Target("aios.syscall", f"Syscall.{name}", "reads a syscall", (SCHEDULER,), None, of_instance=True)
        for name in ("agent_name", "query", "event")
    ),
    *(
        Target(
            f"cerebrum.{kind}.apis", f"{class_name}Response", "answers a call that ended here", (SCHEDULER,)
        )
        for kind, class_name in zip(_KINDS, ("LLM", "Memory", "Storage", "Tool"), strict=True)
    ),
    Target(LAUNCHER, "app", "serves the /eccos endpoints", (SCHEDULER, SHADOW), None),
    Target(OWN_SCHEDULERS, START_THREADS, "shows that AIOS starts its own scheduler"),
    Target("litellm", "completion", "reports tokens", (USAGE,)),
    Target("openai.resources.chat.completions", "Completions.create", "reports tokens", (USAGE,)),
)


@dataclass(frozen=True)
class Fault:
    """A target that is not as ECCOS needs it.

    Attributes
    ----------
    target : Target
    found : str
        The fault, to follow its name: ``is missing``.
    """

    target: Target
    found: str

    def __str__(self) -> str:
        return f"{self.target.name} {self.found} ({self.target.use})"


def targets_for(needs: Iterable[str]) -> list[Target]:
    """The targets that at least one of the needs requires."""
    asked = frozenset(needs)
    return [target for target in TARGETS if not asked.isdisjoint(target.needed_for)]


def attribute(module: ModuleType, path: str) -> Any:
    """The attribute at a target's path in its module; None if there is none."""
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def summary(faults: Sequence[Fault], revision: str | None) -> str:
    """The faults in one line, with AIOS's revision and the one that ECCOS was written for."""
    this = "of unknown revision" if revision is None else f"at revision {revision}"
    shown = [str(fault) for fault in faults[:SHOWN_FAULTS]]
    if len(faults) > SHOWN_FAULTS:
        shown.append(f"and {len(faults) - SHOWN_FAULTS} more")
    return f"AIOS {this} lacks what ECCOS, written for revision {WRITTEN_FOR}, needs: {'; '.join(shown)}"
