"""The command that recommends: recommend."""

from itertools import islice

from jsonargparse import Namespace

from likewise.cli.options import (
    OF_INTERACTIONS,
    add_columns,
    add_data,
    add_history,
    add_interactions,
    add_run,
    data_of,
    one_by_one,
)
from likewise.cli.parser import Command, Parser
from likewise.config.ranges import whole
from likewise.text import readable

SHOWN = 10  # users whose recommendations are printed where all are asked for


def _add_recommend(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("interactions", type=str, metavar="INTERACTIONS", help="a row for each user and item")
    add_data(parser, "items with their content; all are candidates")
    parser.add_argument(
        "--user_id", type=tuple[str, ...], nargs="+", default=None, help="users to recommend to; default: all"
    )
    parser.take_several("--user_id")
    add_history(parser)
    parser.add_argument("-k", "--k", type=int, default=10, help="items for each user")
    parser.add_argument(
        "--out", type=str, default=None, metavar="FILE", help=".parquet or .csv file: user, rank, item, score, new"
    )
    add_interactions(parser)
    add_columns(parser)


def _recommend(arguments: Namespace) -> int:
    from likewise.model import load
    from likewise.recommendation.recommend import recommend
    from likewise.tables import table_file

    a = arguments
    if a.out is not None:
        table_file(a.out)
    found = recommend(
        load(a.run),
        a.interactions,
        data_of(a),
        users=None if a.user_id is None else one_by_one(a.user_id),
        history=a.history,
        k=a.k,
        user=a.user,
        item=a.item,
        weight=a.weight,
        time=a.time,
        least=a.least,
        key=a.key,
        image=a.image,
        columns=a.columns,
    )
    if a.out is not None:
        found.save(a.out)
        print(readable(f"{a.out}: {a.k:,} items for each of {len(found):,} users"))
        return 0
    some = len(found) if a.user_id is not None else SHOWN
    for each in islice(found, some * a.k):
        print(f"{readable(each.user)}\t{each.score:.4f}\t{readable(each.item)}" + "\tnew" * each.new)
    if some < len(found):
        print(f"… and {len(found) - some:,} more users; --out FILE writes all.")
    return 0


RECOMMEND = Command(
    name="recommend",
    group="use",
    help="Recommend DATA's items to users, by what they took.",
    add=_add_recommend,
    run=_recommend,
    numbers={**OF_INTERACTIONS, "k": whole(1)},
)
