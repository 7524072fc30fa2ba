"""FAISS, imported in one place: with a NumPy that its build does not fit, its import is a long traceback.

faiss-cpu before 1.9 is built for NumPy 1. AIOS pins NumPy 1.24, which later builds exclude, so Python 3.10
and 3.11 get 1.8; a package that is installed afterwards, such as pandas 3, may bring NumPy 2 all the same.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import numpy as np

from eccos_aios.errors import EccosError

FIRST_FOR_NUMPY_2 = (1, 9)


def misfit(faiss: str | None, numpy: str) -> str | None:
    """What is wrong with two versions beside each other, and how to mend it; None if nothing is.

    Parameters
    ----------
    faiss : str or None
        Version of faiss-cpu; None where that is not installed as such.
    numpy : str
        Version of NumPy.
    """
    if faiss is None or numpy.split(".")[0] < "2":
        return None
    if tuple(int(part) for part in faiss.split(".")[:2]) >= FIRST_FOR_NUMPY_2:
        return None
    return (
        f"faiss-cpu {faiss} does not work with NumPy {numpy}, which another package has brought: pip install "
        "'numpy<2' 'pandas<3' (in AIOS's environment numpy==1.24.3); or, where nothing needs NumPy 1, pip "
        "install 'faiss-cpu>=1.9'"
    )


def installed_misfit() -> str | None:
    """`misfit` of what is installed here."""
    try:
        return misfit(version("faiss-cpu"), np.__version__)
    except PackageNotFoundError:
        return None


fault = installed_misfit()
if fault is not None:
    raise EccosError(fault)

import faiss as faiss  # noqa: E402 - only after the check
