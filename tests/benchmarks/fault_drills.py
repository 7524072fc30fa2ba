"""What a real AIOS kernel with ECCOS does under faults: each drill starts kernels of its own and gives figures.

Answers, times and requests are counted by the callers and by the cores, never by the kernel.
"""

from __future__ import annotations

import http.client
import itertools
import json
import math
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aios_overlay import Aios

from eccos_aios.sandbox.aios import AiosKernel
from eccos_aios.sandbox.fault import FAULT_KINDS, FaultKind
from eccos_aios.sandbox.server import SandboxCore

LATENCY_S = 0.2
PATIENCE_S = 45.0  # seconds after which a caller gives a call up: it counts as not answered
STATUS_EVERY_S = 0.05
RETRY_EVERY_S = 0.1
BOOT_MODULE = "fault_boot"  # runs in the kernel, and knows the faults below by name
WRONG_PREDICTORS = ("none", "transposed", "one-dimensional", "empty", "object", "exit", "nan", "seven")
THREADS = "threads"
ARRIVAL_S = 2.0  # seconds that calls which were sent get to be read by the kernel
THREADS_FAIL_S = 2.0
THREADS_CALLS = 10
# All that another attempt can mend: the call itself is at fault in a plain 400, and what refuses connections
# strikes no share of the requests.
MENDABLE: tuple[FaultKind, ...] = tuple(kind for kind in FAULT_KINDS if kind not in ("400", "refused"))


class DrillError(Exception):
    """The kernel of a drill did not start."""


@dataclass(frozen=True)
class Options:
    """What a drill is run with.

    Attributes
    ----------
    max_attempts : int
        Of every drill's kernel. With every core failing one request in five, six leave one call in 15,000
        without an answer.
    attempt_timeout_s : float
        Seconds that a core gets for an attempt, five times what an answer takes.
    calls, callers : int
        Of the storm.
    """

    max_attempts: int = 6
    attempt_timeout_s: float = 1.0
    calls: int = 600
    callers: int = 32


@dataclass(frozen=True)
class Figure:
    """One figure of a drill.

    Attributes
    ----------
    drill, name : str
    value : float, int, str or None
        As measured; None where there was nothing to measure.
    asked : str
        What is asked of it; empty where it only explains others.
    met : bool or None
        Whether it is; None where nothing is asked.
    """

    drill: str
    name: str
    value: float | int | str | None
    asked: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Asked:
    """One call, as its caller saw it."""

    text: str
    began_s: float
    seconds: float
    answer: Mapping[str, Any] | None
    error: str | None

    @property
    def well(self) -> bool:
        """Whether the answer is that of a core that has read this very call."""
        return self.error is None and f"has read: {self.text}" in str(
            (self.answer or {}).get("response_message")
        )


def at_most(drill: str, name: str, value: float | None, bound: float, unit: str = "") -> Figure:
    """A figure that must not exceed a bound; not met where there is none."""
    met = value is not None and value <= bound
    return Figure(drill, name, value if value is None else round(value, 3), f"≤ {bound:g}{unit}", met)


def exactly(drill: str, name: str, value: object, wanted: object) -> Figure:
    """A figure that must be just that."""
    shown = value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    return Figure(drill, name, shown, str(wanted), value == wanted)


def p95(calls: Sequence[Asked]) -> float | None:
    """The 95th percentile of the seconds that calls took; None where there are none."""
    return _quantile(calls, 0.95)


def _quantile(calls: Sequence[Asked], share: float) -> float | None:
    taken = sorted(call.seconds for call in calls)
    return taken[math.ceil(share * len(taken)) - 1] if taken else None


def ratio(over: float | None, under: float | None) -> float | None:
    """One over the other, where both are there."""
    return None if over is None or not under else over / under


def ask(kernel: AiosKernel, text: str, agent: str = "drill", **query: Any) -> Asked:
    """Put one call, and wait for whatever becomes of it."""
    began_s = time.monotonic()
    try:
        answer = kernel.query(text, agent, timeout_s=PATIENCE_S, **query)
        error = answer["error"]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as fault:
        answer, error = None, f"{type(fault).__name__}: {fault}"
    return Asked(text, began_s, time.monotonic() - began_s, answer, error)


