"""Whether this process is an AIOS kernel, whose, and where its checkout is; found without importing AIOS."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder, all_suffixes
from pathlib import Path
from types import ModuleType

KERNEL = "runtime.launch"
KERNEL_FILE = Path("runtime") / "launch.py"
WORKER_MAIN = "uvicorn._subprocess"  # the module that a worker of uvicorn runs in


def kernel_module() -> ModuleType | None:
    """``runtime.launch``, also while it runs as ``python -m runtime.launch``; None in any other process."""
    imported = sys.modules.get(KERNEL)
    if imported is not None:
        return imported
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    file = getattr(main, "__file__", None) if spec is None else None
    by_path = file is not None and Path(file).parts[-2:] == KERNEL_FILE.parts
    return main if by_path or (spec is not None and spec.name == KERNEL) else None


def runs_kernel(checkout: Path) -> bool:
    """Whether this process is a kernel of a checkout, even one with another launcher."""
    if kernel_module() is not None:
        return True
    launchers = getattr(sys.modules.get("runtime"), "__path__", ())
    renamed = not (checkout / KERNEL_FILE).is_file()
    return renamed and any(Path(place).parent == checkout for place in launchers)


def checkout_of_process() -> Path | None:
    """The folder that ``aios`` is imported from, or would be; None if there is none."""
    places = getattr(sys.modules.get("aios"), "__path__", None)
    if places is None:
        spec = PathFinder.find_spec("aios")
        places = spec and spec.submodule_search_locations
    return next((Path(place).absolute().parent for place in places or ()), None)


def server_of_worker() -> int | None:
    """The process of the uvicorn server whose worker imports the kernel in this thread; None elsewhere."""
    # Imported only where ECCOS schedules: this module is loaded at every start of AIOS.
    import multiprocessing
    import os
    import traceback

    if multiprocessing.parent_process() is None:
        return None
    called_by = (frame.f_globals.get("__name__") for frame, _ in traceback.walk_stack(None))
    return os.getppid() if WORKER_MAIN in called_by else None


def has_module(checkout: Path, module: str) -> bool:
    """Whether a checkout has a module: a package, or a file of any kind that Python imports."""
    path = checkout.joinpath(*module.split("."))
    return path.is_dir() or any(path.with_name(path.name + suffix).is_file() for suffix in all_suffixes())
