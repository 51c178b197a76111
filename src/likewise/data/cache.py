"""The cache of decoded images: one memory-mapped uint8 file per content and size.

A cache is a folder ``{entries}x{size}px-{key}`` with ``values.bin`` (uint8, N·S·S·3, in the source's order) and
``items.json`` (ids, skipped items, assumed bits, copies, checksum of the values). ``key`` is a hash over the id and
bytes of every entry, the size, the largest image allowed and ``FORMAT``. Labels are not in the cache: the source gives
them each time, so other labels need no new cache. ``stats/`` maps paths, sizes and times to caches, so the cache of an
unchanged source is found without reading the source.

One thread writes the file in order, as a plain file and not through a memory map: then a full disk is an error that can
be reported, while with a memory map it would end the process.
"""

import errno
import hashlib
import json
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likewise.console import track
from likewise.data.checksum import Checksum, checksum_of
from likewise.data.copies import Copies, copies_in, describe_copies_in
from likewise.data.decode import ASSUMED_NOTHING, Depth, decode, decode_array, quiet_pillow
from likewise.data.items import (
    Items,
    Pixels,
    Skipped,
    add_text,
    content_digest,
    encode_source_labels,
)
from likewise.data.source import BadItem, Entry, Source, sign
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.files import as_written_path, atomic_write, from_json, replace_folder, temporary_folder
from likewise.text import in_words, shortened

FORMAT = "likewise images 4"  # change it whenever decoding or this layout changes: old caches are then not found
_CHUNK = 16  # entries per task of a thread: enough to make a task's own cost small
_CHUNK_BYTES = 4 << 20  # a task has fewer entries if they hold more than this
_HELD_BYTES = 64 << 20  # waiting entries hold no more than this, unless a single task does
_BUILDING = "building-"
_CHECKED: dict[tuple[str, int], bool] = {}  # whether a cache (folder, time of writing) is as its checksum says
Depths = dict[int, tuple[int, int]]  # bits that were assumed: of how many images, and their largest value


def cached_items(
    source: Source, size: int, *, megapixels: float, cache: str | Path | None, workers: int | None, progress: bool
) -> Items:
    """The images of ``source`` at ``size`` from the cache; builds the cache if it is missing.

    Raises:
        LikewiseError: no usable item, or the cache cannot be written.
    """
    folder = cache_folder(cache)
    job = _Job(source, size, megapixels, workers or max(2, torch.get_num_threads()), progress)
    try:
        stored = _find(job, folder)
        if stored is None:
            (folder / "stats").mkdir(parents=True, exist_ok=True)
            with quiet_pillow(megapixels):
                stored = _build(job, folder)
    except OSError as error:  # from the cache: an error of an item has become the reason to skip it
        why = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            need = in_words(source.total * size * size * 3)
            why = f"the disk is full, and {source.name} needs {need} at {size} px; make room, or"
        else:
            why += ";"
        raise LikewiseError(
            f"the cache {folder} cannot be written: {why} name another folder with cache= or LIKEWISE_CACHE."
        ) from error
    skipped_rows = {row for row, _, _ in stored.skipped}
    labels = source.labels([row for row in range(source.total) if row not in skipped_rows])
    encoded, names = (None, ()) if labels is None else encode_source_labels(labels)
    items = Items(
        ids=tuple(stored.ids),
        values=stored.values,
        kind="images",
        labels=encoded,
        label_names=names,
        skipped=tuple(Skipped(id=id, reason=reason) for _, id, reason in stored.skipped),
        source=source.name,
        notes=(*source.notes, *_said_of_bits(source.name, stored.depths)),
    )
    return replace(items, notes=(*items.notes, *describe_copies_in(items, stored.copies, stored.same_bytes)))


def _said_of_bits(name: str, depths: Depths) -> Iterator[str]:
    for bits, (count, highest) in sorted(depths.items()):
        images = "1 image of 16 bits has" if count == 1 else f"{count:,} images of 16 bits have"
        fewer = next((each for each in (10, 14) if 0 < highest < 2**each < 2**bits), 0) if bits > 8 else 0
        if fewer:
            yield (
                f"{name}: {images} no value above {2**fewer - 1:,}, read as {bits} bits, which is "
                f"{2 ** (bits - fewer)} times too dark if they hold {fewer}: then say so in the files "
                "(SMaxSampleValue of TIFF, sBIT of PNG), or scale the values to 16 bits."
            )
        elif bits < 16:
            yield f"{name}: {images} no value above {2**bits - 1:,}, read as {bits} bits."


