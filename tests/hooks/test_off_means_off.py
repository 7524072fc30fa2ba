"""Installed and off, ECCOS cannot hurt AIOS; on, a start that cannot have it ends with one line."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from aios_stand_in import OFF, ON, ROUTED, StandIn

SCHEDULERS, ADAPTER, LAUNCHER = (
    "aios/hooks/modules/scheduler.py",
    "aios/llm_core/adapter.py",
    "runtime/launch.py",
)
SHADOWED = ON.replace("eccos: {", "eccos: {mode: shadow, ")
UNHOOKED = "serving by FIFOScheduler and SequentialRouting\n"  # what AIOS without ECCOS says
OTHER_LAUNCHER = ("-m", "runtime.kernel")


@pytest.fixture
def aios(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What is said of the hooks; not the log of a scheduler that runs."""
    return [
        line
        for line in done.stderr.splitlines()
        if "eccos" in line
        and "no scheduler.eccos.history" not in line
        and not re.match(r"\d{4}-\S+ \S+ (INFO|WARNING) eccos_aios\.", line)
    ]


def rename_factory(aios: StandIn) -> None:
    for file in (SCHEDULERS, LAUNCHER):
        aios.replace(file, "fifo_scheduler_nonblock", "fifo_scheduler_now")


def move_factories(aios: StandIn) -> None:
    (aios.checkout / SCHEDULERS).rename((aios.checkout / SCHEDULERS).with_name("schedulers.py"))
    aios.replace(LAUNCHER, "modules.scheduler", "modules.schedulers")


def rename_adapter(aios: StandIn) -> None:
    for file in (ADAPTER, LAUNCHER):
        aios.replace(file, "LLMAdapter", "Adapter")


def rename_queue(aios: StandIn) -> None:
    for file in ("aios/hooks/stores/queue.py", LAUNCHER):
        aios.replace(file, "addMessage", "add_message")


def swap_parameters(aios: StandIn) -> None:
    aios.replace(ADAPTER, "self, model_idx, llm_syscall", "self, llm_syscall, model_idx")


def ask_for_more(aios: StandIn) -> None:
    aios.replace(ADAPTER, "self, model_idx, llm_syscall", "self, model_idx, llm_syscall, *, region")


def rename_inherited(aios: StandIn) -> None:
    aios.replace("aios/syscall/__init__.py", "set_response", "respond")


def rename_config(aios: StandIn) -> None:
    aios.replace("aios/config/config_manager.py", "get_scheduler_config", "scheduler_config")


def make_a_constant(aios: StandIn) -> None:
    aios.replace(
        "aios/hooks/stores/_global.py",
        "global_storage_req_queue_get_message = global_tool",
        "global_storage_req_queue_get_message = ()\nglobal_tool",
    )


def move_launcher(aios: StandIn) -> None:
    (aios.checkout / LAUNCHER).rename((aios.checkout / LAUNCHER).with_name("kernel.py"))


def rename_app(aios: StandIn) -> None:
    aios.replace(LAUNCHER, "app = ", "application = ")


SHAPES = {
    rename_factory: "aios.hooks.modules.scheduler.fifo_scheduler_nonblock is missing",
    move_factories: "aios.hooks.modules.scheduler.fifo_scheduler_nonblock cannot be imported: there is no such module",
    rename_adapter: "aios.llm_core.adapter.LLMAdapter.execute_llm_syscall is missing",
    rename_queue: "aios.hooks.stores.queue.addMessage is missing",
    swap_parameters: "execute_llm_syscall takes (llm_syscall, model_idx, temperature) where (model_idx, llm_syscall) is given",
    ask_for_more: "execute_llm_syscall takes (model_idx, llm_syscall, *, region) where (model_idx, llm_syscall)",
    rename_inherited: "aios.syscall.Syscall.set_response is missing",
    rename_config: "aios.config.config_manager.config.get_scheduler_config is missing",
    make_a_constant: "aios.hooks.stores._global.global_storage_req_queue_get_message is not callable",
    move_launcher: "runtime.launch.app cannot be imported: there is no such module",
    rename_app: "runtime.launch.app is missing",
}


def test_without_eccos_aios_serves_by_its_own(aios: StandIn) -> None:
    done = aios.run(hooked=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, UNHOOKED, "")


