"""Reads every import of src/likewise and draws docs/layers.svg: folders as boxes, an arrow from who imports to what.

python docs/draw_layers.py

``LAYERS`` is the one place that says which part may import which. ``tests/test_layers.py`` holds the source to it, and
holds the picture to the source. Imports inside functions and for type checkers count like any other.
"""

import ast
from collections.abc import Callable, Iterable
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from statistics import mean

SOURCE = Path(__file__).parents[1] / "src" / "likewise"
PICTURE = Path(__file__).parent / "layers.svg"

# From top to bottom; a part imports only from rows below its own. ``__init__`` stands for ``likewise.__version__``.
LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("start", ("__main__",)),
    ("commands", ("cli",)),
    ("server", ("serving",)),
    ("look", ("look",)),
    ("report", ("reports",)),
    ("export", ("exporting",)),
    ("built on training", ("answers", "comparison", "lightning", "proof", "recommendation")),
    ("train, measure", ("evaluation", "run_index", "training")),
    ("embedded", ("shards",)),
    ("trained model", ("model",)),
    ("words, maps", ("maps", "words")),
    ("trained parts", ("encoders", "index", "objectives")),
    ("parts", ("dictionaries", "graph", "kernels", "methods", "metrics", "views")),
    ("ground", ("config", "data", "distributed", "negatives", "pages", "viewer")),
    ("tables", ("tables",)),
    ("base", ("alike", "blocks", "console", "files", "plots", "stamp")),
    ("by URL", ("remote",)),
    ("errors", ("__init__", "errors", "text")),
)

# Modules that load others by name, so that no import statement shows it, each with its reason. What ``likewise``
# itself imports for type checkers are the names that it loads so; it is left out of the picture.
BY_NAME = {
    "likewise": "a public name loads when it is first used, so that `import likewise` is quick",
    "likewise.config.objective_table": "a row names its class and loads it when asked; settings need no torch",
    "likewise.config.policy_table": "as objective_table",
    "likewise.exporting.program": "onnx and onnxruntime load when they are asked for",
    "likewise.encoders.external": "timm and transformers load when an encoder of theirs is asked for",
}

Edges = dict[str, set[str]]


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name, parsed."""
    parsed = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        parsed[".".join(part for part in parts if part != "__init__")] = ast.parse(path.read_text())
    return parsed


def imports(parsed: dict[str, ast.Module]) -> Edges:
    """What each module imports of the package, as dotted names of modules."""
    edges: Edges = {}
    for name, tree in parsed.items():
        edges[name] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                edges[name] |= {alias.name for alias in node.names if alias.name.split(".")[0] == "likewise"}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "likewise":
                named = (f"{node.module}.{alias.name}" for alias in node.names)
                edges[name] |= {whole if whole in parsed else str(node.module) for whole in named}
    return edges


def part(module: str) -> str:
    """The top-level file or folder that a module is in."""
    return module.split(".")[1] if "." in module else "__init__"


def parts(edges: Edges) -> Edges:
    """The imports between top-level files and folders; without what ``likewise`` itself names for type checkers."""
    between: Edges = {part(module): set() for module in edges}
    for module, imported in edges.items():
        if module != "likewise":
            between[part(module)] |= {part(name) for name in imported} - {part(module)}
    return between


def circle(edges: Edges) -> list[str]:
    """One circle of imports, first and last the same; empty where there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def layer_of() -> dict[str, int]:
    """Each part's row, 0 at the top."""
    return {name: row for row, (_, names) in enumerate(LAYERS) for name in names}


def thinned(between: Edges) -> Edges:
    """Only the arrows that no longer way of arrows stands for (the transitive reduction)."""
    below: Edges = {}
    for name in TopologicalSorter(between).static_order():
        below[name] = set().union(between[name], *(below[to] for to in between[name]))
    return {name: to - set().union(*(below[other] for other in to)) for name, to in between.items()}


# --- The picture: rows ordered so that few arrows cross; an arrow that passes a row keeps a gap of its own there.

BOX, HIGH, GAP, ROW, LEFT, TOP = 116, 40, 22, 104, 150, 20
Ways = list[list[str]]  # of each arrow: the box it leaves, the gaps it passes, the box it reaches


