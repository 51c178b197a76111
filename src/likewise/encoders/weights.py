"""Loads weights from a file into an encoder, by name. A name that does not match is an error, unless it is allowed.

Files: ``.safetensors``, or files of ``torch.save`` (``.pth``, ``.pt``, ``.pth.tar``). The latter are pickles, which can
run code when they are read. This module builds only tensors and plain containers from them.
"""

import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from likewise.errors import LikewiseError
from likewise.files import as_path, utf8_path

_SHOWN = 5
_BANK_OF_NPID = (
    "lib.NCEAverage.NCEAverage",
    "lib.LinearAverage.LinearAverage",
    "lib.alias_multinomial.AliasMethod",
    "torch.nn.backends.thnn._get_thnn_function_backend",
)


_BUILT: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "__builtin__.set": set,
    "builtins.set": set,
    "torch._utils._rebuild_tensor": torch._utils._rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": torch._utils._rebuild_parameter,
}


class _Inert:
    """Replaces the classes of NPID's memory bank when its checkpoints are read. It keeps nothing and runs nothing."""

    dump_patches = False  # torch reads this from a class that was saved with its source

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def load_weights(module: nn.Module, path: str | Path, *, allow: Sequence[str] = ()) -> None:
    """Copies the tensors of a checkpoint into ``module``, in place. On an error ``module`` does not change.

    First it removes wrappers: an outer ``{"state_dict": ...}`` or ``{"model": ...}``, and DataParallel's ``module.``.
    From a MoCo checkpoint it takes the query encoder (``encoder_q.``), without momentum encoder, queue and pointer.
    From an NPID checkpoint it takes the network, without the memory bank. Then the names are matched:

    - for a backbone: torchvision's names; from a run's ``model.safetensors`` the ``backbone.`` part. The classifier or
      projection of public files (``fc.*``) does not match: pass ``allow=("fc.*",)`` to leave it out;
    - for an ``Embedder``: torchvision's names go to ``backbone.`` and ``fc.`` goes to ``head.``, so that embeddings of
      MoCo and NPID are complete (with ``centre=False``, since they have no centring); a run's ``model.safetensors``
      matches directly.

    BatchNorm's ``num_batches_tracked`` may be missing, as in files older than torch 0.4.1: no output depends on it.

    Args:
        module: a backbone, an Embedder, or any module.
        path: the file; tensors are read to the CPU and copied to the module's device and dtype.
        allow: shell patterns (``fc.*``) of names that may be missing from the file, unmatched in it, or of another
            shape; these entries keep the module's values. A pattern may match the module's name or the file's name.

    Raises:
        LikewiseError: the file is missing or damaged, holds Python objects, or has unmatched names.

    Cost: one pass over the file; memory for its size once.
    """
    path = as_path(path, "the weights file")
    entries = _target_names(_source_names(_read(path), path), module)
    state = module.state_dict()
    good: dict[str, Tensor] = {}
    bad: dict[str, str] = {}
    for target, (source, value) in entries.items():
        if target not in state:
            bad[source] = "not in the encoder"
        elif not isinstance(value, Tensor) or value.shape != state[target].shape:
            bad[source] = f"{_shape(value)} in the file, {_shape(state[target])} in the encoder"
        else:
            good[target] = value
    for name in state:
        if name not in entries and not name.endswith("num_batches_tracked"):
            bad[name] = "missing from the file"
    if not good:
        raise LikewiseError(_nothing_fits(path, entries, state))
    aliases = {source: target for target, (source, _) in entries.items()}
    refuse_unmatched(bad, matched=[entries[name][0] for name in good], where=str(path), allow=allow, aliases=aliases)
    module.load_state_dict(good, strict=False)


def refuse_unmatched(
    unmatched: Mapping[str, str],
    *,
    matched: Iterable[str],
    where: str,
    allow: Sequence[str],
    aliases: Mapping[str, str] | None = None,
) -> None:
    """Raises one error for unmatched names that are not allowed, and suggests the ``allow`` that accepts them.

    Args:
        unmatched: name -> what is wrong with it; may be empty.
        matched: the names that match; the suggested patterns must not cover them.
        where: the file or model, for the message.
        allow: shell patterns of names to ignore.
        aliases: name -> another name that ``allow`` may use for it.

    Raises:
        LikewiseError: a name in ``unmatched`` is not allowed; the message shows up to five.
    """
    other = aliases or {}
    left = {
        name: why
        for name, why in unmatched.items()
        if not any(fnmatchcase(alias, p) for alias in (name, other.get(name, name)) for p in allow)
    }
    if not left:
        return
    shown = "; ".join(f"{name} ({why})" for name, why in list(left.items())[:_SHOWN])
    more = f"; and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    patterns = [*allow, *_narrowest_patterns(left, set(matched))]
    raise LikewiseError(
        f"{where}: {len(left)} names do not match the encoder: {shown}{more}. "
        f"To leave them out, pass allow=({', '.join(map(repr, patterns))},)."
    )


