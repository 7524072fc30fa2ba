"""What the ``.pth`` file runs in every Python process: watch for AIOS, at the price of one list entry."""

from __future__ import annotations

import sys


class _AiosWatch:
    """A finder that finds nothing, but activates ECCOS when ``aios`` is about to be imported."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "aios":
            sys.meta_path.remove(self)  # type: ignore[arg-type]
            from eccos_aios.hooks.activate import activate

            activate()


if "aios" not in sys.modules and not any(type(finder).__name__ == "_AiosWatch" for finder in sys.meta_path):
    sys.meta_path.insert(0, _AiosWatch())  # type: ignore[arg-type]
