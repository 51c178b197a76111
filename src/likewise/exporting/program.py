"""A network as a graph of operations (torch.export) for batches of any size, and as the bytes of an ONNX file."""

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from likewise.errors import LikewiseError
from likewise.exporting.network import Input, Network

LIMIT = 2 * 10**9  # bytes of the weights in an ONNX file: protobuf counts in 31 bits, and the graph needs some of them
OUTPUT = "rows"
_EXAMPLE = 3  # items of the batch that is traced; 1 would be taken for a constant


def traced(network: Network, inputs: tuple[Input, ...]) -> torch.export.ExportedProgram:
    """The graph of a network, for any number of items. Raises LikewiseError that names a layer that has no graph."""
    example = tuple(torch.from_numpy(each.zeros(_EXAMPLE)) for each in inputs)
    try:
        with _quiet():
            return _trace(network, example)
    except Exception as error:  # torch raises many kinds, of which most are private
        raise _refused(network, example, _trace, error) from error


def as_onnx(network: Network, inputs: tuple[Input, ...], stamp: Mapping[str, object]) -> bytes:
    """The bytes of one ONNX file with the weights and the stamp in it.

    Raises:
        LikewiseError: the packages of the extra ``export`` are missing, the weights have over 2 GB, or a layer, which
            is named, can't be written as ONNX.

    Cost: some seconds of a CPU; the weights three times in memory.
    """
    onnx = package("onnx")
    package("onnxscript")
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    if size >= LIMIT:
        raise LikewiseError(
            f"the weights have {size / 1e9:.1f} GB, and one ONNX file holds at most 2 GB; use --to torch."
        )
    program = traced(network, inputs)
    try:
        with _quiet():
            proto = _convert(program, [each.name for each in inputs])
    except Exception as error:
        example = tuple(torch.from_numpy(each.zeros(_EXAMPLE)) for each in inputs)
        raise _refused(network, example, lambda *each: _convert(_trace(*each)), error) from error
    for node in proto.graph.node:  # lines of the source, with the paths of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.helper.set_model_props(proto, {name: _text(value) for name, value in stamp.items()})
    content: bytes = proto.SerializeToString()
    onnx.checker.check_model(content, full_check=True)
    return content


def package(name: str, *, to: str = "onnx", extra: str = "export") -> Any:
    """A module of an extra. Raises LikewiseError with the pip line when it can't be imported."""
    try:
        return import_module(name)
    except ImportError as error:
        why = "is not installed" if error.name == name else f"can't be imported ({str(error)[:200]})"
        raise LikewiseError(f"--to {to} needs {name}, which {why}: pip install 'likewise[{extra}]'.") from None


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _trace(module: nn.Module, example: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in example)
    with torch.no_grad():
        return torch.export.export(module, example, dynamic_shapes=(shapes,) if isinstance(module, Network) else shapes)


def _convert(program: torch.export.ExportedProgram, names: list[str] | None = None) -> Any:
    """The graph as the message of an ONNX file."""
    made = torch.onnx.export(
        program, dynamo=True, verbose=False, input_names=names, output_names=[OUTPUT], external_data=False
    )
    assert made is not None
    return made.model_proto


def _refused(
    network: Network,
    example: tuple[Tensor, ...],
    attempt: Callable[[nn.Module, tuple[Tensor, ...]], object],
    error: Exception,
) -> LikewiseError:
    """What to raise for a network that can't be exported: which layer it is."""
    name, layer = _layer_at_fault(network, example, attempt)
    why = re.split(r"[.!] |\n", f"{error}".strip() or type(error).__name__)[0][:200].rstrip(".")
    return LikewiseError(
        f"layer {name.removeprefix('embedder.')!r}, a {type(layer).__name__}, can't be exported: {why}; write its "
        "forward without branches and sizes that depend on values."
    )


def _layer_at_fault(
    network: nn.Module, example: tuple[Tensor, ...], attempt: Callable[[nn.Module, tuple[Tensor, ...]], object]
) -> tuple[str, nn.Module]:
    """The innermost layer that can't be exported alone: from outside inwards, the first that fails at each depth."""
    called: dict[str, tuple[Tensor, ...]] = {}
    layers = dict(network.named_modules())

    def remember(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
            if given and all(isinstance(each, Tensor) for each in given):
                called.setdefault(name, given)

        return hook

    hooks = [layer.register_forward_pre_hook(remember(name)) for name, layer in layers.items() if name]
    try:
        with torch.no_grad():
            network(*example)
    finally:
        for hook in hooks:
            hook.remove()
    found = ""
    with _quiet():
        for name in called:  # in the order of calls, so that a layer comes after what holds it
            if (not found or name.startswith(f"{found}.")) and not _works(attempt, layers[name], called[name]):
                found = name
    return found, layers[found]


def _works(attempt: Callable[..., object], layer: nn.Module, given: tuple[Tensor, ...]) -> bool:
    try:
        attempt(layer, given)
    except Exception:
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch tells of operators of other packages and of its own plans."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
