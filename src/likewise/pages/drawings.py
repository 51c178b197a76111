"""Curves and bars as SVG within a page, from plain numbers.

matplotlib's SVG has sizes and colours of its own: its text shrinks with the screen, and it stays white on a dark page.
These keep 12 px of text at 390 px, and have the page's colours.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

from likewise.pages.pieces import named

WIDTH, HEIGHT = 350, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 40  # margins
POINTS = 300  # of a curve that are drawn at most
TICKS = 5


class Line(NamedTuple):
    """A curve: its name, and its points from left to right."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class Level(NamedTuple):
    """A value to compare curves with: its name, and what it is."""

    name: str
    value: float


def chart(
    title: str, lines: Sequence[Line], *, about: str, x_name: str, percent: bool = False, level: Level | None = None
) -> str:
    """A figure with at most four curves.

    Args:
        title: the heading.
        lines: the curves; points that are not finite are left out.
        about: what the curves say, for those who can't see them: see ``course``.
        x_name: what the horizontal axis is.
        percent: show y, a share, in percent.
        level: a value to compare with, drawn as a dotted line.
    """
    lines = [_finite(line) for line in lines]
    lines = [line for line in lines if line.x]
    if not lines:
        return ""
    low, high = _range([y for line in lines for y in line.y] + ([] if level is None else [level.value]))
    left, right = min(min(line.x) for line in lines), max(max(line.x) for line in lines)
    rows, columns = ticks(low, high), ticks(left, right)
    low, high = min(low, rows[0]), max(high, rows[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across = 0.5 if right == left else (x - left) / (right - left)
        up = (y - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = []
    for value in rows:
        y = place(left, value)[1]
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_tick(value, rows, percent)}</text>')
    for value in columns:
        x = place(value, low)[0]
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_tick(value, columns)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:g}" y="{HEIGHT - 6}" text-anchor="middle">{named(x_name)}</text>')
    if level is not None:
        parts.append(f'<path class="level" d="M{LEFT} {place(left, level.value)[1]:.1f}H{WIDTH - RIGHT}"/>')
    for number, line in enumerate(lines):
        points = [place(x, y) for x, y in zip(*_thinned(line), strict=True)]
        if len(points) == 1:
            parts.append(f'<circle class="dot" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="4"/>')
        else:
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            parts.append(f'<path class="curve c{number}" d="{path}"/>')
    keys = [(f"curve c{number}", line.name) for number, line in enumerate(lines)]
    keys += [] if level is None else [("level", level.name)]
    keys = keys if len(keys) > 1 else []
    drawn = drawing(title, about, parts) + _key(keys)
    return f'<figure class="chart"><figcaption>{named(title)}</figcaption>{drawn}</figure>'


def drawing(title: str, about: str, parts: Sequence[str]) -> str:
    """An SVG image of WIDTH × HEIGHT with its title and description."""
    mark = blake2b(f"{title}{about}{parts}".encode(), digest_size=4).hexdigest()
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-labelledby="t{mark} d{mark}">'
        f'<title id="t{mark}">{named(title)}</title><desc id="d{mark}">{named(about)}</desc>{"".join(parts)}</svg>'
    )


def _key(keys: Sequence[tuple[str, str]]) -> str:
    """What each curve is, below the drawing."""
    shown = "".join(
        f'<li><svg class="key" viewBox="0 0 24 8" aria-hidden="true"><path class="{style}" d="M0 4H24"/></svg>'
        f" {named(name)}</li>"
        for style, name in keys
    )
    return f'<ul class="keys">{shown}</ul>' if keys else ""


def bar(share: float) -> str:
    """A bar from 0 to 1 for the cell of a table, whose number stands beside it."""
    width = 100 * min(max(share, 0.0), 1.0)
    return (
        f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="whole" width="100" height="10"/><rect width="{width:.1f}" height="10"/></svg>'
    )


def course(name: str, line: Line, unit: str, *, percent: bool = False) -> str:
    """A curve in words: ``loss falls from 4.20 to 1.10 over 40 epochs``."""
    line = _finite(line)
    if not line.x:
        return f"{name}: nothing was measured"
    first, last = line.y[0], line.y[-1]

    def shown(value: float) -> str:
        return f"{value:.1%}" if percent else f"{value:.3g}"

    if len(line.x) == 1:
        return f"{name} is {shown(first)} after {line.x[0]:g} {unit}"
    span = f"over {line.x[-1]:g} {unit}"
    if shown(first) == shown(last):
        return f"{name} begins and ends at {shown(first)} {span}, between {shown(min(line.y))} and {shown(max(line.y))}"
    turn = f", with its {'peak' if last <= first else 'lowest'} at "
    extreme = max(line.y) if last <= first else min(line.y)
    turn = "" if extreme in (first, last) else f"{turn}{shown(extreme)}"
    return f"{name} {'rises' if last > first else 'falls'} from {shown(first)} to {shown(last)} {span}{turn}"


def ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """About ``count`` round numbers from ``low`` to ``high``: multiples of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)] or [low]


def _tick(value: float, among: Sequence[float], percent: bool = False) -> str:
    """A number on an axis, with as many decimals as tell it from the others."""
    scale = 100 if percent else 1
    least = min((abs(b - a) for a, b in pairwise(among)), default=abs(value)) * scale
    decimals = max(0, -math.floor(math.log10(least) + 1e-9)) if 0 < least < 1 else 0
    shown = f"{value * scale:.{decimals}f}" if abs(value * scale) < 1e5 else f"{value * scale:.0e}"
    return shown.replace("-", "−") + " %" * percent


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The least and the largest value; apart where they are the same."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10)


def _finite(line: Line) -> Line:
    pairs = [(float(x), float(y)) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    return Line(line.name, [x for x, _ in pairs], [y for _, y in pairs])


def _thinned(line: Line) -> tuple[Sequence[float], Sequence[float]]:
    """Every n-th point, so that few are left; the first and the last stay."""
    step = -(-len(line.x) // POINTS)
    places = [*range(0, len(line.x) - 1, step), len(line.x) - 1]
    return [line.x[place] for place in places], [line.y[place] for place in places]
