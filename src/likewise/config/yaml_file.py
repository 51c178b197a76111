"""Reads and writes YAML. Files of settings and ``--set`` use the same dialect; a file named .json is read as JSON."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from likewise.errors import LikewiseError
from likewise.files import as_path

CONFIG = "config.yaml"  # in a run folder
LARGEST = 1 << 20  # most bytes of a settings file
VALUES = 100_000  # most values of a file, where what an alias stands for counts each time


class _Loader(yaml.SafeLoader):
    """Reads scalars as YAML 1.2 does: 1e-2 is a number, 010 is ten, and no is a text. A repeated key is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.sizes: dict[yaml.Node, int] = {}  # the number of values in a node, with those of its aliases

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} occurs twice", key.start_mark)
            seen.add(str(key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def compose_node(self, parent: Any, index: Any) -> Any:
        is_alias = self.check_event(yaml.AliasEvent)
        node: Any = super().compose_node(parent, index)
        if is_alias and node not in self.sizes:
            raise yaml.constructor.ConstructorError(None, None, "a value holds itself", node.start_mark)
        if not is_alias:
            self.sizes[node] = 1 + sum(self.sizes[child] for child in _children(node))
        if self.sizes[node] > VALUES:
            raise yaml.constructor.ConstructorError(None, None, f"it holds more than {VALUES:,} values", None)
        return node


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


class _Dumper(yaml.SafeDumper):
    """Writes values so that :class:`_Loader` reads the same values back; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


INTEGER = re.compile(r"^[-+]?[0-9]+$")
FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")
BOOL = re.compile(r"^(true|True|TRUE|false|False|FALSE)$")
NULL = re.compile(r"^(~|null|Null|NULL|)$")
_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", BOOL, list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", NULL, ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("^<<$"), ["<"])
# The dumper puts in quotes what is a text here and not to other readers of YAML: no, 2026-01-01.
_Dumper.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":int"))]
    for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:int", INTEGER, list("-+0123456789"))
    _side.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def read_yaml(text: str, where: str) -> Any:
    """The value of ``text``. Raises LikewiseError, with the name ``where``, if it is not YAML or a key occurs twice."""
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark is not None else ""
        raise LikewiseError(f"{where} can't be read: {error.problem or error.context}{line}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise LikewiseError(f"{where} can't be read: {str(error).splitlines()[0]}.") from None


def _read_json(text: str, where: str) -> Any:
    """The value of JSON ``text``. YAML would refuse its tabs, and its escape of "/"."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in pairs:
            if key in values:
                raise ValueError(f"{key!r} occurs twice")
            values[key] = value
        return values

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise LikewiseError(f"{where} can't be read: {error}.") from None


def as_yaml(values: Any) -> str:
    """``values`` (dicts, lists, tuples, numbers, strings) as text that :func:`read_yaml` reads."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def read_settings_file(path: Path) -> dict[str, Any]:
    """The settings in a YAML or JSON file. Raises LikewiseError when it holds anything else."""
    path = as_path(path, "--config")
    try:
        content = path.read_bytes()[: LARGEST + 1]
    except OSError as error:
        raise LikewiseError(f"can't read {path}: {error.strerror}.") from None
    if len(content) > LARGEST:
        raise LikewiseError(f"{path} is not a settings file: it is larger than 1 MiB.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise LikewiseError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    values = _read_json(text, str(path)) if path.suffix.lower() == ".json" else read_yaml(text, str(path))
    if not isinstance(values, dict):
        raise LikewiseError(f"{path} holds no settings; write NAME: VALUE lines, as in a run's config.yaml.")
    refuse_twice(values, str(path))
    return values


def refuse_twice(values: Mapping[str, Any], where: str) -> None:
    """Raises LikewiseError if a setting has two spellings: ``optim.lr: 1`` and ``optim: {lr: 2}``."""
    seen: set[str] = set()
    for name in _dotted(values):
        if name in seen:
            raise LikewiseError(f"{where} gives {name!r} twice; leave one out.")
        seen.add(name)


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted name of every value."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
