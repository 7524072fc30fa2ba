"""Checks that AIOS has the places that ECCOS relies on: on disk, without importing it, or as imported."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eccos_aios.errors import ABSENT, AiosError
from eccos_aios.hooks.launcher import has_module, kernel_module
from eccos_aios.hooks.source import Source
from eccos_aios.hooks.targets import LAUNCHER, OF_CHECKOUT, Fault, Target, summary

MISSING = "is missing"
NOT_CALLABLE = "is not callable"
NO_MODULE = "cannot be imported"
CONSTANTS = ast.Constant | ast.Dict | ast.List | ast.Tuple | ast.JoinedStr
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Signature:
    """The parameters of a function, without ``self``.

    Attributes
    ----------
    positional : tuple of str
    required : int
        How many of them have no default.
    takes_more : bool
        Whether there is a ``*args``.
    required_names : tuple of str
        Keyword-only parameters without a default.
    """

    positional: tuple[str, ...]
    required: int
    takes_more: bool
    required_names: tuple[str, ...]

    def fault(self, parameters: Sequence[str]) -> str | None:
        """The fault of a call with these positional parameters; None if there is none."""
        given = tuple(parameters)
        known = self.positional[: len(given)]
        fits = known == given or (self.takes_more and known == given[: len(known)])
        if fits and self.required <= len(given) and not self.required_names:
            return None
        takes = [*self.positional, *(["*"] if self.required_names else []), *self.required_names]
        return f"takes ({', '.join(takes)}) where ({', '.join(given)}) is given"


def faults_on_disk(checkout: Path, targets: Iterable[Target]) -> list[Fault]:
    """What an AIOS checkout lacks; what only an import would show is assumed to be right.

    Packages installed beside AIOS are checked where this interpreter has them.

    Parameters
    ----------
    checkout : Path
    targets : iterable of Target
    """
    source = Source(checkout, OF_CHECKOUT)

    def look(target: Target) -> str | None:
        if source.owns(target.module) and not has_module(checkout, target.module):
            return f"{NO_MODULE}: there is no such module"
        return None if source.file(target.module) is None else _look_on_disk(source, target)

    return _faults(targets, look)


def faults_in_process(targets: Iterable[Target]) -> list[Fault]:
    """What this process's AIOS lacks; imports its modules as needed."""
    return _faults(targets, _look_in_process)


def require_none(faults: Sequence[Fault], checkout: Path | None) -> None:
    """Raise an error if there are faults.

    Raises
    ------
    AiosError
        Names the faults, the revision of AIOS and the one that ECCOS was written for.
    """
    if faults:
        from eccos_aios.hooks.checkout import revision_of

        revision = None if checkout is None else revision_of(checkout)
        raise AiosError("" if checkout is None else str(checkout), "", ABSENT, summary(faults, revision))


def _faults(targets: Iterable[Target], look: Callable[[Target], str | None]) -> list[Fault]:
    """The faults of the targets; a module that is missing as a whole is named once."""
    faults: list[Fault] = []
    gone: set[str] = set()
    for target in targets:
        found = None if target.module in gone else look(target)
        if found is None:
            continue
        if found.startswith(NO_MODULE):
            gone.add(target.module)
        faults.append(Fault(target, found))
    return faults


def _look_on_disk(source: Source, target: Target) -> str | None:
    try:
        found = source.find(target.module, target.path)
    except (OSError, SyntaxError, ValueError) as error:
        return _not_imported(error)
    if found is None:
        return MISSING
    if target.parameters is None:
        return None
    if isinstance(found, CONSTANTS):
        return NOT_CALLABLE
    if not isinstance(found, FUNCTIONS) or not target.parameters:
        return None
    signature = _signature_in_source(found, of_class="." in target.path)
    return None if signature is None else signature.fault(target.parameters)


def _look_in_process(target: Target) -> str | None:
    try:
        module = kernel_module() if target.module == LAUNCHER else importlib.import_module(target.module)
    except Exception as error:  # noqa: BLE001 - a module may raise anything when it is imported
        return _not_imported(error)
    if module is None:
        return None  # not AIOS's own launcher, so its application does not matter
    names = target.path.split(".")
    found: Any = module
    for name in names[:-1] if target.of_instance else names:
        if not hasattr(found, name):
            return MISSING
        found = getattr(found, name)
    if target.parameters is None:
        return None
    if not callable(found):
        return NOT_CALLABLE
    if not target.parameters:
        return None
    signature = _signature(found, of_class=inspect.isclass(getattr(module, names[0])))
    return None if signature is None else signature.fault(target.parameters)


def _not_imported(error: Exception) -> str:
    return f"{NO_MODULE}: {type(error).__name__}: {' '.join(str(error).split())}"


def _signature(function: Any, of_class: bool) -> Signature | None:
    """The parameters of a function; None if they are unknown, as of one written in C."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if of_class and parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    kind, none = inspect.Parameter, inspect.Parameter.empty
    positional = [p for p in parameters if p.kind in (kind.POSITIONAL_ONLY, kind.POSITIONAL_OR_KEYWORD)]
    return Signature(
        tuple(p.name for p in positional),
        sum(p.default is none for p in positional),
        any(p.kind is kind.VAR_POSITIONAL for p in parameters),
        tuple(p.name for p in parameters if p.kind is kind.KEYWORD_ONLY and p.default is none),
    )


def _signature_in_source(function: FUNCTIONS, of_class: bool) -> Signature | None:
    """The parameters of a function; None if a decorator may have changed them."""
    if function.decorator_list:
        return None
    arguments = function.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    required = len(positional) - len(arguments.defaults)
    if of_class and positional:
        positional, required = positional[1:], max(0, required - 1)
    return Signature(
        tuple(positional),
        required,
        arguments.vararg is not None,
        tuple(
            argument.arg
            for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if default is None
        ),
    )
