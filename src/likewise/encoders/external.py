"""Backbones of other libraries, imported only when named: ``timm:NAME`` and ``hf:NAME_OR_FOLDER``."""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from torch import Tensor, nn

from likewise.encoders.weights import refuse_unmatched
from likewise.errors import LikewiseError, closest


class PooledTransformer(nn.Module):
    """A Hugging Face vision model whose last hidden state is averaged: (B, 3, S, S) -> (B, F).

    The mean is over positions, (B, F, H, W), or over all tokens, (B, T, F), the class token included. The model's own
    ``pooler_output`` is not used: many checkpoints do not hold the layer it needs, which then is random.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) float -> (B, F)."""
        hidden: Tensor = self.model(pixel_values=x).last_hidden_state
        return hidden.mean(dim=(2, 3)) if hidden.ndim == 4 else hidden.mean(dim=1)


def hf_backbone(name: str, *, allow: Sequence[str] = ()) -> nn.Module:
    """A pretrained model of the Hugging Face hub, or of a local folder with ``config.json``, pooled.

    Code from the hub is never run (``trust_remote_code`` stays off). A model takes the image sizes it was made for:
    most ViTs refuse all but one (set the views' size to it).

    Args:
        name: a hub name or a folder.
        allow: shell patterns of weights that may be missing from or unmatched in the checkpoint, such as
            ``classifier.*``.

    Raises:
        LikewiseError: transformers is not installed, no such model, or unmatched weights.
    """
    transformers = _import("transformers", extra="hf")
    try:
        model, info = transformers.AutoModel.from_pretrained(name, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise LikewiseError(f"hf:{name} cannot be loaded: {_first_line(error)}") from error
    missing = dict.fromkeys(sorted(info["missing_keys"]), "missing from the checkpoint")
    unexpected = dict.fromkeys(sorted(info["unexpected_keys"]), "not in the model")
    reshaped = {str(entry[0]): "of another shape" for entry in sorted(info["mismatched_keys"])}
    refuse_unmatched(
        missing | unexpected | reshaped, matched=set(model.state_dict()) - set(missing), where=f"hf:{name}", allow=allow
    )
    return PooledTransformer(model)


def timm_backbone(name: str) -> nn.Module:
    """A timm model without its classifier: (B, 3, S, S) -> (B, F), pooled as timm does for that model.

    A name with a tag (``resnet18.a1_in1k``) names a set of weights, and gets them; a bare architecture (``resnet18``)
    starts untrained.

    Raises:
        LikewiseError: timm is not installed, knows no such model, or cannot fetch its weights.
    """
    timm = _import("timm", extra="timm")
    try:
        model: nn.Module = timm.create_model(name, pretrained="." in name, num_classes=0)
    except (RuntimeError, ValueError, OSError) as error:
        why, hint = _first_line(error).rstrip("."), closest(name.partition(".")[0], timm.list_models())
        raise LikewiseError(f"timm:{name} cannot be made: {why}.{hint}") from error
    return model


def _import(package: str, *, extra: str) -> ModuleType:
    try:
        return import_module(package)
    except ImportError as error:
        raise LikewiseError(
            f'{extra}:... needs {package}, which cannot be imported ({error}); pip install "likewise[{extra}]".'
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
