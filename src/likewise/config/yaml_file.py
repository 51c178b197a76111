"""The one reader of YAML: settings in files and in ``--set`` are one dialect."""

import re
from pathlib import Path
from typing import Any

import yaml

from likewise.errors import LikewiseError

CONFIG = "config.yaml"  # of a run folder
LARGEST = 1 << 20  # bytes of a file of settings
ALIASES = 100  # of a file: some, as people use them; no bomb


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers (1e-2 is one, 010 is ten, not eight); a key that comes twice is refused."""

    aliases = 0

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            seen.add(str(key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > ALIASES:
                raise yaml.constructor.ConstructorError(None, None, f"it has more than {ALIASES} aliases", None)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Writes what :class:`_Loader` reads back as it was; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


INTEGER = re.compile(r"^[-+]?[0-9]+$")
FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")
for _side in (_Loader, _Dumper):
    _side.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":int"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _side.add_implicit_resolver("tag:yaml.org,2002:int", INTEGER, list("-+0123456789"))
    _side.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def read_yaml(text: str, where: str) -> Any:
    """What ``text`` says. Raises LikewiseError, which names ``where``, on text that is no YAML, or says a key twice."""
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


def as_yaml(values: Any) -> str:
    """``values`` (dicts, lists, tuples, numbers, texts) as text that :func:`read_yaml` reads."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def read_settings_file(path: Path) -> dict[str, Any]:
    """The settings that a YAML or JSON file names. Raises LikewiseError when it holds anything else."""
    try:
        content = path.read_bytes()[: LARGEST + 1]
    except OSError as error:
        raise LikewiseError(f"can't read {path}: {error.strerror}.") from None
    if len(content) > LARGEST:
        raise LikewiseError(f"{path} is no file of settings: it is larger than 1 MiB.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise LikewiseError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    values = read_yaml(text, str(path))
    if not isinstance(values, dict):
        raise LikewiseError(f"{path} holds no settings; write NAME: VALUE lines, as in a run's config.yaml.")
    return values
