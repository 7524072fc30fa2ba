from __future__ import annotations

from experiments.soak import soak


def test_nothing_is_lost_over_cores_that_fail() -> None:
    result = soak(calls=600, callers=32, share=0.3)
    assert result.answered == 600
    assert result.over_quota == {}
    assert result.threads_left == []
    assert result.troubles
    assert result.errors < 600
