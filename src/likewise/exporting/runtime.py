"""Runs a model fast on one core: with ONNX Runtime where it is installed, else with torch."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from likewise.errors import LikewiseError
from likewise.exporting.network import Array, Network, inputs_of
from likewise.exporting.program import as_onnx, package
from likewise.model import Layer, Model

Rows = npt.NDArray[np.float32]
Runner = Callable[..., Rows]
NEEDED = ("onnx", "onnxscript", "onnxruntime")


def runner(model: Model, *, layer: Layer = "embedding") -> Runner:
    """A function from items as they are stored to unit rows, float32 (B, K), which several threads may call.

    It takes uint8 images (B, S, S, 3), or float32 vectors (B, D), or of a model of several parts the inputs that
    ``inputs_of`` lists, in that order. ONNX Runtime runs it on one core and without waiting in a loop; without the
    extra ``export`` torch does. The weights are copied: later changes of the model change nothing.

    Raises:
        LikewiseError: the model does not have the layer, or a layer of it, which is named, can't be exported. The
            function raises it where a row is not finite, and names the item by its number.

    Cost: some seconds, once.
    """
    run = fast(model, layer)

    def finite(*inputs: Array) -> Rows:
        rows = run(*inputs)
        good = np.isfinite(rows).all(1)
        if not good.all():
            raise LikewiseError(
                f"item {int(np.argmin(good))} of the batch has no finite row: its numbers are NaN, infinite, or "
                "too far from those of the training; leave it out, or give it in their scale."
            )
        return rows

    return finite


def fast(model: Model, layer: Layer) -> Runner:
    """As ``runner``, but the row of what can't be embedded is NaN, and the others are right."""
    network = Network(model, layer)
    if any(find_spec(name) is None for name in NEEDED):
        return torch_runner(network)
    return onnx_runner(as_onnx(network, inputs_of(model), {}))


def torch_runner(network: Callable[..., torch.Tensor]) -> Runner:
    """Runs a network with torch."""

    def run(*inputs: Array) -> Rows:
        with torch.inference_mode():
            rows: Rows = network(*(torch.from_numpy(np.ascontiguousarray(each)) for each in inputs)).numpy()
        return rows

    return run


def onnx_runner(file: bytes | str) -> Runner:
    """Runs the bytes of an ONNX file, or the file at a path, on one core. Raises LikewiseError without the extra."""
    return runner_in(session_of(file))


def runner_in(session: Any) -> Runner:
    """Runs what a session of ONNX Runtime has read."""
    names = [each.name for each in session.get_inputs()]

    def run(*inputs: Array) -> Rows:
        rows: Rows = session.run(None, dict(zip(names, inputs, strict=True)))[0]
        return rows

    return run


def session_of(file: bytes | str) -> Any:
    """A session of ONNX Runtime with one thread that does not spin."""
    onnxruntime = package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
