"""Turns jsonargparse's error messages into one plain sentence with the closest known name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from likewise.errors import closest
from likewise.text import quoted

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "NoneType": "null"}
SEVERAL = "a list in brackets"
NOT_A_VALUE = "a group of settings takes no value"
EXPECTED = r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[([^\]]*)\]|tuple with (\d+) elements)"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The command that the arguments belong to.

    Args:
        command: its name; "likewise" before a command is known.
        commands: the options of every command, by key, as a user writes them.
        options: the options of ``command``.
    """

    command: str
    commands: Mapping[str, Mapping[str, str]]
    options: Mapping[str, str]

    def within(self, command: str) -> "Asked":
        """The same for ``command``, if it is a command."""
        options = self.commands.get(command)
        return self if options is None else Asked(command=command, commands=self.commands, options=options)

    def written(self, key: str) -> str:
        """An argument as a user writes it: ``--epochs``, or ``RUN``."""
        return self.options.get(key, f"--{key}")


def explain(message: str, asked: Asked) -> str:
    """One sentence for ``message``, and the ``--help`` to read."""
    message = re.sub(r"\s+", " ", message).strip()
    owner = re.search(r"Subcommand '(\w+)'|required: (\w+)\.|Parser key \"(\w+)\.", message)
    if owner:
        asked = asked.within(next(filter(None, owner.groups())))
    for form, say in FORMS:
        match = re.search(form, message)
        if match:
            sentence = say(match, asked)
            break
    else:
        sentence = message.replace("Parser key", "setting").rstrip(".:") + "."
    name = "likewise" if asked.command == "likewise" else f"likewise {asked.command}"
    return f"{sentence} See `{name} --help`."


def _unknown_command(match: re.Match[str], asked: Asked) -> str:
    name = match[1]
    return f"there is no command {name!r}.{closest(name, asked.commands)}"


def _unknown_option(match: re.Match[str], asked: Asked) -> str:
    word = match[1].partition(" ")[0].partition("=")[0]
    where = "`likewise`" if asked.command == "likewise" else f"`likewise {asked.command}`"
    if not word.startswith("-"):
        pattern = " Put a pattern of several files in quotes." if word.lower().endswith(".parquet") else ""
        return f"{where} has no place for {word!r}.{pattern}"
    known = [option[2:] for option in asked.options.values() if option.startswith("--")]
    hint = closest(word.lstrip("-"), known, dotted=True).replace("'", "'--", 1)
    takers = [command for command, options in asked.commands.items() if word in options.values()]
    return f"{where} has no option {word}{f', but `likewise {takers[0]}` has' if takers else ''}.{hint}"


def _unknown_setting(match: re.Match[str], asked: Asked) -> str:
    name = f"{match[1]}.{match[2]}".removeprefix(f"{asked.command}.")
    return f"there is no setting {name!r}.{closest(name, asked.options, dotted=True)}"


def _missing(match: re.Match[str], asked: Asked) -> str:
    keys = [key.removeprefix(f"{asked.command}.") for key in match[1].split(", ")]
    *some, last = map(asked.written, keys)
    return f"`likewise {asked.command}` needs {', '.join(some)}{' and ' if some else ''}{last}."


def _no_value(match: re.Match[str], asked: Asked) -> str:
    return f"{_long(match[1])} needs {'a value' if match[2] in ('one', 'at least one') else f'{match[2]} values'}."


def _needless_value(match: re.Match[str], asked: Asked) -> str:
    return f"{_long(match[1])} takes no value, so {match[2]} must go."


def _long(options: str) -> str:
    return options.rpartition("/")[2]


def _wrong_value(match: re.Match[str], asked: Asked) -> str:
    key, value = match[1].removeprefix(f"{asked.command}."), match[3]
    texts = re.findall(r"'([^']*)'", value)
    value = ",".join(texts) if texts else {"None": "null"}.get(value, value)
    wanted, names = wanted_by(match[2])
    if not value:
        return f"{asked.written(key)} is empty."
    if value.lstrip("+-").isdigit():
        wanted = wanted.replace("a whole number", "a smaller whole number")
    return f"{asked.written(key)} can't be {quoted(value)}; it must be {wanted}.{closest(value, names)}"


def wanted_by(reason: str) -> tuple[str, list[str]]:
    """The allowed values in words, and the allowed names."""
    words: list[str] = []
    names: list[str] = []
    for kind, literal, length in re.findall(EXPECTED, reason):
        if literal:
            names += re.findall(r"'([^']*)'", literal)
        elif length:
            words.append(f"{length} values separated by commas")
        else:
            words.append(KINDS.get(kind, SEVERAL))
    words.sort(key=KINDS["NoneType"].__eq__)  # null comes last
    several = [f"one of {', '.join(names)}"] if len(names) > 2 else names
    return " or ".join(dict.fromkeys([*several, *words])), names


def _not_a_group(match: re.Match[str], asked: Asked) -> str:
    parts = [option for option in asked.options.values() if option.startswith(f"{match[1]}.")]
    return f"{match[1]} is a group of settings, not a value; give its parts, such as {', '.join(parts[:2])}."


FORMS = (
    (r"invalid choice: '([^']*)' \(choose from", _unknown_command),
    (r"unrecognized arguments: (.*)", _unknown_option),
    (r"(?:Subcommand|Group) '([\w.]+)' does not accept option '([\w.-]+)'", _unknown_setting),
    (r"arguments are required: (.*)", _missing),
    (r"argument (\S+): expected (one|at least one|\d+) arguments?", _no_value),
    (r"argument (\S+): ignored explicit argument ('.*')", _needless_value),
    (r".*Parser key \"([\w.]+)\"[^:]*:(.*Expected an? .*)(?:Got|Given) value:\s?(.*)", _wrong_value),
    (rf"argument (\S+): {NOT_A_VALUE}", _not_a_group),
)
