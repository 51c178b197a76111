"""``likewise fit``: reads settings from the method, from files and from options, in this order, and trains."""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from likewise.cli.parser import Command, Number, Parser, YamlValue, as_given
from likewise.config.checks import check
from likewise.config.objective_table import OBJECTIVES, Row
from likewise.config.overrides import as_dict, flatten, settings_from
from likewise.config.policy_table import POLICIES, PolicyRow
from likewise.config.ranges import RANGES
from likewise.config.settings import FitSettings, NegativeSettings, ObjectiveSettings
from likewise.config.values import parameters_of
from likewise.config.yaml_file import CONFIG, as_yaml, read_settings_file
from likewise.errors import Interrupted, LikewiseError
from likewise.methods import over_method
from likewise.text import readable


def _add(parser: Parser) -> None:
    what = "folder of images, parquet file or folder, .npy, .npz or .csv file"
    parser.add_argument("data", nargs="?", type=str, metavar="DATA", help=what)
    parser.add_argument("--out", type=str, metavar="RUN", help="new run folder")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint of --out")
    parser.add_argument(
        "--config",
        type=str,
        action="append",
        metavar="FILE",
        help="YAML or JSON file of settings, such as a run's config.yaml; may be repeated. Options win over files, "
        "later files over earlier ones",
    )
    parser.add_argument("--print_config", action="store_true", help="print all settings as YAML and stop")
    parser.add_class_arguments(FitSettings, skip={"objective", "negatives"})
    parser.add_class_arguments(ObjectiveSettings, "objective", skip={"parameters"})
    parser.add_class_arguments(NegativeSettings, "negatives", skip={"parameters"})
    _add_parameters(parser, "objective", OBJECTIVES)
    _add_parameters(parser, "negatives", POLICIES)
    for name, value in flatten(FitSettings()).items():
        if isinstance(value, tuple):
            parser.take_several(f"--{name}", Number(RANGES[name].kind) if name in RANGES else as_given)
        elif name in RANGES:
            parser.take_number(f"--{name}", RANGES[name].kind)
    parser.also("--objective", "--objective.kind")
    parser.also("--negatives", "--negatives.policies")


def _add_parameters(parser: Parser, setting: str, rows: Sequence[Row | PolicyRow]) -> None:
    """The parameters of the rows, and the names that the words give to others: the table refuses those."""
    command = {"objective": "objectives", "negatives": "policies"}[setting]
    group = parser.add_argument_group(f"Parameters of {setting}; `likewise {command} NAME` says what they mean")
    options = {
        f"--{setting}.{name}": "; ".join(f"{words}: {', '.join(owners)}" for words, owners in values.items())
        for name, values in parameters_of(rows).items()
    }
    known = {*parser.options().values(), *options}
    own = parser.words if FIT.name in parser.words[:1] else ()  # the words of another command are not for this parser
    given = [word.partition("=")[0] for word in own if word.startswith(f"--{setting}.")]
    for option in dict.fromkeys([*options, *(option for option in given if option not in known)]):
        about = options.get(option, argparse.SUPPRESS)
        group.add_argument(option, type=YamlValue(), metavar="VALUE", default=argparse.SUPPRESS, help=about)


def _run(arguments: Namespace) -> int:
    given = arguments.as_dict()
    data, out = given.pop("data", None), given.pop("out", None)
    resume, shows = given.pop("resume", False), given.pop("print_config", False)
    files = [read_settings_file(Path(file)) for file in given.pop("config", [])]
    saved = Path(out or "") / CONFIG
    own = settings_from(read_settings_file(saved)) if resume and out and saved.exists() else None
    settings = over_method(*files, given, saved=own)
    if shows:
        print(as_yaml(as_dict(check(settings))), end="")
        return 0
    if data is None or out is None:
        missing = [name for name, value in (("DATA", data), ("--out", out)) if value is None]
        raise LikewiseError(f"`likewise fit` needs {' and '.join(missing)}. See `likewise fit --help`.")
    from likewise.training.fit import fit

    try:
        fit(data, out=out, settings=settings, resume=resume)
    except Interrupted as stop:
        command = shlex.join(["likewise", "fit", data, "--out", out, "--resume"])
        if "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
            command = "the same torchrun command with --resume"
        raise Interrupted(f"{stop} Continue with: {command}", stop.number) from None
    if is_first():
        run = shlex.quote(out)
        steps = (f"evaluate {run} --train DATA", f"retrieve {run} --gallery DATA", f"index {run} DATA", f"report {run}")
        print(readable(f"Saved {out}. Next: {'; '.join(f'likewise {step}' for step in steps)}"))
    return 0


def is_first() -> bool:
    """Whether this is the first process of torchrun, which prints for all."""
    return os.environ.get("RANK", "0") == "0"


FIT = Command(
    name="fit",
    group="train",
    help="Train an embedding of DATA into the folder --out.",
    add=_add,
    run=_run,
    usage="likewise fit DATA --out RUN [options]",
    defaults=False,  # defaults come from the method, or from the run that is resumed
)
