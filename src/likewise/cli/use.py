"""The commands that use a run: embed, report."""

import shlex
from pathlib import Path

from jsonargparse import Namespace

from likewise.cli.options import add_columns, add_data, add_features, add_labels, add_layer, add_run, data_of
from likewise.cli.parser import Command, Parser
from likewise.console import stages
from likewise.errors import LikewiseError
from likewise.files import as_path, place_for
from likewise.text import readable


def _add_embed(parser: Parser) -> None:
    add_run(parser)
    add_data(parser, "items to embed; a run of words has its own", required=False)
    parser.add_argument(
        "--out",
        type=str,
        required=True,
        metavar="FILE",
        help="parquet file: columns id and embedding; or .npy file: the rows, and the ids in NAME.ids.json",
    )
    add_layer(parser)
    add_columns(parser)


def _embed(arguments: Namespace) -> int:
    from likewise.index.embedding_file import embedding_path, write_embedding
    from likewise.model import layer_named, load
    from likewise.words.model import load_words

    a = arguments
    if of_words(a, "embed"):
        vectors = load_words(a.run)
        place_for(embedding_path(a.out))
        embedding = vectors.embed()
    else:
        model, layer = load(a.run), layer_named(a.layer)
        place_for(embedding_path(a.out))
        embedding = model.embed(data_of(a), layer=layer, key=a.key, image=a.image, columns=a.columns)
    with stages() as begin:
        begin(f"writing {arguments.out}")
        write_embedding(arguments.out, *embedding)
    print(readable(f"{arguments.out}: {len(embedding.ids):,} rows of {embedding.rows.shape[1]}"))
    return 0


def of_words(arguments: Namespace, command: str) -> bool:
    """Whether the run is of words. Raises LikewiseError when it is and DATA is given, or neither."""
    of_words, data = holds_words_in(as_path(arguments.run, "RUN")), data_of(arguments)
    if of_words and data is not None:
        raise LikewiseError(f"{arguments.run} has its own words; leave DATA out.")
    if not of_words and data is None:
        raise LikewiseError(f"`likewise {command}` needs DATA. See `likewise {command} --help`.")
    return of_words


def holds_words_in(run: Path) -> bool:
    """Whether a run is of words. Raises LikewiseError when there is no model, or a file of vectors in its place."""
    from likewise.model import NAME, model_file
    from likewise.words.model import holds_words

    path = model_file(run)
    if run.is_file() and run.suffix != Path(NAME).suffix:
        file = shlex.quote(str(run))
        raise LikewiseError(
            f"{run} is a file and no run folder; if it holds vectors of words, make a run of it: "
            f"likewise import {file} --out RUN."
        )
    return holds_words(path)


def _add_report(parser: Parser) -> None:
    add_run(parser, help="run folder; report.html goes into it")
    parser.add_argument(
        "--data", type=str, metavar="DATA", default=None, help="items for the pictures; default: the training items"
    )
    add_features(parser, instead_of="--data")
    add_labels(parser)


def _report(arguments: Namespace) -> int:
    from likewise.reports.html import write_report
    from likewise.reports.words import write_words_report

    a = arguments
    data = data_of(a)
    if holds_words_in(as_path(a.run, "RUN")):
        if data is not None:
            raise LikewiseError(f"{a.run} has its own words; leave --data out.")
        print(readable(str(write_words_report(as_path(a.run, "RUN")))))
        return 0
    if data is None and (a.labels, a.key, a.image, tuple(a.columns)) != ("auto", None, None, ()):
        raise LikewiseError(
            "--labels, --key, --image and --columns need --data; the training items have the columns of the training."
        )
    path = write_report(as_path(a.run, "RUN"), data=data, labels=a.labels, key=a.key, image=a.image, columns=a.columns)
    print(readable(str(path)))
    return 0


EMBED = Command(
    name="embed",
    group="use",
    help="Write the embedding of DATA as parquet or .npy.",
    add=_add_embed,
    run=_embed,
)
REPORT = Command(
    name="report",
    group="use",
    help="Write RUN/report.html: a verdict, a map, neighbours, mistakes.",
    add=_add_report,
    run=_report,
)
