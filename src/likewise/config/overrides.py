"""Settings from nested dicts, dotted names and texts."""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from likewise.config.settings import FitSettings
from likewise.errors import LikewiseError, closest


def settings_from(values: Mapping[str, Any], base: FitSettings | None = None) -> FitSettings:
    """``base`` (default: FitSettings()) with ``values`` over it: nested dicts or dotted names, lists for tuples.

    ``settings_from({"epochs": 5, "views.flip": 0.0, "optim": {"lr": 0.1}})``. Raises LikewiseError on an unknown name,
    with the closest known one, and on a value of the wrong type.
    """
    result = base or FitSettings()
    for name, value in values.items():
        result = _with(result, name.split("."), value, name)
    return result


def flatten(settings: object, prefix: str = "") -> dict[str, Any]:
    """Every knob by its dotted name, in order."""
    flat: dict[str, Any] = {}
    for name, value in vars(settings).items():
        flat |= flatten(value, f"{prefix}{name}.") if is_dataclass(value) else {prefix + name: value}
    return flat


def _with(settings: Any, path: list[str], value: Any, name: str) -> Any:
    fields = vars(settings)
    if path[0] not in fields:
        known = [*flatten(FitSettings()), *vars(FitSettings())]
        raise LikewiseError(f"there is no setting {name!r}.{closest(name, known)} See `likewise fit --help`.")
    old = fields[path[0]]
    if len(path) > 1 and not is_dataclass(old):
        raise LikewiseError(f"setting {path[0]!r} has no parts, so there is no {name!r}. See `likewise fit --help`.")
    if len(path) > 1:
        value = _with(old, path[1:], value, name)
    elif is_dataclass(old) and isinstance(value, Mapping):
        inner = old
        for key, part in value.items():
            inner = _with(inner, key.split("."), part, f"{name}.{key}")
        value = inner
    else:
        value = _checked(get_type_hints(type(settings))[path[0]], value, name)
    return replace(settings, **{path[0]: value})


def _checked(kind: Any, value: Any, name: str) -> Any:
    """``value`` as the annotation says: ints where floats are wanted and lists for tuples are taken, no more."""
    options = get_args(kind)
    if get_origin(kind) is Literal:
        if value in options:
            return value
    elif get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        wanted = [options[0]] * len(value) if options[-1:] == (...,) else list(options)
        if len(wanted) == len(value):
            return tuple(_checked(part, item, name) for part, item in zip(wanted, value, strict=True))
    elif get_origin(kind) is UnionType:
        if value is None or type(value) in options:
            return value
        if float in options and type(value) is int:
            return float(value)
    elif kind is float and type(value) in (int, float):
        return float(value)
    elif type(value) is kind:
        return value
    text = (
        " or ".join(map(repr, options))
        if get_origin(kind) is Literal
        else str(kind).replace("<class '", "").rstrip("'>")
    )
    raise LikewiseError(f"setting {name!r} can't be {value!r}; it must be {text}.")


def assigned(assignments: Sequence[str]) -> dict[str, Any]:
    """The settings that ``--set NAME=VALUE ...`` says, each value as in config.yaml. Raises LikewiseError on others."""
    values = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise LikewiseError(f"--set takes NAME=VALUE, such as encoder.bn_groups=4, not {assignment!r}.")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise LikewiseError(f"--set {name} can't be read from {text!r}; write it as in config.yaml.") from None
    return values
