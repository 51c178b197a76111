"""The commands that train several times and compare: compare, verify."""

import shlex

from jsonargparse import Namespace

from likewise.cli.options import add_data, add_features, add_labels, add_set, data_of
from likewise.cli.parser import Command, Parser
from likewise.config.ranges import MOST_SEEDS, whole
from likewise.errors import Interrupted


def _add_compare(parser: Parser) -> None:
    add_data(parser, "labelled items: a folder per class, or a table with --labels")
    parser.add_argument(
        "--methods",
        type=str,
        nargs="+",
        required=True,
        metavar="NAME",
        help="names separated by commas or spaces, as in circle,ms,facenet",
    )
    parser.add_argument(
        "--out", type=str, required=True, metavar="FOLDER", help="folder for the runs, the table and the plot"
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of trainings per method")
    parser.add_argument("--epochs", type=int, default=None, help="passes over the training items; default: 60")
    parser.add_argument("--steps", type=int, default=None, help="steps of every training, instead of --epochs")
    parser.add_argument(
        "--trials",
        type=int,
        default=0,
        help="trials per method to choose hyper-parameters; 0: likewise's learning rate, the paper's margin, γ and τ",
    )
    parser.add_argument(
        "--test",
        type=str,
        metavar="DATA",
        default=None,
        help="labelled items to retrieve; default: half of the classes of DATA",
    )
    add_features(parser, "test_features", instead_of="--test")
    add_labels(parser)
    add_set(parser, "settings of fit for all methods, as in --set encoder.dim=64 views.flip=0")


def _compare(arguments: Namespace) -> int:
    from likewise.comparison.run import main

    a = arguments
    try:
        return main(
            data_of(a),
            ",".join(a.methods),
            a.set,
            out=a.out,
            seeds=a.seeds,
            epochs=a.epochs,
            steps=a.steps,
            trials=a.trials,
            test=data_of(a, "test", "test_features"),
            labels=a.labels,
            key=a.key,
            image=a.image,
            columns=a.columns,
        )
    except (Interrupted, KeyboardInterrupt) as stop:
        stop = stop if isinstance(stop, Interrupted) else Interrupted("Stopped.")
        command = shlex.join(["likewise", "compare", *_given(a)])
        raise Interrupted(f"{stop} Continue with: {command}", stop.number) from None


def _given(arguments: Namespace) -> list[str]:
    """The given arguments of a command, ready to be typed again."""
    options = {
        name: value
        for name, value in arguments.as_dict().items()
        if value not in (None, [], (), 0, "auto") and name != "data"
    }
    words = [arguments.data] if arguments.data else []
    for name, value in options.items():
        if name.endswith("features"):
            words += [word for part in value for word in (f"--{name}", part)]
        else:
            words += [f"--{name}", *(value if isinstance(value, list) else [str(value)])]
    return words


def _add_verify(parser: Parser) -> None:
    parser.add_argument("run", type=str, metavar="RUN-or-METHOD", help="run folder, or a method's name")
    parser.add_argument(
        "--data",
        type=str,
        metavar="DATA",
        default=None,
        help="items to train on; default: the run's own, or synthetic ones",
    )
    add_features(parser, instead_of="--data")
    add_set(parser, "settings of fit, as in --set encoder.bn_groups=4 dictionary=queue")


def _verify(arguments: Namespace) -> int:
    from likewise.proof.prove import main

    return main(arguments.run, data_of(arguments), arguments.set)


COMPARE = Command(
    name="compare",
    group="measure",
    help="Train methods under equal conditions, and rank them on unseen classes.",
    add=_add_compare,
    run=_compare,
    numbers={"seeds": whole(1, MOST_SEEDS), "epochs": whole(1), "steps": whole(1), "trials": whole(0, MOST_SEEDS)},
)
VERIFY = Command(
    name="verify",
    group="measure",
    help="Prove that processes, stops and micro-batches do not change what is learned.",
    add=_add_verify,
    run=_verify,
)
