"""The files of a run folder: its settings, a description of its data, and checks before a run starts or resumes."""

import json
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile

import torch

from likewise import __version__
from likewise.config.objective_table import AUTO
from likewise.config.overrides import as_dict, flatten, settings_from
from likewise.config.settings import FitSettings
from likewise.config.yaml_file import CONFIG, as_yaml, read_settings_file
from likewise.data import Items, write_skipped
from likewise.errors import LikewiseError
from likewise.files import atomic_write, utf8_path
from likewise.model import NAME as MODEL
from likewise.training.checkpoint import CHECKPOINT
from likewise.training.decide import decide
from likewise.training.metrics_log import METRICS

DATA, SKIPPED = "data.json", "skipped.csv"


def began_here(folder: Path) -> bool:
    """Whether this launch of torchrun started the run in ``folder``, and so may resume it automatically."""
    try:
        return bool(json.loads((folder / DATA).read_bytes())["torchrun"] == os.environ.get("TORCHELASTIC_RUN_ID"))
    except (OSError, ValueError, KeyError):
        return False


def placed(settings: FitSettings) -> FitSettings:
    """Makes the path of ``relations`` absolute, so that a run can be resumed from any folder."""
    path = settings.relations
    return settings if path is None else replace(settings, relations=str(Path(path).absolute()))


def resolve(folder: Path, settings: FitSettings, resume: bool) -> FitSettings:
    """The settings of this run: the saved ones when it resumes, otherwise the given ones.

    Raises LikewiseError when the folder already holds a run; when it holds no run to resume; and when the given
    settings differ from the saved ones.
    """
    if folder.exists() and not folder.is_dir():
        raise LikewiseError(f"{folder} is a file; --out must name a folder.")
    holds_run = (folder / CHECKPOINT).exists() or (folder / MODEL).exists()
    if not resume:
        if holds_run:
            raise LikewiseError(f"{folder} already holds a run; add --resume to continue it, or name another --out.")
        return settings
    if not (folder / CONFIG).exists():
        raise LikewiseError(f"{folder} holds no run to resume; start it without --resume.")
    if not (folder / CHECKPOINT).exists() and (folder / MODEL).exists():
        raise LikewiseError(
            f"{folder} holds a finished model but no {CHECKPOINT} to continue from; name another --out."
        )
    saved = placed(read_config(folder))
    if settings.objective.kind == AUTO:
        settings = settings_from({"objective.kind": saved.objective.kind}, settings)
    saved = decide(saved, 0)  # older versions did not save the defaults of the objective
    old, new = flatten(saved), flatten(decide(settings, 0))
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            raise LikewiseError(
                f"a resumed run keeps its saved settings, but {name} was {old.get(name)!r} and is now "
                f"{new.get(name)!r}; leave it out, or start a new run."
            )
    return saved


def make_folder(folder: Path) -> list[Path]:
    """Makes the run folder; returns the folders that were missing, the innermost first.

    Raises LikewiseError when no file can be written there, or its name is not UTF-8.
    """
    utf8_path(folder)
    try:
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise LikewiseError(f"can't write the run folder {folder}: {error.strerror}; choose another --out.") from error
    return missing


def remove_folder(made: Sequence[Path]) -> None:
    """Removes the folders that ``make_folder`` made, where they hold only the files of a run before its first step."""
    with suppress(OSError):  # one holds something else
        for folder in made:
            for name in (CONFIG, DATA, SKIPPED, METRICS) if folder == made[0] else ():
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


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
    """Reads the settings that ``write_config`` wrote. Raises LikewiseError when the file is damaged."""
    try:
        return settings_from(read_settings_file(folder / CONFIG))
    except LikewiseError as error:
        raise LikewiseError(f"{folder / CONFIG} is damaged: {error} Repair it, or start a new run.") from None


def write_data(folder: Path, items: Items) -> None:
    """Writes data.json (a description of the items) and skipped.csv (the skipped items and the reasons)."""
    about = {
        "source": items.source,
        "items": len(items),
        "kind": items.kind,
        "ids_hash": items.ids_hash,
        "labels": list(items.label_names),
        "skipped": len(items.skipped),
        "notes": list(items.notes),
        "likewise": __version__,
        "torch": torch.__version__,
        "torchrun": os.environ.get("TORCHELASTIC_RUN_ID"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    with atomic_write(folder / DATA) as file:
        file.write(json.dumps(about, indent=1).encode())
    write_skipped(items, folder / SKIPPED)
