"""The command line. Nothing heavy is imported before the arguments are understood, so ``--help`` is quick."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NoReturn

from jsonargparse import SUPPRESS, ArgumentParser

from likewise.config.overrides import flatten
from likewise.config.settings import FitSettings
from likewise.errors import closest
from likewise.methods import METHODS

LISTS = ("--negatives.policies", "--negatives.at", "--ks")  # options that take several
ABOUT = "Learns what is alike: fit an embedding, measure it, embed, index, search, look."


class Parser(ArgumentParser):
    """jsonargparse's parser, saying what is wrong in one sentence, with the closest known name, and exit code 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints ``message`` and leaves with 2."""
        message = re.sub(r"\s+", " ", message).strip()
        message = re.sub(r"<class '(\w+)'>", r"\1", message).replace("typing.Literal", "choice of ")
        message = message.replace("Expected a ", "expected ").replace("Parser key", "setting")
        unknown = re.search(r"unrecognized arguments: --([\w.-]+)|option '([\w.]+)'|key '([\w.]+)'", message)
        hint = ""
        if unknown:
            name = next(group for group in unknown.groups() if group)
            command = re.search(r"Subcommand '(\w+)'", message) or re.search(r"(\w+)$", self.prog)
            hint = closest(name, self.known.get(command.group(1), ()) if command else ())
            hint = hint.replace("'", "'--", 1) if unknown.group(1) else hint
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            hint = closest(choice.group(1), re.findall(r"[\w-]+", choice.group(2)))
        prog = self.prog.replace(" [options]", "")
        print(f"likewise: {message.rstrip('.')}.{hint} See `{prog} --help`.", file=sys.stderr)
        raise SystemExit(2)

    known: ClassVar[dict[str, list[str]]] = {}  # each command's options


def listed(arguments: list[str]) -> list[str]:
    """``--negatives.policies hard`` and ``easy,hard`` as ``[hard]`` and ``[easy,hard]``; so of the other lists."""
    words = list(arguments)
    for place, word in enumerate(words):
        option, sign, value = word.partition("=")
        if option in LISTS and sign:
            words[place] = option + sign + _bracketed(value)
        elif option in LISTS and place + 1 < len(words):
            words[place + 1] = _bracketed(words[place + 1])
    return words


def _bracketed(value: str) -> str:
    return value if value.startswith(("[", "(", "-")) else f"[{value}]"


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


