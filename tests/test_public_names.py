"""The public surface: every name can be imported, is shown by dir(), and is known to type checkers."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

LAZY = ("eccos_aios", "eccos_aios.bench", "eccos_aios.hooks", "eccos_aios.predict")
PUBLIC = (
    *LAZY,
    "eccos_aios.assign",
    "eccos_aios.batch",
    "eccos_aios.history",
    "eccos_aios.sandbox",
    "eccos_aios.schedule",
)
PROMISED = {
    "eccos_aios": "HybridPredictor SchedulerSettings EccosConfig",
    "eccos_aios.sandbox": "EmbeddedKernel SandboxCore LLMQuery Reply error_response",
    "eccos_aios.sandbox.aios": "aios_config aios_kernel",
    "eccos_aios.schedule": "Call CallResult Scheduler SchedulerSettings ExecutionResult Requirements RetryPolicy",
}


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_can_be_imported_and_is_listed(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


@pytest.mark.parametrize(("package", "names"), PROMISED.items())
def test_the_names_that_scripts_rely_on_are_there(package: str, names: str) -> None:
    module = importlib.import_module(package)
    for name in names.split():
        assert hasattr(module, name)


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_know_the_same_names(package: str) -> None:
    module = importlib.import_module(package)
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    known = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert known == set(module.__all__)


def test_an_unknown_name_is_refused_with_the_package() -> None:
    import eccos_aios

    with pytest.raises(AttributeError, match="module 'eccos_aios' has no attribute 'Nothing'"):
        eccos_aios.Nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.integration
def test_importing_the_package_imports_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import eccos_aios, eccos_aios.hooks; "
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) <= {
        "__future__",
        "eccos_aios",
        "eccos_aios.hooks",
        "eccos_aios.lazy",
        "eccos_aios.version",
    }
