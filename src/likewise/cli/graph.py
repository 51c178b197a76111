"""The command that relates items: graph."""

from jsonargparse import Namespace

from likewise.cli.options import OF_INTERACTIONS, OF_SPLIT, add_interactions, add_split
from likewise.cli.parser import Command, Parser
from likewise.config.ranges import whole
from likewise.errors import LikewiseError
from likewise.text import readable


def _add_graph(parser: Parser) -> None:
    parser.add_argument(
        "interactions",
        type=str,
        metavar="INTERACTIONS",
        help="a row for each user and item: .csv or .tsv (also with .gz after it) or .parquet; or a folder of them",
    )
    parser.add_argument(
        "--out",
        type=str,
        required=True,
        metavar="FOLDER",
        help="folder for edges.parquet, items.parquet and summary.json",
    )
    add_interactions(parser)
    add_split(parser, "hold rows out by this rule, to be measured")
    parser.add_argument("--weighting", type=str, default="cosine", help="weight of an edge: cosine, pmi, lift or count")
    parser.add_argument("--support", type=int, default=2, help="fewest users that an edge needs")
    parser.add_argument("-k", "--k", type=int, default=50, help="most edges of an item")
    parser.add_argument("--newest", type=int, default=200, help="most items of a user: the newest")


def _graph(arguments: Namespace) -> int:
    from likewise.graph.build import build_graph
    from likewise.graph.graph_file import EDGES, ITEMS, SUMMARY
    from likewise.graph.splits import SHARE

    a = arguments
    if a.split is None and (extra := next((name for name in ("share", "seed") if a[name] is not None), None)):
        raise LikewiseError(f"--{extra} is of a split; say which with --split, or leave --{extra} out.")
    graph = build_graph(
        a.interactions,
        a.out,
        user=a.user,
        item=a.item,
        weight=a.weight,
        time=a.time,
        least=a.least or 0.0,
        weighting=a.weighting.lower(),
        support=a.support,
        k=a.k,
        newest=a.newest,
        split=a.split,
        share=SHARE if a.share is None else a.share,
        seed=a.seed or 0,
        fewest_users=a.fewest_users,
    )
    print("\n".join(graph.lines))
    print(readable(f"{a.out}: {EDGES}, hash of the edges {graph.stamp['edges_hash']}, {ITEMS} and {SUMMARY}"))
    return 0


GRAPH = Command(
    name="graph",
    group="relate",
    help="Relate items by the users they have in common: a graph of items.",
    add=_add_graph,
    run=_graph,
    numbers={**OF_INTERACTIONS, **OF_SPLIT, "support": whole(1), "k": whole(1), "newest": whole(2)},
)
