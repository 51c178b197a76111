"""Options that several commands have."""

from likewise.cli.parser import Parser
from likewise.config.ranges import whole
from likewise.config.values import Value

OF_INTERACTIONS = {"least": Value(least=0, most=1e300)}
OF_SPLIT = {"share": Value(above=0, below=1), "seed": whole(0), "fewest_users": whole(1)}


def add_run(parser: Parser, help: str = "run folder") -> None:
    """RUN, a folder that ``likewise fit`` made."""
    parser.add_argument("run", type=str, metavar="RUN", help=help)


def add_labels(parser: Parser) -> None:
    """--labels, and the columns of ids and values."""
    parser.add_argument(
        "--labels",
        type=str,
        metavar="COLUMN",
        default="auto",
        help="auto, the column that holds the label, or a file: .npy by row, .parquet or .csv by id",
    )
    add_columns(parser)


def add_columns(parser: Parser) -> None:
    """--key, --image and --columns: the columns of ids, images and vectors."""
    parser.add_argument("--key", type=str, metavar="COLUMN", default=None, help="the column that holds the ids")
    parser.add_argument(
        "--image", type=str, metavar="COLUMN", default=None, help="the parquet column that holds the images"
    )
    parser.add_argument(
        "--columns",
        type=tuple[str, ...],
        default=(),
        help="the columns of the vectors, names or patterns: one of lists, or several of numbers",
    )
    parser.take_several("--columns")


def add_interactions(parser: Parser) -> None:
    """--user, --item, --weight, --time: the columns of interactions; --least."""
    parser.add_argument("--user", type=str, default=None, metavar="COLUMN", help="default: by its name, as user_id")
    parser.add_argument("--item", type=str, default=None, metavar="COLUMN", help="default: by its name, as item_id")
    parser.add_argument(
        "--weight", type=str, default=None, metavar="COLUMN", help="default: by its name, as rating; none: no weights"
    )
    parser.add_argument(
        "--time", type=str, default=None, metavar="COLUMN", help="default: by its name, as timestamp; none: no times"
    )
    parser.add_argument(
        "--least", type=float, default=None, help="lowest weight of a row that counts; default: all above 0"
    )


def add_split(parser: Parser, held_out: str) -> None:
    """--split, --share, --seed, --fewest_users: which interactions are held out."""
    parser.add_argument(
        "--split", type=str, default=None, metavar="RULE", help=f"{held_out}: cold-items, per-user or time"
    )
    parser.add_argument("--share", type=float, default=None, help="of what is held out; default: 0.2")
    parser.add_argument("--seed", type=int, default=None, help="draws the cold items; default: 0")
    parser.add_argument("--fewest_users", type=int, default=100, help="that a split by time may leave")


def add_history(parser: Parser) -> None:
    """--history."""
    parser.add_argument(
        "--history",
        type=str,
        metavar="RULE",
        default="auto",
        help="joins a user's history: mean, softmax, top-3 (any number); auto: chosen on a validation split",
    )


def add_layer(parser: Parser) -> None:
    """--layer."""
    parser.add_argument("--layer", type=str, default="embedding", help="embedding (after the head) or backbone")


def add_set(parser: Parser, help: str) -> None:
    """--set NAME=VALUE ..."""
    parser.add_argument("--set", type=str, nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=help)
