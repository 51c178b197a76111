"""``likewise figure``: an objective's loss, gradients and decision boundary over the square of (s_n, s_p).

Like figures 1 and 2 of Circle loss (Sun et al., CVPR 2020), for any objective that has ``pair_loss(s_p, s_n)``. Drawing
imports matplotlib, from the extra ``plot``.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from textwrap import fill
from typing import Any, Literal

import numpy as np

from likewise.config.objective_table import BOUNDARIES, DRAWN, Boundary, Row
from likewise.config.objective_table import objective as objective_row
from likewise.config.overrides import assigned
from likewise.config.values import parameter
from likewise.errors import LikewiseError
from likewise.files import as_path, atomic_write, place_for, refuse_device
from likewise.plots import matplotlib_module, png_of
from likewise.reports.descent import Descent, Drawable, Points, boundary_of, criteria, descend, edges, measure

STARTS = ((0.9, 0.6), (0.4, 0.1))  # A: both similarities high; B: both low. The negative is 0.3 above the positive
SIZES = {"classes": 2, "dim": 2, "n": 2}  # for objectives that need sizes; pair_loss does not depend on them
SIZE = (9.0, 8.8)  # inches
NARROWEST = 0.001  # range; lines in a narrower one are those of rounding
COLOURS = ("#d55e00", "#0072b2")  # of A and B; colour-blind readers can distinguish them
EDGE = "#111111"


@dataclass(frozen=True)
class Drawn:
    """The files that ``draw`` wrote, and the boundary and descents in them."""

    files: tuple[Path, ...]
    boundary: Boundary
    descents: tuple[Descent, ...]

    def __str__(self) -> str:
        ends = [f"{name} {_say(way)}" for name, way in zip("AB", self.descents, strict=True)]
        return f"{', '.join(map(str, self.files))}: the boundary is {BOUNDARIES[self.boundary]}; {'; '.join(ends)}."


def _say(way: Descent) -> str:
    (a_n, a_p), (b_n, b_p) = way.points[0], way.points[-1]
    if len(way.points) == 1:
        return f"(s_n {a_n:.2f}, s_p {a_p:.2f}) stays"
    return f"(s_n {a_n:.2f}, s_p {a_p:.2f}) ends at (s_n {b_n + 0.0:.2f}, s_p {b_p + 0.0:.2f})"


def draw(
    objective: Drawable,
    out: str | Path,
    *,
    title: str | None = None,
    boundary: Boundary | None = None,
    limits: tuple[float, float] = (-1.0, 1.0),
    grid: int = 128,
    formats: tuple[Literal["png", "svg"], ...] = ("png", "svg"),
) -> Drawn:
    """Draws ``objective`` to OUT.png and OUT.svg: loss, both gradients' magnitudes, directions, boundary and descents.

    The files are the same for the same objective and versions, byte by byte.

    Args:
        objective: any object with ``pair_loss``; every objective has it.
        out: path without a suffix; its folder is made if it is missing.
        title: text above the figure; None: the class name. Text after a line break is smaller.
        boundary: what to draw as the decision boundary; None: as in the table of objectives.
        limits: lower and upper limit of both similarities, in [−1, 1].
        grid: number of cells per side of the heat maps.
        formats: the files to write.

    Returns:
        The files, the boundary and the descents.

    Raises:
        LikewiseError: ``limits`` is not a range of cosines or too narrow, or the extra ``plot`` is not installed.
        OSError: the files can't be written.
    """
    if not (-1 <= limits[0] < limits[1] <= 1 and limits[1] - limits[0] >= NARROWEST):
        raise LikewiseError(
            f"range {limits[0]:g} {limits[1]:g} makes no square of cosines; give LOW HIGH, −1 ≤ LOW < HIGH ≤ 1, at "
            f"least {NARROWEST:g} apart."
        )
    stem = str(out).removesuffix(".png").removesuffix(".svg")
    refuse_device(as_path(out, "--out"))
    files = tuple(place_for(f"{stem}.{suffix}") for suffix in formats)
    matplotlib = matplotlib_module()
    boundary = boundary or boundary_of(objective)
    accepts = criteria(objective, boundary)
    lines = [line for accept in accepts for line in edges(objective, accept, limits)]
    descents = tuple(descend(objective, accepts, start, limits) for start in STARTS)
    with matplotlib.rc_context(_style()):
        figure = _panels(objective, lines, descents, limits, grid)
        name, _, rest = (title or type(objective).__name__).partition("\n")
        figure.text(0.5, 0.985, name, fontsize=14, fontweight="bold", ha="center", va="top")
        figure.text(0.5, 0.957, fill(rest, 130), fontsize=9, color="#444444", ha="center", va="top")
        figure.text(
            0.5, 0.01, _caption(boundary, lines, descents), fontsize=9, color="#444444", ha="center", va="bottom"
        )
        pages = [_page(figure, suffix) for suffix in formats]
    for file, page in zip(files, pages, strict=True):
        with atomic_write(file) as target:
            target.write(page)
    return Drawn(files, boundary, descents)


def _style() -> dict[str, Any]:
    """Settings of matplotlib, all given here, so that a user's matplotlibrc does not change the figures."""
    return {
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.edgecolor": "#666666",
        "axes.linewidth": 0.8,
        "xtick.color": "#444444",
        "ytick.color": "#444444",
        "svg.hashsalt": "likewise",
        "svg.fonttype": "none",  # text stays text: a third of the size, and can be searched and edited
        "path.simplify": True,
        "path.simplify_threshold": 0.2,
        "text.usetex": False,
    }


