"""The commands that use a run: embed, report."""

import shlex
from pathlib import Path

from jsonargparse import Namespace

from likewise.cli.options import add_columns, add_data, add_features, add_labels, add_layer, add_run, data_of
from likewise.cli.parser import Command, Parser
from likewise.config.ranges import whole
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
        help="parquet file: columns id and embedding; or .npy file: the rows, and the ids in NAME.ids.json; or, with / "
        "at its end, a folder of parquet shards",
    )
    add_layer(parser)
    add_columns(parser)
    shards = parser.add_argument_group("Shards, for --out FOLDER/")
    shards.add_argument(
        "--engine", type=str, default="local", help="local: this process; ray: workers, also on other machines"
    )
    shards.add_argument("--workers", type=int, default=None, help="of Ray; default: one for each of its CPUs")
    shards.add_argument("--shard_rows", type=int, default=None, help="items of a shard; default: 16384, or as before")
    shards.add_argument("--anew", action="store_true", help="make all shards again, not only those that are missing")


def _embed(arguments: Namespace) -> int:
    from likewise.index.embedding_file import embedding_path, write_embedding
    from likewise.model import layer_named, load
    from likewise.shards.place import is_folder_of_shards
    from likewise.words.model import load_words

    a = arguments
    if is_folder_of_shards(a.out):
        return _embed_shards(a)
    if (a.engine, a.workers, a.shard_rows, a.anew) != ("local", None, None, False):
        raise LikewiseError(
            "--engine, --workers, --shard_rows and --anew are for a folder of shards, and --out names one file; write "
            f"--out {shlex.quote(a.out)}/ with / at its end."
        )
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


def _embed_shards(arguments: Namespace) -> int:
    from likewise.model import layer_named
    from likewise.remote import without_secret
    from likewise.shards import embed_shards

    a = arguments
    if of_words(a, "embed"):
        raise LikewiseError("the vectors of words go into one file; give --out FILE.parquet or FILE.npy.")
    made = embed_shards(
        a.run,
        data_of(a),
        a.out,
        engine=a.engine,
        workers=a.workers,
        shard_rows=a.shard_rows,
        layer=layer_named(a.layer),
        key=a.key,
        image=a.image,
        columns=a.columns,
        anew=a.anew,
    )
    manifest = made.manifest
    counted = f"{manifest.total:,} rows of {manifest.dim} in {manifest.count:,} shards, {made.kept:,} kept."
    lines = [f"{without_secret(a.out)}: {counted}"]
    if made.skipped:
        lines.append(f"{len(made.skipped):,} items left out: skipped.csv there says why.")
    print("\n".join(map(readable, lines)))
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
    numbers={"workers": whole(1), "shard_rows": whole(1)},
)
REPORT = Command(
    name="report",
    group="use",
    help="Write RUN/report.html: a verdict, a map, neighbours, mistakes.",
    add=_add_report,
    run=_report,
)
