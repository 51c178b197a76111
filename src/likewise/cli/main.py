"""The commands: each one's arguments are understood, then it runs."""

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jsonargparse import Namespace

from likewise.cli.parser import build_parser, listed, method_in, with_own_settings
from likewise.config.data_guide import fitting
from likewise.errors import Interrupted, LikewiseError
from likewise.methods import METHODS


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


def _is_first() -> bool:
    """Whether this is the one of torchrun's processes that speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def _fit(arguments: Namespace) -> int:
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
    if _is_first():
        hints = f"likewise evaluate {out} --train DATA; likewise index {out} DATA; likewise report {out}"
        print(f"Saved {out}. Next: {hints}")
    return 0


def _retrieve(arguments: Namespace) -> int:
    from likewise.evaluation.labelled_items import said_of_copies
    from likewise.evaluation.retrieve import DETAIL, FILE, evaluate_retrieval, print_retrieval_table
    from likewise.evaluation.scores import save_scores
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
    from likewise.evaluation.classify import Protocol, evaluate
    from likewise.evaluation.labelled_items import said_of_copies
    from likewise.evaluation.scores import print_table, save_scores
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
    from likewise.index.embedding_file import write_embedding
    from likewise.model import layer_named, load

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
    from likewise.reports.html import write_report

    if arguments.data is None and (arguments.labels != "auto" or arguments.key is not None):
        raise LikewiseError("--labels and --key are of --data; the run's own items have those of its training.")
    print(write_report(Path(arguments.run), data=arguments.data, labels=arguments.labels, key=arguments.key))
    return 0


def _verify(arguments: Namespace) -> int:
    from likewise.proof.prove import main

    return main(arguments.run, arguments.data, arguments.set)


def _compare(arguments: Namespace) -> int:
    from likewise.comparison.run import main

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
    from likewise.reports.figure import draw_all, draw_named

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
    from likewise.cli.demo import demo

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
