"""``likewise fit``: how it finds its method and settings, and its run."""

import os
import re
import shlex
from pathlib import Path

from jsonargparse import SUPPRESS, Namespace

from likewise.cli.parser import Command, Parser
from likewise.config.overrides import flatten
from likewise.config.settings import FitSettings
from likewise.errors import Interrupted
from likewise.methods import METHODS


def method_in(arguments: list[str]) -> str:
    """The method whose defaults the parser shows: named there, in --config's file or in the run that is resumed."""
    places = {"--config": Path(_option(arguments, "--config"))}
    if "--resume" in arguments:
        places["--out"] = Path(_option(arguments, "--out")) / "config.yaml"
    named = [_option(arguments, "--method"), *(_method_of(path) for path in places.values())]
    return next((name for name in named if name in METHODS), "npid")


def with_own_settings(arguments: list[str]) -> list[str]:
    """A run that is resumed begins with its own settings, so that what else is given is seen to differ from them."""
    settings = Path(_option(arguments, "--out")) / "config.yaml"
    if arguments[:1] != ["fit"] or "--resume" not in arguments or not _method_of(settings):
        return arguments
    return ["fit", "--config", str(settings), *arguments[1:]]


def _option(arguments: list[str], option: str) -> str:
    """The value of an option before anything is parsed; nothing where it is not there."""
    for place, word in enumerate(arguments):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option:
            return "".join(arguments[place + 1 : place + 2])
    return ""


def _method_of(path: Path) -> str:
    """The method that a file of settings names; nothing where there is none."""
    try:
        found = re.search(r"^method:\s*['\"]?([\w-]+)", path.read_text(), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return ""
    return found.group(1) if found else ""


def _add(parser: Parser) -> None:
    # SUPPRESS keeps these three out of --print_config, whose file would else blank them
    parser.add_argument(
        "data", type=str, metavar="DATA", default=SUPPRESS, help="folder of images, .npy file, parquet file or folder"
    )
    parser.add_argument("--out", type=str, required=True, metavar="RUN", default=SUPPRESS, help="run folder, made new")
    parser.add_argument(
        "--resume", action="store_true", default=SUPPRESS, help="go on from the last checkpoint of --out"
    )
    parser.add_argument(
        "--config", action="config", metavar="FILE", help="YAML file of settings, for instance a run's config.yaml"
    )
    parser.add_class_arguments(FitSettings)
    parser.take_several(*(f"--{name}" for name, value in flatten(FitSettings()).items() if isinstance(value, tuple)))


def set_method(parser: Parser, method: str) -> None:
    """The defaults of ``method`` are those of the parser of ``likewise fit``."""
    parser.part("fit").set_defaults(flatten(METHODS[method].settings))


def _run(arguments: Namespace) -> int:
    from likewise.config.overrides import settings_from
    from likewise.training.fit import fit

    given = arguments.as_dict()
    data, out, resume = given.pop("data"), given.pop("out"), given.pop("resume", False)
    given.pop("config", None)
    settings = settings_from(given)
    try:
        fit(data, out=out, method=settings.method, settings=settings, resume=resume)
    except Interrupted as stop:
        command = shlex.join(["likewise", "fit", data, "--out", out, "--resume"])
        if "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
            command = "the same torchrun command with --resume"
        raise Interrupted(f"{stop} Go on with: {command}") from None
    if is_first():
        steps = (
            f"evaluate {out} --train DATA",
            f"retrieve {out} --gallery DATA",
            f"index {out} DATA",
            f"report {out}",
        )
        print(f"Saved {out}. Next: {'; '.join(f'likewise {step}' for step in steps)}")
    return 0


def is_first() -> bool:
    """Whether this is the one of torchrun's processes that speaks for all."""
    return os.environ.get("RANK", "0") == "0"


FIT = Command(
    name="fit",
    group="train",
    help="Train an embedding of DATA into the folder --out.",
    add=_add,
    run=_run,
)