@pytest.mark.parametrize("change", SHAPES)
def test_an_aios_of_another_shape_runs_as_without_eccos_or_not_at_all(
    aios: StandIn, change: Callable[[StandIn], None]
) -> None:
    change(aios)
    command = OTHER_LAUNCHER if change is move_launcher else ("-m", "runtime.launch")
    off = aios.run(command)
    assert (off.returncode, off.stdout) == (0, UNHOOKED)
    assert len(lines(off)) == 1 == len(off.stderr.splitlines())
    aios.write("aios/config/config.yaml", ON)
    on = aios.run(command)
    assert (on.returncode, on.stdout) == (1, "")
    assert len(on.stderr.splitlines()) == 1
    for line in (*lines(off), *lines(on)):
        assert SHAPES[change] in line
        assert "written for revision 2155966" in line


@pytest.mark.parametrize(
    ("config", "served"),
    [
        (OFF, UNHOOKED),
        (ON, "serving by EccosScheduler and SequentialRouting\n"),
        (ROUTED, "serving by FIFOScheduler and EccosRouting\n"),
        (SHADOWED, "serving by FIFOScheduler and ShadowRouting\n"),
    ],
    ids=["off", "scheduler", "router", "shadow"],
)
def test_an_aios_of_the_known_shape_gets_what_its_config_asks_for(
    aios: StandIn, config: str, served: str
) -> None:
    aios.write("aios/config/config.yaml", config)
    done = aios.run()
    assert (done.stdout, lines(done)) == (served, []), done.stderr


def test_what_the_router_does_not_need_does_not_stop_it(aios: StandIn) -> None:
    swap_parameters(aios)
    aios.write("aios/config/config.yaml", ROUTED)
    assert aios.run().stdout == "serving by FIFOScheduler and EccosRouting\n"


def test_a_kernel_that_makes_its_scheduler_otherwise_never_runs_fifo_in_silence(aios: StandIn) -> None:
    aios.replace(LAUNCHER, "fifo_scheduler_nonblock as", "useFIFOScheduler as")
    assert aios.run().stdout == UNHOOKED
    aios.write("aios/config/config.yaml", ON)
    on = aios.run()
    assert (on.returncode, on.stdout, len(lines(on))) == (1, "", 1)
    assert "AIOS starts its FIFOScheduler although scheduler_type is eccos" in on.stderr


def test_names_that_a_module_takes_from_another_are_found(aios: StandIn) -> None:
    (aios.checkout / SCHEDULERS).rename((aios.checkout / SCHEDULERS).with_name("factories.py"))
    aios.write(SCHEDULERS, "from .factories import *\n")
    aios.replace("aios/syscall/__init__.py", "class Syscall(Thread)", "class Base(Thread)")
    (aios.checkout / "aios/syscall/__init__.py").rename(aios.checkout / "aios/syscall/base.py")
    aios.write("aios/syscall/__init__.py", "from aios.syscall.base import Base\nclass Syscall(Base): ...\n")
    aios.write("aios/config/config.yaml", ON)
    done = aios.run()
    assert (done.stdout, lines(done)) == ("serving by EccosScheduler and SequentialRouting\n", []), (
        done.stderr
    )