def ask_all(kernel: AiosKernel, texts: Sequence[str], callers: int, **query: Any) -> list[Asked]:
    """Put calls, so many at once."""
    with ThreadPoolExecutor(callers, thread_name_prefix="caller") as pool:
        return list(pool.map(lambda text: ask(kernel, text, **query), texts))


@dataclass
class Bench:
    """Starts the kernels of the drills.

    Attributes
    ----------
    aios : Aios
    options : Options
    on_step : callable
        Told what is being done.
    """

    aios: Aios
    options: Options = field(default_factory=Options)
    on_step: Callable[[str], None] = lambda _: None

    @contextmanager
    def kernel(
        self,
        quotas: Mapping[str, int],
        latency_s: float = LATENCY_S,
        environment: Mapping[str, str] | None = None,
        same_price: bool = False,
        **eccos: Any,
    ) -> Iterator[tuple[AiosKernel, list[SandboxCore]]]:
        """A kernel over cores with these quotas, each dearer than the one before unless at the same price.

        They are behind OpenAI's client and behind litellm in turn, as AIOS's vllm backend and all others
        are.

        Raises
        ------
        DrillError
            The kernel does not start.
        """
        section = {
            "manifest": "cores.yaml",
            "quality_target": 0.0,
            "max_attempts": self.options.max_attempts,
            "attempt_timeout_s": self.options.attempt_timeout_s,
            "call_timeout_s": PATIENCE_S - 5,
            "grace_s": 1.0,
            **eccos,
        }
        prices = itertools.repeat(1) if same_price else itertools.count(1)
        manifest = [
            {"name": name, "quota": quota, "price": {"input": price, "output": price}}
            for (name, quota), price in zip(quotas.items(), prices, strict=False)
        ]
        backends = {name: ("vllm", "hosted_vllm")[place % 2] for place, name in enumerate(quotas)}
        with ExitStack() as stack:
            cores = [stack.enter_context(SandboxCore(name, latency_s=latency_s)) for name in quotas]
            self.on_step("starting a kernel")
            kernel = stack.enter_context(
                self.aios.kernel(
                    cores,
                    {"scheduler_type": "eccos", "eccos": section},
                    {"cores.yaml": json.dumps({"cores": manifest})},
                    environment=environment,
                    backends=backends,
                )
            )
            if (refusal := kernel.refusal) is not None:
                raise DrillError(f"the kernel did not start: {refusal}")
            stack.callback(
                lambda: [core.heal() for core in cores]
            )  # a kernel ends sooner over cores that answer
            for name, backend in backends.items():  # what is imported with a first call is not measured
                ask(kernel, "Are you there?", llms=[{"name": name, "backend": backend}])
            for core in cores:
                core.reset_counts()
            yield kernel, cores


def storm(bench: Bench, kinds: Sequence[FaultKind] = MENDABLE, share: float = 0.2) -> list[Figure]:
    """Many calls over four cores that are well, then over the same cores failing in every way."""
    options, quotas = bench.options, dict.fromkeys(("core-a", "core-b", "core-c", "core-d"), 8)
    with bench.kernel(quotas, same_price=True) as (kernel, cores):
        bench.on_step(f"{options.calls} calls without faults")
        clean = ask_all(kernel, [f"calm {n}" for n in range(options.calls)], options.callers)
        over = Counter({core.name: core.max_in_flight for core in cores})
        for number, core in enumerate(cores):
            core.reset_counts()
            core.fail(kinds, share, seed=number)
        bench.on_step(f"{options.calls} calls, every core failing {share:.0%}")
        stormy = ask_all(kernel, [f"storm {n}" for n in range(options.calls)], options.callers)
        requests = sum((Counter(core.requests_by_text) for core in cores), Counter[str]())
        statuses = sum((Counter(core.stats["by_status"]) for core in cores), Counter[str]())
        for core in cores:
            over[core.name] = max(over[core.name], core.max_in_flight)
    each = [requests[call.text] for call in stormy]
    excess = max(most - quotas[name] for name, most in over.items())
    return [
        exactly("storm", "answered well, no faults", sum(call.well for call in clean), options.calls),
        exactly("storm", "answered well, faults", sum(call.well for call in stormy), options.calls),
        exactly("storm", "most in flight over a quota", max(0, excess), 0),
        at_most("storm", "requests per call, mean", sum(each) / len(each), 1.3),
        at_most("storm", "requests per call, most", max(each), options.max_attempts),
        Figure("storm", "requests by status", _by_status(statuses)),
        Figure("storm", "p50 without faults, s", _rounded(_quantile(clean, 0.5))),
        Figure("storm", "p95 without faults, s", _rounded(p95(clean))),
        Figure(
            "storm",
            "p50 over that without faults",
            _rounded(ratio(_quantile(stormy, 0.5), _quantile(clean, 0.5))),
        ),
        at_most("storm", "p95 over that without faults", ratio(p95(stormy), p95(clean)), 3),
        Figure("storm", "errors", _kinds_of_errors(stormy)),
    ]


