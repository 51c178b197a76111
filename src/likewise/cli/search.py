"""The commands index and search."""

import shlex

from jsonargparse import Namespace

from likewise.cli.options import add_columns, add_data, add_layer, add_run, data_of
from likewise.cli.parser import Command, Parser
from likewise.cli.use import holds_words_in, of_words
from likewise.config.ranges import whole
from likewise.config.values import Value
from likewise.console import stages
from likewise.errors import LikewiseError
from likewise.files import as_path, place_for
from likewise.text import readable

BROKEN = 1  # the exit code of an index whose promise is not kept


def _add_index(parser: Parser) -> None:
    add_run(parser, help="run folder; the index goes into it")
    add_data(parser, "items to index; a run of words has its own", required=False)
    parser.add_argument(
        "--to",
        type=str,
        metavar="ENGINE",
        default="auto",
        help="exact, faiss:ivf or faiss:hnsw; auto: exact while that is quick, then faiss:ivf; or "
        "postgresql://HOST1,HOST2/DATABASE or milvus://HOST/NAME",
    )
    parser.add_argument(
        "--recall", type=float, default=0.95, help="recall@10 that is promised; a lower one is said, with exit code 1"
    )
    parser.add_argument(
        "--metadata",
        type=str,
        metavar="FILE",
        default=None,
        help=".parquet or .csv file of columns for --where, by id; default: those of DATA, if it is a .parquet file",
    )
    parser.add_argument("--anew", action="store_true", help="embed all items, not only those that are new or changed")
    add_layer(parser)
    add_columns(parser)


def _index(arguments: Namespace) -> int:
    from likewise.index import pointer
    from likewise.index.engines import engine_of
    from likewise.index.kept import Kept
    from likewise.index.servers import check, is_server
    from likewise.model import INDEX, layer_named, load
    from likewise.run_index import renew_index
    from likewise.words.model import load_words

    a = arguments
    if is_server(a.to):
        check(a.to)
    else:
        engine_of(a.to)
    words, place = of_words(a, "index"), as_path(a.run, "RUN") / INDEX / "index.json"
    with stages() as begin:
        if words and is_server(a.to):
            raise LikewiseError("the index of a run of words stays in its folder: leave out --to, or name an engine.")
        if words:
            folder, of_words_index = place_for(place, "RUN").parent, load_words(a.run).index()
            promise = of_words_index.use(a.to, recall=a.recall, tick=begin(f"building {a.to}"))
            begin(f"writing {folder}")
            of_words_index.save(folder)
            index: Kept = of_words_index
            lines = [f"{folder}: {len(index):,} items."]
        else:
            model, layer = load(a.run), layer_named(a.layer)
            folder = place_for(place, "RUN").parent
            renewed = renew_index(
                model,
                data_of(a),
                to=a.to,
                recall=a.recall,
                layer=layer,
                key=a.key,
                image=a.image,
                columns=a.columns,
                metadata=a.metadata,
                anew=a.anew,
                stage=begin,
            )
            index = renewed.made
            assert index.promise is not None
            promise = index.promise
            where = pointer.read(folder).url if pointer.is_there(folder) else folder
            lines = [f"{where}: {len(index):,} items. {renewed.sentence()}"]
    lines.append(f"{index.engine_name}: {promise.sentence()}")
    if index.columns.num_columns:
        lines.append(f"Columns for --where: {', '.join(index.columns.column_names)}.")
    lines.append(f"Next: likewise search {shlex.quote(a.run)} QUERY -k 10")
    print("\n".join(map(readable, lines)))
    return 0 if promise.kept else BROKEN


def _add_search(parser: Parser) -> None:
    add_run(parser, help="run folder with an index")
    parser.add_argument(
        "query",
        nargs="?",
        type=str,
        metavar="QUERY",
        help="a word, an image or .npy file, or the id of an indexed item",
    )
    parser.add_argument("-k", "--k", type=int, default=10, help="number of hits")
    parser.add_argument(
        "--where",
        type=str,
        action="append",
        metavar="CONDITION",
        default=[],
        help="on the metadata: 'year >= 2000', 'colour in red,blue'; once for each that must hold",
    )
    parser.add_argument(
        "--batch", type=str, metavar="DATA", default=None, help="many queries: a folder, table or array"
    )
    parser.add_argument(
        "--out",
        type=str,
        metavar="FILE",
        default=None,
        help="writes the hits as .csv or .parquet: query, rank, id, score",
    )


def _search(arguments: Namespace) -> int:
    from likewise.remote import without_secret
    from likewise.run_index import search_batch_run, search_run, write_hits
    from likewise.tables import table_file
    from likewise.words.search import search_words

    a = arguments
    if (a.query is None) == (a.batch is None):
        raise LikewiseError("give one of QUERY and --batch DATA. See `likewise search --help`.")
    out = None if a.out is None else table_file(a.out)
    run = as_path(a.run, "RUN")
    if a.batch is None:
        find = search_words if holds_words_in(run) else search_run
        with stages() as begin:
            begin("searching")
            hits = find(run, a.query, a.k, a.where)
        found = {a.query: hits}
    else:
        found = search_batch_run(run, a.batch, a.k, a.where)
    if out is not None:
        queries = a.query if a.batch is None else without_secret(a.batch)
        asked = {"k": a.k, "where": " and ".join(a.where), "queries": queries}
        write_hits(out, found, run, asked)
        print(readable(f"{out}: the hits of {len(found):,} {'query' if len(found) == 1 else 'queries'}"))
        return 0
    for query, each in found.items():
        for hit in each:
            before = "" if a.batch is None else f"{readable(query)}\t"
            print(f"{before}{hit.score:.4f}\t{readable(hit.id)}")
    return 0


INDEX = Command(
    name="index",
    group="use",
    help="Index DATA for search; again: only what is new or changed.",
    add=_add_index,
    run=_index,
    numbers={"recall": Value(above=0, below=1)},
)
SEARCH = Command(
    name="search",
    group="use",
    help="Print the ids and scores of the items most alike to QUERY.",
    add=_add_search,
    run=_search,
    numbers={"k": whole(1)},
)
