"""Curves as SVG: where their points stand, round ticks, and what is said for those who can't see them."""

import re

import pytest

from likewise.pages.drawings import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, bar, chart, course, ticks


def points_of(svg: str) -> list[tuple[float, float]]:
    """The points of the first curve, in units of its axes' boxes: 0 to 1."""
    path = re.findall(r'class="curve c0" d="M([^"]*)"', svg)[0]
    pixels = [tuple(map(float, pair.split())) for pair in path.split("L")]
    return [((x - LEFT) / (WIDTH - LEFT - RIGHT), (HEIGHT - BOTTOM - y) / (HEIGHT - TOP - BOTTOM)) for x, y in pixels]


def test_points_stand_where_their_numbers_say() -> None:
    page = chart("loss", [Line("loss", [0, 10, 40], [4.0, 2.0, 1.0])], about="it <falls>", x_name="epoch")
    assert points_of(page) == [pytest.approx(each, abs=2e-3) for each in ((0, 1), (0.25, 1 / 3), (1, 0))]
    assert 'role="img"' in page
    assert "it &lt;falls&gt;</desc>" in page
    marks = re.findall(r'id="([td]\w+)"', page)
    assert f'aria-labelledby="{marks[0]} {marks[1]}"' in page
    assert len(page) < 3000


def test_what_is_not_finite_is_left_out_and_many_points_are_thinned() -> None:
    line = Line("x", range(10_000), [float("nan"), *range(9_998), float("inf")])
    drawn = points_of(chart("x", [line], about="x", x_name="step"))
    assert 250 <= len(drawn) <= 301
    assert drawn[0] == pytest.approx((0, 0), abs=1e-2)
    assert drawn[-1] == pytest.approx((1, 1), abs=1e-2)
    assert chart("x", [Line("x", [1.0], [float("nan")])], about="x", x_name="step") == ""
    assert "<circle" in chart("x", [Line("x", [1.0], [2.0])], about="x", x_name="step")


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (3, 42, [10, 20, 30, 40]),
        (-0.3, 0.3, [-0.2, 0, 0.2]),
        (5, 5, [5]),
        (0.871, 0.949, [0.88, 0.9, 0.92, 0.94]),
    ],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([4.2, 2.0, 1.1], "loss falls from 4.2 to 1.1 over 3 epochs"),
        ([1.0, 5.0, 2.0], "loss rises from 1 to 2 over 3 epochs"),
        ([4.0, 0.5, 1.1], "loss falls from 4 to 1.1 over 3 epochs"),
        ([2.0, 3.0, 2.0], "loss begins and ends at 2 over 3 epochs, between 2 and 3"),
        ([float("nan"), 2.0, float("nan")], "loss is 2 after 2 epochs"),
        ([float("nan")] * 3, "loss: nothing was measured"),
    ],
)
def test_a_curve_in_words(values: list[float], said: str) -> None:
    assert course("loss", Line("loss", [1, 2, 3], values), "epochs").startswith(said)
    assert course("kNN", Line("kNN", [1, 2], [0.5, 0.75]), "epochs", percent=True).startswith(
        "kNN rises from 50.0% to 75.0%"
    )


def test_a_bar_is_as_long_as_its_share() -> None:
    assert [re.findall(r'width="([\d.]+)"', bar(share))[1] for share in (-1, 0.25, 2)] == ["0.0", "25.0", "100.0"]
