"""From items to a trained model in a run folder."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import torch
import yaml
from torch import nn

from likewise import __version__, processes
from likewise.config import FitSettings, closest, decide, flatten, settings_from
from likewise.config_checks import check
from likewise.data import Items, describe, open_items, write_skipped
from likewise.data.relations import Pairs, Triplets
from likewise.encoders.parts import lay_out, normalises_batches
from likewise.errors import LikewiseError
from likewise.files import atomic_write
from likewise.methods import METHODS
from likewise.model import NAME as MODEL
from likewise.model import Model
from likewise.training.checkpoint import CHECKPOINT, load_run
from likewise.training.loop import Sampler, ViewFunction, choose_sampler, refuse_few, train
from likewise.training.preflight import preflight
from likewise.training.progress import TrainingProgress
from likewise.training.session import build_session
from likewise.training.taught import labelled, read_relations, refuse_small_steps, remarks
from likewise.views import VectorViews, Views

CONFIG, DATA = "config.yaml", "data.json"


def fit(
    data: object,
    *,
    out: str | Path,
    method: str | None = None,
    settings: FitSettings | Mapping[str, Any] | None = None,
    resume: bool = False,
    backbone: nn.Module | None = None,
    progress: bool = True,
) -> Model:
    """Trains an embedding of ``data`` and returns it; everything lands in the folder ``out``.

    Args:
        data: a folder of images, a parquet file or folder, an array or (array, labels), a torch Dataset, or Items.
        out: the run folder; must not hold a run unless ``resume``.
        method: the row of ``likewise methods`` that gives the defaults; npid, or of a run that goes on its own.
        settings: a whole FitSettings, or overrides by dotted name: ``{"epochs": 50, "views.flip": 0.0}``.
        resume: go on from the last checkpoint, bit for bit, with the run's own settings.
        backbone: an ``nn.Module`` of one's own, (B, 3, S, S) or (B, D) → (B, F), instead of ``settings.encoder.name``.
        progress: bars and lines on standard error.

    Started by torchrun, its processes share every batch and learn what one process learns; the first one writes. After
    one of them died and torchrun started them again, they go on from the last checkpoint by themselves.

    Raises LikewiseError for unusable data or settings, Interrupted on Ctrl-C (state saved).
    """
    folder = Path(out)
    goes_on = resume or (processes.restarted() and began_here(folder))
    settings = chosen(method, settings, goes_on=folder if goes_on else None)
    with processes.joined(settings.device):  # the run's own where it goes on: it says how the processes meet
        restarted = processes.any_of([processes.restarted()], pick_device(settings.device))[0]  # maybe of another node
        resume = resume or (restarted and began_here(folder))
        settings = resolve(folder, settings, resume)
        return _fit(data, folder, settings, resume, backbone, progress and processes.rank() == 0)


def _fit(
    data: object, folder: Path, settings: FitSettings, resume: bool, backbone: nn.Module | None, progress: bool
) -> Model:
    device, first = pick_device(settings.device), processes.rank() == 0
    lay_out(settings.batch_size, max(settings.encoder.bn_groups, settings.micro_batches))  # refuses before reading
    if first:
        make_folder(folder)
    with processes.first_first():  # the others then find the items decoded
        items = open_items(
            data, size=settings.size, labels=settings.labels, key=settings.key, cache=settings.cache, progress=progress
        )
    if len(items) < 2:
        raise LikewiseError(f"{items.source} holds {len(items)} usable item; telling items apart needs at least 2.")
    settings, items, relations, sampler, notes = prepare(settings, items)
    total = settings.epochs * sampler.steps_per_epoch
    model = Model.untrained(settings, items, backbone=backbone)
    announce(model, items, total, notes, enabled=progress)
    session = build_session(settings, model.embedder, items, total, device, relations)
    if resume and (folder / CHECKPOINT).exists():  # else it was killed before the first one: from the start, then
        say([f"warning: {changed}" for changed in load_run(folder, session)], enabled=progress)
    if session.step >= total:
        say([f"the run has made all of its {total:,} steps already: nothing is trained."], enabled=progress)
    elif first:
        write_config(folder, settings)
        write_data(folder, items)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        train(session, model, items, build_views(model), folder, relations=relations, progress=progress)
    model.epoch = float(settings.epochs)
    if first:
        model.save(folder / MODEL)
    processes.wait()
    model.embedder.eval()
    return model


class Prepared(NamedTuple):
    """What a run trains on."""

    settings: FitSettings  # decided
    items: Items  # those that can teach
    relations: Pairs | Triplets | None
    sampler: Sampler
    notes: list[str]  # on the items and relations: a line each


def prepare(settings: FitSettings, items: Items) -> Prepared:
    """What a run of checked ``settings`` trains on. Raises LikewiseError on items or relations that can't teach."""
    notes = []
    if settings.alike == "label":
        found, items = len(items), labelled(items)
        if len(items) < found:
            notes.append(f"left out for want of a label: {found - len(items):,} of the {found:,} items (skipped.csv).")
    refuse_few(settings, len(items))
    settings = decide(settings, len(items))
    relations = read_relations(settings, items)
    sampler = choose_sampler(settings, items, relations)
    refuse_small_steps(settings, sampler, settings.epochs * sampler.steps_per_epoch)
    return Prepared(settings, items, relations, sampler, [*notes, *remarks(relations)])


