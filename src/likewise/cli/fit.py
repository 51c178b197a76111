"""``likewise fit``: reads settings from the method, from files and from options, in this order, and trains."""

import argparse
import os
import shlex
from collections.abc import Sequence
from dataclasses import is_dataclass
from itertools import pairwise
from pathlib import Path

from jsonargparse import Namespace

from likewise.cli.options import add_features, either
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
from likewise.files import as_path
from likewise.methods import Method, method_named, over_method
from likewise.stamp import source_in
from likewise.text import readable

# What `--help` shows, in this order. A test holds the names to the options.
COMMON = (
    *("data", "out", "resume", "config"),
    *("minutes", "epochs", "recipe", "method", "alike", "labels", "size", "batch_size"),
    *("encoder.name", "objective.kind", "objective.temperature", "optim.lr"),
    *("views.crop_scale", "views.flip", "device", "precision"),
)
OF_WORDS = (  # the same for a method of words
    *("data", "sequences", "out", "resume", "config", "method", "minutes", "epochs"),
    *("text.tokens", "text.ends", "vocabulary.least", "vocabulary.subsample", "vocabulary.phrases"),
    *("window.size", "noise.samples", "noise.power", "noise.log_z"),
    *("encoder.dim", "objective.kind", "optim.lr", "columns", "batch_size", "seed", "threads"),
)
# What `--help-all` shows after these: names of settings, or of groups of them. Any other setting is under REST.
FIRST = "The options that matter most"
SECTIONS = {
    FIRST: COMMON,
    "Data": (
        "features",
        "sequences",
        "relations",
        "key",
        "image",
        "columns",
        "split",
        "words",
        "max_megapixels",
        "cache",
    ),
    "Views: random changes of an item": ("views",),
    "Encoder": ("encoder",),
    "Objective; `likewise objectives NAME` says what its parameters mean": ("objective", "loss_weight"),
    "Negatives; `likewise policies NAME` says what their parameters mean": ("negatives",),
    "Dictionary: where the keys come from": ("dictionary", "bank", "queue", "batch", "key_encoder", "symmetric"),
    "Batches": ("sampler", "clusters", "micro_batches"),
    "Optimisation": ("optim",),
    "Words: of skipgram and cbow": ("text", "vocabulary", "window", "noise"),
}
REST = "The run"
MORE = """`likewise fit --help-all` shows every option, in groups. `likewise fit --method moco --help` shows the
defaults of moco, and `likewise methods` the methods."""
MEANS = {"objective.temperature": "τ, what similarities are divided by; lower: the nearest items count more; "}


def _add(parser: Parser) -> None:
    what = (
        "folder of images, parquet file or folder, .npy, .npz or .csv file; or several by name: --features; of words "
    )
    what += "a text, a folder of texts, gzip, parquet, or - for standard input"
    parser.add_argument("data", nargs="?", type=str, metavar="DATA", help=what)
    add_features(parser)
    sequences = "instead of DATA, of skipgram and cbow: parquet with a column of lists of ids (or texts), or a text"
    parser.add_argument("--sequences", type=str, metavar="FILE", help=sequences)
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
    for name, group in vars(FitSettings()).items():
        if is_dataclass(group):
            parser.refuse_group(f"--{name}")
    parser.also("--objective", "--objective.kind")
    parser.also("--negatives", "--negatives.policies")
    parser.epilog = MORE
    method = _method_asked(parser)
    matter = {FIRST: OF_WORDS} if method is not None and method.settings.of_words else {}
    parser.arrange({**SECTIONS, **matter}, REST)
    if (
        method is not None
    ):  # the help of `--method moco --help` has moco's defaults; parsing uses no default of the parser
        parser.show_defaults(flatten(method.settings))


def _method_asked(parser: Parser) -> Method | None:
    """The method whose help is asked for, as in ``--method moco --help``; None for no help, or that of all."""
    words = _own_words(parser)
    named = [word.partition("=")[2] for word in words if word.startswith("--method=")]
    named += [value for word, value in pairwise(words) if word == "--method"]
    return method_named(named[-1]) if named and {"-h", "--help", "--help-all"} & set(words) else None


def _own_words(parser: Parser) -> tuple[str, ...]:
    """The words of the command line, if they are for this command."""
    return parser.words if FIT.name in parser.words[:1] else ()