def cache_folder(cache: str | Path | None) -> Path:
    """The folder of the caches: the given one, ``$LIKEWISE_CACHE`` or ``~/.cache/likewise``.

    Raises:
        LikewiseError: no home folder is known, or no variable that the path names.
    """
    if cache is not None:
        return as_written_path(cache, "the cache")
    named = os.environ.get("LIKEWISE_CACHE")
    if named:
        return as_written_path(named, "LIKEWISE_CACHE")
    try:
        return Path.home() / ".cache" / "likewise"
    except RuntimeError:
        raise LikewiseError(
            "no home folder of this user is known, which the cache of decoded images is in; name a folder with cache= "
            "or LIKEWISE_CACHE."
        ) from None


@dataclass(frozen=True)
class _Job:
    source: Source
    size: int
    megapixels: float
    workers: int
    progress: bool

    @property
    def prefix(self) -> str:
        return f"{self.source.total}x{self.size}px-"


@dataclass(frozen=True)
class _Stored:
    ids: list[str]
    values: Pixels
    skipped: list[tuple[int, str, str]]  # (row in the source, id, reason)
    depths: Depths
    copies: Copies  # rows of ids whose pixels are those of an earlier row
    same_bytes: int  # how many of them have its bytes too


@dataclass(frozen=True)
class _Outcome:
    """An entry that a worker has read. Without pixels and reason it was only hashed."""

    id: str
    digest: bytes
    pixels: Pixels | None = None
    pixels_digest: bytes = b""
    reason: str | None = None
    assumed: Depth = ASSUMED_NOTHING


def _find(job: _Job, folder: Path) -> _Stored | None:
    """Find an existing cache by paths and times, or else by content; None if there is none."""
    signature = job.source.signature()
    if signature is None:
        return None  # only reading the source shows its content, and building reads it
    note = _note(job, folder, signature)
    if note.is_file():
        stored = _load(folder / note.read_bytes().decode(errors="replace").strip(), job.size, job.progress)
        if stored is not None:
            return stored
    if not any(folder.glob(f"{job.prefix}*")):
        return None  # no cache has this size and length, so reading the source here would be wasted
    content = _content_hash(job)
    with track(f"reading {job.source.name}", job.source.total, enabled=job.progress) as tick:
        for done, outcome in enumerate(_outcomes(job, _read), 1):
            _absorb(content, outcome)
            tick(done)
    name = job.prefix + content.hexdigest()
    stored = _load(folder / name, job.size, job.progress)
    if stored is not None:
        with suppress(OSError):  # a cache that can only be read is used all the same
            _remember(note, name)
    return stored


def _build(job: _Job, folder: Path) -> _Stored:
    """Read, hash, decode and write every entry once; then rename the folder to the key of its content."""
    signature = job.source.signature()  # computed before reading, so that the next run notices changes made meanwhile
    ledger, checksum = _Ledger(_content_hash(job)), Checksum(job.size)
    with temporary_folder(folder, _BUILDING) as temporary:
        bar = track(f"decoding {job.source.name}", job.source.total, enabled=job.progress)
        with open(temporary / "values.bin", "wb") as file, bar as tick:
            for done, outcome in enumerate(_outcomes(job, _decode), 1):
                if ledger.keep(outcome) and outcome.pixels is not None:
                    pixels = np.ascontiguousarray(outcome.pixels).data
                    file.write(pixels)
                    checksum.add(pixels)
                tick(done)
            file.flush()
            os.fsync(file.fileno())
        ledger.check(job.source)
        with atomic_write(temporary / "items.json") as file:
            about = {"ids": ledger.ids, "skipped": ledger.skipped, "checksum": checksum.hex()}
            about |= {"depths": list(ledger.depths.items()), "copies": ledger.copies, "same_bytes": ledger.same_bytes}
            file.write(json.dumps(about).encode())
        name = job.prefix + ledger.content.hexdigest()
        stored = _publish(temporary, folder / name, job.size)
    if signature is not None:
        _remember(_note(job, folder, signature), name)
    return stored