def announce(model: Model, items: Items, total: int, notes: Sequence[str] = (), *, enabled: bool = True) -> None:
    """Says what was read, ``notes`` on it, and the pre-flight's advice for a run of ``total`` steps."""
    settings, batch_norm = model.settings, normalises_batches(model.embedder)
    found = preflight(settings, len(items), total, processes=processes.size(), batch_norm=batch_norm)
    lines = [describe(items), *notes, *(f"advice: {advice.line()}" for advice in found)]
    if settings.precision == "bf16" and emulates_bf16(pick_device(settings.device)):
        lines.append(
            "advice: precision=bf16 is emulated on this CPU, which has no AVX-512: a small ResNet was measured ten "
            "times slower than in fp32; consider --precision fp32."
        )
    say(lines, enabled=enabled)


def say(lines: Sequence[str], *, enabled: bool = True) -> None:
    """Plain lines on standard error."""
    with TrainingProgress(1, enabled=enabled) as bar:
        for line in lines:
            bar.say(line)


def emulates_bf16(device: torch.device) -> bool:
    """Whether bf16 would be slower than fp32 there: on x86 without AVX-512."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return device.type == "cpu" and x86 and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def began_here(folder: Path) -> bool:
    """Whether this start of torchrun began the run in ``folder``, and so may go on with it unasked."""
    try:
        return bool(json.loads((folder / DATA).read_bytes())["torchrun"] == os.environ.get("TORCHELASTIC_RUN_ID"))
    except (OSError, ValueError, KeyError):
        return False


def chosen(
    method: str | None, settings: FitSettings | Mapping[str, Any] | None, *, goes_on: Path | None = None
) -> FitSettings:
    """The method's defaults with overrides, or whole settings as they are. Raises LikewiseError when they can't be.

    Where a run ``goes_on``, and no other method is named, its own settings are the defaults.
    """
    given = {} if settings is None or isinstance(settings, FitSettings) else {**settings}
    saved = read_config(goes_on) if goes_on is not None and (goes_on / CONFIG).exists() else None
    named = settings.method if isinstance(settings, FitSettings) else given.get("method", method)
    method = named or ("npid" if saved is None else saved.method)
    if method not in METHODS:
        raise LikewiseError(f"there is no method {method!r}.{closest(method, METHODS)} Known: {', '.join(METHODS)}.")
    if isinstance(given.get("relations"), os.PathLike):
        given["relations"] = os.fspath(given["relations"])
    if not isinstance(settings, FitSettings):
        own = saved is not None and saved.method == method
        settings = settings_from(given, saved if own else METHODS[method].settings)
    return placed(check(settings))


def placed(settings: FitSettings) -> FitSettings:
    """With the whole path of ``relations``, so that a run goes on from any folder."""
    path = settings.relations
    return settings if path is None else replace(settings, relations=str(Path(path).absolute()))


def assigned(assignments: Sequence[str]) -> dict[str, Any]:
    """The settings that ``--set NAME=VALUE ...`` says, each value as in config.yaml. Raises LikewiseError on others."""
    values = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise LikewiseError(f"--set takes NAME=VALUE, such as encoder.bn_groups=4, not {assignment!r}.")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise LikewiseError(f"--set {name} can't be read from {text!r}; write it as in config.yaml.") from None
    return values


def resolve(folder: Path, settings: FitSettings, resume: bool) -> FitSettings:
    """The settings of this run: the saved ones when resuming, else those given.

    Raises LikewiseError when the folder holds a run already, or none to resume, or those given differ from it.
    """
    if folder.exists() and not folder.is_dir():
        raise LikewiseError(f"{folder} is a file; --out must name a folder.")
    begun = (folder / CHECKPOINT).exists() or (folder / MODEL).exists()
    if not resume:
        if begun:
            raise LikewiseError(f"{folder} already holds a run; add --resume to go on with it, or name another --out.")
        return settings
    if not (folder / CONFIG).exists():
        raise LikewiseError(f"{folder} holds no run to resume; start it without --resume.")
    if not (folder / CHECKPOINT).exists() and (folder / MODEL).exists():
        raise LikewiseError(f"{folder} holds a finished model but no {CHECKPOINT} to go on from; name another --out.")
    saved = placed(read_config(folder))
    if settings.objective.kind == "auto":
        settings = replace(settings, objective=replace(settings.objective, kind=saved.objective.kind))
    old = flatten(saved)
    for name, value in flatten(decide(settings, 0)).items():
        if value != old[name]:
            raise LikewiseError(
                f"a resumed run keeps its own settings, but {name} was {old[name]!r} and is now {value!r}; "
                "leave it out, or start a new run."
            )
    return saved


def make_folder(folder: Path) -> None:
    """Makes the run folder and sees that files can be written there. Raises LikewiseError when they can't."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise LikewiseError(f"can't write the run folder {folder}: {error.strerror}; choose another --out.") from error


