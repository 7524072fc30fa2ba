"""A stand-in for an AIOS checkout: its module names and shapes, and none of its work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PTH = REPOSITORY / "eccos_aios" / "hooks" / "eccos-aios.pth"

OFF = "scheduler: {log_mode: console}\nllms: {models: [{name: first}]}\n"
ON = """
scheduler: {scheduler_type: eccos, eccos: {manifest: cores.yaml}}
llms: {models: [{name: first}]}
"""
ROUTED = """
scheduler: {eccos: {manifest: cores.yaml}}
llms: {models: [{name: first}], router: {strategy: eccos}}
"""
NAMES = "llm memory_manager storage_manager tool_manager log_mode get_llm_syscall get_memory_syscall get_storage_syscall get_tool_syscall"

FILES = {
    "aios/__init__.py": "",
    "aios/config/cores.yaml": "cores: [{name: first}]",
    "aios/config/config_manager.py": """
import os, yaml
class ConfigManager:
    def __init__(self):
        self.config_path = os.path.join(os.path.dirname(__file__), "config.yaml")
        self.config = yaml.safe_load(open(self.config_path))
    def get_scheduler_config(self): return self.config["scheduler"]
    def get_llms_config(self): return self.config["llms"]
    def get_router_config(self): return self.get_llms_config().get("router") or {}
config = ConfigManager()
""",
    "aios/hooks/modules/scheduler.py": """
from aios.hooks.types.scheduler import SchedulerParams
from aios.scheduler.fifo_scheduler import FIFOScheduler
def useFIFOScheduler(**params): return FIFOScheduler(params)
def fifo_scheduler_nonblock(**params): return FIFOScheduler(params)
def rr_scheduler_nonblock(**params): return FIFOScheduler(params)
""",
    "aios/hooks/types/scheduler.py": """
class SchedulerParams:
    def __init__(self, **params): self.params = params
    def model_dump(self): return self.params
""",
    "aios/hooks/stores/_global.py": """
from queue import Empty
def _never(): raise Empty
(global_llm_req_queue_get_message, global_memory_req_queue_get_message) = _never, _never
global_storage_req_queue_get_message = global_tool_req_queue_get_message = _never
""",
    "aios/hooks/stores/queue.py": "def addMessage(q, message): q.append(message)",
    "aios/llm_core/adapter.py": """
from aios.config.config_manager import config
from aios.llm_core.routing import SequentialRouting
class Named:
    def __init__(self, name): self.name = name
class LLMAdapter:
    def __init__(self, llm_configs):
        self.llm_configs = [Named(llm["name"]) for llm in llm_configs]
        self.available_llm_names = [llm.name for llm in self.llm_configs]
        if config.get_router_config().get("strategy", "sequential") != "sequential":
            raise ValueError("Invalid routing strategy")
        self.router = SequentialRouting(self.llm_configs)
    def execute_llm_syscall(self, model_idx, llm_syscall, temperature=0.0): ...
    def _dynamic_register_ollama_model(self, model_name): ...
""",
    "aios/llm_core/routing.py": """
class SequentialRouting:
    def __init__(self, llm_configs): self.llm_configs = llm_configs
    def get_model_idxs(self, selected_llm_lists, queries): ...
""",
    "aios/scheduler/base.py": """
class BaseScheduler:
    def start_processing_threads(self, runners): self.active = True
""",
    "aios/scheduler/fifo_scheduler.py": """
from .base import BaseScheduler
class FIFOScheduler(BaseScheduler):
    def __init__(self, params): ...
    def start(self): self.start_processing_threads([])
    def stop(self): ...
""",
    "aios/syscall/__init__.py": """
from threading import Event, Thread
class Syscall(Thread):
    def __init__(self, agent_name, query):
        self.agent_name, self.query, self.event = agent_name, query, Event()
    def get_pid(self): ...
    def get_priority(self): ...
    def get_start_time(self): ...
    def set_start_time(self, time): ...
    def set_end_time(self, time): ...
    def set_status(self, status): ...
    def set_response(self, response): ...
    def set_time_limit(self, time_limit): ...
""",
    **{
        f"cerebrum/{kind.lower()}/apis.py": f"class {kind}Response: ..."
        for kind in ("LLM", "Memory", "Storage", "Tool")
    },
    "runtime/launch.py": f"""
from aios.llm_core.adapter import LLMAdapter
from aios.hooks.stores.queue import addMessage
from aios.hooks.modules.scheduler import fifo_scheduler_nonblock as fifo_scheduler
from aios.config.config_manager import config
class App:
    def __getattr__(self, name): return self
    def __call__(self, *_, **__): return self
app = App()
llm = LLMAdapter(config.get_llms_config()["models"])
scheduler = fifo_scheduler(**{{**dict.fromkeys({NAMES.split()!r}), "llm": llm, "log_mode": "console"}})
scheduler.start()
queue = []
addMessage(queue, "one")
addMessage(q=queue, message="two")
assert queue == ["one", "two"]
print("serving by", type(scheduler).__name__, "and", type(llm.router).__name__)
scheduler.stop()
""",
}

# What site does for an installed package, in place of one that is installed here; and the absence of others.
SITECUSTOMIZE = """
import os, site, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in os.environ["ABSENT"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
sys.meta_path[:] = [finder for finder in sys.meta_path if "EccosAiosWatch" not in repr(finder)]
if os.environ["SITE"]:
    site.addsitedir(os.environ["SITE"])
"""


class StandIn:
    """A checkout whose kernel can be started, with the start-up hook as an installation has it.

    Parameters
    ----------
    folder : Path
        An empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.checkout, self.site, self.packages = folder / "aios", folder / "site", REPOSITORY
        for name, content in {**FILES, "aios/config/config.yaml": OFF}.items():
            self.write(name, content)
        self.site.mkdir()
        (self.site / "sitecustomize.py").write_text(SITECUSTOMIZE)
        shutil.copy(PTH, self.site)

    def write(self, name: str, content: str) -> None:
        """Put a file into the checkout."""
        file = self.checkout / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def replace(self, name: str, old: str, new: str) -> None:
        """Change a file of the checkout."""
        content = (self.checkout / name).read_text()
        assert old in content
        self.write(name, content.replace(old, new))

    def stub(self, module: str, content: str) -> None:
        """Put a module in the place of an installed one."""
        (self.site / module).write_text(content)

    def break_ours(self, module: str, content: str = "def broken(:\n") -> None:
        """Break a module of a copy of this package."""
        if self.packages == REPOSITORY:
            self.packages = self.checkout.parent / "packages"
            shutil.copytree(REPOSITORY / "eccos_aios", self.packages / "eccos_aios")
        (self.packages / "eccos_aios" / module).write_text(content)

    def run(
        self, command: Sequence[str] = ("-m", "runtime.launch"), absent: str = "", hooked: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Start Python in the checkout."""
        environment: Mapping[str, str] = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (self.site, self.packages))),
            "SITE": str(self.site) if hooked else "",
            "ABSENT": absent,
        }
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
