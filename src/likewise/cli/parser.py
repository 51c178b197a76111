"""The parser, and the rows of the table of commands. Nothing heavy is imported before the arguments are parsed."""

import re
import sys
from argparse import SUPPRESS, ArgumentTypeError, HelpFormatter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from likewise.cli.help import Brief, HelpAll, PrintCompletion, sections
from likewise.cli.mistakes import NOT_A_VALUE, Asked, explain
from likewise.config.values import Value, as_float
from likewise.config.yaml_file import read_yaml
from likewise.errors import LikewiseError
from likewise.text import readable

NEGATIVE = re.compile(r"^-\.?\d")  # a value, not an option: -1, -.5, -1e-3, -1,0,1
ABOUT = "Learns what is alike: fit an embedding, measure it, embed, index, search, look."


def as_given(value: Any) -> Any:
    """The value itself."""
    return value


class Parser(ArgumentParser):
    """jsonargparse's parser. A mistake gives one sentence, with the closest known name, and exit code 2."""

    family: tuple["Parser", ...] = ()  # the parsers of all commands; each parser has them
    overview: str = ""  # the help of the whole command line
    words: tuple[str, ...] = ()  # the words of the command line, for options that the parser learns from them
    sections_shown: int | None = None  # the number of sections of options that --help shows; None: all of them

    @property
    def name(self) -> str:
        """The command's name; "likewise" for the whole command line."""
        return self.prog.split()[-1]

    def part(self, name: str) -> "Parser":
        """The parser of the command ``name``."""
        return next(part for part in self.family if part.name == name)

    def options(self) -> dict[str, str]:
        """The key of every argument, and how a user writes it: ``--epochs``, or ``RUN`` for a positional one."""
        return {
            action.dest: next(reversed(action.option_strings), str(action.metavar or action.dest))
            for action in self._actions
        }

    def usage_of(self, command: str) -> str:
        """The usage line with the required arguments, in order: ``likewise fit DATA --out RUN [options]``."""
        words = [f"likewise {command}"]
        for action in sorted(self._actions, key=lambda action: bool(action.option_strings)):
            value = str(action.metavar or action.dest.upper())
            if not action.option_strings:
                words.append(f"[{value}]" if action.nargs == "?" else value)
            elif action.required:
                words.append(f"{action.option_strings[-1]} {value}")
        return " ".join([*words, "[options]"])

    def take_several(self, option: str, read: Callable[[Any], Any] = as_given) -> None:
        """Lets an option take one value or several: ``hard``, ``easy,hard`` or ``[easy, hard]``."""
        action = self._option_string_actions[option]
        action.type, action.metavar = Several(read), "VALUE,..."

    def take_number(self, option: str, kind: type) -> None:
        """Lets an option read an int or a float as config.yaml does. One of several values has its reader already."""
        action = self._option_string_actions[option]
        action.type = action.type or Number(kind)

    def refuse_group(self, option: str) -> None:
        """Lets the command line refuse ``option``, such as --optim: jsonargparse takes ``{lr: 1, lr: 0x10}`` there."""
        self._option_string_actions[option].type = _not_a_value

    def also(self, alias: str, option: str) -> None:
        """Makes ``alias`` another name of ``option``. The help of the option names it."""
        action = self._option_string_actions[option]
        self._option_string_actions[alias] = action
        action.help = f"{action.help} In short: {alias}."

    def show_defaults(self, values: Mapping[str, Any]) -> None:
        """Shows these values, by key, as the defaults in the help."""
        for action in self._actions:
            action.default = values.get(action.dest, action.default)

    def arrange(self, wanted: Mapping[str, Sequence[str]], rest: str) -> None:
        """Shows the options under these headings: the first by ``--help``, all by ``--help-all``. See ``sections``."""
        self.add_argument("--help-all", action=HelpAll, help="show every option, in groups")
        self._action_groups, self.sections_shown = [], 1
        for title, actions in sections(self._actions, wanted, rest).items():
            self.add_argument_group(title)._group_actions = actions

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """The text of ``--help``."""
        if self.overview:
            return self.overview
        groups = self._action_groups
        self._action_groups = groups[: self.sections_shown]
        self.formatter_class = DefaultHelpFormatter if self.sections_shown is None else Brief
        try:
            return super().format_help(formatter)
        finally:
            self._action_groups = groups

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints one sentence about the mistake and exits with code 2."""
        commands = {part.name: part.options() for part in self.family}
        sentence = explain(message, Asked(command=self.name, commands=commands, options=self.options()))
        print(f"likewise: {readable(sentence)}", file=sys.stderr)
        raise SystemExit(2)


def _not_a_value(text: Any) -> NoReturn:
    raise ArgumentTypeError(NOT_A_VALUE)


class Number:
    """Reads the text of an option as config.yaml reads a number. The option's own type checks the value."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __call__(self, text: Any) -> Any:
        """A number or null; anything else in a list, which is refused.

        jsonargparse would read the text itself, by a dialect in which ``0x10``, ``1_0`` and ``1:30`` are numbers.
        """
        value = YamlValue()(text)
        if type(value) is int and self._kind is float:
            return as_float(value)
        if type(value) is float and value.is_integer() and self._kind is int:
            return int(value)
        return value if value is None or type(value) in (int, float) else [text]

    def __str__(self) -> str:
        return self._kind.__name__  # in --help


