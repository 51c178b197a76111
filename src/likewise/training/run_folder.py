"""The files of a run folder: its settings, a description of its data, and checks before a run starts or resumes."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from likewise import __version__
from likewise.config.objective_table import AUTO
from likewise.config.overrides import as_dict, dotted, flatten, settings_from
from likewise.config.settings import FitSettings
from likewise.config.yaml_file import CONFIG, as_yaml, read_settings_file
from likewise.data import Items, write_skipped
from likewise.data.label_files import names_file
from likewise.data.sketch import changed_since, sketch
from likewise.errors import LikewiseError
from likewise.files import as_written_path, atomic_write, from_json, make_writable, utf8_path
from likewise.graph.graph_file import EDGES, ITEMS, holds_graph, stamp_of
from likewise.graph.splits import SEVERAL
from likewise.model import NAME as MODEL
from likewise.model import open_by
from likewise.stamp import hash_of
from likewise.text import now_in_words, quoted
from likewise.training.checkpoint import CHECKPOINT
from likewise.training.decide import decide
from likewise.training.metrics_log import METRICS
from likewise.training.run_lock import FILES as LOCK_FILES
from likewise.training.run_lock import program, refuse_while_written
from likewise.training.supervision import keep_labelled, with_clusters

CELLS = "cells.jsonl"  # of a comparison
# The names that every version of config.yaml has: a file without one of them is not the whole file.
LASTING = ("method", "size", "epochs", "batch_size", "seed", "optim.lr", "encoder.dim", "views.flip", "objective.kind")
LENGTH = ("epochs", "minutes")  # a resumed run may have others: it is then longer
DATA, SKIPPED = "data.json", "skipped.csv"


def began_here(folder: Path) -> bool:
    """Whether this launch of torchrun started the run in ``folder``, and so may resume it automatically."""
    try:
        about = read_data(folder)
    except LikewiseError:
        return False
    return about is not None and about.get("torchrun") == os.environ.get("TORCHELASTIC_RUN_ID")


def placed(settings: FitSettings) -> FitSettings:
    """Makes paths of settings absolute, so that a run can be resumed from any folder."""
    paths = learned_from(settings) | ({} if settings.cache is None else {"cache": settings.cache})
    found = {name: str(as_written_path(path, name).absolute()) for name, path in paths.items()}
    family, _, model = settings.encoder.name.partition(":")
    if (
        family == "hf" and model and (folder := as_written_path(model, "encoder.name")).is_dir()
    ):  # not a name of the hub
        found["encoder.name"] = f"hf:{folder.absolute()}"
    return settings_from(found, settings)


def learned_from(settings: FitSettings) -> dict[str, str]:
    """The files, and the folder of a graph, that a run learns from besides its items: by the names of the settings."""
    paths = {
        "relations": settings.relations,
        "labels": settings.labels if names_file(settings.labels) else None,
        "encoder.weights": settings.encoder.weights,
    }
    return {name: path for name, path in paths.items() if path is not None}


def content_of(path: str) -> str | None:
    """A hash of the content of a file, or of the files of a graph; None where there is neither.

    Cost: one pass, about a second per GB.
    """
    place = Path(path)
    files = [place / EDGES, place / ITEMS] if holds_graph(place) else [place]
    there = [file for file in files if file.is_file()]
    return hash_of(*there) if there else None


def resolve(folder: Path, settings: FitSettings, resume: bool) -> FitSettings:
    """The settings of this run: the saved ones when it resumes, otherwise the given ones.

    Raises LikewiseError when the folder is being written, or already holds a run; when it holds no run to resume; and
    when the given settings differ from the saved ones.
    """
    if folder.exists() and not folder.is_dir():
        raise LikewiseError(f"{folder} is {'a file' if folder.is_file() else 'no folder'}; --out must name a folder.")
    holds_run = (folder / CHECKPOINT).exists() or (folder / MODEL).exists()
    if not resume:
        if holds_run:
            refuse_while_written(folder)
            raise LikewiseError(f"{folder} already holds a run; add --resume to continue it, or name another --out.")
        if (folder / CELLS).exists():
            raise LikewiseError(f"{folder} holds a comparison; name another --out.")
        return settings
    if not (folder / CONFIG).exists():
        raise LikewiseError(f"{folder} holds no run to resume; start it without --resume.")
    if not (folder / CHECKPOINT).exists() and (folder / MODEL).exists():
        raise LikewiseError(
            f"{folder} holds a finished model but no {CHECKPOINT} to continue from; name another --out."
        )
    saved = placed(_moved(folder, read_config(folder), settings))
    if settings.objective.kind == AUTO:
        settings = settings_from({"objective.kind": saved.objective.kind}, settings)
    saved = decide(saved, 0)  # older versions did not save the defaults of the objective
    old, new = flatten(saved), flatten(decide(settings, 0))
    for name in {**old, **new}:
        if name not in LENGTH and old.get(name) != new.get(name):
            raise LikewiseError(
                f"a resumed run keeps its saved settings, but {name} was {old.get(name)!r} and is now "
                f"{new.get(name)!r}; leave it out, or start a new run."
            )
    minutes = settings.minutes if settings.epochs == saved.epochs else None
    return replace(saved, epochs=settings.epochs, minutes=minutes)


def _moved(folder: Path, saved: FitSettings, settings: FitSettings) -> FitSettings:
    """The ``saved`` settings with the places where files are now: the cache, and files of the same content.

    Raises LikewiseError where a file is gone, and where one at another place has other content.
    """
    was, now = learned_from(saved), learned_from(settings)
    held = (read_data(folder) or {}).get("files", {})
    places: dict[str, str | None] = {"cache": settings.cache}
    for name in was.keys() & now.keys():
        found = content_of(now[name])
        if found is None:
            if now[name] == was[name]:
                raise LikewiseError(
                    f"{was[name]}, which {name} of the run {folder} names, is not there; if it was moved, name its new "
                    f"place with --{name}."
                )
            raise LikewiseError(f"{now[name]} does not exist; {name} of the run {folder} was {was[name]}.")
        if now[name] == was[name]:
            continue
        before = held.get(name) or content_of(was[name])
        if found != before:
            other = "the run does not say what it held" if before is None else f"{now[name]} has other content"
            raise LikewiseError(
                f"a resumed run keeps its files, but {name} was {was[name]}, and {other}; give the file of the run, or "
                "start a new run."
            )
        places[name] = now[name]
    return settings_from(places, saved)


def is_longer(folder: Path, settings: FitSettings, asked: Collection[str]) -> bool:
    """Whether a resumed run is asked to go on beyond its end: minutes are named, or the epochs are others."""
    if not (folder / CONFIG).exists():
        return False
    saved = read_config(folder)
    return "minutes" in asked or settings.epochs != saved.epochs or settings.minutes != saved.minutes


def make_folder(folder: Path) -> list[Path]:
    """Makes the run folder; returns the folders that were missing, the innermost first.

    Raises LikewiseError when no file can be written there, or its name is not UTF-8.
    """
    utf8_path(folder)
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    make_writable(folder, f"can't write the run folder {folder}")
    return missing


def remove_folder(made: Sequence[Path]) -> None:
    """Removes the folders that ``make_folder`` made, where they hold only the files of a run before its first step."""
    with suppress(OSError):  # one holds something else
        for folder in made:
            for name in (CONFIG, DATA, SKIPPED, METRICS, *LOCK_FILES) if folder == made[0] else ():
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


@contextmanager
def removed_if_refused(made: Sequence[Path]) -> Iterator[None]:
    """On a LikewiseError removes the folders that ``make_folder`` made, unless they hold something."""
    try:
        yield
    except LikewiseError:
        remove_folder(made)
        raise


def write_config(folder: Path, settings: FitSettings) -> None:
    """Writes config.yaml: all settings, none left on auto, usable with ``--config``.

    Raises LikewiseError when it can't be written.
    """
    make_folder(folder)
    try:
        with atomic_write(folder / CONFIG) as file:
            file.write(as_yaml(as_dict(settings)).encode())
    except OSError as error:
        raise LikewiseError(f"can't write the run folder {folder}: {error.strerror}; choose another --out.") from error


def read_config(folder: Path) -> FitSettings:
    """Reads the settings that ``write_config`` wrote. Raises LikewiseError when the file is damaged or not whole."""
    try:
        values = read_settings_file(folder / CONFIG)
        lost = [name for name in LASTING if name not in dotted(values)]
        if lost:
            raise LikewiseError(f"{lost[0]} is missing.")
        return settings_from(values)
    except LikewiseError as error:
        raise LikewiseError(f"{folder / CONFIG} is damaged: {error} Repair it, or start a new run.") from None


def write_data(folder: Path, items: Items, settings: FitSettings, *, goes_on: bool = False) -> None:
    """Writes data.json (a description of the items) and skipped.csv (the skipped items and the reasons).

    If ``relations`` is the folder of a graph, data.json has its stamp: which interactions the run learns from. A run
    that goes on with another graph than it had has learned from several. It also has hashes of the files of the
    settings, by which a resumed run knows them at another place.
    """
    relations = settings.relations
    graph = stamp_of(relations) if relations is not None and holds_graph(relations) else None
    before = (read_data(folder) or {}).get("graph") if goes_on else graph
    if before is None or graph is None or before.get("edges_hash") != graph.get("edges_hash"):
        graph = None if before is None else {**before, "split": SEVERAL}
    about = {
        "source": items.source,
        "path": items.path,
        "parts": dict(items.parts),
        "items": len(items),
        "kind": items.kind,
        "ids_hash": items.ids_hash,
        "sketch": sketch(items) if items.path or items.parts else {},
        "labels": list(items.label_names),
        "skipped": len(items.skipped),
        "notes": list(items.notes),
        "graph": graph,
        "files": {name: content_of(path) for name, path in learned_from(settings).items()},
        "torchrun": os.environ.get("TORCHELASTIC_RUN_ID"),
    }
    write_about(folder, about, goes_on=goes_on)
    write_skipped(items, folder / SKIPPED)


def _command() -> str:
    """The command line of this process, if it is likewise's."""
    return shlex.join(["likewise", *sys.argv[1:]]) if program() == "likewise" else "from Python"


