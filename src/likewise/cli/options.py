"""Options that several commands have."""

from likewise.cli.parser import Parser


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


def add_layer(parser: Parser) -> None:
    """--layer."""
    parser.add_argument("--layer", type=str, default="embedding", help="embedding (after the head) or backbone")


def add_set(parser: Parser, help: str) -> None:
    """--set NAME=VALUE ..."""
    parser.add_argument("--set", type=str, nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=help)