def hung(bench: Bench, calls: int = 200, callers: int = 8) -> list[Figure]:
    """The cheaper of two cores hangs: what the calls cost that meet it, and those that come after."""
    timeout_s = bench.options.attempt_timeout_s
    with bench.kernel({"hanging": 16, "healthy": 16}) as (kernel, cores):
        healthy = [{"name": "healthy", "backend": "hosted_vllm"}]
        bench.on_step(f"{calls} calls to the healthy core alone")
        alone = ask_all(kernel, [f"alone {n}" for n in range(calls)], callers, llms=healthy)
        cores[0].fail("hang", everywhere=True)
        bench.on_step(f"{calls} calls, one of two cores hanging")
        with _watched(kernel, "hanging") as closed:
            began_s = time.monotonic()
            both = ask_all(kernel, [f"hung {n}" for n in range(calls)], callers)
    first = [call for call in both if not closed or call.began_s < closed[0]]
    after = [call for call in both if closed and call.began_s >= closed[0]]
    return [
        exactly("hung", "answered well", sum(call.well for call in both), calls),
        Figure(
            "hung", "seconds until the core was left alone", _rounded(closed[0] - began_s) if closed else None
        ),
        Figure("hung", "calls until then", len(first)),
        at_most("hung", "their p95 over the attempt timeout", ratio(p95(first), timeout_s), 2),
        Figure("hung", "p95 of the healthy core alone, s", _rounded(p95(alone))),
        at_most("hung", "p95 after over that alone", ratio(p95(after), p95(alone)), 1.5),
        Figure("hung", "slowest after, s", _rounded(_quantile(after, 1.0))),
    ]


def down(bench: Bench, kinds: Sequence[FaultKind] = ("refused", "500", "hang")) -> list[Figure]:
    """Every core down: when is a call told, and when is the first one answered once they are well?"""
    figures: list[Figure] = []
    with bench.kernel({"left": 4, "right": 4}) as (kernel, cores):
        for kind in kinds:
            for core in cores:
                core.fail(kind, everywhere=True)
            bench.on_step(f"every core down: {kind}")
            told = ask(kernel, f"down {kind}")
            named = sum(core.name in (told.error or "") for core in cores)
            later = ask(kernel, f"still down {kind}")
            for core in cores:
                core.heal()
            healed_s = time.monotonic()
            bench.on_step(f"every core well again after {kind}")
            well_s = _first_answer(kernel, f"up {kind}", healed_s)
            figures += [
                at_most("down", f"{kind}: seconds to the error", told.seconds if told.error else None, 5),
                exactly("down", f"{kind}: cores that it names", named, len(cores)),
                at_most("down", f"{kind}: of a second call", later.seconds if later.error else None, 5),
                at_most("down", f"{kind}: seconds from well to an answer", well_s, 2),
            ]
            _until_ok(kernel)
    return figures


