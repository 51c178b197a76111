"""Points to the right option where a name is of another kind: an objective where a method is asked for, and so on."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import get_args, get_type_hints

from likewise.config.names import Named, UnknownName, letters
from likewise.config.objective_table import OBJECTIVES
from likewise.config.policy_table import POLICIES
from likewise.config.settings import FitSettings
from likewise.errors import LikewiseError


@contextmanager
def kinds_told_apart(methods: Iterable[Named]) -> Iterator[None]:
    """Within it, an unknown name that is known as another kind raises a LikewiseError which says as which."""
    try:
        yield
    except UnknownName as error:
        advice = list(_advice(error.name, methods))
        if not advice:
            raise
        raise LikewiseError(f"{error.wrong}, but {', and '.join(advice)}.") from None


def _advice(name: str, methods: Iterable[Named]) -> Iterator[str]:
    """What else the name is, and with which option of fit."""
    for kind, option, command, rows in (
        ("a method", "--method", "methods", methods),
        ("an objective", "--objective", "objectives", OBJECTIVES),
        ("a policy of negatives", "--negatives", "policies", POLICIES),
    ):
        for row in rows:
            if letters(name) in map(letters, (row.name, *row.aliases)):
                yield f"{kind}: {option} {name} (see `likewise {command} {name}`)"
    if name in get_args(get_type_hints(FitSettings)["dictionary"]):
        yield f"a dictionary: --dictionary {name}"