def build_parser(method: str) -> tuple[Parser, dict[str, Parser]]:
    """The whole command line, and each command's own parser."""
    parser = Parser(prog="likewise", description=ABOUT, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subcommands(dest="command", required=False)
    parsers = {}
    for name, (describe, add) in _PARSERS.items():
        part = Parser(description=describe)
        add(part, method)
        parsers[name] = part
        commands.add_subcommand(name, part, help=describe)
    Parser.known = {name: _options(part) for name, part in parsers.items()}
    return parser, parsers


def _options(parser: Parser) -> list[str]:
    return [option[2:] for action in parser._actions for option in action.option_strings if option.startswith("--")]


def _version() -> str:
    from likewise import __version__

    return f"likewise {__version__}"


def _add_fit(parser: Parser, method: str) -> None:
    # SUPPRESS keeps these three out of --print_config, whose file would else blank them
    parser.add_argument(
        "data", type=str, default=SUPPRESS, help="folder of images, parquet file or folder, or .npy file"
    )
    parser.add_argument("--out", type=str, required=True, default=SUPPRESS, help="run folder, made new")
    parser.add_argument(
        "--resume", action="store_true", default=SUPPRESS, help="go on from the last checkpoint of --out"
    )
    parser.add_argument("--config", action="config", help="YAML file of settings, for instance a run's config.yaml")
    parser.add_class_arguments(FitSettings)
    parser.set_defaults(flatten(METHODS[method].settings))


def _add_evaluate(parser: Parser, method: str) -> None:
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("--train", type=str, default=None, help="labelled items: neighbours, and what classifiers fit")
    parser.add_argument(
        "--test", type=str, default=None, help="labelled items to classify; default: kNN within --train"
    )
    parser.add_argument(
        "--gallery", type=str, default=None, help="labelled items to retrieve among, of any labels; instead of --train"
    )
    parser.add_argument(
        "--queries", type=str, default=None, help="labelled items to look up; default: the gallery's, each left out"
    )
    parser.add_argument("--labels", type=str, default="auto", help="auto, or the parquet column that holds the label")
    parser.add_argument("--key", type=str, default=None, help="the parquet column that holds the ids")
    parser.add_argument("--ks", type=list[int], default=None, help="of Recall@k, as in [1,10]; default: [1,2,4,8]")
    parser.add_argument("--k", type=int, default=None, help="neighbours that vote; default: NPID's 200")
    parser.add_argument("--temperature", type=float, default=None, help="of the votes; default: as trained")
    parser.add_argument("--probe_lr", type=float, default=None, help="of the linear probe; default: MoCo's 30")
    parser.add_argument(
        "--probe_epochs", type=int, default=None, help="of the linear probe; default: MoCo's 100; 0 leaves it out"
    )
    parser.add_argument(
        "--few_labels", type=bool, default=None, help="measure with 1, 5, 10 per class and 1–20 % labels; default: true"
    )
    parser.add_argument("--seeds", type=int, default=None, help="draws of the few labels; default: 5")
    parser.add_argument(
        "--out", type=str, default=None, help="JSON file of all numbers; default RUN/evaluation.json or retrieval.json"
    )


def _add_embed(parser: Parser, method: str) -> None:
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("data", type=str, help="what to embed")
    parser.add_argument("--out", type=str, required=True, help="parquet file: columns id and embedding")
    parser.add_argument("--layer", type=str, default="embedding", help="embedding (after the head) or backbone")


def _add_index(parser: Parser, method: str) -> None:
    parser.add_argument("run", type=str, help="run folder; the index lands in it")
    parser.add_argument("data", type=str, help="what to search among")
    parser.add_argument("--layer", type=str, default="embedding", help="embedding (after the head) or backbone")


def _add_search(parser: Parser, method: str) -> None:
    parser.add_argument("run", type=str, help="run folder with an index")
    parser.add_argument("query", type=str, help="an image or .npy file, or the id of an indexed item")
    parser.add_argument("-k", "--k", type=int, default=10, help="how many hits")


def _add_report(parser: Parser, method: str) -> None:
    parser.add_argument("run", type=str, help="run folder; report.html lands in it")
    parser.add_argument("--data", type=str, default=None, help="items for the pictures; default: those it was fit on")
    parser.add_argument("--labels", type=str, default="auto", help="auto, or the parquet column of --data's labels")
    parser.add_argument("--key", type=str, default=None, help="the parquet column of --data's ids")


def _add_verify(parser: Parser, method: str) -> None:
    parser.add_argument("run", type=str, metavar="RUN-or-METHOD", help="run folder, or a method's name")
    parser.add_argument(
        "--data", type=str, default=None, help="items to train on; default: the run's own, or made-up ones"
    )
    parser.add_argument(
        "--set",
        type=str,
        nargs="+",
        action="extend",
        default=[],
        help="settings of fit, as in --set encoder.bn_groups=4 dictionary=queue",
    )


def _add_compare(parser: Parser, method: str) -> None:
    parser.add_argument("data", type=str, help="labelled items: a folder per class, or parquet with --labels")
    parser.add_argument("--methods", type=str, required=True, help="names with commas between, as in circle,ms,facenet")
    parser.add_argument("--out", type=str, required=True, help="folder of the runs, the table and the plot")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each method")
    parser.add_argument("--epochs", type=int, default=None, help="passes over the training items; default: 60")
    parser.add_argument("--steps", type=int, default=None, help="of every training, instead of --epochs")
    parser.add_argument(
        "--trials",
        type=int,
        default=0,
        help="of each method, to choose hyper-parameters; 0: likewise's learning rate, the paper's margin, γ and τ",
    )
    parser.add_argument(
        "--test", type=str, default=None, help="labelled items to retrieve; default: half of the classes of DATA"
    )
    parser.add_argument("--labels", type=str, default="auto", help="auto, or the parquet column that holds the label")
    parser.add_argument("--key", type=str, default=None, help="the parquet column that holds the ids")
    parser.add_argument(
        "--set",
        type=str,
        nargs="+",
        action="extend",
        default=[],
        help="settings of fit for all methods, as in --set encoder.dim=64 views.flip=0",
    )


def _add_methods(parser: Parser, method: str) -> None:
    pass


def _add_figure(parser: Parser, method: str) -> None:
    parser.add_argument("name", type=str, help="an objective, such as circle or am-softmax; all for every one")
    parser.add_argument(
        "--out", type=str, default=None, help="OUT.png and OUT.svg; for all a folder; default: the objective's name"
    )
    parser.add_argument(
        "--set",
        type=str,
        nargs="+",
        action="extend",
        default=[],
        help="the objective's parameters, as in --set gamma=80 margin=0.25",
    )
    parser.add_argument(
        "--range", type=float, nargs=2, default=[-1.0, 1.0], help="lowest and highest similarity drawn: -1 1, or 0 1"
    )


def _add_demo(parser: Parser, method: str) -> None:
    parser.add_argument("--out", type=str, default="runs/demo", help="run folder, made anew")


_PARSERS: dict[str, tuple[str, Callable[[Parser, str], None]]] = {
    "fit": ("Train an embedding of DATA into the folder --out.", _add_fit),
    "evaluate": ("Measure a run beside raw pixels and the untrained encoder.", _add_evaluate),
    "embed": ("Write the embedding of DATA as parquet.", _add_embed),
    "index": ("Index DATA for search.", _add_index),
    "search": ("Print the ids and scores of the items most alike to QUERY.", _add_search),
    "report": ("Write RUN/report.html: curves, neighbours, a map.", _add_report),
    "verify": (
        "Prove on this machine that processes, stops and micro-batches do not change what is learned.",
        _add_verify,
    ),
    "compare": ("Train several methods alike, and rank them on classes that none of them saw.", _add_compare),
    "methods": (
        "List the methods with their four choices and papers, and which objectives fit which data.",
        _add_methods,
    ),
    "figure": ("Draw an objective: loss, gradients, decision boundary, where descent ends.", _add_figure),
    "demo": ("Train on 5,000 handwritten digits without labels, and measure.", _add_demo),
}
