"""Imports point downwards, nothing imports in a circle, and docs/layers.svg shows what is there."""

import ast
import importlib
import re
import runpy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def layers() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "draw_layers.py"))


@pytest.fixture(scope="module")
def edges(layers: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = layers["imports"](layers["modules"]())
    return found


def upwards(layers: dict[str, Any], edges: dict[str, set[str]]) -> list[str]:
    """The imports that don't point to a lower layer."""
    row, part = layers["layer_of"](), layers["part"]
    return [
        f"{module} imports {name}"
        for module, imported in edges.items()
        for name in sorted(imported)
        if module != "likewise" and part(module) != part(name) and row[part(module)] >= row[part(name)]
    ]


def test_every_part_has_its_layer(layers: dict[str, Any], edges: dict[str, set[str]]) -> None:
    listed = [name for _, names in layers["LAYERS"] for name in names]
    assert sorted(listed) == sorted(layers["parts"](edges)), "LAYERS in docs/draw_layers.py names each part once"


def test_imports_point_downwards(layers: dict[str, Any], edges: dict[str, set[str]]) -> None:
    assert upwards(layers, edges) == []


def test_nothing_imports_in_a_circle(layers: dict[str, Any], edges: dict[str, set[str]]) -> None:
    assert layers["circle"](layers["parts"](edges)) == []
    modules = {module: imported for module, imported in edges.items() if module != "likewise"}
    assert layers["circle"](modules) == []


def test_only_modules_with_a_reason_import_by_name(layers: dict[str, Any]) -> None:
    found = {name for name, tree in layers["modules"]().items() if "import_module" in ast.dump(tree)}
    assert found == set(layers["BY_NAME"]), "BY_NAME in docs/draw_layers.py gives each one's reason"


def test_the_picture_is_what_the_script_draws_now(layers: dict[str, Any], edges: dict[str, set[str]]) -> None:
    drawn = (ROOT / "docs" / "layers.svg").read_text(encoding="utf-8")
    assert drawn == layers["picture"](edges), "docs/layers.svg is old; run: python docs/draw_layers.py"


def test_contributing_says_what_lives_in_each_part(layers: dict[str, Any], edges: dict[str, set[str]]) -> None:
    table = re.findall(r"^\| (`.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for cell in table for name in re.findall(r"`(\w+)/?`", cell)}
    assert named == set(layers["parts"](edges)) - {"__init__", "__main__"}


def test_boxes_do_not_overlap(layers: dict[str, Any], edges: dict[str, set[str]]) -> None:
    rows, ways = layers["lay"](layers["thinned"](layers["parts"](edges)))
    centre = layers["centres"](rows, ways)
    for row in rows:
        for left, right in pairwise(row):
            least = (layers["width"](left) + layers["width"](right)) / 2
            assert centre[right] - centre[left] > least, (left, right)


PLANTED = {
    "likewise.metrics.linear": "def late():\n    from likewise.model import load\n    return load\n",
    "likewise.model": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import likewise.metrics.linear\n",
}


def test_a_late_import_and_one_for_type_checkers_are_seen(layers: dict[str, Any]) -> None:
    edges = layers["imports"]({name: ast.parse(code) for name, code in PLANTED.items()})
    assert edges == {"likewise.metrics.linear": {"likewise.model"}, "likewise.model": {"likewise.metrics.linear"}}
    assert upwards(layers, edges) == ["likewise.metrics.linear imports likewise.model"]
    assert sorted(set(layers["circle"](edges))) == sorted(PLANTED)
    assert sorted(set(layers["circle"](layers["parts"](edges)))) == ["metrics", "model"]


def test_thinning_leaves_out_what_a_longer_way_shows(layers: dict[str, Any]) -> None:
    thinned = layers["thinned"]({"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set()})
    assert thinned == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}


FOLDERS = sorted(path.parent for path in (ROOT / "src" / "likewise").glob("*/__init__.py"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_says_in_a_sentence_what_lives_there_and_names_what_is_public(folder: Path) -> None:
    tree = ast.parse((folder / "__init__.py").read_text())
    sentence, *rest = (ast.get_docstring(tree) or "").split("\n\n")
    assert sentence.endswith(".")
    assert ". " not in sentence
    assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)
    bound = top_level(tree)
    if "__all__" in bound:  # parts for anyone's own code: the package itself has the names
        module = importlib.import_module(f"likewise.{folder.name}")
        assert {name for name in module.__all__ if name not in vars(module)} == set()
        return
    assert bound == set(), "a folder without __all__ imports nothing: what is in it loads when it is used"
    names = re.findall(r"``(\w+)\.(\w+)``", next(text for text in rest if text.startswith("Public names: ")))
    assert names
    for home, name in names:
        assert name in top_level(ast.parse((folder / f"{home}.py").read_text())), f"{home}.{name}"


def top_level(tree: ast.Module) -> set[str]:
    """What a module imports and defines."""
    bound: set[str] = set()
    for node in tree.body:
        match node:
            case ast.ImportFrom():
                bound |= {alias.asname or alias.name for alias in node.names}
            case ast.FunctionDef() | ast.ClassDef():
                bound.add(node.name)
            case ast.Assign():
                bound |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return bound
