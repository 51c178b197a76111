"""The command that relates items: graph."""

from jsonargparse import Namespace

from likewise.cli.parser import Command, Parser
from likewise.config.ranges import whole
from likewise.config.values import Value
from likewise.text import readable


def _add_graph(parser: Parser) -> None:
    parser.add_argument(
        "interactions",
        type=str,
        metavar="INTERACTIONS",
        help="a row for each user and item: .csv or .tsv (also with .gz after it) or .parquet",
    )
    parser.add_argument(
        "--out", type=str, required=True, metavar="FOLDER", help="folder for edges.parquet and summary.json"
    )
    parser.add_argument("--user", type=str, default=None, metavar="COLUMN", help="default: by its name, as user_id")
    parser.add_argument("--item", type=str, default=None, metavar="COLUMN", help="default: by its name, as item_id")
    parser.add_argument(
        "--weight", type=str, default=None, metavar="COLUMN", help="default: by its name, as rating; none: no weights"
    )
    parser.add_argument(
        "--time", type=str, default=None, metavar="COLUMN", help="default: by its name, as timestamp; none: no times"
    )
    parser.add_argument("--least", type=float, default=0.0, help="lowest weight of a row that counts; 0 never counts")
    parser.add_argument("--weighting", type=str, default="cosine", help="weight of an edge: cosine, pmi, lift or count")
    parser.add_argument("--support", type=int, default=2, help="fewest users that an edge needs")
    parser.add_argument("-k", "--k", type=int, default=50, help="most edges of an item")
    parser.add_argument("--newest", type=int, default=200, help="most items of a user: the newest")


def _graph(arguments: Namespace) -> int:
    from likewise.graph.build import build_graph
    from likewise.graph.graph_file import EDGES

    a = arguments
    graph = build_graph(
        a.interactions,
        a.out,
        user=a.user,
        item=a.item,
        weight=a.weight,
        time=a.time,
        least=a.least,
        weighting=a.weighting.lower(),
        support=a.support,
        k=a.k,
        newest=a.newest,
    )
    print("\n".join(graph.lines))
    print(readable(f"{a.out}: {EDGES}, hash of the edges {graph.stamp['edges_hash']}, and summary.json"))
    return 0


GRAPH = Command(
    name="graph",
    group="relate",
    help="Relate items by the users they have in common: a graph of items.",
    add=_add_graph,
    run=_graph,
    numbers={"least": Value(least=0, most=1e300), "support": whole(1), "k": whole(1), "newest": whole(2)},
)
