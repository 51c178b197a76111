"""Embeds a source shard by shard; a run that was stopped goes on where it was."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from likewise.console import say, track
from likewise.data.items import Skipped, skipped_csv
from likewise.data.pieces import Divided, divide
from likewise.errors import LikewiseError, at_least_one
from likewise.model import Layer, Model, load, model_file
from likewise.remote import is_url
from likewise.shards.manifest import FILE, Manifest, new_token, read_manifest, shard_name
from likewise.shards.place import Place, place_of
from likewise.shards.shard import Made, Maker, Task
from likewise.stamp import full_path
from likewise.text import readable

ENGINES = ("local", "ray")
SHARD_ROWS = 16_384  # 64 batches: some minutes of photos, 8 MB of rows of 128 numbers
SKIPPED = "skipped.csv"


class Embedded(NamedTuple):
    """A folder of shards that are all made.

    Args:
        manifest: what they are.
        kept: how many of them were there before.
        skipped: items left out, in the source's order; they are in skipped.csv too.
    """

    manifest: Manifest
    kept: int
    skipped: tuple[Skipped, ...]


def embed_shards(
    run: str | Path,
    source: object,
    out: str | Path,
    *,
    engine: str = "local",
    workers: int | None = None,
    shard_rows: int | None = None,
    layer: Layer = "embedding",
    key: str | None = None,
    image: str | None = None,
    columns: Sequence[str] = (),
    anew: bool = False,
    progress: bool = True,
) -> Embedded:
    """Embeds a source into a folder of parquet shards, each with the columns ``id``, ``embedding`` and ``content``.

    Shards that are there, whole, and made with the same model of the same data, are kept. The rows are those of one
    process, in the source's order, whichever engine makes them.

    Args:
        run: run folder.
        source: a folder of images, parquet files, or a .npy file of vectors.
        out: the folder of the shards.
        engine: ``local`` is this process; ``ray`` spreads the shards over workers.
        workers: number of Ray's workers; None: one for each of its CPUs.
        shard_rows: items of a shard; None: 16,384, or as before.
        layer: whose rows.
        key, image, columns: as for ``model.open``.
        anew: makes all shards again.
        progress: shows a bar.

    Raises:
        LikewiseError: the source can't be read; the folder holds other things, or shards of another model or other
            data; no item can be used; Ray is missing or its workers die again and again.
        OSError: from the file system; finished shards stay.

    Cost: a forward pass over the items. Memory of a process: the encoder, a batch of items, the rows of a shard; and
    in this one the list of the files, or the ids of parquet while they are compared.
    """
    if engine not in ENGINES:
        raise LikewiseError(f"there is no engine {engine!r} to embed with; the engines are {', '.join(ENGINES)}.")
    if workers is not None and engine != "ray":
        raise LikewiseError("the number of workers is for --engine ray; leave --workers out.")
    if shard_rows is not None:
        at_least_one("shard_rows", shard_rows, "it is the number of items of a shard")
    if workers is not None:
        at_least_one("workers", workers, "it is the number of processes of Ray")
    if engine == "ray":
        from likewise.shards.ray_engine import ray_here

        ray_here()  # before anything is written; and workers are in other folders
        source, out = _in_full(source), str(_in_full(out))
    model, place = load(run), place_of(out)
    divided = _divided(model, source, key, image, columns)
    say(divided.notes if progress else ())
    about = {**model.protocol(layer), "data": readable(divided.name)}
    about |= {"data_path": readable(full_path(divided.name))} if isinstance(source, str | Path) else {}
    wanted = Manifest(
        about=about,
        listing=divided.signature(),
        items=divided.total,
        shard_rows=shard_rows or SHARD_ROWS,
        dim=model.width(layer),
        token=new_token(),
    )
    manifest = _begun(place, wanted, given=shard_rows is not None, anew=anew)
    tasks = (Task(number, divided.piece(*manifest.span(number))) for number in range(manifest.count))
    made, done = dict[int, Made](), 0
    with track(f"embedding {manifest.count:,} shards", manifest.items, enabled=progress) as tick:
        work = _ray(run, place, manifest, workers) if engine == "ray" else _local(model, place, manifest, tick)
        for each in work(tasks):
            start, stop = manifest.span(each.number)
            made[each.number], done = each, done + stop - start
            tick(done)
    return _finished(place, manifest, [made[number] for number in range(manifest.count)], divided)


def _in_full(given: object) -> object:
    """A path from the root; anything else as it is."""
    return full_path(os.fspath(given)) if isinstance(given, str | Path) and not is_url(given) else given


def _divided(model: Model, source: object, key: str | None, image: str | None, columns: Sequence[str]) -> Divided:
    """The source as the model reads it. Raises LikewiseError when it does not fit the model."""
    if model.blocks:
        raise LikewiseError("a model of several parts makes no shards; embed to one file: --out FILE.parquet.")
    settings = model.reading(source, key=key, image=image, columns=columns)
    divided = divide(
        source,
        size=settings.size,
        max_megapixels=settings.max_megapixels,
        key=settings.key,
        image=settings.image,
        columns=settings.columns,
        split=settings.split,
        cache=settings.cache,
    )
    if divided.kind != model.kind:
        raise LikewiseError(f"{divided.name} holds {divided.kind}, but this model was trained on {model.kind}.")
    return divided


Engine = Callable[[Iterator[Task]], Iterator[Made]]


def _local(model: Model, place: Place, manifest: Manifest, tick: Callable[[int], None]) -> Engine:
    """Makes the shards in this process, in their order."""
    maker = Maker(lambda: model, place, manifest)

    def work(tasks: Iterator[Task]) -> Iterator[Made]:
        for task in tasks:
            start, _ = manifest.span(task.number)
            yield maker.shard(task, lambda items, start=start: tick(start + items))  # type: ignore[misc]

    return work


def _ray(run: str | Path, place: Place, manifest: Manifest, workers: int | None) -> Engine:
    """Makes the shards in Ray's workers."""
    from likewise.shards.ray_engine import spread

    content = model_file(run).read_bytes()
    return lambda tasks: spread(tasks, content, place, manifest, workers)


