"""The command line: it parses the arguments and runs the command. A mistake gives one sentence."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from likewise.cli.commands import COMMANDS
from likewise.cli.fit import is_first
from likewise.cli.parser import build_parser
from likewise.console import say
from likewise.errors import NO_ROOM, Interrupted, LikewiseError, LikewiseWarning
from likewise.methods import METHODS
from likewise.methods.other_kinds import kinds_told_apart
from likewise.text import readable


def main(arguments: list[str] | None = None) -> int:
    """Returns 0; 2 after a user's mistake (one sentence on stderr); 128 + its number after a signal (Ctrl-C: 130)."""
    try:
        with _plain_warnings():
            return _run(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:  # the reader (`| head`) has read enough
        return 0
    except LikewiseError as error:
        return _refuse(str(error))
    except OSError as error:  # a path that can't be read or written; for a rename, show its target
        where = error.filename2 or error.filename
        return _refuse(f"{where}: {error.strerror}." if where else f"{error.strerror or error}.")
    except (MemoryError, RuntimeError, ImportError) as error:  # the last: a library that can't be mapped
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in NO_ROOM):
            raise
        return _refuse(
            "there is not enough memory (or ulimit -v allows too little). A smaller batch_size, size or encoder needs "
            "less. What was saved is kept."
        )
    except Interrupted as stop:
        if is_first():
            _say(str(stop))
        return 128 + stop.number
    except KeyboardInterrupt:
        _say("stopped.")
        return 130


def _run(arguments: list[str]) -> int:
    parser = build_parser(COMMANDS, arguments)
    namespace = parser.parse_args(arguments, defaults=False)
    if "command" not in namespace:
        parser.print_help()
        sys.stdout.flush()
        return 0
    command = next(command for command in COMMANDS if command.name == namespace.command)
    given = namespace[command.name]
    if command.defaults:
        defaults = parser.part(command.name).get_defaults()
        defaults.update(given)
        given = defaults
    command.check(given, parser.part(command.name).options())
    with kinds_told_apart(METHODS.values()):
        code = command.run(given)
    sys.stdout.flush()
    return code


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Prints likewise's own warnings as one line each, without a line of the source."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if issubclass(category, LikewiseWarning):
                say([f"warning: {message}"])
            else:
                others(message, category, *where)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _refuse(sentence: str) -> int:
    _say(sentence)
    return 2


def _say(sentence: str) -> None:
    print(f"likewise: {readable(sentence)}", file=sys.stderr)
