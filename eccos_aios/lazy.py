"""Names of a package that are imported from its modules only when they are first used."""

from __future__ import annotations

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without the import: this module runs at every start of AIOS
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package whose names are imported on first use.

    Type checkers do not see them: they read the same names from a ``TYPE_CHECKING`` block.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    homes : mapping of str to str
        The names, with blanks between, by the module of the package that defines them.
    """
    home_of = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{package}.{home_of[name]}"), name)

    def list_names() -> list[str]:
        import sys

        return sorted({*vars(sys.modules[package]), *home_of})

    return get, list_names, sorted(home_of)