def lay(between: Edges) -> tuple[list[list[str]], Ways]:
    """The boxes and gaps of each row, left to right, and the way of each arrow through them."""
    at = layer_of()
    rows = [list(names) for _, names in LAYERS]
    ways = []
    for name, to in sorted(between.items()):
        for target in sorted(to):
            gaps = [f"{name}>{target}>{row}" for row in range(at[name] + 1, at[target])]
            for row, gap in enumerate(gaps, at[name] + 1):
                rows[row].append(gap)
            ways.append([name, *gaps, target])
    return ordered(rows, ways), ways


def neighbours(ways: Ways) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What each box or gap is joined to in the row above, and in the row below."""
    above: dict[str, list[str]] = {}
    under: dict[str, list[str]] = {}
    for way in ways:
        for upper, lower in pairwise(way):
            under.setdefault(upper, []).append(lower)
            above.setdefault(lower, []).append(upper)
    return above, under


def ordered(rows: list[list[str]], ways: Ways) -> list[list[str]]:
    """Sorts each row by the mean place of what it is joined to, downwards and upwards in turn; keeps the best seen."""
    joined = neighbours(ways)
    best, fewest = rows, crossings(rows, ways)
    for turn in range(24):
        side = joined[turn % 2]
        place = {name: (index + 0.5) / len(row) for row in rows for index, name in enumerate(row)}
        rows = [list(row) for row in rows]
        for row in rows if turn % 2 == 0 else reversed(rows):
            row.sort(key=mean_place(side, place))
            place |= {name: (index + 0.5) / len(row) for index, name in enumerate(row)}
        if (count := crossings(rows, ways)) < fewest:
            best, fewest = rows, count
    return best


def mean_place(side: dict[str, list[str]], place: dict[str, float]) -> Callable[[str], float]:
    """Of a box or gap: the mean place of what it is joined to on one side, else its own."""
    old = dict(place)
    return lambda name: mean(place[other] for other in side[name]) if name in side else old[name]


def crossings(rows: list[list[str]], ways: Ways) -> int:
    """How many pairs of arrows cross between two rows."""
    place = {name: index for row in rows for index, name in enumerate(row)}
    row_of = {name: number for number, row in enumerate(rows) for name in row}
    steps: dict[int, list[tuple[int, int]]] = {}
    for way in ways:
        for upper, lower in pairwise(way):
            steps.setdefault(row_of[upper], []).append((place[upper], place[lower]))
    return sum((a - c) * (b - d) < 0 for step in steps.values() for a, b in step for c, d in step) // 2


def centres(rows: list[list[str]], ways: Ways) -> dict[str, float]:
    """The middle of each box and gap: near what it is joined to, never nearer to the next one than fits."""
    above, under = neighbours(ways)
    centre = {name: 0.0 for row in rows for name in row}
    for row in rows:
        centre |= spaced(row, [index * 1.0 for index in range(len(row))])
        middle = mean((centre[row[0]], centre[row[-1]]))
        centre |= {name: centre[name] - middle for name in row}
    for turn in range(60):
        for row in rows if turn % 2 == 0 else reversed(rows):
            near = [[centre[other] for other in above.get(name, []) + under.get(name, [])] for name in row]
            wanted = [mean(places) if places else centre[name] for name, places in zip(row, near, strict=True)]
            mirrored = spaced(row[::-1], [-place for place in wanted[::-1]])
            forward = spaced(row, wanted)
            centre |= {name: (forward[name] - mirrored[name]) / 2 for name in row}
    left = min(centre[name] - width(name) / 2 for name in centre)
    return {name: round(LEFT + place - left) for name, place in centre.items()}


def spaced(row: list[str], wanted: list[float]) -> dict[str, float]:
    """Each at its wanted place or as far to the right of it as the one before needs."""
    centre: dict[str, float] = {}
    least = float("-inf")
    for name, place in zip(row, wanted, strict=True):
        centre[name] = max(place, least + width(name) / 2)
        least = centre[name] + width(name) / 2 + GAP
    return centre


def width(name: str) -> int:
    """Of a box; an arrow that passes needs none."""
    return 0 if ">" in name else BOX


def arrows(rows: list[list[str]], ways: Ways, centre: dict[str, float]) -> list[str]:
    """The arrows as SVG paths: curves between rows, straight through a row. Their ends are spread along the boxes."""
    row_of = {name: number for number, row in enumerate(rows) for name in row}
    leave = spread(((way[0], way[1], index) for index, way in enumerate(ways)), centre)
    reach = spread(((way[-1], way[-2], index) for index, way in enumerate(ways)), centre)
    lines = []
    for index, way in enumerate(ways):
        x, y = leave[index], TOP + row_of[way[0]] * ROW + HIGH
        path = f"M{x} {y}"
        for name in way[1:]:
            last = name == way[-1]
            next_x, next_y = (reach[index] if last else centre[name]), TOP + row_of[name] * ROW - (5 if last else 0)
            bend = (next_y - y) / 2
            path += f"C{x} {y + bend:g} {next_x:g} {next_y - bend:g} {next_x:g} {next_y}"
            x, y = next_x, next_y
            if not last:
                y += HIGH
                path += f"V{y}"
        lines.append(f'<path d="{path}"><title>{way[0]} imports {way[-1]}</title></path>')
    return lines


def spread(ends: Iterable[tuple[str, str, int]], centre: dict[str, float]) -> dict[int, float]:
    """Where each arrow touches its box: in the order of where it goes, equally far apart."""
    of_box: dict[str, list[tuple[float, int]]] = {}
    for box, other, index in ends:
        of_box.setdefault(box, []).append((centre[other], index))
    places = {}
    for box, touching in of_box.items():
        for order, (_, index) in enumerate(sorted(touching)):
            places[index] = round(centre[box] + BOX * 0.8 * ((order + 0.5) / len(touching) - 0.5), 1)
    return places


def picture(edges: Edges) -> str:
    """The SVG: the same bytes for the same imports."""
    between = parts(edges)
    rows, ways = lay(thinned(between))
    centre = centres(rows, ways)
    right = max(round(centre[name] + width(name) / 2) for name in centre) + 20
    bottom = TOP + len(rows) * ROW - (ROW - HIGH) + 20
    count = {name: sum(part(module) == name for module in edges) for name in between}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right} {bottom}" width="{right}" height="{bottom}"',
        ' font-family="Helvetica, Arial, sans-serif">',
        '<defs><marker id="tip" viewBox="0 0 6 6" refX="1" refY="3" markerWidth="6" markerHeight="6" orient="auto">',
        '<path d="M0 0L6 3L0 6Z" fill="#6b7280"/></marker></defs>',
        f'<rect width="{right}" height="{bottom}" fill="#fff"/>',
    ]
    for number, (title, _) in enumerate(LAYERS):
        y = TOP + number * ROW
        lines.append(f'<rect x="0" y="{y - 12}" width="{right}" height="{HIGH + 24}" fill="#f3f4f6"/>')
        lines.append(f'<text x="14" y="{y + HIGH / 2 + 5:g}" font-size="15" fill="#6b7280">{title}</text>')
    lines.append('<g fill="none" stroke="#6b7280" stroke-width="1.4" marker-end="url(#tip)">')
    lines += arrows(rows, ways, centre)
    lines.append("</g>")
    for number, row in enumerate(rows):
        for name in (name for name in row if ">" not in name):
            lines += box(name, centre[name], TOP + number * ROW, count[name], between[name])
    return "\n".join([*lines, "</svg>", ""])


def box(name: str, x: float, y: int, files: int, imported: set[str]) -> list[str]:
    """One box with its name; a folder's in blue, with the number of its files."""
    middle = f'x="{x:g}" text-anchor="middle"'
    folder = (SOURCE / name).is_dir()
    colour, label, base = ("#dbeafe", f"{name}/", y + 18) if folder else ("#fef3c7", f"{name}.py", y + 25)
    return [
        f"<g><title>{name} imports {', '.join(sorted(imported)) or 'nothing of likewise'}</title>",
        f'<rect x="{x - BOX / 2:g}" y="{y}" width="{BOX}" height="{HIGH}" rx="6" fill="{colour}" stroke="#374151"/>',
        f'<text {middle} y="{base}" font-size="15">{label}</text>',
        *([f'<text {middle} y="{y + 33}" font-size="11" fill="#6b7280">{files} files</text>'] if folder else []),
        "</g>",
    ]


if __name__ == "__main__":
    edges = imports(modules())
    PICTURE.write_text(picture(edges))
    among = parts(edges)
    print(f"{len(among)} top-level files and folders on {len(LAYERS)} layers, {sum(map(len, among.values()))} imports")
    print(f"between them, {sum(map(len, thinned(among).values()))} of them drawn: {PICTURE}")
