"""Options that several commands have."""

from collections.abc import Iterable, Sequence
from typing import Any

from jsonargparse import Namespace

from likewise.cli.parser import Parser
from likewise.config.ranges import whole
from likewise.config.values import Value
from likewise.errors import LikewiseError

OF_INTERACTIONS = {"least": Value(least=0, most=1e300)}
OF_SPLIT = {"share": Value(above=0, below=1), "seed": whole(0), "fewest_users": whole(1)}


def add_run(parser: Parser, help: str = "run folder") -> None:
    """RUN, a folder that ``likewise fit`` made."""
    parser.add_argument("run", type=str, metavar="RUN", help=help)


def add_data(parser: Parser, help: str, *, required: bool = True) -> None:
    """DATA, or --features in its place."""
    optional = has_features(parser) or not required
    parser.add_argument("data", nargs="?" if optional else None, type=str, metavar="DATA", help=help)
    add_features(parser)


def add_features(parser: Parser, option: str = "features", instead_of: str = "DATA") -> None:
    """--features NAME=SOURCE in the place of ``instead_of``; it may be repeated."""
    about = (
        f"instead of {instead_of} a part of the items, such as image=photos/ or title=movies.csv; once for each part"
    )
    parser.add_argument(f"--{option}", type=str, action="append", metavar="NAME=SOURCE", default=None, help=about)


def has_features(parser: Parser) -> bool:
    """Whether the command line has --features, so that DATA is not required."""
    return any(word.partition("=")[0] == "--features" for word in parser.words)


def data_of(arguments: Namespace, data: str = "data", features: str = "features") -> Any:
    """What DATA, or the option ``data``, names: see ``either``."""
    return either(arguments[data], arguments[features], "DATA" if data == "data" else f"--{data}", features)


def either(source: str | None, words: Sequence[str] | None, named: str = "DATA", features: str = "features") -> Any:
    """``source``, or the sources of the parts that the ``words`` of --features say, by name; None for neither.

    Raises LikewiseError when both are given, on a word without a name or a source, and on a repeated name.
    """
    if words is None:
        return source
    if source is not None:
        raise LikewiseError(f"{named} and --{features} both name the items; leave one out.")
    parts: dict[str, str] = {}
    for word in words:
        name, _, source = (each.strip() for each in word.partition("="))
        if not name or not source:
            raise LikewiseError(f"--{features} takes NAME=SOURCE, such as image=photos/, not {word!r}.")
        if name in parts:
            raise LikewiseError(f"--{features} names the part {name!r} twice; leave one out.")
        parts[name] = source
    return parts


def one_by_one(several: Iterable[Iterable[Any]]) -> list[Any]:
    """The values of an option that takes several and may be repeated."""
    return [value for values in several for value in values]


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
    parser.add_argument("--layer", type=str, default="embedding", help="embedding (after the head), backbone or query")


def add_set(parser: Parser, help: str) -> None:
    """--set NAME=VALUE ..."""
    parser.add_argument("--set", type=str, nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=help)
