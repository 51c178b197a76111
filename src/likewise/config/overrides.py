"""Makes settings from nested dicts, dotted names and text."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import is_dataclass, replace
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from likewise.config.objective_table import OBJECTIVES
from likewise.config.older import translated
from likewise.config.settings import Chosen, FitSettings
from likewise.config.values import as_float, parameter, parameters_of, plain
from likewise.config.yaml_file import read_yaml, refuse_twice
from likewise.errors import LikewiseError, closest

WORDS: dict[object, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "truths"),
    str: ("text", "texts"),
    type(None): ("null", "nulls"),
}


def settings_from(values: Mapping[str, Any], base: FitSettings | None = None) -> FitSettings:
    """``base`` (default: FitSettings()) with ``values`` over it: nested dicts or dotted names, lists for tuples.

    ``settings_from({"epochs": 5, "views.flip": 0.0, "objective": "circle", "objective.gamma": 128})``. If the objective
    or the policies differ from the base's, they start with their own defaults. Raises LikewiseError on an unknown name,
    with the closest known name, and on a value that the setting does not allow.
    """
    settings: FitSettings = _over(base or FitSettings(), translated(_nested(values)), "")
    return settings


def flatten(settings: object, prefix: str = "") -> dict[str, Any]:
    """All settings by dotted name, in order, including the parameters that are set for the objective and policies."""
    flat: dict[str, Any] = {}
    for name, value in _values(settings).items():
        flat |= flatten(value, f"{prefix}{name}.") if is_dataclass(value) else {prefix + name: value}
    return flat


def as_dict(settings: object) -> dict[str, Any]:
    """The settings as nested dicts, for a file; :func:`settings_from` reads them."""
    return {name: as_dict(value) if is_dataclass(value) else value for name, value in _values(settings).items()}


def _values(settings: object) -> dict[str, Any]:
    """The fields and then the parameters, by name."""
    fields = dict(vars(settings))
    parameters: dict[str, Any] = fields.pop("parameters", {})
    return fields | parameters


def dotted(values: Mapping[str, Any]) -> list[str]:
    """The dotted name of every value: of nested dicts too. ``{"objective": "circle"}`` has the name ``objective``."""
    return _leaves(_nested(values), "")


def _leaves(values: Mapping[str, Any], prefix: str) -> list[str]:
    names = list[str]()
    for name, value in values.items():
        whole = f"{prefix}.{name}" if prefix and name else prefix + name
        names += _leaves(value, whole) if isinstance(value, Mapping) else [whole]
    return names


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turns dotted names into nested dicts. The later of ``{**base, "optim.lr": 1}`` wins."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(name, str):
            raise LikewiseError(f"{name!r} is not the name of a setting; see `likewise fit --help`.")
        first, dot, rest = name.partition(".")
        value = {rest: value} if dot else as_dict(value) if is_dataclass(value) else value
        value = _nested(value) if isinstance(value, Mapping) else value
        old = result.get(first)
        if first in result and isinstance(old, dict) != isinstance(value, dict):  # given alone, and in parts
            old, value = ({"": part} if not isinstance(part, dict) else part for part in (old, value))
        result[first] = _merged(old, value) if isinstance(value, dict) and first in result else value
    return result


def _merged(old: Any, new: dict[str, Any]) -> dict[str, Any]:
    """``new`` over ``old``, dict in dict. What was given alone, as in ``objective: circle``, has the empty name."""
    result = dict(old)
    for name, value in new.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = _merged(result[name], value) if both else value
    return result


def _over(settings: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """``settings`` with ``values`` over them; ``prefix`` is their dotted name, for messages."""
    fields, kinds, own = vars(settings), get_type_hints(type(settings)), {}
    chosen = isinstance(settings, Chosen)
    if chosen and "" in values and settings.by_name in values:
        raise LikewiseError(f"{prefix[:-1]} is named twice, alone and by {prefix}{settings.by_name}; leave one out.")
    values = {settings.by_name if chosen and name == "" else name: value for name, value in values.items()}
    for name, value in values.items():
        if name not in fields or name == "parameters":
            if chosen:
                continue
            raise _unknown(_first(value, prefix + name) if isinstance(value, Mapping) else prefix + name)
        if is_dataclass(fields[name]):
            inner = value if isinstance(value, Mapping) else {"": value}
            own[name] = _over(fields[name], inner, f"{prefix}{name}.")
        elif isinstance(value, Mapping):
            raise LikewiseError(
                f"setting {prefix + name!r} has no parts, so there is no {_first(value, prefix + name)!r}."
            )
        else:
            own[name] = _checked(kinds[name], value, prefix + name)
    result = replace(settings, **own)
    return _with_parameters(settings, result, values, prefix) if chosen else result


def _with_parameters(old: Chosen, new: Chosen, values: Mapping[str, Any], prefix: str) -> Chosen:
    """``new`` with the parameters in ``values``, and with those of ``old`` that apply to it."""
    new = new.canonical()
    has = new.has()
    parameters = {name: value for name, value in old.parameters.items() if name in has} if new.follows(old) else {}
    for name, value in values.items():
        if name in vars(new) and name != "parameters":
            continue
        allowed = parameter(new.title(), name, has, besides=vars(new).keys() - {"parameters"})
        if value is None and not allowed.optional:
            parameters.pop(name, None)
        else:
            parameters[name] = allowed.read(prefix + name, value)
    return replace(new, parameters=parameters)


def named_ahead(parts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """``parts`` for :func:`settings_from`, one over the other, where a later part may name what an earlier one sets.

    A file with ``objective: {gamma: 64}`` and then the option ``--objective circle``: the file's part gets the name. A
    part before which a name is given, and one whose parameters the later name has not, stay as they are.
    """
    named = [_nested(part) for part in parts]
    for setting, chosen in vars(FitSettings()).items():
        if not isinstance(chosen, Chosen):
            continue
        blocks = [part.get(setting, {}) for part in named]
        names = [_name_in(block, chosen) for block in blocks]
        first = next((index for index, name in enumerate(names) if name is not None), 0)
        for part, block in zip(named[:first], blocks[:first], strict=True):
            later: Chosen = _over(chosen, {chosen.by_name: names[first]}, f"{setting}.")
            if block and block.keys() <= later.has().keys():
                part[setting] = {chosen.by_name: names[first], **block}
    return list(named)


def _name_in(block: object, chosen: Chosen) -> object:
    """The name that the settings of an objective or of policies give; None: they give none."""
    return block.get("", block.get(chosen.by_name)) if isinstance(block, Mapping) else block


def _first(value: Mapping[str, Any], name: str) -> str:
    """The dotted name of the first nested value."""
    for inner, other in value.items():
        return _first(other, f"{name}.{inner}") if isinstance(other, Mapping) else f"{name}.{inner}"
    return name


def _unknown(name: str) -> LikewiseError:
    owner, _, leaf = name.rpartition(".")
    if not leaf:
        return LikewiseError(
            f"setting {owner!r} can't be a single value; it must be its parts, as in `{owner}: {{...}}`."
        )
    known = [
        *flatten(FitSettings()),
        *vars(FitSettings()),
        *(f"objective.{each}" for each in parameters_of(OBJECTIVES)),
    ]
    return LikewiseError(f"there is no setting {name!r}.{closest(name, known, dotted=True)} See `likewise fit --help`.")


def _checked(kind: Any, value: Any, name: str) -> Any:
    """``value`` as the annotation says. An integer will do for a float; a list, or one value, for several."""
    options, value = get_args(kind), plain(value)
    if get_origin(kind) is Literal:
        if value in options:
            return value
    elif get_origin(kind) is tuple:
        several = options[-1:] == (...,)
        values = [value] if several and isinstance(value, (str, int, float)) else value
        wanted = options[:1] * len(values) if several and isinstance(values, (list, tuple)) else options
        if isinstance(values, (list, tuple)) and len(wanted) == len(values):
            return tuple(_checked(part, item, name) for part, item in zip(wanted, values, strict=True))
    elif get_origin(kind) is UnionType:
        if value is None or type(value) in options:
            return value
        if float in options and type(value) is int:
            return as_float(value)
    elif kind is float and type(value) in (int, float):
        return as_float(value)
    elif kind is int and type(value) is float and value.is_integer():
        return int(value)
    elif type(value) is kind:
        return value
    quotes = " Put it in quotes." if str in (kind, *options) and type(value) in (int, float, bool) else ""
    raise LikewiseError(f"setting {name!r} can't be {value!r}; it must be {_words(kind)}.{quotes}")


def _words(kind: Any) -> str:
    """The type of an annotation in words."""
    options = get_args(kind)
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, options))
    if get_origin(kind) is UnionType:
        return " or ".join(map(_words, options))
    if get_origin(kind) is tuple:
        return f"a list of {'' if options[-1:] == (...,) else f'{len(options)} '}{WORDS[options[0]][1]}"
    return WORDS[kind][0]


def assigned(assignments: Sequence[str]) -> dict[str, Any]:
    """The settings of ``--set NAME=VALUE ...``, with values as in config.yaml. Raises LikewiseError on other text."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign or not name.strip():
            raise LikewiseError(f"--set takes NAME=VALUE, such as encoder.bn_groups=4, not {assignment!r}.")
        if name in values:
            raise LikewiseError(f"--set gives {name!r} twice; leave one out.")
        values[name] = read_yaml(text, f"--set {name}")
    refuse_twice(values, "--set")
    return values


def about(name: str, names: Collection[str]) -> bool:
    """Whether a setting is one of ``names``, or of a group among them: ``objective.temperature`` of ``objective``."""
    return any(name == each or name.startswith(f"{each}.") for each in names)
