"""shards.json: what made a folder of shards, and how many rows each shard has."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from shlex import quote
from typing import Any

from likewise.errors import LikewiseError
from likewise.files import from_json
from likewise.shards.place import Place
from likewise.stamp import Stamp
from likewise.text import utf8

FILE = "shards.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a folder of shards holds.

    Args:
        about: what made the rows: the model's hash, layer, data; see ``stamp``.
        listing: a hash over the paths, sizes and times of the data, and of the columns that are read.
        items: the number of items that were listed, good or bad.
        shard_rows: how many of them a shard is made of; the last may have fewer.
        dim: numbers of a row.
        token: a random name of this set of shards, which each of them has too.
        rows: the number of rows of each shard; empty until all are made.
    """

    about: Stamp
    listing: str
    items: int
    shard_rows: int
    dim: int
    token: str
    rows: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Number of shards."""
        return -(-self.items // self.shard_rows)

    @property
    def total(self) -> int:
        """Number of rows of all shards."""
        return sum(self.rows)

    def span(self, number: int) -> tuple[int, int]:
        """The first of the listed items of a shard, and the first after it."""
        return number * self.shard_rows, min(self.items, (number + 1) * self.shard_rows)

    def made_as(self, other: "Manifest") -> str:
        """What this and another were not both made with: model, layer, data or rows; empty where all is the same."""
        for what, name in (("model", "model"), ("layer", "layer")):
            if self.about.get(name) != other.about.get(name):
                return f"another {what}"
        if (self.listing, self.items) != (other.listing, other.items):
            return "other data, or the data have changed since"
        return "" if self.shard_rows == other.shard_rows else f"--shard_rows {self.shard_rows}"

    def finished(self, rows: Mapping[int, int]) -> "Manifest":
        """With the number of rows of each shard."""
        return replace(self, rows=tuple(rows[number] for number in range(self.count)))

    def write(self, place: Place) -> None:
        """Writes shards.json."""
        told = {"format": FORMAT, "finished": bool(self.rows), **asdict(self)}
        place.write(FILE, utf8(json.dumps(told, ensure_ascii=False, indent=1) + "\n"))


def shard_name(number: int) -> str:
    """The file of a shard."""
    return f"part-{number:05}.parquet"


def new_token() -> str:
    """A random name of a set of shards."""
    return secrets.token_hex(8)


def read_manifest(place: Place) -> Manifest | None:
    """The manifest of a folder; None if it has none. Raises LikewiseError when it is damaged."""
    try:
        content = place.read(FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        told: dict[str, Any] = from_json(content)
        if told["format"] != FORMAT:
            raise LikewiseError(f"{place}/{FILE} is of another version of likewise; embed into another folder.")
        manifest = Manifest(
            about=dict(told["about"]),
            listing=str(told["listing"]),
            items=int(told["items"]),
            shard_rows=int(told["shard_rows"]),
            dim=int(told["dim"]),
            token=str(told["token"]),
            rows=tuple(map(int, told["rows"])),
        )
        if manifest.shard_rows < 1 or (manifest.rows and len(manifest.rows) != manifest.count):
            raise ValueError
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        if isinstance(error, LikewiseError):
            raise
        raise LikewiseError(
            f"{place}/{FILE} is damaged; make the shards again with --anew, or into another folder."
        ) from None
    return manifest


def finished_manifest(place: Place) -> Manifest:
    """The manifest of shards that are all made. Raises LikewiseError when there is none, or some are missing."""
    manifest = read_manifest(place)
    if manifest is None:
        raise LikewiseError(f"{place} holds no shards ({FILE} is missing).")
    if not manifest.rows:
        there = len(set(place.names()) & set(map(shard_name, range(manifest.count))))
        raise LikewiseError(
            f"{place} is not finished: {there:,} of {manifest.count:,} shards are there; go on with: "
            f"likewise embed RUN {quote(str(manifest.about.get('data', 'DATA')))} --out {quote(str(place))}/"
        )
    return manifest
