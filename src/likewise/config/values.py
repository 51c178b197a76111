"""The allowed values of parameters of objectives and policies. Imports no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from numbers import Integral, Real
from typing import Literal, Protocol

from likewise.errors import LikewiseError, closest

Scalar = float | int | bool | str | None
Tuned = Literal["", "margin", "scale", "temperature"]


def plain(value: object) -> object:
    """A NumPy number as Python's; anything else as it is."""
    if isinstance(value, bool):
        return value
    return int(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else value


def as_float(value: int | float) -> float:
    """The number as a float; an integer beyond the largest float becomes infinity, which every range refuses."""
    try:
        return float(value)
    except OverflowError:
        return inf if value > 0 else -inf


@dataclass(frozen=True, kw_only=True)
class Value:
    """The allowed values of a parameter.

    Args:
        kind: float (integers are accepted), int or bool; str where there are ``choices``.
        above: numbers must be above this.
        least: numbers must be this or more.
        below: numbers must be below this.
        most: numbers must be this or less.
        choices: the only allowed values.
        optional: whether None is allowed. If not, ``null`` stands for the default.
        tuned: how ``likewise compare --trials`` searches around the default; empty: it does not search.
    """

    kind: type = float
    above: float = -inf
    least: float = -inf
    below: float = inf
    most: float = inf
    choices: tuple[Scalar, ...] = ()
    optional: bool = False
    tuned: Tuned = ""

    def read(self, name: str, value: object) -> Scalar:
        """``value`` as the constructor needs it. Raises LikewiseError, with the allowed values, on others."""
        if value is None and self.optional:
            return None
        value = plain(value)
        taken = value
        if self.kind is float and type(value) is int:
            taken = as_float(value)
        if self.kind is int and type(value) is float and value.is_integer():
            taken = int(value)
        if self.kind is str and type(value) is bool:  # YAML reads true as a truth
            taken = str(value).lower()
        if isinstance(taken, Scalar) and type(taken) is self.kind and self.holds(taken):
            return taken
        raise LikewiseError(f"setting {name!r} is {value!r}; it must be {self.words()}.")

    def holds(self, value: Scalar) -> bool:
        """Whether a value of the right kind is allowed."""
        if self.choices:
            return value in self.choices
        return isinstance(value, str | bool | None) or (
            self.above < value < self.below and self.least <= value <= self.most
        )

    def words(self) -> str:
        """The allowed values in words."""
        if self.choices:
            wanted = " or ".join(map(str, self.choices))
        elif self.kind is bool:
            wanted = "true or false"
        else:
            wanted = "a whole number" if self.kind is int else "a number"
            wanted += f" above {self.above:g}" if self.above > -inf else ""
            wanted += f" from {self.least:g}" if self.least > -inf else ""
            wanted += f" to {self.most:,.15g}" if -inf < self.least and self.most < inf else ""
            wanted += f" and at most {self.most:,.15g}" if self.least == -inf and self.most < inf else ""
            wanted += f" and below {self.below:g}" if self.below < inf else ""
        return wanted + " or null" * self.optional


NUMBER, ABOVE_ZERO, NOT_NEGATIVE = Value(), Value(above=0), Value(least=0)
COUNT, FLAG = Value(kind=int, least=1, below=1e7), Value(kind=bool)
MARGIN = Value(least=0, tuned="margin")
FOLDS = Value(kind=int, choices=(1, 2, 3, 4), tuned="margin")  # a margin that multiplies an angle
SCALE, TEMPERATURE = Value(above=0, tuned="scale"), Value(above=0, tuned="temperature")


def parameter(owner: str, name: str, parameters: Mapping[str, Value], *, besides: Iterable[str] = ()) -> Value:
    """The allowed values of the parameter ``name``.

    Raises LikewiseError on others, with the owner's parameters and the closest name, of these or of those ``besides``.
    """
    if name not in parameters:
        its = f"It has {', '.join(parameters)}." if parameters else "It has none."
        raise LikewiseError(f"{owner} has no parameter {name!r}.{closest(name, [*parameters, *besides])} {its}")
    return parameters[name]


def one_of(*choices: str) -> Value:
    """A parameter that is one of these words."""
    return Value(kind=str, choices=choices)


class WithParameters(Protocol):
    """A row of the table of objectives, or of that of policies."""

    @property
    def name(self) -> str:
        """The name in settings, files and docs."""

    @property
    def parameters(self) -> Mapping[str, Value]:
        """The constructor's parameters that a user may set."""


def parameters_of(rows: Iterable[WithParameters]) -> dict[str, dict[str, list[str]]]:
    """Every parameter of the rows: its allowed values in words, and the names of the rows that allow these."""
    parameters: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for name, value in row.parameters.items():
            parameters.setdefault(name, {}).setdefault(value.words(), []).append(row.name)
    return parameters
