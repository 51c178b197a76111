"""Writes docs/objectives.md from the docstrings and the table of objectives, and with --figures their figures too.

python docs/generate_objectives.py --figures

A test fails when the page does not match the docstrings. Figures are drawn again only with --figures.
"""

import inspect
import re
import sys
from inspect import Parameter, signature
from pathlib import Path

from likewise.config.objective_table import BOUNDARIES, DRAWN, KNOWN, OBJECTIVES, Row, objective
from likewise.reports.figure import build, draw

PAGE = Path(__file__).parent / "objectives.md"
FIGURES = Path(__file__).parent / "objectives"
COMMAND = "python docs/generate_objectives.py --figures"
GRID = 64  # cells per side of the heat maps: a figure stays near 60 kB
SECTIONS = ("Relations", "Departures", "Cost", "Paper")
LEVELS = {
    "pair": ("Pairs within a batch, or against keys", "the similarities are those with other items"),
    "class": ("Classes", "each class has a proxy, which is trained too; the similarities are cosines with the proxies"),
    "instance": ("Items as classes, and sampling", "every item is a class of its own, and has one key"),
    "list": (
        "Lists with graded relevance",
        "the call is `objective(scores, relevance, mask)`: the scores and the relevance of a query's items, see "
        "[ranking](ranking.md)",
    ),
}


def sections(known: Row) -> dict[str, str]:
    """The docstring's parts: "" what it is and its equation, "Relations" ..., "Args", each Markdown but for Args."""
    text = inspect.cleandoc(known.load().__doc__ or "")
    parts: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        head = re.match(r"(Relations|Departures|Cost|Paper|Args): ?", line)
        if head:
            name, line = head.group(1), line[head.end() :]
        parts[name] = f"{parts.get(name, '')}{line}\n"
    return {
        name: inspect.cleandoc("\n" + part) if name == "Args" else markdown(part.strip())
        for name, part in parts.items()
    }


def markdown(text: str) -> str:
    """A docstring's text as Markdown: roles and double back-ticks become single ones, the first letter a capital."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    if re.match(r"[a-z]{2,}\b", text):
        text = text[0].upper() + text[1:]
    return text.replace("``", "`")


def arguments(known: Row) -> dict[str, str]:
    """Each documented parameter with its text on one line."""
    texts: dict[str, str] = {}
    name = ""
    for line in sections(known).get("Args", "").splitlines():
        start = re.match(r"(\w+): ?(.*)", line)
        if start:
            name, texts[start.group(1)] = start.group(1), start.group(2)
        elif name and line.strip():
            texts[name] += f" {line.strip()}"
    return {name: text.replace("``", "`") for name, text in texts.items()}


def parameters(known: Row) -> str:
    """A table of parameter, default and meaning."""
    told = arguments(known)
    lines = ["| parameter | default | |", "|-|-|-|"]
    for name, parameter in signature(known.load()).parameters.items():
        default = "" if parameter.default is Parameter.empty else f"`{parameter.default!r}`"
        lines.append(f"| `{name}` | {default} | {cell(told[name])} |")
    return "\n".join(lines)


def cell(text: str) -> str:
    """Text for a cell of a table: a bar in it is escaped, since it would end the cell."""
    return text.replace("|", r"\|")


def link(name: str) -> str:
    """A link to the objective's section."""
    return f"[{name}](#{name.lower()})"


def table() -> str:
    """The table from what the user knows about the data to the objectives that fit."""
    lines = ["| what I know about my data | what fits, the first to try first | how to call it |", "|-|-|-|"]
    for row in KNOWN:
        fits = ", ".join(link(objective(name).class_name) for name in row.objectives)
        lines.append(f"| {cell(row.data)} | {fits} | `{cell(row.call)}`<br>{cell(row.why)} |")
    return "\n".join(lines)


def section(known: Row) -> str:
    """One objective: what it is, equation, figure, parameters, relations, departures, cost, paper."""
    parts = sections(known)
    also = f"Also `{'`, `'.join(known.aliases)}`. " if known.aliases else ""
    lines = [f"### {known.class_name}", f"{also}{parts['']}", f"**Paper.** {parts['Paper']}", parameters(known)]
    lines += [f"**{name}.** {parts[name]}" for name in SECTIONS if name != "Paper"]
    figure = [
        f"![Loss, gradients and decision boundary of {known.class_name}](objectives/{known.name}.svg)",
        f"Boundary in the figure: {BOUNDARIES[known.boundary]}.",
    ]
    return "\n\n".join(lines + figure * known.drawn)


def page() -> str:
    """The whole of objectives.md."""
    blocks = [
        f"<!-- Made by `{COMMAND}` from the docstrings and likewise/config/objective_table.py: change those. -->",
        "# Objectives",
        "*Words: [glossary](glossary.md).*",
        "The call is the same for all but those of lists: `objective(queries, ids)` within a batch, or\n"
        "`objective(queries, ids, keys, key_ids)`.\n"
        "Each figure shows an anchor with one positive (similarity s_p) and one negative (s_n), as figures "
        "1 and 2 of Circle loss\ndo. `likewise figure circle --set margin=0.25 gamma=256` draws a figure with other "
        "parameters.",
        "## What fits my data",
        "`z` are the encoder's rows (B, D), of length 1 unless the objective says otherwise. The names are those of "
        "`likewise.objectives`.\n`likewise methods` prints the same table.",
        table(),
        "## Shapes and errors",
        "`queries` are (Q, D) and `keys` (K, D), in any floating dtype; similarities and sums are in float32 or more.\n"
        "Gradients of any order and the tangents of forward mode are exact. Those beyond the first gradient are\n"
        "computed on whole matrices of Q×K numbers. In every order these are constants: α of Circle and\n"
        'CircleClassifier, the slope that ArcFace with `gradient="insightface"` leaves out, log Z of NCE, the keys of\n'
        "NonParametricSoftmax and NCE, what is drawn, and which pairs mining, a policy or a hinge keeps and counts.\n"
        "`ids` are (Q,) integers; at pair and class level also (Q, L), for several labels of a row. The loss is a\n"
        'float32 scalar (float64 for float64 queries), or (Q,) with `reduction="none"`. `LikewiseError` says which\n'
        "parameter is out of its range, and which shapes, dtypes or ids do not fit together. In the costs, Q or B is\n"
        "the number of queries, K or n that of keys or proxies, and D the length of a row.",
    ]
    for level, (title, about) in LEVELS.items():
        blocks += [f"## {title}", f"Here {about}."]
        blocks += [section(known) for known in OBJECTIVES if known.level == level]
    return "\n\n".join(blocks) + "\n"


def draw_figures() -> None:
    """Every objective at its defaults, as SVG: the same bytes as long as nothing changed."""
    FIGURES.mkdir(exist_ok=True)
    for known in DRAWN:
        built, title = build(known, {})
        draw(built, FIGURES / known.name, title=title, grid=GRID, formats=("svg",))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    if "--figures" in sys.argv[1:]:
        draw_figures()
