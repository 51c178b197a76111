"""The formats: how each is written into a folder, and how it is opened again from there."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save

from likewise.errors import LikewiseError, closest
from likewise.exporting import plain
from likewise.exporting.description import backbone_of, described, described_inputs, of_layer, weights_of
from likewise.exporting.libraries import Write, write_timm, write_transformers
from likewise.exporting.network import Network, inputs_of
from likewise.exporting.program import as_onnx, traced
from likewise.exporting.runtime import Runner, onnx_runner, torch_runner
from likewise.model import Layer, Model
from likewise.stamp import Stamp

ABOUT = "embedding.json"  # in every exported folder: inputs, scaling, layers, and the stamp
CARD = "README.md"
READER = "embed.py"
IN_LAYOUT = ("config.json", "model.safetensors")  # what transformers and timm load
ONNX, TORCH, SAFETENSORS, HEAD = "model.onnx", "model.pt2", "model.safetensors", "head.safetensors"


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format.

    Args:
        name: as ``--to`` takes it.
        library: the library that loads it, as a model card names it.
        needs: what a reader installs.
        files: those that it writes, beside ``ABOUT`` and ``CARD``.
        holds: what the folder holds, in words.
        caution: what to know before one loads it, in words.
        write: writes the files of a layer of a model into a folder; the stamp goes into them.
        opened: reads them and gives a function from items as they are stored to rows.
        modules: what the Python that loads them imports; empty where it imports ``READER``.
        loading: the last lines of that Python, from ``inputs``, a dict of arrays, to ``rows``.
    """

    name: str
    library: str
    needs: str
    files: tuple[str, ...]
    holds: str
    write: Callable[[Model, Layer, Path, Stamp], None]
    opened: Callable[[Path], Runner]
    caution: str = f"`{READER}` is short: read it before you run it. `{ABOUT}` and the weights hold no code."
    modules: tuple[str, ...] = ()
    loading: str = """
rows = load(".")(*inputs.values())"""


def format_named(name: str) -> Format:
    """The format of that name. Raises LikewiseError for any other."""
    found = FORMATS.get(name)
    if found is None:
        raise LikewiseError(f"--to {name} is no format.{closest(name, FORMATS)} It must be {', '.join(FORMATS)}.")
    return found


def _write_onnx(model: Model, layer: Layer, folder: Path, stamp: Stamp) -> None:
    (folder / ONNX).write_bytes(as_onnx(Network(model, layer), inputs_of(model), stamp))
    _write_about(folder, described_inputs(model, layer), stamp)


def _open_onnx(folder: Path) -> Runner:
    return onnx_runner(str(folder / ONNX))


def _write_torch(model: Model, layer: Layer, folder: Path, stamp: Stamp) -> None:
    program, file = traced(Network(model, layer), inputs_of(model)), io.BytesIO()
    torch.export.save(program, file, extra_files={"stamp.json": json.dumps(stamp)})
    (folder / TORCH).write_bytes(file.getbuffer())  # torch itself ends the process where the disk is full
    _write_about(folder, described_inputs(model, layer), stamp)


def _open_torch(folder: Path) -> Runner:
    return torch_runner(torch.export.load(folder / TORCH).module())


def _write_safetensors(model: Model, layer: Layer, folder: Path, stamp: Stamp) -> None:
    about = described(model, layer)
    about |= {"weights": SAFETENSORS, "backbone": backbone_of(of_layer(model, layer).backbone)}
    (folder / SAFETENSORS).write_bytes(save(weights_of(model, layer, backbone=True), in_file(stamp)))
    _write_about(folder, about, stamp)
    write_reader(folder)


def _write_beside(library: str, write_backbone: Write) -> Callable[[Model, Layer, Path, Stamp], None]:
    """Writes the backbone as a library loads it, and beside it the head with what computes the rows of both."""

    def write(model: Model, layer: Layer, folder: Path, stamp: Stamp) -> None:
        about = {**described(model, layer), "weights": HEAD, "backbone": {"name": library}}
        write_backbone(model, layer, folder, in_file(stamp))
        (folder / HEAD).write_bytes(save(weights_of(model, layer, backbone=False), in_file(stamp)))
        _write_about(folder, about, stamp)
        write_reader(folder)

    return write


def _open_plain(folder: Path) -> Runner:
    found: Runner = plain.load(folder)
    return found


def in_file(stamp: Mapping[str, object]) -> dict[str, str]:
    """A stamp as the metadata of a file of safetensors."""
    return {"format": "pt", **{name: str(value) for name, value in stamp.items()}}


def write_reader(folder: Path) -> None:
    """Writes the Python that computes rows from the weights and embedding.json."""
    (folder / READER).write_text(Path(plain.__file__).read_text(encoding="utf-8"), encoding="utf-8")


def _write_about(folder: Path, about: Mapping[str, object], stamp: Stamp) -> None:
    text = json.dumps({**about, "stamp": stamp}, indent=1, ensure_ascii=False)
    (folder / ABOUT).write_text(text + "\n", encoding="utf-8")


FORMATS = {
    each.name: each
    for each in (
        Format(
            name="onnx",
            library="onnx",
            needs="onnxruntime numpy pillow",
            files=(ONNX,),
            holds="one ONNX file with the weights in it",
            write=_write_onnx,
            opened=_open_onnx,
            caution="An ONNX file holds no code.",
            modules=("onnxruntime",),
            loading=f"""
session = onnxruntime.InferenceSession("{ONNX}")
rows = session.run(None, inputs)[0]""",
        ),
        Format(
            name="torch",
            library="pytorch",
            needs="torch numpy pillow",
            files=(TORCH,),
            holds="a graph of torch.export with the weights in it",
            write=_write_torch,
            opened=_open_torch,
            caution="`torch.export.load` can read pickled objects, which can run code: load such files of people you "
            "trust only. ONNX and safetensors hold no objects.",
            modules=("torch",),
            loading=f"""
model = torch.export.load("{TORCH}").module()
rows = model(*(torch.from_numpy(each) for each in inputs.values())).numpy()""",
        ),
        Format(
            name="safetensors",
            library="pytorch",
            needs="torch safetensors numpy pillow",
            files=(SAFETENSORS, READER),
            holds="the weights as plain tensors, the layers in embedding.json, and embed.py, which computes with both",
            write=_write_safetensors,
            opened=_open_plain,
        ),
        Format(
            name="hf",
            library="transformers",
            needs="torch transformers safetensors numpy pillow",
            files=(*IN_LAYOUT, "preprocessor_config.json", HEAD, READER),
            holds='the backbone, which `AutoModel.from_pretrained(".")` of transformers loads, the head in '
            "head.safetensors, and embed.py, which computes rows. `AutoImageProcessor` scales pictures for the "
            "backbone; it crops larger ones a little otherwise than `read_picture`, and turns none upright",
            write=_write_beside("transformers", write_transformers),
            opened=_open_plain,
        ),
        Format(
            name="timm",
            library="timm",
            needs="torch timm safetensors numpy pillow",
            files=(*IN_LAYOUT, HEAD, READER),
            holds='the backbone, which `timm.create_model("local-dir:.", pretrained=True, num_classes=0)` loads, the '
            "head in head.safetensors, and embed.py, which computes rows",
            write=_write_beside("timm", write_timm),
            opened=_open_plain,
        ),
    )
}
