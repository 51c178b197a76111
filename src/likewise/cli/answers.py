"""The commands that answer what people ask of their items: duplicates, outliers."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from likewise.cli.options import add_columns, add_run
from likewise.cli.parser import Command, Parser
from likewise.config.ranges import whole
from likewise.config.values import Value
from likewise.errors import LikewiseError
from likewise.text import readable

SHOWN = 20  # groups that are printed
NAMED = 3  # members of a group that are printed


def cells(row: Sequence[str]) -> tuple[str, ...]:
    """The cells of a row as they are printed: names may have brackets, which the table would read as a style."""
    from rich.markup import escape

    return tuple(escape(readable(cell)) for cell in row)


def add_files(parser: Parser, columns: str) -> None:
    """--out and --html."""
    parser.add_argument(
        "--out", type=str, metavar="FILE", default=None, help=f"writes all as .csv or .parquet: {columns}"
    )
    parser.add_argument("--html", type=str, metavar="FILE", default=None, help="writes a page of pictures")


def files_of(arguments: Namespace) -> tuple[Path | None, Path | None]:
    """The files of --out and --html, checked before the work."""
    from likewise.evaluation.picture_page import page_file
    from likewise.tables import table_file

    a = arguments
    return None if a.out is None else table_file(a.out), None if a.html is None else page_file(a.html)


def _add_duplicates(parser: Parser) -> None:
    parser.add_argument("data", type=str, metavar="DATA", help="items to look at; nothing is deleted")
    parser.add_argument(
        "--run", type=str, metavar="RUN", default=None, help="run folder, whose embedding proposes pairs too"
    )
    parser.add_argument("-k", "--k", type=int, default=10, help="candidates for each item")
    parser.add_argument(
        "--threshold",
        type=float,
        default=None,
        help="lowest similarity of pictures, largest distance of vectors; default: chosen for --precision, or 0.05",
    )
    parser.add_argument(
        "--precision",
        type=float,
        default=0.95,
        help="estimated share of near-copies among the pairs, for the threshold",
    )
    parser.add_argument(
        "--keep",
        type=str,
        metavar="RULE",
        default=None,
        help="which of a group the list of --out keeps: largest or first; default: that alike to most others",
    )
    parser.add_argument(
        "--size", type=int, default=None, help="of the pictures that are compared, px; default: 32, or the run's"
    )
    add_files(parser, "group, id, stands_for_it, similarity, keep")
    add_columns(parser)


def _duplicates(arguments: Namespace) -> int:
    from likewise.answers.duplicates import duplicates
    from likewise.answers.page import duplicates_page
    from likewise.evaluation.scores import print_rows

    a = arguments
    if a.keep is not None and a.out is None:
        raise LikewiseError("--keep needs --out FILE, in which the list is written; nothing is deleted.")
    out, page = files_of(a)
    found = duplicates(
        a.data,
        run=a.run,
        size=a.size,
        k=a.k,
        threshold=a.threshold,
        precision=a.precision,
        keep=a.keep,
        key=a.key,
        image=a.image,
        columns=a.columns,
    )
    ids = found.items.ids
    for line in (found.sentence(), found.about()):
        print(readable(line))
    if found.groups:
        rows = [
            (
                str(number),
                ids[group.centre],
                str(len(group.members)),
                ", ".join(ids[m.second] for m in group.members[:NAMED]),
            )
            for number, group in enumerate(found.groups[:SHOWN], 1)
        ]
        print_rows(("group", "stands for it", "others", "such as"), [cells(row) for row in rows])
    if len(found) > SHOWN:
        print(f"… and {len(found) - SHOWN:,} more groups; --out FILE writes all.")
    if found.look:
        print("To look at, near the threshold:")
        pairs = [
            (ids[p.first], ids[p.second], f"{p.value:.4f}", "alike" if found.alike(p) else "not") for p in found.look
        ]
        print_rows(("one", "other", "value", ""), [cells(row) for row in pairs])
    if out is not None:
        found.save(out)
        print(readable(f"{out}: {len(found.spare) + len(found):,} items in groups; nothing was deleted."))
    if page is not None:
        duplicates_page(page, found)
        print(readable(str(page)))
    return 0


def _add_outliers(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("data", type=str, metavar="DATA", help="items to look at")
    parser.add_argument(
        "-k",
        "--k",
        type=int,
        default=None,
        help="the neighbour whose distance counts, more than there are foreign items of a kind; "
        "default: a tenth of the items, at most 50",
    )
    parser.add_argument("-n", "--n", type=int, default=20, help="items that are shown")
    parser.add_argument(
        "--labels",
        type=str,
        metavar="COLUMN",
        default="none",
        help="also looks for wrong labels: auto, the column that holds the label, or a file by id",
    )
    parser.add_argument(
        "--confidence", type=float, default=0.8, help="share of the neighbours' votes that another label needs"
    )
    parser.add_argument("--layer", type=str, default="backbone", help="whose features: backbone, or embedding")
    add_files(parser, "rank, id, distance, nearest; of labels label, expected, confidence, own_share")
    add_columns(parser)


def _outliers(arguments: Namespace) -> int:
    from likewise.answers.outliers import outliers
    from likewise.answers.page import outliers_page
    from likewise.evaluation.scores import print_rows
    from likewise.model import layer_named

    a = arguments
    out, page = files_of(a)
    found = outliers(
        a.run,
        a.data,
        k=a.k,
        layer=layer_named(a.layer),
        labels=a.labels,
        confidence=a.confidence,
        key=a.key,
        image=a.image,
        columns=a.columns,
    )
    print(readable(found.sentence()))
    rows = [(each.id, f"{each.distance:.2f}", each.nearest) for each in found.furthest(a.n)]
    print_rows(("furthest", "distance", "nearest to it"), [cells(row) for row in rows])
    if found.votes is not None:
        suspects = [each for _, each in found.suspects()[: a.n]]
        print("Labels that are likely wrong:" if suspects else "No label is likely wrong.")
        rows_of = [(e.id, e.label, e.expected, f"{e.confidence:.0%}", f"{e.own:.0%}") for e in suspects]
        if suspects:
            print_rows(
                ("id", "label", "neighbours say", "votes for it", "for the label"),
                [cells(row) for row in rows_of],
            )
    if out is not None:
        found.save(out)
        print(readable(f"{out}: {len(found):,} items"))
    if page is not None:
        outliers_page(page, found, a.n)
        print(readable(str(page)))
    return 0


DUPLICATES = Command(
    name="duplicates",
    group="use",
    help="Find near-copies in DATA, verified on their pixels.",
    add=_add_duplicates,
    run=_duplicates,
    numbers={
        "k": whole(1),
        "size": whole(1),
        "threshold": Value(least=0, most=1e300),
        "precision": Value(above=0, below=1),
    },
)
OUTLIERS = Command(
    name="outliers",
    group="use",
    help="Find what does not belong in DATA, and wrong labels.",
    add=_add_outliers,
    run=_outliers,
    numbers={"k": whole(1), "n": whole(1), "confidence": Value(above=0, most=1)},
)
