"""The commands of few labels: classify, select."""

import shlex

from jsonargparse import Namespace

from likewise.cli.answers import add_files, cells, files_of
from likewise.cli.options import add_columns, add_data, add_layer, add_run, data_of
from likewise.cli.parser import Command, Parser
from likewise.config.ranges import whole
from likewise.text import readable

EXTREMES = 5  # ids that are printed of each kind


def _add_classify(parser: Parser) -> None:
    add_run(parser)
    add_data(parser, "items to label, those with a label among them")
    parser.add_argument(
        "--labels",
        type=str,
        metavar="FILE",
        required=True,
        help="of some items: .csv or .parquet with the columns id and label; or a column of DATA",
    )
    parser.add_argument(
        "--method",
        type=str,
        default="auto",
        help="propagation or knn; auto: the one that finds more of the labels when they are left out",
    )
    parser.add_argument(
        "-k", "--k", type=int, default=None, help="neighbours, in the graph and that vote; default: 10, and by labels"
    )
    add_files(parser, "id, label, confidence, unlike, given")
    add_layer(parser)
    add_columns(parser)


def _classify(arguments: Namespace) -> int:
    from likewise.answers.classify import classify, open_labelled
    from likewise.answers.classify_rows import method_named
    from likewise.answers.few_labels_page import classes_table, classified_page, methods_table, reliability_table
    from likewise.evaluation.scores import print_rows
    from likewise.model import layer_named, load

    a = arguments
    method_named(a.method)
    model, layer = load(a.run), layer_named(a.layer)
    out, page = files_of(a)
    items = open_labelled(model, data_of(a), a.labels, key=a.key, image=a.image, columns=a.columns, progress=True)
    found = classify(model, items, labels="auto", method=a.method, k=a.k, layer=layer)
    tables = [methods_table(found), reliability_table(found), classes_table(found)]
    for header, rows in tables if found.trials[0].bins else tables[2:]:
        print_rows(header, [cells(row) for row in rows])
    print("\n".join(map(readable, found.lines())))
    fresh = (~found.given).nonzero().flatten()
    extremes_of = (("least certain", found.confidence, 1), ("most unlike", found.unlike, -1)) if len(fresh) else ()
    for title, values, sign in extremes_of:
        extremes = fresh[(sign * values[fresh]).argsort(stable=True)][:EXTREMES].tolist()
        each = (f"{found.ids[row]} ({found.label(row)}, {float(values[row]):.2f})" for row in extremes)
        print(readable(f"{title}: {', '.join(each)}"))
    if out is not None:
        found.save(out)
        print(readable(f"{out}: {len(found):,} items with label, confidence, unlike"))
    if page is not None:
        classified_page(page, found, items)
        print(readable(str(page)))
    return 0


def _add_select(parser: Parser) -> None:
    add_run(parser)
    add_data(parser, "items to choose from")
    parser.add_argument("-n", "--n", type=int, required=True, help="number of items to label")
    parser.add_argument(
        "--method", type=str, default="probcover", help="probcover, typiclust, k-center; random, to compare"
    )
    parser.add_argument(
        "--labels", type=str, metavar="FILE", default=None, help="labels that are known, as for `likewise classify`"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    add_files(parser, "id, label (empty, to be filled in), stands_for")
    add_layer(parser)
    add_columns(parser)


def _select(arguments: Namespace) -> int:
    from likewise.answers.choosers import method_named
    from likewise.answers.classify import open_labelled
    from likewise.answers.few_labels_page import selected_page
    from likewise.answers.select import select
    from likewise.evaluation.scores import print_rows
    from likewise.model import layer_named, load

    a = arguments
    method_named(a.method)
    model, layer = load(a.run), layer_named(a.layer)
    out, page = files_of(a)
    names = {"key": a.key, "image": a.image, "columns": a.columns}
    if a.labels is None:
        items = model.open(data_of(a), labels="none", **names)
    else:
        items = open_labelled(model, data_of(a), a.labels, **names, progress=True)
    found = select(
        model, items, a.n, method=a.method, labels=None if a.labels is None else "auto", seed=a.seed, layer=layer
    )
    rows = zip(found.ids, found.stands_for.tolist(), strict=True)
    numbered = [(str(rank), id, f"{count:,}") for rank, (id, count) in enumerate(rows, 1)]
    print_rows(("rank", "id", "stands for items"), [cells(row) for row in numbered])
    print(readable(found.sentence()))
    if out is not None:
        found.save(out)
        print(readable(f"{out}: write the labels into its column label"))
        print(readable(f"Next: likewise classify {shlex.quote(a.run)} DATA --labels {shlex.quote(a.out)}"))
    if page is not None:
        selected_page(page, found, items, model.features(items, layer=layer))
        print(readable(str(page)))
    return 0


CLASSIFY = Command(
    name="classify",
    group="use",
    help="Label DATA by a few labels, with confidence.",
    add=_add_classify,
    run=_classify,
    numbers={"k": whole(1)},
)
SELECT = Command(
    name="select",
    group="use",
    help="Choose the items of DATA to label first.",
    add=_add_select,
    run=_select,
    numbers={"n": whole(1), "seed": whole(0)},
)