def _narrowest_patterns(names: Iterable[str], matched: set[str]) -> list[str]:
    """For each name, the shortest prefix pattern (``fc.*``) that covers no matched name; else the name itself."""
    taken = {name[: i + 1] for name in matched for i, letter in enumerate(name) if letter == "."}
    patterns: dict[str, None] = {}
    for name in names:
        ends = [i + 1 for i, letter in enumerate(name) if letter == "."]
        prefix = next((name[:end] for end in ends if name[:end] not in taken), None)
        patterns[name if prefix is None else prefix + "*"] = None
    return list(patterns)


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _nothing_fits(path: Path, entries: Mapping[str, object], state: Mapping[str, object]) -> str:
    """The message for a file of another architecture. A list of all unmatched names would only confuse."""
    theirs, ours = ", ".join(list(entries)[:3]), ", ".join(list(state)[:3])
    return (
        f"{path}: none of its {len(entries)} entries fits the encoder: it has {theirs} ..., the encoder {ours} ...; "
        "choose the encoder (name, stem) that the file was saved from."
    )


def _source_names(content: object, path: Path) -> dict[str, object]:
    """The encoder's state dict inside a checkpoint, without wrappers and other parts."""
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise LikewiseError(f"{path}: holds no state dict; save model.state_dict() rather than {_shape(content)}.")
    entries = {str(name): value for name, value in content.items()}
    if all(name.startswith("module.") for name in entries):
        entries = {name.removeprefix("module."): value for name, value in entries.items()}
    if any(name.startswith("encoder_q.") for name in entries):
        rest = ("encoder_k.", "queue")
        entries = {
            name.removeprefix("encoder_q."): value for name, value in entries.items() if not name.startswith(rest)
        }
    return entries


def _target_names(entries: Mapping[str, object], module: nn.Module) -> dict[str, tuple[str, object]]:
    """Module's name -> (file's name, value). Names with ``backbone.`` mark an Embedder, in the file or the module."""
    in_file = any(name.startswith("backbone.") for name in entries)
    in_module = any(name.startswith("backbone.") for name in module.state_dict())
    if in_module and not in_file:
        return {_embedder_name(name): (name, value) for name, value in entries.items()}
    if in_file and not in_module:
        return {name.removeprefix("backbone."): (name, value) for name, value in entries.items()}
    return {name: (name, value) for name, value in entries.items()}


def _embedder_name(name: str) -> str:
    return "head." + name.removeprefix("fc.") if name.startswith("fc.") else "backbone." + name


def _read(path: Path) -> object:
    """The content of the file: tensors in plain containers."""
    if not path.is_file():
        raise LikewiseError(f"{path}: there is no such weights file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            utf8_path(path)  # safetensors opens no other
            return load_file(path)
        return _read_pickled(path)
    except LikewiseError:
        raise
    except (pickle.UnpicklingError, _Refused) as error:
        raise LikewiseError(
            f"{path}: not loaded, because it holds more than tensors ({_reason(error)}) and reading that could run "
            "code; save model.state_dict() alone, or as .safetensors."
        ) from error
    except Exception as error:
        raise LikewiseError(f"{path}: is damaged or no weights file ({_reason(error)}).") from error


def _reason(error: BaseException) -> str:
    """The most useful line of a reader's error message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (telling or lines or [type(error).__name__])[0][:160]


def _read_pickled(path: Path) -> object:
    """``torch.load`` with ``weights_only=True``. NPID's old files have the same limits, see ``_Limited``."""
    with torch.serialization.safe_globals([(_Inert, name) for name in _BANK_OF_NPID]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if zipfile.is_zipfile(path) or "persistent_load" not in str(error):
                raise
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_Limited)


class _Refused(Exception):
    """A pickle needs a Python object that is neither a tensor nor a replacement (``_Inert``)."""


class _Unpickler(pickle.Unpickler):
    """Builds tensors, containers and replacements; it refuses every other name before anything is called."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _BANK_OF_NPID:
            return _Inert
        if full not in _BUILT:
            raise _Refused(f"GLOBAL {full}")
        return _BUILT[full]


class _Limited:
    """The ``pickle_module`` for files of torch < 1.6 that hold NPID's bank.

    ``weights_only=True`` always refuses these files, because old torch stored the bank's class together with its source
    text, as a persistent id. torch loads the storages itself, before ``find_class``.
    """

    Unpickler = _Unpickler

    @staticmethod
    def load(file: Any, **options: Any) -> object:
        """Like ``pickle.load``, for the plain numbers and dictionaries in the file's header."""
        return _Unpickler(file, **options).load()
