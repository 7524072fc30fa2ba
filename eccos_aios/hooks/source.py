"""Source: resolves names of a checkout from its source, without running any of it."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LONGEST_CHAIN = 8  # modules and base classes that a name is followed through; longer is a cycle
UNKNOWN = ast.Pass()  # something is there, but only running it would show what


class Source:
    """A checkout's packages, and the installed ones as far as this interpreter has them.

    Parameters
    ----------
    checkout : Path
    packages : sequence of str
        The top-level packages of the checkout; names are followed through these only.
    """

    def __init__(self, checkout: Path, packages: Sequence[str]) -> None:
        self._checkout = checkout
        self._packages = packages
        self._scopes: dict[str, _Scope | None] = {}

    def owns(self, module: str) -> bool:
        """Whether a module belongs to the checkout."""
        return module.split(".")[0] in self._packages

    def file(self, module: str) -> Path | None:
        """The file of a module; None if there is no such module."""
        first, *rest = module.split(".")
        if self.owns(module):
            places = [self._checkout / first]
        else:
            spec = importlib.util.find_spec(first)
            places = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
        for place in places:
            path = place.joinpath(*rest)
            for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
                if file.is_file():
                    return file
        return None

    def find(self, module: str, path: str) -> ast.AST | None:
        """What a dotted name in a module refers to: `UNKNOWN` if the source does not show it, None: nothing.

        Raises
        ------
        OSError, SyntaxError, ValueError
            A file cannot be read, or is not Python.
        """
        scope = self._scope(module)
        return None if scope is None else self._find(scope, path.split("."), LONGEST_CHAIN)

    def _scope(self, module: str) -> _Scope | None:
        if module not in self._scopes:
            file = self.file(module)
            self._scopes[module] = (
                None if file is None else _Scope(ast.parse(file.read_bytes()).body, _package(module, file))
            )
        return self._scopes[module]

    def _find(self, scope: _Scope, names: Sequence[str], left: int) -> ast.AST | None:
        first, *rest = names
        found = scope.names.get(first)
        if found is None:
            return UNKNOWN if scope.may_have_more else None
        if isinstance(found, _Imported):
            return self._follow(found, rest, left)
        if not rest:
            return found
        if isinstance(found, ast.Call) and isinstance(found.func, ast.Name) and left:
            return self._find(scope, [found.func.id, *rest], left - 1)  # an instance has what its class has
        if isinstance(found, ast.ClassDef):
            return self._member(scope, found, rest, left)
        return UNKNOWN

    def _follow(self, imported: _Imported, rest: Sequence[str], left: int) -> ast.AST | None:
        if not left or not self.owns(imported.module):
            return UNKNOWN
        scope = self._scope(imported.module)
        if scope is None:
            return None
        if imported.name not in scope.names and self.file(f"{imported.module}.{imported.name}"):
            return UNKNOWN  # a module
        return self._find(scope, [imported.name, *rest], left - 1)

    def _member(self, scope: _Scope, owner: ast.ClassDef, names: Sequence[str], left: int) -> ast.AST | None:
        inside = _Scope(owner.body, scope.package)
        if names[0] in inside.names:
            return self._find(inside, names, left)
        if names[0] in _set_on_self(owner):
            return UNKNOWN
        for base in owner.bases:
            if not isinstance(base, ast.Name) or not left:
                return UNKNOWN
            found = self._inherited(scope, base.id, names, left - 1)
            if found is not None:
                return found
        return None

    def _inherited(self, scope: _Scope, base: str, names: Sequence[str], left: int) -> ast.AST | None:
        imported = scope.names.get(base)
        standard = _standard_class(imported) if isinstance(imported, _Imported) else None
        if standard is not None:
            return UNKNOWN if hasattr(standard, names[0]) else None
        return UNKNOWN if imported is None else self._find(scope, [base, *names], left)


class _Scope:
    """The names that a body binds, and what each refers to."""

    def __init__(self, body: Sequence[ast.stmt], package: str) -> None:
        self.package = package
        self.names: dict[str, ast.AST] = {}
        self._star = False
        for statement in _statements(body):
            self._bind(statement)

    @property
    def may_have_more(self) -> bool:
        """Whether names may come from a star import or a module's ``__getattr__``."""
        return self._star or "__getattr__" in self.names

    def _bind(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self.names[statement.name] = statement
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                self.names[alias.asname or alias.name.split(".")[0]] = UNKNOWN
        elif isinstance(statement, ast.ImportFrom):
            module = _absolute(statement, self.package)
            for alias in statement.names:
                self._star = self._star or alias.name == "*"
                self.names[alias.asname or alias.name] = _Imported(module, alias.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                self._assign(target, statement.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
            return
        for part in ast.walk(target):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                self.names[part.id] = UNKNOWN


class _Imported(ast.AST):
    """A name from another module."""

    def __init__(self, module: str, name: str) -> None:
        super().__init__()
        self.module = module
        self.name = name


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body and of its branches, in order."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for branch in ("body", "handlers", "orelse", "finalbody"):
                for inner in getattr(statement, branch, ()):
                    yield from _statements(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def _set_on_self(owner: ast.ClassDef) -> set[str]:
    """The attributes that a class's methods set."""
    return {
        node.attr
        for node in ast.walk(owner)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def _package(module: str, file: Path) -> str:
    return module if file.name == "__init__.py" else module.rpartition(".")[0]


def _absolute(statement: ast.ImportFrom, package: str) -> str:
    if not statement.level:
        return statement.module or ""
    parents = package.split(".")
    parents = parents[: len(parents) - statement.level + 1]
    return ".".join([*parents, *([statement.module] if statement.module else [])])


def _standard_class(imported: _Imported) -> Any:
    """The class itself if it comes from the standard library, which is safe to import."""
    if imported.module.split(".")[0] not in sys.stdlib_module_names:
        return None
    return getattr(importlib.import_module(imported.module), imported.name, None)