def _begun(place: Place, wanted: Manifest, *, given: bool, anew: bool) -> Manifest:
    """The manifest that the shards in a folder have, or a new one. Raises LikewiseError when they are others."""
    names = place.names()
    former = read_manifest(place) if FILE in names and not anew else None
    if names and FILE not in names:
        raise LikewiseError(
            f"{place} holds other files (such as {names[0]}) and no shards, so nothing is written there; name a new "
            "folder with --out."
        )
    if former is not None:
        other = former.made_as(wanted if given else replace(wanted, shard_rows=former.shard_rows))
        if other:
            raise LikewiseError(
                f"the shards in {place} were made with {other}; make all again with --anew, or name "
                "another folder with --out."
            )
        return former
    place.ready()
    wanted.write(place)
    return wanted


def _finished(place: Place, manifest: Manifest, made: Sequence[Made], divided: Divided) -> Embedded:
    """Writes the list of what was left out, and the manifest with the rows of each shard."""
    skipped = tuple(item for each in made for item in each.skipped)
    if not any(each.rows for each in made):
        few = "; ".join(f"{item.id}: {item.reason}" for item in skipped[:3])
        raise LikewiseError(f"none of the {divided.total:,} items of {divided.name} can be used ({few}).")
    place.write(SKIPPED, skipped_csv(skipped))
    for name in set(place.names()) - {shard_name(each.number) for each in made}:
        if name.startswith("part-") and name.endswith(".parquet"):
            place.remove(name)
    finished = manifest.finished({each.number: each.rows for each in made})
    finished.write(place)
    return Embedded(finished, sum(each.kept for each in made), skipped)
