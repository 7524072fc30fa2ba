from __future__ import annotations

import pytest

from eccos_aios.plot_style import Label, money, new_figure, place_labels, share_axis, styled


@pytest.mark.parametrize(
    ("usd", "shown"), [(0.1, "$0.10"), (0.01, "$0.01"), (0.005, "$0.005"), (1, "$1"), (2000, "$2,000")]
)
def test_dollars_are_shown_as_dollars_and_cents(usd: float, shown: str) -> None:
    assert money(usd) == shown


def test_labels_of_points_that_lie_close_do_not_cover_each_other() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.text import Annotation, Text

    figure = new_figure(8, 5)
    axes = figure.add_subplot()
    styled(axes, "title")
    places = [(0.5 + 0.01 * number, 0.5) for number in range(6)]
    axes.plot(*zip(*places, strict=True), "o")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    place_labels(axes, [Label(f"label {number}", [place]) for number, place in enumerate(places)])
    renderer = figure.canvas.get_renderer()
    boxes = [Text.get_window_extent(each, renderer) for each in axes.texts if isinstance(each, Annotation)]
    assert len(boxes) == 6
    assert not any(one.overlaps(other) for at, one in enumerate(boxes) for other in boxes[:at])


def test_shares_between_whole_per_cents_are_not_rounded() -> None:
    pytest.importorskip("matplotlib")
    axes = new_figure(4, 3).add_subplot()
    share_axis(axes.yaxis)
    shown = axes.yaxis.get_major_formatter()
    assert [shown(value) for value in (0.0, 0.525, 0.55, 1.0)] == ["0%", "52.5%", "55%", "100%"]
