"""Plug-ins: predictors, embedders and checks by a built-in name, an entry point, or ``module:Class``.

This file knows nothing of what it loads but the interface that an instance must have, so a further kind is
one more entry of `KINDS`.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from eccos_aios.errors import ABSENT, ConfigError

FILE_SUFFIX = ".py"  # of the part before the colon where it is a file and not a module


@dataclass(frozen=True)
class PluginKind:
    """A kind of plug-in.

    Attributes
    ----------
    group : str
        The entry-point group in which other packages declare theirs.
    interface : str
        ``module:Class`` that every instance must derive from.
    built_in : mapping of str to str
        ``module:Class`` by name. A table and not entry points, so that a checkout without metadata works.
    """

    group: str
    interface: str
    built_in: Mapping[str, str]


KINDS: dict[str, PluginKind] = {
    "predictor": PluginKind(
        "eccos_aios.predictors",
        "eccos_aios.predict.base:Predictor",
        {
            "hybrid": "eccos_aios.predict.hybrid:HybridPredictor",
            "retrieval": "eccos_aios.predict.retrieval:RetrievalPredictor",
            "trained": "eccos_aios.predict.trained:TrainedPredictor",
        },
    ),
    "embedder": PluginKind(
        "eccos_aios.embedders",
        "eccos_aios.predict.embedders.base:Embedder",
        {
            "tfidf": "eccos_aios.predict.embedders.tfidf:TfidfEmbedder",
            "hashed": "eccos_aios.predict.embedders.hashed:HashedEmbedder",
            "minilm": "eccos_aios.predict.embedders.minilm:MiniLmEmbedder",
        },
    ),
    "checks": PluginKind(
        "eccos_aios.checks",
        "eccos_aios.verify.base:Check",
        {
            "complete": "eccos_aios.verify.complete:CompleteCheck",
            "tool_call": "eccos_aios.verify.tool_call:ToolCallCheck",
            "json": "eccos_aios.verify.json_answer:JsonCheck",
            "short_answer": "eccos_aios.verify.short_answer:ShortAnswerCheck",
        },
    ),
}


@dataclass(frozen=True)
class Where:
    """Where the user wrote a plug-in's name and its options; errors name it.

    Attributes
    ----------
    source : str
        The file; empty if there is none.
    key, option : str
        Formats of the key of the name and of the key of an option, with ``kind`` and ``option``.
    """

    source: str = ""
    key: str = "{kind}"
    option: str = "{kind}_options.{option}"


def load(
    kind: str,
    name: str,
    options: Mapping[str, Any] | None = None,
    where: Where | None = None,
    parts: Mapping[str, object] | None = None,
) -> Any:
    """Make an instance of a plug-in.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    name : str
        A built-in name, the name of an entry point, ``package.module:Class``, or ``path/to/file.py:Class``.
    options : mapping of str to Any, optional
        Keyword arguments of the constructor, converted to its annotated types.
    where : Where, optional
    parts : mapping of str to object, optional
        Other plug-ins, by kind, that the constructor takes under that name.

    Raises
    ------
    ConfigError
        There is no such plug-in, it cannot be imported, an option is unknown or wrong, or the constructor
        refuses them; names the key, the value, and what there is.
    """
    where, options, parts = where or Where(), dict(options or {}), dict(parts or {})
    key = where.key.format(kind=kind)
    make = _find(kind, name, where.source, key)
    parameters, open_ended = _parameters(make)
    for part, instance in parts.items():
        if part not in parameters and not open_ended:
            part_key = where.key.format(kind=part)
            raise ConfigError(where.source, part_key, type(instance).__name__, f"{name} takes no {part}")
    types = _annotations(make)
    for option, value in options.items():
        option_key = where.option.format(kind=kind, option=option)
        if option not in parameters and not open_ended:
            known = ", ".join(sorted(parameters.keys() - KINDS.keys())) or "no options"
            raise ConfigError(where.source, option_key, value, f"unknown option; {name} takes {known}")
        options[option] = _converted(value, types.get(option, Any), where.source, option_key)
    missing = [
        parameter.name
        for parameter in parameters.values()
        if parameter.default is parameter.empty and parameter.name not in {*options, *parts}
    ]
    if missing:
        option_key = where.option.format(kind=kind, option=missing[0])
        raise ConfigError(where.source, option_key, ABSENT, f"required by {name}, but absent")
    try:
        instance = make(**options, **parts)
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ConfigError(
            where.source, key, name, f"with {options}: {reason}" if options else reason
        ) from error
    interface = _attribute(KINDS[kind].interface)
    if not isinstance(instance, interface):
        raise ConfigError(
            where.source,
            key,
            name,
            f"must make an instance of {interface.__name__}, not {type(instance).__name__}",
        )
    return instance


def load_function(name: str, source: str, key: str) -> Callable[..., Any]:
    """The function that ``module:function`` or ``path/to/file.py:function`` names.

    Parameters
    ----------
    name : str
    source, key : str
        The file and the key that errors name.

    Raises
    ------
    ConfigError
        It cannot be imported, or cannot be called.
    """
    if ":" not in name:
        raise ConfigError(source, key, name, "must be module:function or path/to/file.py:function")
    try:
        found = _attribute(name)
    except Exception as error:  # an import runs the user's code
        raise ConfigError(
            source, key, name, f"cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise ConfigError(source, key, name, f"must be a function, not {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def absolute_file(name: str, folder: Path) -> str:
    """A plug-in's name as it is, but for ``path/to/file.py:Class``, whose path starts at `folder`."""
    place, colon, attribute = name.rpartition(":")
    return f"{folder.resolve() / place}{colon}{attribute}" if place.endswith(FILE_SUFFIX) else name


