"""The entry point: it parses the arguments and runs the command. A mistake gives one sentence."""

import os
import sys

from likewise.cli.commands import COMMANDS
from likewise.cli.fit import is_first
from likewise.cli.parser import build_parser
from likewise.errors import Interrupted, LikewiseError


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Returns 0; 2 after a user's mistake (one sentence on stderr); 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = build_parser(COMMANDS, arguments)
    namespace = parser.parse_args(arguments, defaults=False)
    if "command" not in namespace:
        parser.print_help()
        return 0
    command = next(command for command in COMMANDS if command.name == namespace.command)
    given = namespace[command.name]
    if command.defaults:
        defaults = parser.part(command.name).get_defaults()
        defaults.update(given)
        given = defaults
    try:
        if empty := [key for key, value in given.items() if value == ""]:  # for example "$RUN" when RUN is not set
            raise LikewiseError(f"{parser.part(command.name).options()[empty[0]]} is empty.")
        code = command.run(given)
        sys.stdout.flush()
        return code
    except LikewiseError as error:
        print(f"likewise: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (`| head`) closed the pipe; without this Python prints an error at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a path that can't be read or written; for a rename, show its target
        where = error.filename2 or error.filename or command.name
        print(f"likewise: {where}: {error.strerror or error}.", file=sys.stderr)
        return 2
    except Interrupted as stop:
        if is_first():
            print(f"likewise: {stop}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("likewise: stopped.", file=sys.stderr)
        return 130
