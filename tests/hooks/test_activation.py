"""The start-up hook and the switch, on a stand-in checkout with AIOS's module names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eccos_aios.errors import ConfigError
from eccos_aios.hooks.switch import asks_for_router, asks_for_scheduler

PTH = Path(__file__).parents[2] / "eccos_aios" / "hooks" / "eccos-aios.pth"
CONFIG = Path("config.yaml")


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A fresh Python that has run the .pth line, as every one does where the wheel is installed."""
    environment = {**os.environ, "PYTHONPATH": str(PTH.parents[2])}
    return subprocess.run(
        [sys.executable, "-c", f"exec({PTH.read_text()!r})\n{script}"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The modules that the hooks look for, as small as can be; `calls` records what AIOS's own code did."""
    files = {
        "aios/__init__.py": "",
        "aios/config/__init__.py": "",
        "aios/config/config_manager.py": """
class Config:
    config_path = "aios/config/config.yaml"
    scheduler = {"log_mode": "console"}
    def get_scheduler_config(self): return self.scheduler
    def get_llms_config(self): return {"models": [{"name": "first"}]}
config = Config()
""",
        "aios/hooks/__init__.py": "",
        "aios/hooks/modules/__init__.py": "",
        "aios/hooks/modules/scheduler.py": """
def fifo_scheduler_nonblock(**params): return "FIFO"
def rr_scheduler_nonblock(**params): return "RR"
""",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_the_pth_file_is_one_line_that_site_will_execute() -> None:
    lines = PTH.read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("import ")


def test_the_start_of_python_imports_nothing_of_ours(tmp_path: Path) -> None:
    done = run(
        "import sys; print([n for n in sys.modules if n.startswith(('eccos', 'wrapt', 'numpy'))])", tmp_path
    )
    assert done.stdout.strip() == "[]"


def test_a_broken_installation_does_not_break_the_start_of_python(tmp_path: Path) -> None:
    script = "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; print('started')"
    assert run(script, tmp_path).stdout.strip() == "started"


def test_aios_keeps_its_scheduler_unless_the_config_asks(checkout: Path) -> None:
    script = """
from aios.config.config_manager import config
from aios.hooks.modules.scheduler import fifo_scheduler_nonblock, rr_scheduler_nonblock
import sys
print(fifo_scheduler_nonblock(), rr_scheduler_nonblock(llm=1), "numpy" in sys.modules)
config.scheduler = {"scheduler_type": "fifo", "eccos": {"manifest": "nowhere"}}
print(fifo_scheduler_nonblock())
"""
    done = run(script, checkout)
    assert done.stdout.split() == ["FIFO", "RR", "False", "FIFO"], done.stderr


def test_a_config_that_asks_and_is_wrong_never_falls_back_to_fifo(checkout: Path) -> None:
    script = """
from aios.config.config_manager import config
from aios.hooks.modules.scheduler import fifo_scheduler_nonblock
config.scheduler = {"scheduler_type": "eccos", "eccos": {"manifest": "nowhere.yaml"}}
print(fifo_scheduler_nonblock(llm=None, memory_manager=None, storage_manager=None, tool_manager=None,
    log_mode="console", get_llm_syscall=None, get_memory_syscall=None, get_storage_syscall=None, get_tool_syscall=None))
"""
    # The stand-in lacks AIOS's types, so what is named here is the config that the kernel checks first.
    (checkout / "aios/hooks/types").mkdir()
    (checkout / "aios/hooks/types/scheduler.py").write_text(
        "class SchedulerParams:\n"
        "    def __init__(self, **params): self.params = params\n"
        "    def model_dump(self): return self.params\n"
    )
    (checkout / "aios/hooks/stores").mkdir()
    (checkout / "aios/hooks/stores/_global.py").write_text(
        "\n".join(
            f"global_{kind}_req_queue_get_message = None" for kind in ("llm", "memory", "storage", "tool")
        )
    )
    done = run(script, checkout)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "scheduler.eccos.manifest: " in done.stderr
    assert "nowhere.yaml': there is no such file" in done.stderr


@pytest.mark.parametrize(
    ("section", "asks"),
    [
        (None, False),
        ({}, False),
        ({"scheduler_type": "fifo"}, False),
        ({"scheduler_type": "rr", "eccos": {}}, False),
        ({"scheduler_type": "priority"}, False),  # not ours to judge where nothing speaks of ECCOS
        ({"scheduler_type": "eccos"}, True),
        ({"scheduler_type": "ECCOS"}, True),
    ],
)
def test_who_asks_for_the_scheduler(section: object, asks: bool) -> None:
    assert asks_for_scheduler(section, CONFIG) is asks


def test_a_misspelt_scheduler_type_is_told() -> None:
    with pytest.raises(
        ConfigError, match=r"scheduler\.scheduler_type: 'ecos': must be one of fifo, rr, eccos"
    ):
        asks_for_scheduler({"scheduler_type": "ecos", "eccos": {}}, CONFIG)


def test_who_asks_for_the_router() -> None:
    assert asks_for_router({"router": {"strategy": "eccos"}})
    assert not asks_for_router({"router": {"strategy": "smart"}})
    assert not asks_for_router({})
    assert not asks_for_router(None)