def names(kind: str) -> list[str]:
    """All names of a kind that are known here: the built-in ones, then those of entry points."""
    return [*KINDS[kind].built_in, *sorted(_declared(kind))]


def _find(kind: str, name: str, source: str, key: str) -> Callable[..., Any]:
    """The class (or factory) that a name stands for."""
    built_in = KINDS[kind].built_in
    try:
        if name in built_in:  # looked up first: to find what is declared, all installed packages are read
            found = _attribute(built_in[name])
        elif name in (declared := _declared(kind)):
            found = declared[name].load()
        elif ":" in name:
            found = _attribute(name)
        else:
            allowed = f"must be {', '.join(names(kind))}, module:Class or path/to/file.py:Class"
            raise ConfigError(source, key, name, allowed)
    except ConfigError:
        raise
    except Exception as error:  # an import runs the user's code
        raise ConfigError(
            source, key, name, f"cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise ConfigError(source, key, name, f"must be a class, not {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _declared(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=KINDS[kind].group)}


def _attribute(path: str) -> Any:
    """What ``module:Class`` or ``path/to/file.py:Class`` names."""
    place, _, attribute = path.rpartition(":")
    return getattr(_file(Path(place)) if place.endswith(FILE_SUFFIX) else import_module(place), attribute)


def _file(path: Path) -> Any:
    """A file as a module. Its name comes from its path, so that two files of the same name do not collide."""
    path = path.resolve()
    name = f"eccos_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name not in sys.modules:
        spec = spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is not a Python file")
        module = module_from_spec(spec)
        sys.modules[name] = module  # before it runs: dataclasses look their own module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _parameters(make: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], bool]:
    """Parameters that may be given by keyword, and whether any other keyword is taken too."""
    parameters = inspect.signature(make).parameters.values()
    named = {
        each.name: each
        for each in parameters
        if each.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    return named, any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)


def _annotations(make: Callable[..., Any]) -> dict[str, Any]:
    """Types of the parameters; none if they cannot be resolved at run time."""
    try:
        return get_type_hints(make.__init__ if inspect.isclass(make) else make)
    except (NameError, TypeError, AttributeError):
        return {}


def _converted(value: Any, annotation: Any, source: str, key: str) -> Any:
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # a type with its own configuration
        adapter = TypeAdapter(annotation)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise ConfigError(source, key, value, error.errors(include_url=False)[0]["msg"]) from error