def _add_parameters(parser: Parser, setting: str, rows: Sequence[Row | PolicyRow]) -> None:
    """The parameters of the rows, and the names that the words give to others: the table refuses those."""
    options = {
        f"--{setting}.{name}": MEANS.get(f"{setting}.{name}", "")
        + "; ".join(f"{words}: {', '.join(owners)}" for words, owners in values.items())
        for name, values in parameters_of(rows).items()
    }
    known = {*parser.options().values(), *options}
    given = [word.partition("=")[0] for word in _own_words(parser) if word.startswith(f"--{setting}.")]
    for option in dict.fromkeys([*options, *(option for option in given if option not in known)]):
        about = options.get(option, argparse.SUPPRESS)
        parser.add_argument(option, type=YamlValue(), metavar="VALUE", default=argparse.SUPPRESS, help=about)


def _run(arguments: Namespace) -> int:
    given = arguments.as_dict()
    words, out = given.pop("features", None), given.pop("out", None)
    sequences = given.pop("sequences", None)
    typed = _one_source(given.pop("data", None), sequences, words)
    data = either(typed, words)
    resume, shows = given.pop("resume", False), given.pop("print_config", False)
    if given.get("minutes") is not None and "epochs" in given:
        raise LikewiseError("--minutes and --epochs both say how long to train; leave one out.")
    files = [read_settings_file(Path(file)) for file in given.pop("config", [])]
    saved = Path(out or "") / CONFIG
    own = settings_from(read_settings_file(saved)) if resume and out and saved.exists() else None
    if shows:
        print(as_yaml(as_dict(check(over_method(*files, given, saved=own)))), end="")
        return 0
    if data is None or out is None:
        missing = [name for name, value in (("DATA", data), ("--out", out)) if value is None]
        raise LikewiseError(f"`likewise fit` needs {' and '.join(missing)}. See `likewise fit --help`.")
    from likewise.training.fit import chosen, fit
    from likewise.training.fit_words import fit_words

    of_words = chosen(None, [*files, given], goes_on=as_path(out, "--out") if resume else None).of_words
    if sequences is not None and not of_words:
        raise LikewiseError("--sequences is of methods of words; add --method skipgram, or cbow.")
    train = fit_words if of_words else fit
    try:
        train(data, out=out, settings=[*files, given], resume=resume)
    except Interrupted as stop:
        given_as = [typed] if words is None else _features(words)
        command = shlex.join(["likewise", "fit", *given_as, "--out", out, "--resume"])
        if "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
            command = "the same torchrun command with --resume"
        raise Interrupted(f"{stop} Continue with: {command}", stop.number) from None
    if of_words:
        run = shlex.quote(out)
        print(readable(f"Saved {out}. Next: likewise index {run}; likewise search {run} WORD"))
    elif is_first():
        run, named = shlex.quote(out), None if words is None else shlex.join(_features(words))
        steps = (*_measured(out, named, shlex.quote(str(typed))), f"index {run} {named or 'DATA'}", f"report {run}")
        print(readable(f"Saved {out}. Next: {'; '.join(f'likewise {step}' for step in steps)}"))
    return 0


def _one_source(data: str | None, sequences: str | None, features: Sequence[str] | None) -> str | None:
    """DATA or --sequences. Raises LikewiseError when both are given."""
    if sequences is not None and (data is not None or features is not None):
        raise LikewiseError(f"{'DATA' if data else '--features'} and --sequences both name the data; leave one out.")
    return data if sequences is None else sequences


def _measured(out: str, named: str | None, typed: str) -> list[str]:
    """How a run is measured, by what it learned from: a graph of training rows, or of all, graded relevance, others."""
    from likewise.graph.splits import SPLITS, split_in
    from likewise.training.run_folder import read_config, read_data

    folder, run = as_path(out, "--out"), shlex.quote(out)
    if graph := (read_data(folder) or {}).get("graph") or {}:
        interactions = shlex.quote(source_in(graph, "interactions"))
        if split_in(graph) in SPLITS:
            return [f"evaluate {run} {named or typed} --split {split_in(graph)} --interactions {interactions}"]
        return [f"recommend {run} {interactions} {named or typed}"]
    if read_config(folder).alike == "graded":
        return [f"retrieve {run} {named or '--gallery DATA'} --relations FILE"]
    return [f"evaluate {run} {named or '--train DATA'}", f"retrieve {run} {named or '--gallery DATA'}"]


def _features(words: Sequence[str]) -> list[str]:
    """The words of --features, ready to be typed again."""
    return [word for part in words for word in ("--features", part)]


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