BROKEN: dict[str, tuple[Callable[[StandIn], None], str, str]] = {
    "no wrapt": (lambda _: None, "wrapt", "No module named 'wrapt'"),
    "a wrapt that raises": (
        lambda aios: aios.stub("wrapt.py", "raise RuntimeError('of two\\nlines')"),
        "",
        "RuntimeError: of two lines",
    ),
    "a wrapt that exits": (lambda aios: aios.stub("wrapt.py", "raise SystemExit(3)"), "", "SystemExit: 3"),
    "an odd wrapt": (
        lambda aios: aios.stub("wrapt.py", "class ObjectProxy: ..."),
        "",
        "has no attribute 'register_post_import_hook'",
    ),
    "no eccos-aios": (lambda _: None, "eccos_aios", "No module named 'eccos_aios'"),
    "broken: __init__": (
        lambda aios: aios.break_ours("__init__.py"),
        "",
        "SyntaxError: invalid syntax (__init__.py, line 1)",
    ),
    "broken: activate": (
        lambda aios: aios.break_ours("hooks/activate.py"),
        "",
        "SyntaxError: invalid syntax (activate.py, line 1)",
    ),
    "broken: shield": (
        lambda aios: aios.break_ours("hooks/shield.py", "raise OSError('gone')"),
        "",
        "OSError: gone",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_an_eccos_that_cannot_be_loaded_stops_no_kernel_that_does_not_ask_for_it(
    aios: StandIn, fault: str
) -> None:
    change, absent, told = BROKEN[fault]
    change(aios)
    off = aios.run(absent=absent)
    assert (off.returncode, off.stdout) == (0, UNHOOKED), off.stderr
    aios.write("aios/config/config.yaml", OFF + "# scheduler_type: eccos\n")
    assert aios.run(absent=absent).returncode == 0
    for config in (ON, ROUTED):
        aios.write("aios/config/config.yaml", config)
        on = aios.run(absent=absent)
        assert (on.returncode, on.stdout) == (1, "")
        for done in (off, on):
            assert len(done.stderr.splitlines()) == 1
            assert told in done.stderr


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("", "numpy"),
        ("", "pydantic"),
        ("core.py", ""),
        ("hooks/scheduler.py", ""),
        ("hooks/kernel_app.py", ""),
    ],
)
def test_what_only_the_scheduler_needs_is_not_missed_without_it(
    aios: StandIn, module: str, absent: str
) -> None:
    if module:
        aios.break_ours(module)
    aios.write("aios/config/config.yaml", ON.replace("scheduler_type: eccos", "scheduler_type: fifo"))
    off = aios.run(absent=absent)
    assert (off.stdout, off.stderr) == (UNHOOKED, "")
    aios.write("aios/config/config.yaml", ON)
    on = aios.run(absent=absent)
    assert (on.returncode, on.stdout, len(on.stderr.splitlines())) == (1, "", 1)
    assert (absent or Path(module).name) in on.stderr


@pytest.mark.parametrize("config", [OFF, ON], ids=["off", "on"])
@pytest.mark.parametrize("change", [rename_factory, move_factories])
def test_who_only_imports_aios_is_never_stopped(
    aios: StandIn, config: str, change: Callable[[StandIn], None]
) -> None:
    change(aios)
    aios.write("aios/config/config.yaml", config)
    name = "schedulers" if change is move_factories else "scheduler"
    script = f"import aios.hooks.modules.{name} as m, aios.llm_core.adapter; print(m.useFIFOScheduler)"
    done = aios.run(("-c", script))
    assert done.returncode == 0, done.stderr
    assert len(lines(done)) == 1


def test_a_child_of_a_kernel_is_no_kernel(aios: StandIn) -> None:
    """What multiprocessing spawns runs the launcher again only where AIOS itself has it do so."""
    script = (
        "import multiprocessing, importlib\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    child = context.Process(target=importlib.import_module, args=('aios.hooks.modules.scheduler',))\n"
        "    child.start(); child.join(); print(child.exitcode)\n"
    )
    rename_factory(aios)
    aios.write("aios/config/config.yaml", ON)
    aios.write("script.py", script)
    assert aios.run(("script.py",)).stdout == "0\n"


def test_a_refresh_that_turns_eccos_on_is_refused_where_it_cannot_be(aios: StandIn) -> None:
    rename_factory(aios)
    aios.replace(
        LAUNCHER,
        "scheduler.stop()",
        "config.config['scheduler'] = {'scheduler_type': 'eccos', 'eccos': {'manifest': 'cores.yaml'}}\n"
        "try: fifo_scheduler(llm=llm).start()\n"
        "except Exception as error: print('refused:', error)\n",
    )
    done = aios.run()
    assert done.returncode == 0
    assert "refused: AIOS starts its FIFOScheduler although scheduler_type is eccos" in done.stdout


def test_the_adapter_sees_the_very_config_of_aios_while_eccos_is_off(aios: StandIn) -> None:
    aios.replace(
        LAUNCHER,
        'print("serving by"',
        'import aios.llm_core.adapter as m; print(m.config is config); print("serving by"',
    )
    assert aios.run().stdout.splitlines()[0] == "True"