def write_config(folder: Path, settings: FitSettings) -> None:
    """Writes config.yaml: every knob, resolved, ready for ``--config``. Raises LikewiseError when it can't."""
    make_folder(folder)
    try:
        with atomic_write(folder / CONFIG) as file:
            file.write(yaml.safe_dump(asdict(settings), sort_keys=False).encode())
    except OSError as error:
        raise LikewiseError(f"can't write the run folder {folder}: {error.strerror}; choose another --out.") from error


def read_config(folder: Path) -> FitSettings:
    """The settings that ``write_config`` wrote. Raises LikewiseError when the file is damaged."""
    try:
        values = yaml.safe_load((folder / CONFIG).read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        values = None
    if not isinstance(values, dict):
        raise LikewiseError(f"{folder / CONFIG} is damaged: it holds no settings; start a new run.")
    return settings_from(values)


def write_data(folder: Path, items: Items) -> None:
    """Writes data.json (what was read) and skipped.csv (what was not, and why)."""
    about = {
        "source": items.source,
        "items": len(items),
        "kind": items.kind,
        "ids_hash": items.ids_hash,
        "labels": list(items.label_names),
        "skipped": len(items.skipped),
        "likewise": __version__,
        "torch": torch.__version__,
        "torchrun": os.environ.get("TORCHELASTIC_RUN_ID"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    with atomic_write(folder / DATA) as file:
        file.write(json.dumps(about, indent=1).encode())
    write_skipped(items, folder / "skipped.csv")


def build_views(model: Model) -> ViewFunction:
    """The random views of this model's kind of item."""
    settings = model.settings.views
    if model.kind == "images":
        return Views(settings, model.settings.size)
    assert model.vector_mean is not None
    zero, one = torch.zeros_like(model.vector_mean), torch.ones_like(model.vector_mean)
    random = VectorViews(settings.noise, settings.dropout, zero, one)
    return lambda batch, generator, share: random(model.standardise(batch), generator, share)


def pick_device(name: str) -> torch.device:
    """``auto`` is the accelerator when there is one. Raises LikewiseError for a device that is not there."""
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())  # each process of a run has its own
    if name == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise LikewiseError(f"device {name!r} can't be used here ({str(error).splitlines()[0]}); try auto.") from None
    return device