def _page(figure: Any, suffix: str) -> bytes:
    if suffix == "png":
        return png_of(figure, dpi=150)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None, "Creator": None})
    # This halves the size: a tenth of a point is precise enough. Verdana is as wide as DejaVu, if that is missing.
    text = re.sub(r' transform="rotate\(-0 [^"]*"|<!--.*?-->', "", buffer.getvalue().decode())
    text = re.sub(r' (?:d|x|y)="[^"]*"', lambda found: re.sub(r"(\.\d)\d+", r"\1", found.group()), text)
    return re.sub(r"\s*\n\s*", "\n", text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")).encode()


def _caption(boundary: Boundary, lines: list[Points], descents: tuple[Descent, ...]) -> str:
    text = f"Black line: {BOUNDARIES[boundary]}." if lines else f"No boundary in this square ({BOUNDARIES[boundary]})."
    text += "\nA and B follow −∇L and end (dots) at the boundary, or where no gradient leads on inside the square."
    still = [name for name, way in zip("AB", descents, strict=True) if len(way.points) == 1]
    return text + (f" {' and '.join(still)} stayed: nothing moves there." if still else "")


def _panels(
    objective: Drawable,
    lines: list[Points],
    descents: tuple[Descent, ...],
    limits: tuple[float, float],
    grid: int,
) -> Any:
    """The figure: loss, arrows; |∂L/∂s_p|, |∂L/∂s_n| on one scale."""
    centres = limits[0] + (np.arange(grid) + 0.5) * (limits[1] - limits[0]) / grid
    field = measure(objective, np.stack(np.meshgrid(centres, centres), -1))
    figure = matplotlib_module().figure.Figure(figsize=SIZE)
    axes = np.array([[figure.add_axes(_box(x, y, 3.1, 3.1)) for x in (0.75, 5.2)] for y in (4.75, 0.95)])
    both = np.abs(np.stack([field.by_p, field.by_n]))
    steepest = _top(both)
    _heat(figure, axes[0, 0], field.loss, limits, "Blues", _top(field.loss), "loss L")
    _heat(figure, axes[1, 0], both[0], limits, "Oranges", steepest, "|∂L/∂sₚ|: pull on the positive")
    _heat(figure, axes[1, 1], both[1], limits, "Oranges", steepest, "|∂L/∂sₙ|: push on the negative")
    slope = np.hypot(*both)
    _heat(figure, axes[0, 1], slope, limits, "Greys", 3 * _top(slope), "descent, −∇L, over |∇L|")
    figure.axes[-1].set_ylim(0, _top(slope))
    _arrows(axes[0, 1], objective, limits)
    for axis in axes.flat:
        for line in lines:
            axis.plot(*line.T, color=EDGE, linewidth=2.2, zorder=4, solid_capstyle="round")
        axis.set(xlim=limits, ylim=limits, aspect="equal", xlabel="sₙ (between-class)", ylabel="sₚ (within-class)")
        axis.locator_params(nbins=5)
    for axis in axes[0]:
        for name, colour, way in zip("AB", COLOURS, descents, strict=True):
            _path(axis, name, colour, way)
    return figure


def _box(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """A box given in inches, as shares of the figure's size."""
    return x / SIZE[0], y / SIZE[1], width / SIZE[0], height / SIZE[1]


def _top(values: Points) -> float:
    """The end of the colour scale: a high quantile, since some gradients become infinite at a corner."""
    finite = values[np.isfinite(values)]
    return max(float(np.quantile(finite, 0.995)), 1e-12) if len(finite) else 1.0


def _heat(
    figure: Any, axis: Any, values: Points, limits: tuple[float, float], colours: str, top: float, title: str
) -> None:
    from matplotlib.ticker import MaxNLocator

    extent = (*limits, *limits)
    picture = axis.imshow(
        values, origin="lower", extent=extent, cmap=colours, vmin=min(0.0, float(np.nanmin(values))), vmax=top,
        interpolation="none",
    )  # fmt: skip
    x, y = (axis.get_position().p0 * SIZE).tolist()
    bar = figure.colorbar(picture, cax=figure.add_axes(_box(x + 3.18, y + 0.25, 0.12, 2.6)))
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(5)
    axis.set_title(title)


def _arrows(axis: Any, objective: Drawable, limits: tuple[float, float]) -> None:
    """Arrows along −∇L; their length grows with the root of |∇L|. All are one line with gaps: a small SVG."""
    number = 11
    pitch = (limits[1] - limits[0]) / number
    points = np.stack(np.meshgrid(*[limits[0] + (np.arange(number) + 0.5) * pitch] * 2), -1).reshape(-1, 2)
    field = measure(objective, points)
    way = -np.stack([field.by_n, field.by_p], -1)
    size = np.linalg.norm(way, axis=1, keepdims=True)
    moving = (np.isfinite(size) & (size > 0)).squeeze(1)
    points, way, size = points[moving], way[moving], size[moving]
    shaft = way / size * np.sqrt(np.minimum(size / _top(size), 1)) * pitch * 0.85
    across = shaft @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    tail, tip, gap = points - shaft / 2, points + shaft / 2, np.full_like(points, np.nan)
    left, right = (tip - 0.35 * shaft + side * 0.2 * across for side in (1, -1))
    axis.plot(*np.stack([tail, tip, left, right, tip, gap], 1).reshape(-1, 2).T, color="#55616b", linewidth=1)


def _path(axis: Any, name: str, colour: str, way: Descent) -> None:
    start, end = way.points[0], way.points[-1]
    thinned = np.concatenate([way.points[:-1:2], way.points[-1:]])
    axis.plot(*thinned.T, color="white", linewidth=4.4, zorder=5)
    axis.plot(*thinned.T, color=colour, linewidth=2.4, zorder=6)
    if len(way.points) > 1:
        axis.plot(*end, "o", color=colour, markeredgecolor="white", markersize=9, zorder=7, clip_on=False)
    axis.plot(*start, "s", color=colour, markeredgecolor="white", markersize=14, zorder=7, clip_on=False)
    axis.annotate(
        name, start, color="white", ha="center", va="center_baseline", fontsize=9, fontweight="bold", zorder=8
    )


def build(row: Row, given: Mapping[str, object]) -> tuple[Any, str]:
    """The objective with the parameters ``given``, and a title that names its parameters.

    Raises LikewiseError for an unknown parameter, or a value that the parameter can't take.
    """
    kind = row.load()
    title = f"objective {row.name}"
    values = {name: parameter(title, name, row.parameters).read(name, value) for name, value in given.items()}
    defaults = signature(kind).parameters
    shown = {name: values.get(name, defaults[name].default) for name in row.parameters}
    text = ", ".join(
        f"{name} = {value:g}" if type(value) is float else f"{name} = {value}"
        for name, value in shown.items()
        if value is not None
    )
    sizes = {name: SIZES[name] for name in row.given if name in SIZES}
    return kind(**sizes, **values), f"{row.class_name}\n{text}"


def draw_named(name: str, out: str | None, settings: Sequence[str], limits: tuple[float, float]) -> Drawn:
    """``likewise figure NAME --set PARAMETER=VALUE ...``: raises LikewiseError before anything is written."""
    row = objective_row(name)
    if not row.drawn:
        raise LikewiseError(
            f"objective {row.name} takes lists of scores, so it has no loss of one positive and one negative to draw."
        )
    objective, title = build(row, assigned(settings))
    return draw(objective, out or row.name, title=title, limits=limits)


def draw_all(folder: Path, limits: tuple[float, float]) -> Iterator[Drawn]:
    """Draws every objective of the table that has a figure, at its defaults, into ``folder``, made if missing."""
    for row in DRAWN:
        objective, title = build(row, {})
        yield draw(objective, folder / row.name, title=title, limits=limits)
