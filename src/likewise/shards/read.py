"""Reads the rows of a folder of shards in a stream."""

from collections.abc import Iterator
from pathlib import Path

from likewise.shards.manifest import FILE, Manifest, finished_manifest
from likewise.shards.place import Place, place_of
from likewise.shards.shard import Block, blocks, ids_in, opened


def read_shards(folder: str | Path) -> tuple[Manifest, Iterator[Block]]:
    """What made the shards of a folder, and their rows in order, some thousands at a time.

    Raises LikewiseError when there are none, some are missing, or one is damaged. Memory: some megabytes.
    """
    place = place_of(folder, "DATA")
    manifest = finished_manifest(place)
    return manifest, _stream(place, manifest)


def _stream(place: Place, manifest: Manifest) -> Iterator[Block]:
    for number in range(manifest.count):
        with opened(place, manifest, number) as file:
            yield from blocks(file, manifest.dim)


def read_ids(folder: str | Path) -> list[str]:
    """The ids of the shards of a folder, in order. Raises LikewiseError as ``read_shards``."""
    place = place_of(folder, "DATA")
    manifest, ids = finished_manifest(place), list[str]()
    for number in range(manifest.count):
        with opened(place, manifest, number) as file:
            ids += ids_in(file)
    return ids


def holds_shards(source: object) -> bool:
    """Whether a source is a folder of shards."""
    return isinstance(source, str | Path) and place_of(source, "DATA").has(FILE)
