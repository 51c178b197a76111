"""The commands that measure a run: evaluate, retrieve."""

from dataclasses import replace

from jsonargparse import Namespace

from likewise.cli.options import (
    OF_INTERACTIONS,
    OF_SPLIT,
    add_features,
    add_history,
    add_interactions,
    add_labels,
    add_run,
    add_split,
    data_of,
    has_features,
    one_by_one,
)
from likewise.cli.parser import Command, Number, Parser
from likewise.config.ranges import MOST_SEEDS, POSITIVE, whole
from likewise.errors import LikewiseError
from likewise.files import as_path, place_for
from likewise.text import readable

OF_PROTOCOL = ("k", "temperature", "probe_lr", "probe_epochs", "seeds")


def _add_evaluate(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument(
        "data", type=str, nargs="?", default=None, metavar="DATA", help="with --split: the items that are recommended"
    )
    parser.add_argument(
        "--train", type=str, metavar="DATA", default=None, help="labelled items for neighbours and classifiers"
    )
    add_features(parser, instead_of="--train, or with --split of DATA,")
    parser.add_argument(
        "--test", type=str, metavar="DATA", default=None, help="labelled items to classify; default: kNN within --train"
    )
    add_features(parser, "test_features", instead_of="--test")
    add_labels(parser)
    parser.add_argument("--test_labels", type=str, metavar="COLUMN", default=None, help="of --test; default: --labels")
    _add_measures(parser, "knn, svm, probe, few-labels (1, 5, 10 per class and 1–20 %); default: all")
    parser.add_argument(
        "--k",
        type=int,
        default=None,
        help="how many vote; default: labels per class, at most 200; with --split: the places that count; default: 10",
    )
    parser.add_argument("--temperature", type=float, default=None, help="of the votes; default: 0.07, also as trained")
    parser.add_argument("--probe_lr", type=float, default=None, help="of the linear probe; default: MoCo's 30")
    parser.add_argument(
        "--probe_epochs", type=int, default=None, help="of the linear probe; default: MoCo's 100; 0 leaves it out"
    )
    parser.add_argument("--seeds", type=int, default=None, help="draws of the few labels; default: 5")
    parser.add_argument(
        "--out",
        type=str,
        default=None,
        help="JSON file of all numbers; default: RUN/evaluation.json, and with --split RUN/recommendation.json",
    )
    add_split(parser, "measure recommendation on interactions that are held out by this rule")
    parser.add_argument(
        "--interactions",
        type=str,
        metavar="FILE",
        default=None,
        help="with --split: a row for each user and item; its options are by default those of the run's graph",
    )
    add_interactions(parser)
    add_history(parser)
    parser.add_argument(
        "--pairs",
        type=str,
        nargs="+",
        metavar="FILE",
        default=None,
        help="of words: rows of two words and how alike people find them; RUN may be a file of word2vec's formats",
    )
    parser.add_argument(
        "--analogies",
        type=str,
        metavar="FILE",
        default=None,
        help="of words: four words in each line, a is to b as c is to d, and lines `: section`",
    )


def _add_measures(parser: Parser, help: str) -> None:
    """--measures NAME ..."""
    parser.add_argument("--measures", type=tuple[str, ...], nargs="+", default=None, help=help)
    parser.take_several("--measures")


def _measures(arguments: Namespace) -> tuple[str, ...] | None:
    """The names of ``--measures``; None: those of the command."""
    return None if arguments.measures is None else tuple(one_by_one(arguments.measures))


def _recommendation(arguments: Namespace) -> int:
    from likewise.evaluation.scores import print_rows
    from likewise.model import load
    from likewise.recommendation.evaluate import FILE, evaluate_interactions, save_evaluation

    a = arguments
    others = (
        "train",
        "test",
        "test_features",
        "test_labels",
        "measures",
        *(name for name in OF_PROTOCOL if name != "k"),
    )
    if extra := next((name for name in others if a[name] is not None), None):
        raise LikewiseError(f"--split measures recommendation, without labels; leave --{extra} out.")
    data = data_of(a)
    if data is None or a.interactions is None:
        raise LikewiseError("--split needs DATA, the items with their content, and --interactions FILE.")
    model = load(a.run)
    path = place_for(a.out or as_path(a.run, "RUN") / FILE)
    found = evaluate_interactions(
        model,
        data=data,
        interactions=a.interactions,
        split=a.split,
        share=a.share,
        seed=a.seed,
        fewest_users=a.fewest_users,
        user=a.user,
        item=a.item,
        weight=a.weight,
        time=a.time,
        least=a.least,
        history=a.history,
        k=a.k or 10,
        key=a.key,
        image=a.image,
        columns=a.columns,
    )
    save_evaluation(path, found)
    for table in found.tables:
        print(readable(f"{table.task}: {table.about}"))
        print_rows(*table.cells())
        print("\n".join(map(readable, table.lines())), end="\n\n")
    print(readable(f"Every number: {path}"))
    return 0


def _of_words(arguments: Namespace) -> int:
    from likewise.cli.words import evaluate_words

    asked = ("pairs", "analogies", "run", "out")
    usual = {"labels": "auto", "columns": (), "history": "auto", "fewest_users": 100}
    given = [name for name, value in arguments.items() if name not in asked and value != usual.get(name)]
    if given:
        raise LikewiseError(f"--pairs and --analogies measure vectors of words; leave --{given[0]} out.")
    return evaluate_words(arguments.run, arguments.pairs or [], arguments.analogies, arguments.out)


def _evaluate(arguments: Namespace) -> int:
    if arguments.pairs is not None or arguments.analogies is not None:
        return _of_words(arguments)
    if arguments.split is not None:
        return _recommendation(arguments)
    of_split = ("data", "interactions", "share", "seed", "user", "item", "weight", "time", "least")
    if extra := next((name for name in of_split if arguments[name] is not None), None):
        written = "DATA" if extra == "data" else f"--{extra}"
        raise LikewiseError(f"{written} is of a measurement on interactions; say with --split which are held out.")
    if arguments.train is None and arguments.features is None:
        raise LikewiseError(
            "`likewise evaluate` needs --train, labelled items, or --split, to measure recommendation, or "
            "--pairs, of words."
        )
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
        help="items to search, with labels or --match; training need not know their labels",
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
    parser.add_argument(
        "--match",
        type=str,
        metavar="RULE",
        default=None,
        help="instead of labels: stem, the same file name in two folders is the same thing; or a file of pairs (a,b)",
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
        help=".csv or .parquet: what each query finds (query, rank, id, score, right); .json: all numbers, with "
        "a folder of tables beside it; default of these: RUN/retrieval.json, and with --relations RUN/ranking.json",
    )
    parser.add_argument(
        "--html", type=str, metavar="FILE", default=None, help="writes a page of the queries and what they find"
    )


def _rank(arguments: Namespace) -> int:
    from likewise.evaluation.ranked import FILE, print_ranked_table, ranked
    from likewise.evaluation.scores import save_scores
    from likewise.model import load
    from likewise.tables import is_table

    others = ("queries", "query_features", "query_labels", "match", "measures", "ks", "html")
    if extra := next((name for name in others if arguments[name] is not None), None):
        raise LikewiseError(f"--relations says which items are ranked for which query; leave --{extra} out.")
    if arguments.out is not None and is_table(arguments.out):
        raise LikewiseError(
            f"with --relations all numbers are written as JSON, so --out {arguments.out} must end in .json."
        )
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
    from likewise.evaluation.retrieval_detail import STAMP
    from likewise.evaluation.retrieve import DETAIL, FILE, KS, print_retrieval_table, retrieve
    from likewise.evaluation.scores import save_scores
    from likewise.model import load
    from likewise.tables import is_table

    model = load(arguments.run)
    hits = arguments.out if arguments.out is not None and is_table(arguments.out) else None
    out = None if hits is not None else arguments.out
    path = place_for(out or as_path(arguments.run, "RUN") / FILE)
    if path.suffix.lower() != ".json":
        raise LikewiseError(f"hits are written as .csv or .parquet and numbers as .json, so --out {path} must end so.")
    detail = path.parent / DETAIL if out is None else path.with_suffix("")
    place_for(detail / STAMP)
    scores = retrieve(
        model,
        gallery=data_of(arguments, "gallery"),
        queries=data_of(arguments, "queries", "query_features"),
        labels=arguments.labels,
        query_labels=arguments.query_labels,
        match=arguments.match,
        key=arguments.key,
        image=arguments.image,
        columns=arguments.columns,
        ks=one_by_one(arguments.ks or [KS]),
        measures=_measures(arguments),
        detail=detail,
        hits=hits,
        page=arguments.html,
    )
    save_scores(path, scores)
    print_retrieval_table(scores)
    if said := describe_copies(scores):
        print(readable(said))
    files = f"{path}; classes, the pairs it gets most wrong and the ROC: {detail}"
    print(readable(f"Every number with its protocol: {files}"))
    for file in (hits, arguments.html):
        if file is not None:
            print(readable(f"What each query finds: {file}"))
    return 0


EVALUATE = Command(
    name="evaluate",
    group="measure",
    help="Measure a run as a classifier, a recommender (--split), or its words (--pairs).",
    add=_add_evaluate,
    run=_evaluate,
    usage="likewise evaluate RUN --train DATA [options], or RUN DATA --split RULE --interactions FILE "
    "[options], or RUN --pairs FILE ... --analogies FILE",
    numbers={
        **OF_INTERACTIONS,
        **OF_SPLIT,
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
