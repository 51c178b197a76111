"""The parser, and a command as a row. Nothing heavy is imported before the arguments are understood."""

import sys
from argparse import HelpFormatter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from likewise.cli.mistakes import Asked, explain
from likewise.config.yaml_file import read_yaml
from likewise.errors import LikewiseError

ABOUT = "Learns what is alike: fit an embedding, measure it, embed, index, search, look."


class Parser(ArgumentParser):
    """jsonargparse's parser; a mistake is one sentence, with the closest known name, and exit code 2."""

    family: tuple["Parser", ...] = ()  # the parsers of all commands, in each of them
    overview: str = ""  # the help of the whole command line

    @property
    def name(self) -> str:
        """The command's name; "likewise" for the whole command line."""
        return self.prog.split()[-1]

    def part(self, name: str) -> "Parser":
        """The parser of the command ``name``."""
        return next(part for part in self.family if part.name == name)

    def options(self) -> dict[str, str]:
        """Every argument's key, and how it is written: ``--epochs``, or ``RUN`` where it has no dashes."""
        return {
            action.dest: next(reversed(action.option_strings), str(action.metavar or action.dest))
            for action in self._actions
        }

    def usage_of(self, command: str) -> str:
        """``likewise fit DATA --out RUN [options]``: what must be given, in order."""
        words = [f"likewise {command}"]
        for action in sorted(self._actions, key=lambda action: bool(action.option_strings)):
            value = str(action.metavar or action.dest.upper())
            if not action.option_strings:
                words.append(f"[{value}]" if action.nargs == "?" else value)
            elif action.required:
                words.append(f"{action.option_strings[-1]} {value}")
        return " ".join([*words, "[options]"])

    def take_several(self, *options: str) -> None:
        """These options take one value or several: ``hard``, ``easy,hard`` and ``[easy, hard]``."""
        for option in options:
            action = self._option_string_actions[option]
            action.type, action.metavar = Several(), "VALUE,..."

    def also(self, alias: str, option: str) -> None:
        """``alias`` is another way to write ``option``, which ``--help`` does not list."""
        self._option_string_actions[alias] = self._option_string_actions[option]

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """What ``--help`` prints."""
        return self.overview or super().format_help(formatter)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints what is wrong in one sentence and leaves with 2."""
        commands = {part.name: part.options() for part in self.family}
        said = explain(message, Asked(command=self.name, commands=commands, options=self.options()))
        print(f"likewise: {said}", file=sys.stderr)
        raise SystemExit(2)


class Several:
    """The text of an option that takes several values, as a list of them; the option's own type checks each value."""

    def __call__(self, text: str) -> Any:
        """``1,10`` and ``[1, 10]`` as a list of two, ``1`` as a list of one."""
        if not text.startswith("["):
            return [part.strip() for part in text.split(",") if part.strip()]
        try:
            return read_yaml(text, "a list")
        except LikewiseError:
            return text  # the option's own type refuses it

    def __str__(self) -> str:
        return "values with commas between"  # in --help


class Scalar:
    """The text of an option as the value that a file would have there; what it may be is checked later."""

    def __call__(self, text: Any) -> Any:
        """``1e-2`` as a number, ``true`` as a truth, ``null`` as None; a value as it is."""
        try:
            return read_yaml(text, "a value") if isinstance(text, str) and text else text
        except LikewiseError:
            return text  # the table refuses it

    def __str__(self) -> str:
        return "number or word"  # in --help


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of the command line.

    Args:
        name: as typed after ``likewise``.
        group: the heading under which ``likewise --help`` lists it.
        help: what it does, in one line.
        add: adds its arguments to its parser.
        run: does it, and returns the exit code.
        defaults: whether ``run`` gets the defaults of what is not given too.
    """

    name: str
    group: str
    help: str
    add: Callable[[Parser], None]
    run: Callable[[Namespace], int]
    defaults: bool = True


def build_parser(commands: Iterable[Command]) -> Parser:
    """The whole command line; ``family`` holds each command's own parser."""
    from likewise import __version__

    commands = tuple(commands)
    parser = Parser(prog="likewise", allow_abbrev=False)
    parser.overview = overview(commands)
    parser.add_argument("--version", action="version", version=f"likewise {__version__}")
    choice = parser.add_subcommands(dest="command", required=False)
    parts = []
    for command in commands:
        part = Parser(description=command.help, print_config=None)
        command.add(part)
        choice.add_subcommand(command.name, part)
        part.prog, part.usage = f"likewise {command.name}", part.usage_of(command.name)
        parts.append(part)
    for each in (parser, *parts):
        each.family = tuple(parts)
    return parser


def overview(commands: Iterable[Command]) -> str:
    """What ``likewise --help`` prints: the commands under their headings, in the order of the table."""
    lines = ["usage: likewise COMMAND ...", "", ABOUT]
    group = ""
    for command in commands:
        if command.group != group:
            group = command.group
            lines += ["", f"{group}:"]
        lines.append(f"  {command.name:<12}{command.help}")
    lines += ["", "`likewise COMMAND --help` shows what a command takes; `likewise --version` shows the version."]
    return "\n".join(lines) + "\n"
