"""The output of ``likewise objectives`` and ``likewise policies``: a line for each, or a page about one.

The text comes from the docstrings of the classes, read from their source. Imports no torch.
"""

import ast
import inspect
import re
from collections.abc import Container, Iterator
from importlib.resources import files

from likewise.config.objective_table import KNOWN, OBJECTIVES, Level, Row
from likewise.config.policy_table import POLICIES, PolicyRow

LEVELS: dict[Level, str] = {
    "pair": "pair level: similarities with other items, in the batch or a dictionary",
    "class": "class level: similarities with a proxy of each class, which is trained too",
    "instance": "instance level: similarities with a row for each item",
    "list": "list level: the scores of a query's items against their graded relevance",
}


def overview() -> Iterator[str]:
    """All objectives by level: the name and the first line of the docstring."""
    for level, heading in LEVELS.items():
        yield f"{heading}\n"
        yield from (_line(known) for known in OBJECTIVES if known.level == level)
        yield ""
    yield "`likewise objectives NAME` shows one with its equation and parameters."


def policies() -> Iterator[str]:
    """All policies of negatives: the name and the first line of the docstring."""
    yield from map(_line, POLICIES)
    yield "\n`likewise policies NAME` shows one with its parameters. Set by --negatives NAME, or several in turn."


def page(known: Row) -> Iterator[str]:
    """The page of one objective: its docstring, its parameters with defaults, and the data that it fits."""
    also = f" (also {', '.join(known.aliases)})" if known.aliases else ""
    yield f"{known.name}{also}, {LEVELS[known.level]}\n"
    yield from _about(known, f"--objective {known.name}", "objective", known.given)
    yield "\nFits:"
    yield from (f"  {row.data}" for row in KNOWN if known.name in row.objectives)
    if known.drawn:
        yield f"\n`likewise figure {known.name}` draws it."


def policy_page(known: PolicyRow) -> Iterator[str]:
    """The page of one policy of negatives: its docstring, and its parameters with defaults."""
    also = f" (also {', '.join(known.aliases)})" if known.aliases else ""
    yield f"{known.name}{also}, a policy of negatives\n"
    yield from _about(known, f"--negatives {known.name}", "negatives")


def fitting() -> Iterator[str]:
    """What may be known about the data and the objectives that fit, a few lines for each."""
    for row in KNOWN:
        fits = ", ".join(row.objectives)
        yield f"{row.data}\n  fits        {fits}\n  call        {row.call}\n  note        {row.why}"


def _line(known: Row | PolicyRow) -> str:
    return f"  {known.name:<24}{_plain(_docstring(known).partition(chr(10))[0])}"


def _about(known: Row | PolicyRow, choice: str, group: str, by_run: Container[str] = ()) -> Iterator[str]:
    """The docstring, the parameters, and the options that set them. The run gives the parameters ``by_run``."""
    about, _, told = _docstring(known).partition("Args:\n")
    yield _plain(about.rstrip())
    meanings = dict(re.findall(r"^ {4}(\w+): ((?:.|\n {8})*)", told, re.MULTILINE))
    defaults = _defaults(known)
    if defaults:
        yield "\nParameters:"
    for name, default in defaults.items():
        shown = name if default is None else f"{name}={default}"
        note = "" if name in known.parameters else " (given by the run)" if name in by_run else " (Python only)"
        yield f"  {shown:<24}{_plain(' '.join(meanings[name].split()))}{note}"
    yield f"\nSet in a run by {' '.join([choice, *(f'--{group}.{name} VALUE' for name in known.parameters)])}"


def _class(known: Row | PolicyRow) -> ast.ClassDef:
    """The syntax tree of the class."""
    text = (files("likewise") / known.file).read_text(encoding="utf-8")
    classes = [part for part in ast.parse(text).body if isinstance(part, ast.ClassDef)]
    return next(part for part in classes if part.name == known.class_name)


def _docstring(known: Row | PolicyRow) -> str:
    return inspect.cleandoc(ast.get_docstring(_class(known)) or "")


def _defaults(known: Row | PolicyRow) -> dict[str, str | None]:
    """Each parameter's default as source text; None where the parameter is required."""
    methods = [part for part in _class(known).body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    if not methods:  # a dataclass
        fields = [part for part in _class(known).body if isinstance(part, ast.AnnAssign)]
        written = {ast.unparse(part.target): part.value for part in fields}
        return {name: ast.unparse(value) for name in known.parameters if (value := written[name]) is not None}
    made = methods[0].args
    given = made.args[1:]
    late = [None] * (len(given) - len(made.defaults)) + made.defaults
    pairs = [*zip(given, late, strict=True), *zip(made.kwonlyargs, made.kw_defaults, strict=True)]
    return {name.arg: None if value is None else ast.unparse(value) for name, value in pairs}


def _plain(text: str) -> str:
    """The text without docstring markup."""
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text).replace("``", "")
