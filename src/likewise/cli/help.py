"""What the parser prints: ``--help`` with the common options, ``--help-all`` with all, and completion of a shell."""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from jsonargparse import DefaultHelpFormatter

from likewise.errors import LikewiseError, closest


def as_typed(value: Any) -> str:
    """A value as it is typed after its option: ``0.2,1``, ``true``, ``null``, text without quotes."""
    return ",".join(map(as_typed, value)) if isinstance(value, list | tuple) else json.dumps(value).strip('"')


class Brief(DefaultHelpFormatter):
    """The help of an option without its type, and without a default where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str:
        about = re.sub(r"(?<!\.)\.$", "", (action.help or "").replace("``", ""))  # the dots of "cuda:1 ..." stay
        return f"{about} (default: {as_typed(action.default)})" if _has_default(action) else about


def _has_default(action: argparse.Action) -> bool:
    return action.default not in (None, argparse.SUPPRESS) and action.nargs != 0


class HelpAll(argparse._HelpAction):
    """``--help-all``: the help with every section."""

    def __call__(self, parser: Any, *_: Any) -> None:
        """Prints it and exits."""
        parser.sections_shown, parser.epilog = None, None
        parser.print_help()
        parser.exit()


def sections(
    actions: Sequence[argparse.Action], wanted: Mapping[str, Sequence[str]], rest: str
) -> dict[str, list[argparse.Action]]:
    """The actions under the headings of ``wanted``, each under the first that names it or the group it is in.

    The first heading names all its actions, and has them in this order. Those that nothing names are under ``rest``. A
    group itself (``--views``), which takes no value, is under none. Raises KeyError on a name that no action has.
    """
    by_name = {action.dest: action for action in actions}
    groups = {name.rpartition(".")[0] for name in by_name}
    first, *others = wanted
    result = {first: [by_name[name] for name in wanted[first]], **{title: [] for title in [*others, rest]}}
    owner = {name: title for title in others for name in wanted[title]}
    for name, action in by_name.items():
        if name not in groups and name not in wanted[first]:
            result[owner.get(name) or owner.get(name.partition(".")[0], rest)].append(action)
    return result


SHELLS = ("bash", "zsh", "tcsh")


class PrintCompletion(argparse.Action):
    """``--print_completion SHELL``: prints a script that completes commands and options in this shell, and exits."""

    def __call__(self, parser: Any, namespace: Any, shell: Any, option: str | None = None) -> None:
        """Raises LikewiseError on another shell, and without the extra ``completion``."""
        if shell not in SHELLS:
            wanted = ", ".join(SHELLS)
            raise LikewiseError(f"{option} can't be {shell!r}; it must be one of {wanted}.{closest(shell, SHELLS)}")
        if find_spec("shtab") is None:
            raise LikewiseError('shtab is not installed; pip install "likewise[completion]".')
        print(parser.get_completion_script(f"shtab-{shell}"))
        raise SystemExit(0)  # the parser can't be used any more