def _publish(temporary: Path, final: Path, size: int) -> _Stored:
    """Rename the finished folder; if another process has built the same cache meanwhile, use that one."""
    for _ in range(4):  # several processes may replace the same damaged cache at once
        stored = _load(final, size)
        if stored is not None:
            return stored
        try:
            replace_folder(temporary, final)
            _CHECKED[_written(final)] = True  # just now
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
    raise LikewiseError(f"the cache {final} disappears again and again while it is opened; try again.")


def _load(folder: Path, size: int, progress: bool = False) -> _Stored | None:
    """Load a finished cache; None if it is missing, too short or damaged, so that it is built again.

    The first time in a process the values are read once and compared with their checksum (caches of older versions
    have none). Under torchrun the first process of a machine does so for all.
    """
    try:
        items: dict[str, Any] = from_json((folder / "items.json").read_bytes())
        ids, skipped = items["ids"], [(int(row), str(id), str(reason)) for row, id, reason in items["skipped"]]
        depths = {int(bits): (int(count), int(highest)) for bits, (count, highest) in items["depths"]}
        copies = [(int(row), int(first)) for row, first in items.get("copies", ())]
        same_bytes = int(items.get("same_bytes", 0))
        shape = (len(ids), size, size, 3)
        if (folder / "values.bin").stat().st_size != np.prod(shape):
            return None
        values = np.memmap(folder / "values.bin", dtype=np.uint8, mode="r", shape=shape)
        written = _written(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not all(isinstance(id, str) for id in ids):
        return None
    if "checksum" in items and written not in _CHECKED and os.environ.get("LOCAL_RANK", "0") == "0":
        _CHECKED[written] = items["checksum"] == checksum_of(values, progress)
        if not _CHECKED[written]:
            told = f"{folder} does not match its checksum: something else wrote into it, or the disk fails."
            warnings.warn(f"{told} It is built again.", LikewiseWarning, stacklevel=2)
    if not _CHECKED.get(written, True):
        return None
    if "copies" not in items:  # of an older version
        copies = copies_in(values, str(folder))
    return _Stored(ids, values, skipped, depths, copies, same_bytes)


def _note(job: _Job, folder: Path, signature: str) -> Path:
    return folder / "stats" / sign([FORMAT, str(job.size), str(job.megapixels), signature])


def _remember(note: Path, name: str) -> None:
    with atomic_write(note) as file:
        file.write(name.encode())


def _written(folder: Path) -> tuple[str, int]:
    """Tells apart the caches that were written."""
    return str(folder.resolve()), (folder / "values.bin").stat().st_mtime_ns


@dataclass
class _Ledger:
    """The entries that a build has seen so far, in the source's order."""

    content: "hashlib.blake2b"
    ids: list[str] = field(default_factory=list)
    skipped: list[tuple[int, str, str]] = field(default_factory=list)
    first_row: dict[str, int] = field(default_factory=dict)
    depths: Depths = field(default_factory=dict)
    copies: list[tuple[int, int]] = field(default_factory=list)
    same_bytes: int = 0
    first_pixels: dict[bytes, int] = field(default_factory=dict)  # places in ids, by a hash
    contents: set[bytes] = field(default_factory=set)  # hashes of the bytes of the entries in ids
    rows: int = 0

    def keep(self, outcome: _Outcome) -> bool:
        """Record an outcome; returns whether its pixels go into the cache."""
        _absorb(self.content, outcome)
        row, self.rows = self.rows, self.rows + 1
        first = self.first_row.setdefault(outcome.id, row)
        reason = outcome.reason
        if first != row:
            reason = f"duplicate id; first at row {first}"
        if reason is not None:
            self.skipped.append((row, outcome.id, reason))
            return False
        place = len(self.ids)
        self.ids.append(outcome.id)
        if (earlier := self.first_pixels.setdefault(outcome.pixels_digest, place)) != place:
            self.copies.append((place, earlier))
            self.same_bytes += outcome.digest in self.contents
        self.contents.add(outcome.digest)
        bits, highest = outcome.assumed
        if bits:
            count, before = self.depths.get(bits, (0, 0))
            self.depths[bits] = count + 1, max(before, highest)
        return True

    def check(self, source: Source) -> None:
        """Raise LikewiseError if no item can be used."""
        if not self.ids:
            few = "; ".join(f"{shortened(id)}: {reason}" for _, id, reason in self.skipped[:3])
            more = ", ..." if len(self.skipped) > 3 else ""
            raise LikewiseError(
                f"none of the {self.rows:,} items of {source.name} can be used ({few}{more}); "
                "repair or replace them, or give another source."
            )


def _content_hash(job: _Job) -> "hashlib.blake2b":
    digest = hashlib.blake2b(digest_size=16)
    add_text(digest, f"{FORMAT}, {job.size} px, up to {job.megapixels} megapixels")
    return digest


def _absorb(content: "hashlib.blake2b", outcome: _Outcome) -> None:
    add_text(content, outcome.id)
    content.update(outcome.digest)


def _outcomes(job: _Job, work: Callable[[Entry, _Job], _Outcome]) -> Iterator[_Outcome]:
    """Results of ``work`` on all entries, in order. Threads do the work, since decoders release the GIL."""
    pending: deque[tuple[Future[list[_Outcome]], int]] = deque()
    waiting = 0  # bytes
    pool = ThreadPoolExecutor(job.workers, thread_name_prefix="likewise-decode")
    try:
        for chunk in _chunks(job.source.entries()):
            held = sum(entry.held for entry in chunk)
            pending.append((pool.submit(_run, work, chunk, job), held))
            waiting += held
            del chunk
            while len(pending) > job.workers + 2 or (pending and waiting > _HELD_BYTES):
                task, held = pending.popleft()
                yield from task.result()
                waiting -= held
        while pending:
            yield from pending.popleft()[0].result()
    finally:
        pool.shutdown(cancel_futures=True)


def decoded(source: Source, size: int, megapixels: float) -> Iterator["_Outcome"]:
    """Every entry of a source, decoded by threads and not kept: with pixels, or with the reason why it has none."""
    with quiet_pillow(megapixels):
        yield from _outcomes(_Job(source, size, megapixels, max(2, torch.get_num_threads()), False), _decode)


def _chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """The entries of each task: few, and fewer where they are large."""
    chunk, held = list[Entry](), 0
    for entry in entries:
        chunk.append(entry)
        held += entry.held
        if len(chunk) == _CHUNK or held >= _CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _run(work: Callable[[Entry, _Job], _Outcome], chunk: list[Entry], job: _Job) -> list[_Outcome]:
    outcomes = []
    for entry in chunk:
        try:
            outcomes.append(work(entry, job))
        except LikewiseError as error:
            raise LikewiseError(f"{job.source.name}, item {shortened(entry.id)}: {error}") from error
    return outcomes


def _read(entry: Entry, job: _Job) -> _Outcome:
    try:
        return _Outcome(entry.id, _digest(entry.load()))
    except BadItem as error:
        return _Outcome(entry.id, _digest(str(error).encode()))


def _decode(entry: Entry, job: _Job) -> _Outcome:
    try:
        loaded = entry.load()
    except BadItem as error:
        return _Outcome(entry.id, _digest(str(error).encode()), reason=str(error))
    digest = _digest(loaded)
    try:
        if isinstance(loaded, bytes):
            decoded = decode(loaded, job.size, job.megapixels)
        else:
            decoded = decode_array(loaded, job.size)
    except BadItem as error:
        return _Outcome(entry.id, digest, reason=str(error))
    pixels = decoded.pixels
    return _Outcome(entry.id, digest, pixels=pixels, pixels_digest=content_digest(pixels), assumed=decoded.assumed)


def _digest(loaded: "bytes | np.ndarray[Any, Any]") -> bytes:
    if isinstance(loaded, bytes):
        return hashlib.blake2b(loaded, digest_size=16).digest()
    digest = hashlib.blake2b(f"{loaded.dtype} {loaded.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(loaded).view(np.uint8).data)
    return digest.digest()