def fair(bench: Bench, ahead: int = 400, times: int = 3) -> list[Figure]:
    """One call of one agent behind many of another, which are at the kernel already."""
    taken: list[Asked] = []
    still: list[int] = []
    answered = most = 0
    with bench.kernel({"only": 16}) as (kernel, cores):
        for number in range(times):
            bench.on_step(f"one call behind {ahead}, {number + 1} of {times}")
            with ExitStack() as stack:
                for core in cores:
                    core.reset_counts()
                sent = [_sent(kernel, f"many {number} {n}", "many") for n in range(ahead)]
                for connection in sent:
                    stack.callback(connection.close)
                _until(lambda: _come(kernel, cores) >= ahead, ARRIVAL_S)
                still.append(ahead - sum(cores[0].stats["by_status"].values()))
                taken.append(ask(kernel, f"one {number}", "one"))
                answered += sum(_received(connection) for connection in sent)
                most = max(most, cores[0].max_in_flight)
    return [
        at_most("fair", f"seconds behind {ahead} calls, the worst of {times}", _quantile(taken, 1.0), 0.5),
        Figure("fair", "their median", _rounded(_quantile(taken, 0.5))),
        Figure("fair", "calls that were still ahead, the fewest", min(still)),
        exactly("fair", "answered well", sum(call.well for call in taken), times),
        exactly("fair", "of those ahead", answered, ahead * times),
        at_most("fair", "most in flight", most, 16),
    ]


def sigterm(bench: Bench, callers: int = 8, grace_s: float = 2.0) -> list[Figure]:
    """SIGTERM while every call is at a core that hangs."""
    ended_s: float | None = None
    with bench.kernel({"left": 8, "right": 8}, grace_s=grace_s, attempt_timeout_s=30.0) as (kernel, cores):
        for core in cores:
            core.fail("hang", everywhere=True)
        with ThreadPoolExecutor(callers, thread_name_prefix="caller") as pool:
            calls = [pool.submit(ask, kernel, f"hanging {n}") for n in range(callers)]
            _until(lambda: sum(core.in_flight for core in cores) == callers)
            bench.on_step("SIGTERM")
            began_s = time.monotonic()
            kernel.process.send_signal(signal.SIGTERM)
            try:
                kernel.process.wait(PATIENCE_S)
                ended_s = time.monotonic() - began_s
            except subprocess.TimeoutExpired:
                kernel.process.kill()
            answers = [call.result() for call in calls]
    return [
        at_most("sigterm", "seconds to the end of the process", ended_s, grace_s + 2),
        exactly(
            "sigterm", "calls that got a response", sum(call.answer is not None for call in answers), callers
        ),
    ]


def predictors(bench: Bench, calls: int = 6) -> list[Figure]:
    """A process out of threads, and predictors that answer wrongly: is every call answered after that?"""
    boot = bench.aios.overlay / "boot"
    shutil.copy(Path(__file__).with_name(f"{BOOT_MODULE}.py"), boot)
    fault_file = boot / "fault"
    environment = {"ECCOS_TEST_BOOT": BOOT_MODULE, "ECCOS_DRILL": str(fault_file)}
    figures: list[Figure] = []
    left = [THREADS, *WRONG_PREDICTORS]
    while left:
        fault_file.write_text("")
        with bench.kernel({"left": 8, "right": 8}, environment=environment, call_timeout_s=10.0) as (
            kernel,
            _,
        ):
            whole = True
            while left and whole:  # the next one is owed a kernel that still answers
                fault = left.pop(0)
                bench.on_step(f"{fault}, then none")
                meanwhile, after = _under(kernel, fault_file, fault, calls)
                whole = after == calls
                figures += [
                    Figure("predictors", f"{fault}: answered well meanwhile", meanwhile),
                    exactly("predictors", f"{fault}: answered well after", after, calls),
                ]
    return figures


def revoked(bench: Bench, calls: int = 20) -> list[Figure]:
    """The key of the cheaper of two cores was revoked."""
    with bench.kernel({"revoked": 8, "healthy": 8}) as (kernel, cores):
        cores[0].fail("401", everywhere=True)
        bench.on_step(f"{calls} calls, one of two cores refusing")
        answers = ask_all(kernel, [f"revoked {n}" for n in range(calls)], 1)
        at_revoked = cores[0].requests
    return [
        exactly("revoked", "errors", sum(not call.well for call in answers), 0),
        Figure("revoked", "requests at the core that refuses", at_revoked),
    ]


DRILLS: dict[str, Callable[[Bench], list[Figure]]] = {
    "storm": storm,
    "hung": hung,
    "down": down,
    "fair": fair,
    "sigterm": sigterm,
    "predictors": predictors,
    "revoked": revoked,
}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _by_status(statuses: Mapping[str, int]) -> str:
    """By status, a hung or cut one as ``gone``; of those with 200 some were empty."""
    return ", ".join(f"{status}: {number}" for status, number in sorted(statuses.items()))


