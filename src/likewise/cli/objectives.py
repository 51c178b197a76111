"""What ``likewise objectives`` prints: the objectives with a line each, or all about one. Imports no torch.

The text is that of the classes' docstrings, read from their source, so that it stands in one place.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib.resources import files

from likewise.config.data_guide import KNOWN
from likewise.config.objective_table import OBJECTIVES, Level, Row

LEVELS: dict[Level, str] = {
    "pair": "pair level: similarities with other items, in the batch or a dictionary",
    "class": "class level: similarities with a proxy of each class, which is trained too",
    "instance": "instance level: similarities with a row for each item",
}


def overview() -> Iterator[str]:
    """Every objective by level: its name, and the first line of its docstring."""
    for level, heading in LEVELS.items():
        yield f"{heading}\n"
        for known in OBJECTIVES:
            if known.level == level:
                yield f"  {known.name:<24}{_docstring(known).partition(chr(10))[0]}"
        yield ""
    yield "`likewise objectives NAME` shows one with its equation and parameters."


def page(known: Row) -> Iterator[str]:
    """All about one objective: its docstring, its parameters with their defaults, and the data that it fits."""
    about, _, told = _docstring(known).partition("Args:\n")
    also = f" (also {', '.join(known.aliases)})" if known.aliases else ""
    yield f"{known.name}{also}, {LEVELS[known.level]}\n"
    yield _plain(about.rstrip())
    yield "\nParameters:"
    meanings = dict(re.findall(r"^ {4}(\w+): ((?:.|\n {8})*)", told, re.MULTILINE))
    for name, default in _defaults(known).items():
        shown = name if default is None else f"{name}={default}"
        yield f"  {shown:<24}{_plain(' '.join(meanings[name].split()))}"
    yield "\nFits:"
    yield from (f"  {row.data}" for row in KNOWN if known.class_name in row.objectives)
    yield f"\n`likewise figure {known.name}` draws it."


def _class(known: Row) -> ast.ClassDef:
    """The objective's class, as it is written."""
    text = (files("likewise") / "objectives" / f"{known.module}.py").read_text(encoding="utf-8")
    return next(
        part for part in ast.parse(text).body if isinstance(part, ast.ClassDef) and part.name == known.class_name
    )


def _docstring(known: Row) -> str:
    return inspect.cleandoc(ast.get_docstring(_class(known)) or "")


def _defaults(known: Row) -> dict[str, str | None]:
    """Each parameter's default as it is written; None where the parameter must be given."""
    made = next(part for part in _class(known).body if isinstance(part, ast.FunctionDef) and part.name == "__init__")
    given = made.args.args[1:]
    late = [None] * (len(given) - len(made.args.defaults)) + made.args.defaults
    pairs = [*zip(given, late, strict=True), *zip(made.args.kwonlyargs, made.args.kw_defaults, strict=True)]
    return {name.arg: None if value is None else ast.unparse(value) for name, value in pairs}


def _plain(text: str) -> str:
    """Without the docstrings' markup."""
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text).replace("``", "")