class Several:
    """Reads the text of an option with several values as a list. The option's own type checks each value."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self._read = read

    def __call__(self, text: str) -> Any:
        """``1,10`` and ``[1, 10]`` as a list of two, ``1`` as a list of one."""
        if not text.startswith("["):
            return [self._read(part.strip()) for part in text.split(",") if part.strip()]
        values = YamlValue()(text)
        if values == text:
            return text  # the option's own type refuses it
        return list(map(self._read, values))

    def __str__(self) -> str:
        return "values separated by commas"  # in --help


class YamlValue:
    """Reads the text of an option as a value of YAML. The allowed values are checked later."""

    def __call__(self, text: Any) -> Any:
        """``1e-2`` becomes a number, ``true`` a bool, ``null`` None; a value stays as it is."""
        try:
            return read_yaml(text, "a value") if isinstance(text, str) and text else text
        except LikewiseError:
            return text  # the table refuses it

    def __str__(self) -> str:
        return "value"  # in --help


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of the command line.

    Args:
        name: the word after ``likewise``.
        group: its heading in ``likewise --help``.
        help: its purpose, in one line.
        add: adds its arguments to its parser.
        run: runs it and returns the exit code.
        defaults: whether ``run`` also gets default values of arguments that were not given.
        usage: the usage line, where the parser does not know what is required.
        numbers: the range of each option that is a number.
    """

    name: str
    group: str
    help: str
    add: Callable[[Parser], None]
    run: Callable[[Namespace], int]
    defaults: bool = True
    usage: str = ""
    numbers: Mapping[str, Value] = field(default_factory=dict)

    def check(self, given: Namespace, options: Mapping[str, str]) -> None:
        """Raises LikewiseError when an option is empty or a number out of its range; ``options`` has their names."""
        for key, value in given.items():
            if any(isinstance(each, str) and not each.strip() for each in _each(value)):  # "$RUN", and RUN is not set
                raise LikewiseError(f"{options[key]} is empty.")
        for key, allowed in self.numbers.items():
            for number in _each(given.get(key)):
                if not allowed.holds(number):
                    raise LikewiseError(f"{options[key]} is {number}; it must be {allowed.words()}.")


def _each(value: Any) -> Iterator[Any]:
    """The values of an option with one value, several or none."""
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _each(part)
    elif value is not None:
        yield value


def build_parser(commands: Iterable[Command], words: Iterable[str] = ()) -> Parser:
    """The parser of the whole command line, with one parser for each command in ``family``.

    Args:
        commands: the table of commands.
        words: the words that will be parsed.
    """
    from likewise import __version__

    commands, words = tuple(commands), tuple(words)
    parser = Parser(prog="likewise", allow_abbrev=False)
    parser.overview = overview(commands)
    parser.add_argument("--version", action="version", version=f"likewise {__version__}")
    parser.add_argument("--print_completion", action=PrintCompletion, metavar="SHELL", default=SUPPRESS, dest=SUPPRESS)
    choice = parser.add_subcommands(dest="command", required=False)
    parts = []
    for command in commands:
        part = Parser(description=command.help, print_config=None)
        part._negative_number_matcher = NEGATIVE
        part.words = words
        command.add(part)
        for key, allowed in command.numbers.items():
            part.take_number(part.options()[key], allowed.kind)
        choice.add_subcommand(command.name, part)
        part.prog, part.usage = f"likewise {command.name}", command.usage or part.usage_of(command.name)
        parts.append(part)
    for each in (parser, *parts):
        each.family = tuple(parts)
    return parser


def overview(commands: Iterable[Command]) -> str:
    """The text of ``likewise --help``: the commands under their headings, in the order of the table."""
    lines = ["usage: likewise COMMAND ...", "", ABOUT]
    group = ""
    for command in commands:
        if command.group != group:
            group = command.group
            lines += ["", f"{group}:"]
        lines.append(f"  {command.name:<12}{command.help}")
    lines += ["", "`likewise COMMAND --help` shows its options; `likewise --version` shows the version;"]
    lines += ["`likewise --print_completion bash` prints completion for bash (or zsh, tcsh)."]
    return "\n".join(lines) + "\n"
