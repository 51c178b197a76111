"""Options that several commands have."""

from likewise.cli.parser import Parser


def add_run(parser: Parser, help: str = "run folder") -> None:
    """RUN, a folder that ``likewise fit`` made."""
    parser.add_argument("run", type=str, metavar="RUN", help=help)


def add_columns(parser: Parser) -> None:
    """--labels, --key and --image: the columns of a parquet file."""
    parser.add_argument(
        "--labels", type=str, metavar="COLUMN", default="auto", help="auto, or the parquet column that holds the label"
    )
    parser.add_argument("--key", type=str, metavar="COLUMN", default=None, help="the parquet column that holds the ids")
    parser.add_argument(
        "--image", type=str, metavar="COLUMN", default=None, help="the parquet column that holds the images"
    )


def add_layer(parser: Parser) -> None:
    """--layer."""
    parser.add_argument("--layer", type=str, default="embedding", help="embedding (after the head) or backbone")


def add_set(parser: Parser, help: str) -> None:
    """--set NAME=VALUE ..."""
    parser.add_argument("--set", type=str, nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=help)
