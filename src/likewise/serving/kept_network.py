"""A run's network as ONNX Runtime runs it: exported once, and kept in the run's folder for all servers of the run."""

from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock

from likewise import __version__
from likewise.errors import LikewiseError
from likewise.exporting.network import Network, inputs_of
from likewise.exporting.program import as_onnx
from likewise.exporting.runtime import Runner, fast, runner_in, session_of
from likewise.files import atomic_write, make_writable
from likewise.model import Layer, Model, load
from likewise.serving.aside import Aside
from likewise.serving.settings import FOLDER
from likewise.stamp import code_digest


def kept_runner(model: Model, layer: Layer, run: Path) -> Runner:
    """What runs the network of a layer: read from ``RUN/serve``, or made beside the server and kept there.

    A file of other weights or other code, or a damaged one, is made anew. Where the folder can't be written, the
    network is made here and not kept.

    Raises LikewiseError when a layer of the model can't be exported. Cost: some 5 seconds where it is made.
    """
    found = _kept(run, model.weights_hash, layer)
    if found is not None:
        return found
    try:
        make_writable(run / FOLDER, "")
    except LikewiseError:
        return fast(model, layer)
    beside = Aside()
    try:
        beside.do(keep_network, run, layer)
        beside.finish()  # killed, it would leave a semaphore of tqdm, of which Python tells the user
    finally:
        beside.end()
    return _kept(run, model.weights_hash, layer) or fast(model, layer)


def keep_network(run: Path, layer: Layer) -> None:
    """Exports the network of a layer, unless it is kept: what the process beside the server does.

    Raises LikewiseError when it can't be exported.
    """
    model, path = load(run), _file(run, layer)
    with FileLock(path.with_suffix(".lock")):
        if _kept(run, model.weights_hash, layer) is None:
            content = as_onnx(Network(model, layer), inputs_of(model), _stamp(model.weights_hash, layer))
            with suppress(OSError), atomic_write(path) as file:  # on a full disk it is made again, and not kept
                file.write(content)


def _kept(run: Path, model: str, layer: Layer) -> Runner | None:
    """What runs the kept network; None where there is none of this model. Reading it runs no code."""
    path = _file(run, layer)
    if not path.is_file():
        return None
    try:
        session = session_of(str(path))
    except Exception:  # ONNX Runtime raises many kinds on a damaged file
        return None
    same = dict(session.get_modelmeta().custom_metadata_map) == _stamp(model, layer)
    return runner_in(session) if same else None


def _stamp(model: str, layer: Layer) -> dict[str, str]:
    return {
        "likewise": __version__,
        "code": code_digest(),
        "torch": torch.__version__,
        "model": model,
        "layer": layer,
    }


def _file(run: Path, layer: Layer) -> Path:
    return run / FOLDER / f"{layer}.onnx"
