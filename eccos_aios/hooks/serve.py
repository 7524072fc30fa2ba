"""``eccos-aios serve``: start an AIOS kernel with its config, without start-up hooks."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from eccos_aios.errors import ABSENT, AiosError, EccosError
from eccos_aios.hooks.checkout import read_checkout_config, require_checkout

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 8000
NEEDED = ("fastapi", "uvicorn", "litellm", "cerebrum")


def serve(aios: Path, host: str | None = None, port: int | None = None) -> None:
    """Run the kernel of an AIOS checkout in this process until it is interrupted.

    Parameters
    ----------
    aios : Path
        The checkout.
    host, port : optional
        Default: ``server`` in AIOS's config.

    Raises
    ------
    AiosError
        The folder is not a checkout, AIOS's packages are not installed beside this one, or the config asks
        for ECCOS and this AIOS lacks what ECCOS needs.
    EccosError
        The config, the manifest or the history is wrong.
    """
    aios = require_checkout(aios)
    server = read_checkout_config(aios).get("server") or {}
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise AiosError(
            sys.executable,
            "",
            ABSENT,
            f"AIOS needs {', '.join(missing)} here: install eccos-aios into AIOS's environment, or AIOS's "
            "requirements and its Cerebrum SDK into this one",
        )
    os.chdir(aios)
    sys.path.insert(0, str(aios))
    _activate(aios)
    uvicorn = importlib.import_module("uvicorn")
    kernel = _launched()
    kernel.app.state.eccos_host = host
    uvicorn.run(
        kernel.app,
        host=host or server.get("host", DEFAULT_HOST),
        port=port or server.get("port", DEFAULT_PORT),
    )


def _launched() -> Any:
    """AIOS's module that holds the kernel's application; its import starts the kernel."""
    from eccos_aios.hooks.shield import Refusal

    try:
        return importlib.import_module("runtime.launch")
    except Refusal as refusal:
        raise EccosError(str(refusal)) from None


def _activate(aios: Path) -> None:
    try:
        from eccos_aios.hooks.activate import activate
    except ImportError as error:
        raise AiosError(sys.executable, "", ABSENT, f"{error}; reinstall eccos-aios") from error
    refusal = activate(aios)
    if refusal is not None:
        raise EccosError(refusal.removeprefix("eccos-aios: "))
