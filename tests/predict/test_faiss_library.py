from __future__ import annotations

import pytest

from eccos_aios.predict.faiss_library import installed_misfit, misfit


@pytest.mark.parametrize(
    ("faiss", "numpy", "fits"),
    [
        ("1.8.0.post1", "1.24.3", True),
        ("1.8.0.post1", "1.26.4", True),
        ("1.8.0.post1", "2.4.6", False),
        ("1.9.0", "2.0.0", True),
        ("1.15.1", "2.4.6", True),
        (None, "2.4.6", True),
    ],
)
def test_a_faiss_that_numpy_does_not_fit_is_named_with_the_remedy(
    faiss: str | None, numpy: str, fits: bool
) -> None:
    found = misfit(faiss, numpy)
    assert (found is None) == fits
    if found is not None:
        assert f"faiss-cpu {faiss} does not work with NumPy {numpy}" in found
        assert "pip install 'numpy<2'" in found
    assert installed_misfit() is None
