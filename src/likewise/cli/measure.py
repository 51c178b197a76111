"""The commands that measure a run: evaluate, retrieve."""

from dataclasses import replace

from jsonargparse import Namespace

from likewise.cli.options import add_features, add_labels, add_run, data_of, has_features
from likewise.cli.parser import Command, Number, Parser
from likewise.config.ranges import MOST_SEEDS, POSITIVE, whole
from likewise.errors import LikewiseError
from likewise.files import as_path, place_for
from likewise.text import readable

OF_PROTOCOL = ("k", "temperature", "probe_lr", "probe_epochs", "seeds")


def _add_evaluate(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument(
        "--train",
        type=str,
        metavar="DATA",
        required=not has_features(parser),
        default=None,
        help="labelled items for neighbours and classifiers",
    )
    add_features(parser, instead_of="--train")
    parser.add_argument(
        "--test", type=str, metavar="DATA", default=None, help="labelled items to classify; default: kNN within --train"
    )
    add_features(parser, "test_features", instead_of="--test")
    add_labels(parser)
    parser.add_argument("--test_labels", type=str, metavar="COLUMN", default=None, help="of --test; default: --labels")
    _add_measures(parser, "knn, svm, probe, few-labels (1, 5, 10 per class and 1–20 %); default: all")
    parser.add_argument("--k", type=int, default=None, help="how many vote; default: labels per class, at most 200")
    parser.add_argument("--temperature", type=float, default=None, help="of the votes; default: 0.07, also as trained")
    parser.add_argument("--probe_lr", type=float, default=None, help="of the linear probe; default: MoCo's 30")
    parser.add_argument(
        "--probe_epochs", type=int, default=None, help="of the linear probe; default: MoCo's 100; 0 leaves it out"
    )
    parser.add_argument("--seeds", type=int, default=None, help="draws of the few labels; default: 5")
    parser.add_argument("--out", type=str, default=None, help="JSON file of all numbers; default: RUN/evaluation.json")


def _add_measures(parser: Parser, help: str) -> None:
    """--measures NAME ..."""
    parser.add_argument("--measures", type=tuple[str, ...], nargs="+", default=None, help=help)
    parser.take_several("--measures")


def _measures(arguments: Namespace) -> tuple[str, ...] | None:
    """The names of ``--measures``; None: those of the command."""
    return None if arguments.measures is None else tuple(name for several in arguments.measures for name in several)


def _evaluate(arguments: Namespace) -> int:
    from likewise.evaluation.classify import Protocol, evaluate
    from likewise.evaluation.labelled_items import describe_copies
    from likewise.evaluation.scores import EVALUATION, print_table, save_scores
    from likewise.model import load

    given = {name: arguments[name] for name in OF_PROTOCOL if arguments[name] is not None}
    a, measures = arguments, _measures(arguments)
    given |= {} if measures is None else {"measures": measures}
    protocol = replace(
        Protocol(labels=a.labels, test_labels=a.test_labels, key=a.key, image=a.image, columns=tuple(a.columns)),
        **given,
    )
    model = load(arguments.run)
    path = place_for(arguments.out or as_path(arguments.run, "RUN") / EVALUATION)
    train, test = data_of(a, "train"), data_of(a, "test", "test_features")
    scores = evaluate(model, train=train, test=test, protocol=protocol)
    save_scores(path, scores)
    print_table(scores)
    if said := describe_copies(scores):
        print(readable(said))
    print(readable(f"Every number with its protocol: {path}"))
    return 0


def _add_retrieve(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument(
        "--gallery",
        type=str,
        metavar="DATA",
        required=not has_features(parser),
        default=None,
        help="labelled items to search; training need not know their labels",
    )
    add_features(parser, instead_of="--gallery")
    parser.add_argument(
        "--queries",
        type=str,
        metavar="DATA",
        default=None,
        help="labelled queries; default: the gallery's items, each without itself",
    )
    add_features(parser, "query_features", instead_of="--queries")
    parser.add_argument(
        "--relations",
        type=str,
        metavar="FILE",
        default=None,
        help="graded relevance (query,item,relevance): NDCG and its kind of the gallery's items; no labels are needed",
    )
    add_labels(parser)
    parser.add_argument(
        "--query_labels", type=str, metavar="COLUMN", default=None, help="of --queries; default: --labels"
    )
    _add_measures(
        parser, "retrieval, clusters, verification; default: all, but no clusters if a label has fewer than 4 items"
    )
    parser.add_argument("--ks", type=tuple[int, ...], nargs="+", default=None, help="of Recall@k; default: 1 2 4 8")
    parser.take_several("--ks", Number(int))
    parser.add_argument(
        "--out",
        type=str,
        metavar="FILE",
        default=None,
        help="JSON file of all numbers; a folder of tables goes beside it; default: RUN/retrieval.json, and with "
        "--relations RUN/ranking.json",
    )


def _rank(arguments: Namespace) -> int:
    from likewise.evaluation.ranked import FILE, print_ranked_table, ranked
    from likewise.evaluation.scores import save_scores
    from likewise.model import load

    others = ("queries", "query_features", "query_labels", "measures", "ks")
    if extra := next((name for name in others if arguments[name] is not None), None):
        raise LikewiseError(f"--relations says which items are ranked for which query; leave --{extra} out.")
    model = load(arguments.run)
    path = place_for(arguments.out or as_path(arguments.run, "RUN") / FILE)
    scores = ranked(
        model,
        gallery=data_of(arguments, "gallery"),
        relations=arguments.relations,
        key=arguments.key,
        image=arguments.image,
        columns=arguments.columns,
    )
    save_scores(path, scores)
    print_ranked_table(scores)
    print(readable(f"Every number with its protocol: {path}"))
    return 0


def _retrieve(arguments: Namespace) -> int:
    if arguments.relations is not None:
        return _rank(arguments)
    from likewise.evaluation.labelled_items import describe_copies
    from likewise.evaluation.retrieve import DETAIL, FILE, KS, STAMP, print_retrieval_table, retrieve
    from likewise.evaluation.scores import save_scores
    from likewise.model import load

    model = load(arguments.run)
    path = place_for(arguments.out or as_path(arguments.run, "RUN") / FILE)
    detail = path.parent / DETAIL if arguments.out is None else path.with_suffix("")
    if detail == path:
        raise LikewiseError(f"--out {path} has no ending, and a folder of that name goes beside it; write {path}.json.")
    place_for(detail / STAMP)
    scores = retrieve(
        model,
        gallery=data_of(arguments, "gallery"),
        queries=data_of(arguments, "queries", "query_features"),
        labels=arguments.labels,
        query_labels=arguments.query_labels,
        key=arguments.key,
        image=arguments.image,
        columns=arguments.columns,
        ks=[k for several in arguments.ks or [KS] for k in several],
        measures=_measures(arguments),
        detail=detail,
    )
    save_scores(path, scores)
    print_retrieval_table(scores)
    if said := describe_copies(scores):
        print(readable(said))
    files = f"{path}; classes, the pairs it gets most wrong and the ROC: {detail}"
    print(readable(f"Every number with its protocol: {files}"))
    return 0


EVALUATE = Command(
    name="evaluate",
    group="measure",
    help="Measure a run as a classifier: kNN, linear, few labels.",
    add=_add_evaluate,
    run=_evaluate,
    numbers={
        **{"k": whole(1), "temperature": POSITIVE, "probe_lr": POSITIVE, "probe_epochs": whole(0, 1_000_000)},
        "seeds": whole(1, MOST_SEEDS),
    },
)
RETRIEVE = Command(
    name="retrieve",
    group="measure",
    help="Measure a run as a search: retrieval, clusters, verification.",
    add=_add_retrieve,
    run=_retrieve,
    numbers={"ks": whole(1)},
)