def write_about(folder: Path, about: Mapping[str, object], *, goes_on: bool = False) -> None:
    """Writes data.json: ``about`` the items, the versions and the machine, and each command that trained the run."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    made: dict[str, object] = {"likewise": __version__, "torch": torch.__version__, "machine": machine}
    earlier = (read_data(folder) or {}).get("commands", []) if goes_on else []
    made |= {"commands": [*earlier, {"at": now_in_words(), "command": _command()}]}
    with atomic_write(folder / DATA) as file:
        file.write(json.dumps({**about, **made}, indent=1).encode())


def read_data(folder: Path) -> dict[str, Any] | None:
    """What ``write_data`` wrote; None when there is no such file. Raises LikewiseError when it holds anything else."""
    path = folder / DATA
    try:
        about = from_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        about = None
    kinds = {"source": str, "items": int, "kind": str, "ids_hash": str, "skipped": int, "sketch": dict}
    if isinstance(about, dict):
        about.setdefault("sketch", {})  # older versions have none
    if not isinstance(about, dict) or not all(isinstance(about.get(name), kind) for name, kind in kinds.items()):
        raise LikewiseError(f"{path} is damaged; delete it. `likewise report` then needs --data.")
    return about


def training_items(folder: Path, settings: FitSettings) -> Items:
    """The items that the run in ``folder`` was trained on, opened again from the place where they were.

    Raises LikewiseError when data.json is missing or damaged, and when the items are gone, or are others now.
    """
    about = read_data(folder)
    if about is None:
        raise LikewiseError(f"{folder / DATA} is missing, which says what the items were; name them with --data.")
    source = about.get("path") or about["source"]
    try:
        items = open_by(settings, about.get("parts") or source)
        items = with_clusters(settings, items)[0] if settings.alike == "clusters" else items
        items = keep_labelled(items) if settings.by_label else items
    except LikewiseError as error:
        raise LikewiseError(
            f"the items that {folder} was trained on can't be opened ({error}) Name them with --data."
        ) from error
    if items.ids_hash != about["ids_hash"] or _other_content(about, items)[1]:
        raise LikewiseError(
            f"{source} holds other items than {folder} was trained on; name the items that you mean with --data."
        )
    return replace(items, source=about["source"])


def check_content(folder: Path, items: Items) -> list[str]:
    """Looks whether the items of a file or folder are those that a resumed run had, by a few of them.

    Returns a line where some have other content. Raises LikewiseError where most of them have.
    """
    about = read_data(folder)
    if about is None or not (items.path or items.parts):
        return []
    changed, are_others = _other_content(about, items)
    if are_others:
        raise LikewiseError(
            f"{items.path or items.source} holds other items than {about.get('path') or about['source']}, which "
            f"{folder} was trained on, under the same ids (such as {quoted(changed[0])}); give the items of "
            "the run, or start a new run."
        )
    return [f"warning: items such as {quoted(changed[0])} have other content than the run had."] if changed else []


def _other_content(about: dict[str, Any], items: Items) -> tuple[list[str], bool]:
    """The ids that data.json sketches whose items have other content now, and whether these are more than half."""
    changed, looked = changed_since(about["sketch"], items)
    return changed, 2 * len(changed) > looked
