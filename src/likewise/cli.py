"""The command line. Nothing heavy is imported before the arguments are understood, so ``--help`` is quick."""

import os
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, NoReturn

from jsonargparse import SUPPRESS, ArgumentParser, Namespace

from likewise.catalogue import fitting
from likewise.config import FitSettings, closest, flatten
from likewise.errors import Interrupted, LikewiseError
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


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Returns 0; 2 after a user's mistake (one sentence on stderr); 130 after Ctrl-C."""
    arguments = listed(sys.argv[1:] if arguments is None else arguments)
    parser, _ = build_parser(method_in(arguments))
    namespace = parser.parse_args(with_own_settings(arguments))
    command = namespace.command
    if command is None:
        parser.print_help()
        return 0
    try:
        code = COMMANDS[command](namespace[command])
        sys.stdout.flush()
        return code
    except LikewiseError as error:
        print(f"likewise: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (`| head`) has seen enough; else Python would complain on its way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a path that can't be read or written; a rename's target rather than its source
        where = error.filename2 or error.filename or command
        print(f"likewise: {where}: {error.strerror or error}.", file=sys.stderr)
        return 2
    except Interrupted as stop:
        if _is_first():
            print(f"likewise: {stop}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("likewise: stopped.", file=sys.stderr)
        return 130


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


def _is_first() -> bool:
    """Whether this is the one of torchrun's processes that speaks for all."""
    return os.environ.get("RANK", "0") == "0"


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


def _fit(arguments: Namespace) -> int:
    from likewise.config import settings_from
    from likewise.training.run import fit

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
    if _is_first():
        hints = f"likewise evaluate {out} --train DATA; likewise index {out} DATA; likewise report {out}"
        print(f"Saved {out}. Next: {hints}")
    return 0


def _retrieve(arguments: Namespace) -> int:
    from likewise.evaluation.protocol import said_of_copies, save_scores
    from likewise.evaluation.zero_shot import DETAIL, FILE, evaluate_retrieval, print_retrieval_table
    from likewise.model import load

    path = Path(arguments.out or Path(arguments.run) / FILE)
    detail = path.parent / DETAIL if arguments.out is None else path.with_suffix("")
    scores = evaluate_retrieval(
        load(arguments.run),
        gallery=arguments.gallery,
        queries=arguments.queries,
        labels=arguments.labels,
        key=arguments.key,
        ks=arguments.ks or (1, 2, 4, 8),
        detail=detail,
    )
    save_scores(path, scores)
    print_retrieval_table(scores)
    if said := said_of_copies(scores):
        print(said)
    print(f"Every number with its protocol: {path}; classes, the pairs it gets most wrong and the ROC: {detail}")
    return 0


def _evaluate(arguments: Namespace) -> int:
    if (arguments.train is None) == (arguments.gallery is None):
        raise LikewiseError(
            "evaluate takes --train DATA (neighbours and classifiers, whose labels training may know) or "
            "--gallery DATA (retrieval, of any labels): one of them."
        )
    if (arguments.gallery is not None and arguments.test is not None) or (
        arguments.gallery is None and arguments.queries is not None
    ):
        raise LikewiseError("--test goes with --train, and --queries with --gallery.")
    of_train = ("k", "temperature", "probe_lr", "probe_epochs", "few_labels", "seeds")
    strange = [name for name in of_train if arguments[name] is not None] if arguments.gallery is not None else []
    strange += ["ks"] if arguments.gallery is None and arguments.ks is not None else []
    if strange:
        raise LikewiseError(f"--{strange[0]} goes with --{'train' if arguments.gallery is not None else 'gallery'}.")
    if arguments.gallery is not None:
        return _retrieve(arguments)
    from likewise.evaluation.protocol import Protocol, evaluate, print_table, said_of_copies, save_scores
    from likewise.model import load

    given = {name: arguments[name] for name in of_train if arguments[name] is not None}
    protocol = replace(Protocol(labels=arguments.labels, key=arguments.key), **given)
    scores = evaluate(load(arguments.run), train=arguments.train, test=arguments.test, protocol=protocol)
    path = Path(arguments.out or Path(arguments.run) / "evaluation.json")
    save_scores(path, scores)
    print_table(scores)
    if said := said_of_copies(scores):
        print(said)
    print(f"Every number with its protocol: {path}")
    return 0


def _embed(arguments: Namespace) -> int:
    from likewise.model import layer_named, load
    from likewise.search import write_embedding

    embedding = load(arguments.run).embed(arguments.data, layer=layer_named(arguments.layer))
    write_embedding(arguments.out, *embedding)
    print(f"{arguments.out}: {len(embedding.ids):,} rows of {embedding.rows.shape[1]}")
    return 0


def _index(arguments: Namespace) -> int:
    from likewise.model import INDEX, layer_named, load

    index = load(arguments.run).index(arguments.data, layer=layer_named(arguments.layer))
    folder = Path(arguments.run) / INDEX
    index.save(folder)
    print(f"{folder}: {len(index.ids):,} items. Next: likewise search {arguments.run} QUERY -k 10")
    return 0


def _search(arguments: Namespace) -> int:
    from likewise.model import search_run

    for hit in search_run(Path(arguments.run), arguments.query, arguments.k):
        print(f"{hit.score:.4f}\t{hit.id}")
    return 0


def _report(arguments: Namespace) -> int:
    from likewise.report import write_report

    if arguments.data is None and (arguments.labels != "auto" or arguments.key is not None):
        raise LikewiseError("--labels and --key are of --data; the run's own items have those of its training.")
    print(write_report(Path(arguments.run), data=arguments.data, labels=arguments.labels, key=arguments.key))
    return 0


def _verify(arguments: Namespace) -> int:
    from likewise.verify import main

    return main(arguments.run, arguments.data, arguments.set)


def _compare(arguments: Namespace) -> int:
    from likewise.compare import main

    a = arguments
    try:
        return main(
            a.data,
            a.methods,
            a.set,
            out=a.out,
            seeds=a.seeds,
            epochs=a.epochs,
            steps=a.steps,
            trials=a.trials,
            test=a.test,
            labels=a.labels,
            key=a.key,
        )
    except (Interrupted, KeyboardInterrupt) as stop:
        said = str(stop) or "Stopped."
        raise Interrupted(f"{said} Go on with: {shlex.join(['likewise', 'compare', *_given(a)])}") from None


def _given(arguments: Namespace) -> list[str]:
    """The arguments of a command as they could be given again; what was left out stays out."""
    options = {
        name: value
        for name, value in arguments.as_dict().items()
        if value not in (None, [], 0, "auto") and name != "data"
    }
    words = [arguments.data]
    for name, value in options.items():
        words += [f"--{name}", *(value if isinstance(value, list) else [str(value)])]
    return words


def _methods(arguments: Namespace) -> int:
    for method in METHODS.values():
        print(f"{method.name}\n  paper       {method.paper}")
        print(f"  alike       {method.alike}\n  dictionary  {method.dictionary}")
        print(f"  negatives   {method.negatives}\n  objective   {method.objective}")
        print("".join(f"  departs     {line}\n" for line in method.departures), end="")
    print("\nWhat is known about the data, and the objectives that fit (see likewise figure, docs/objectives.md):\n")
    print("\n".join(fitting()))
    return 0


def _figure(arguments: Namespace) -> int:
    from likewise.figure import draw_all, draw_named

    low, high = arguments.range
    if arguments.name.lower() != "all":
        print(draw_named(arguments.name, arguments.out, arguments.set, (low, high)))
        return 0
    if arguments.set:
        raise LikewiseError("--set gives the parameters of one objective; name that one instead of all.")
    for drawn in draw_all(Path(arguments.out or "figures"), (low, high)):
        print(drawn, flush=True)
    return 0


def _demo(arguments: Namespace) -> int:
    from likewise.demo import demo

    demo(Path(arguments.out))
    return 0


COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "fit": _fit,
    "evaluate": _evaluate,
    "embed": _embed,
    "index": _index,
    "search": _search,
    "report": _report,
    "verify": _verify,
    "compare": _compare,
    "methods": _methods,
    "figure": _figure,
    "demo": _demo,
}
