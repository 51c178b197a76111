"""The result of a comparison: means and deviations, paired tests, a table, a plot. See ``likewise.comparison.run``."""

import io
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from likewise import __version__
from likewise.comparison.statistics import holm, paired_t, sign_flip
from likewise.console import Tick, untold
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.files import atomic_write
from likewise.metrics import retrieval
from likewise.pages.notebook import cell
from likewise.pages.pieces import folded, grid
from likewise.plots import matplotlib_module, png_of
from likewise.stamp import Stamp
from likewise.text import readable, utf8
from likewise.training.run_folder import CELLS

MEASURES = {"map@r": "MAP@R", "recall@1": "Recall@1", "r-precision": "R-Precision"}  # methods are ranked by the first
NOTE = (
    "In %, mean ± standard deviation over seeds. Δ: to the best method, in MAP@R. p (classes): two-sided sign-flip "
    "permutation test of the items' differences, averaged over seeds, a test class at a time; Holm's correction over "
    "all rows, baselines too. p (seeds): two-sided paired t-test over seeds, not corrected. Raw values have no seed; "
    "they are compared with every seed of the best method."
)
TABLE = "compare.md"
RAW = "raw"  # the baseline that has one answer for all seeds


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """One method and seed.

    Args:
        method: its name, or a baseline's.
        seed: of the training.
        measures: by name, shares in [0, 1]; empty where it failed.
        per_query: (measures, Q) of every test item; NaN if no other item has its label.
        knobs: the hyper-parameters that trials may choose, as trained.
        failed: why there is no answer; empty if there is one.
        baseline: whether nothing was trained.
    """

    method: str
    seed: int
    measures: Mapping[str, float] = field(default_factory=dict)
    per_query: NDArray[np.float64] | None = None
    knobs: Mapping[str, float] = field(default_factory=dict)
    failed: str = ""
    baseline: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method, or a baseline, over its seeds.

    Args:
        method: its name.
        baseline: whether nothing was trained.
        seeds: the seeds with an answer.
        missing: the seeds that failed.
        values: of every measure, one per seed.
        mean: of every measure.
        std: of every measure, n − 1 in the denominator; None for one seed.
        knobs: learning rate, margin, γ and τ as trained.
        items_per_step: mean number of items per step.
        difference: MAP@R minus that of the best method, over the seeds that both have; None for the best one. Raw
            values have no seed and are compared with all seeds.
        p_classes: p of that difference by ``sign_flip`` with test classes as units, after Holm's correction.
        p_seeds: p of that difference by ``paired_t`` over seeds; None with fewer than two seeds.
    """

    method: str
    baseline: bool
    seeds: tuple[int, ...]
    values: dict[str, tuple[float, ...]]
    mean: dict[str, float]
    std: dict[str, float | None]
    knobs: dict[str, float]
    items_per_step: float | None
    missing: tuple[int, ...] = ()
    difference: float | None = None
    p_classes: float | None = None
    p_seeds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows and protocol of a comparison: methods from the best on, then methods with missing seeds, then baselines.

    Args:
        rows: of every method and baseline with an answer.
        failed: the reason of each cell without an answer.
        protocol: how the numbers were made, in a few sentences.
        made: a sentence on the cells that another state of likewise, torch or the device made; empty without such.
        data: the stamp of the training and the test items.
    """

    rows: tuple[Row, ...]
    failed: dict[str, str]
    protocol: str
    made: str = ""
    data: Stamp = field(default_factory=dict)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and cells of text."""
        header = ["", *MEASURES.values(), "Δ", "p (classes)", "p (seeds)", "seeds"]
        return header, [_cells(row) for row in self.rows]

    def _repr_html_(self) -> str:
        return cell(grid(*self.table()) + folded("How it was measured", "\n\n".join(self.notes())))

    def notes(self) -> list[str]:
        """The notes below the table, a paragraph each."""
        steps = {row.method: row.items_per_step for row in self.rows if row.items_per_step is not None}
        notes = [self.protocol, NOTE]
        if len(set(steps.values())) > 1:
            each = ", ".join(f"{name} {count:.1f}" for name, count in steps.items())
            notes.append(f"Items per step differ, since batches without classes divide an epoch evenly: {each}.")
        incomplete = [f"{row.method} ({_seeds(row)} seeds)" for row in self.rows if row.missing and not row.baseline]
        if incomplete:
            notes.append(f"Ranked after the methods without failed seeds: {', '.join(incomplete)}.")
        if self.made:
            notes.append(self.made)
        return notes + [f"FAILED {name}: {reason}" for name, reason in self.failed.items()]


def measured(rows: Tensor, items: Items, tick: Tick = untold) -> tuple[dict[str, float], Any]:
    """Looks each item up among the others: the means of the measures, and float64 (measures, Q) of every query.

    The measures of a query are NaN if no other item has its label. ``tick`` is told the share of the work that is done.
    """
    result = retrieval(rows, torch.from_numpy(np.array(items.labels)), ks=(1,), worst=0, tick=tick)
    each = result.per_query
    hit = torch.where(each.relevant > 0, (each.first_rank == 1).double(), torch.nan)
    figures = {"map@r": result.map_at_r, "recall@1": result.recall[1], "r-precision": result.r_precision}
    return figures, torch.stack([each.map_at_r, hit, each.r_precision]).numpy()


def summarise(
    outcomes: Sequence[Outcome],
    *,
    test_labels: NDArray[np.int64],
    protocol: str,
    made: str = "",
    data: Stamp | None = None,
) -> Comparison:
    """Rows of all methods, each compared with the best method over the items and seeds that both have."""
    failed = {f"{cell.method}-seed-{cell.seed}": cell.failed for cell in outcomes if cell.failed}
    names = dict.fromkeys(cell.method for cell in outcomes if not cell.failed)
    by_method = {name: [cell for cell in outcomes if cell.method == name and not cell.failed] for name in names}
    rows = [
        _row(cells, [cell.seed for cell in outcomes if cell.method == name and cell.failed])
        for name, cells in by_method.items()
    ]
    first = next(iter(MEASURES))
    rows.sort(key=lambda row: (row.baseline, bool(row.missing), -row.mean[first]))
    if rows and not rows[0].baseline:
        pairs = [_against(by_method[row.method], by_method[rows[0].method], test_labels) for row in rows[1:]]
        corrected = iter(holm([pair[1] for pair in pairs if pair is not None]))
        for place, pair in enumerate(pairs, 1):
            if pair is not None:
                rows[place] = replace(rows[place], difference=pair[0], p_classes=next(corrected), p_seeds=pair[2])
    return Comparison(rows=tuple(rows), failed=failed, protocol=protocol, made=made, data=data or {})


def _row(cells: Sequence[Outcome], missing: Sequence[int]) -> Row:
    values = {name: tuple(cell.measures[name] for cell in cells) for name in MEASURES}
    return Row(
        method=cells[0].method,
        baseline=cells[0].baseline,
        seeds=tuple(cell.seed for cell in cells),
        missing=tuple(missing),
        values=values,
        mean={name: statistics.fmean(each) for name, each in values.items()},
        std={name: statistics.stdev(each) if len(each) > 1 else None for name, each in values.items()},
        knobs=dict(cells[0].knobs),
        items_per_step=cells[0].measures.get("items_per_step"),
    )


def _against(
    cells: Sequence[Outcome], best_cells: Sequence[Outcome], labels: NDArray[np.int64]
) -> tuple[float, float, float | None] | None:
    """Difference in the first measure, p over classes, p over seeds; None if the two have no common seed.

    The one answer of raw values is paired with every seed of the best method.
    """
    pairs = [(cell, best) for cell in cells for best in best_cells if cell.seed == best.seed or cell.method == RAW]
    if not pairs:
        return None
    first = next(iter(MEASURES))
    per_query = [(cell.per_query, best.per_query) for cell, best in pairs]
    each = [mine[0] - theirs[0] for mine, theirs in per_query if mine is not None and theirs is not None]
    differences = [cell.measures[first] - best.measures[first] for cell, best in pairs]
    p_classes = sign_flip(np.mean(each, axis=0), labels)
    return statistics.fmean(differences), p_classes, paired_t(differences) if len(differences) > 1 else None


def _cells(row: Row) -> list[str]:
    name = {RAW: "raw values", "untrained": "untrained encoder"}.get(row.method, row.method)
    measures = [_percent(row.mean[name], row.std[name]) for name in MEASURES]
    difference = "" if row.difference is None else f"{100 * row.difference:+.1f}".replace("-", "−")
    return [name, *measures, difference, _p(row.p_classes), _p(row.p_seeds), _seeds(row)]


def _seeds(row: Row) -> str:
    asked = len(row.seeds) + len(row.missing)
    return f"{len(row.seeds)} of {asked}" if row.missing else str(asked)


def _percent(mean: float, std: float | None) -> str:
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def print_comparison(comparison: Comparison, folder: Path) -> None:
    """Prints the table and its notes."""
    header, rows = comparison.table()
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for cells in (header, *rows):
        print("  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]).rstrip())
    print("", *map(readable, comparison.notes()), sep="\n")
    if TABLE not in comparison.failed:
        print(readable(f"Written: {folder / TABLE}, compare.json; every cell: {folder / CELLS}"))


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Writes compare.md, compare.json and, if matplotlib is installed, compare.png and compare.svg.

    Raises OSError from the file system.
    """
    header, rows = comparison.table()
    lines = ["# Comparison", "", comparison.protocol, ""]
    lines += [_line(header), _line(["---", *["---:"] * (len(header) - 1)]), *map(_line, rows), ""]
    lines += [part for note in comparison.notes()[1:] for part in (note, "")]
    lines += ["Trained with:", ""]
    for row in comparison.rows:
        if row.knobs:
            lines.append(f"- {row.method}: " + ", ".join(f"{name}={value:.4g}" for name, value in row.knobs.items()))
    about: dict[str, Any] = {"protocol": comparison.protocol, "note": NOTE, "failed": comparison.failed}
    about |= {"made": comparison.made, "likewise": __version__, "data": comparison.data}
    about["rows"] = [asdict(row) for row in comparison.rows]
    for name, text in ((TABLE, "\n".join(lines) + "\n"), ("compare.json", json.dumps(about, indent=1))):
        with atomic_write(folder / name) as file:
            file.write(utf8(text))
    for suffix, page in _pages(comparison).items():
        with atomic_write(folder / f"compare.{suffix}") as file:
            file.write(page)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _pages(comparison: Comparison) -> dict[str, bytes]:
    """The plot as PNG and SVG. Without matplotlib there is none, and a line on standard error says so."""
    if not comparison.rows:
        return {}
    try:
        matplotlib = matplotlib_module()
    except LikewiseError as error:
        print(f"No plot: {error}", file=sys.stderr)
        return {}
    pages = {}
    with matplotlib.rc_context({"svg.hashsalt": "likewise", "svg.fonttype": "none"}):
        height = 1.6 + 0.35 * sum(not row.baseline for row in comparison.rows)
        figure = matplotlib.figure.Figure(figsize=(9, height), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for axis, measure in zip(axes, ("map@r", "recall@1"), strict=True):
            _panel(axis, comparison, measure)
        axes[0].invert_yaxis()
        pages["png"] = png_of(figure, dpi=150)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None, "Creator": None})
        pages["svg"] = buffer.getvalue()
    return pages


def _panel(axis: Any, comparison: Comparison, measure: str) -> None:
    """Draws mean ± deviation and every seed of each method, and a line for each baseline."""
    methods = [row for row in comparison.rows if not row.baseline]
    for place, row in enumerate(methods):
        values = [100 * value for value in row.values[measure]]
        deviation = 100 * (row.std[measure] or 0.0)
        axis.errorbar(100 * row.mean[measure], place, xerr=deviation, fmt="o", color="#0a66c2", capsize=4, zorder=3)
        axis.plot(values, [place] * len(values), "o", color="#0a66c2", alpha=0.35, markersize=4, zorder=2)
    for row, style in zip((row for row in comparison.rows if row.baseline), (":", "--"), strict=False):
        axis.axvline(100 * row.mean[measure], linestyle=style, color="#5a6875", label=_cells(row)[0], zorder=1)
    axis.set_yticks(range(len(methods)), [row.method for row in methods])
    axis.set_xlabel(f"{MEASURES[measure]}, %")
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    if any(row.baseline for row in comparison.rows) and measure == "map@r":
        axis.figure.legend(*axis.get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
