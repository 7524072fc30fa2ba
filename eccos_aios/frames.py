"""frame_of: results as a pandas DataFrame, for those who have pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


def frame_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> pandas.DataFrame:
    """A DataFrame with a row per mapping.

    Parameters
    ----------
    rows : iterable of mapping
        A mapping in a row becomes columns of its own, ``quality.low``.
    columns : sequence of str, optional
        Names and order. Default: as they occur.

    Raises
    ------
    ImportError
        pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_frame needs pandas: pip install 'eccos-aios[pandas]'") from error
    return pandas.DataFrame([_flat(row) for row in rows], columns=columns)


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