def _kinds_of_errors(calls: Sequence[Asked]) -> str:
    errors = Counter((call.error or "answered something else")[:60] for call in calls if not call.well)
    return "; ".join(f"{number} × {error}" for error, number in errors.most_common(3)) or "none"


@contextmanager
def _watched(kernel: AiosKernel, core: str) -> Iterator[list[float]]:
    """When the kernel first said that a core is not ok: a list of one, or empty."""
    seen: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not seen and not over.wait(STATUS_EVERY_S):
            if _states(kernel).get(core, "ok") not in ("ok", "paused"):
                seen.append(time.monotonic())

    watcher = threading.Thread(target=watch, name="watch-status", daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def _states(kernel: AiosKernel) -> dict[str, str]:
    try:
        cores = kernel.request("/eccos/status", timeout_s=5.0)["cores"]
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    return {name: core["state"] for name, core in cores.items()}


def _come(kernel: AiosKernel, cores: Sequence[SandboxCore]) -> int:
    """Calls that the kernel has read, as far as it says so, or that a core has had."""
    try:
        status = kernel.request("/eccos/status", timeout_s=5.0)
    except (OSError, http.client.HTTPException, ValueError):
        return 0
    answered = sum(sum(core.stats["by_status"].values()) for core in cores)
    return answered + int(status["pending"]) + sum(core["in_flight"] for core in status["cores"].values())


def _until(happened: Callable[[], bool], bound_s: float = PATIENCE_S) -> bool:
    """Wait for it, at most so long; whether it happened."""
    end_s, tick = time.monotonic() + bound_s, threading.Event()
    while not happened():
        if time.monotonic() > end_s:
            return False
        tick.wait(STATUS_EVERY_S)
    return True


def _until_ok(kernel: AiosKernel) -> None:
    """Let the breakers close, so that what comes next is measured from the same state."""
    states: dict[str, str] = {}

    def ok() -> bool:
        states.update(_states(kernel))
        for name, state in states.items():
            if state != "ok":  # a probe of a call's own closes a breaker that has none
                ask(kernel, "well?", llms=[{"name": name, "backend": "vllm"}])
        return bool(states) and set(states.values()) == {"ok"}

    _until(ok)


def _first_answer(kernel: AiosKernel, text: str, since_s: float) -> float | None:
    """Seconds until a call is answered, one being put after the other until then."""
    tick = threading.Event()
    while time.monotonic() < since_s + 2 * PATIENCE_S:
        if ask(kernel, text).well:
            return time.monotonic() - since_s
        tick.wait(RETRY_EVERY_S)
    return None


def _sent(kernel: AiosKernel, text: str, agent: str) -> http.client.HTTPConnection:
    """A connection on which a call was sent and not waited for."""
    address = kernel.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    data = {"messages": [{"role": "user", "content": text}], "action_type": "chat"}
    body = {"query_type": "llm", "agent_name": agent, "query_data": data}
    connection.request("POST", "/query", json.dumps(body), {"Content-Type": "application/json"})
    return connection


def _received(connection: http.client.HTTPConnection) -> bool:
    """Whether what was sent on it was answered without an error."""
    try:
        return json.loads(connection.getresponse().read())["response"]["error"] is None
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return False


def _under(kernel: AiosKernel, fault_file: Path, fault: str, calls: int) -> tuple[str, int]:
    """How many calls were answered well under a fault, of how many, and how many of so many after it."""
    fault_file.write_text(fault)
    pause = threading.Event()
    with ThreadPoolExecutor(2 * THREADS_CALLS, thread_name_prefix="caller") as pool:
        under = [pool.submit(ask, kernel, f"under {fault} {n}") for n in range(calls)]
        if fault == THREADS:  # so many that threads have to be started, and twice within the two seconds
            for burst in range(2):
                under += [pool.submit(ask, kernel, f"burst {burst} {n}") for n in range(THREADS_CALLS)]
                pause.wait(THREADS_FAIL_S / 2)
            fault_file.write_text("")
        well = sum(call.result().well for call in under)
    fault_file.write_text("")
    after = ask_all(kernel, [f"after {fault} {n}" for n in range(calls)], calls)
    return f"{well} of {len(under)}", sum(call.well for call in after)
