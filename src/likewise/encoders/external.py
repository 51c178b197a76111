"""Backbones of other libraries, imported only when named: ``timm:NAME`` and ``hf:NAME_OR_FOLDER``."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from likewise.encoders.weights import refuse_unmatched
from likewise.errors import LikewiseError, closest


class PooledTransformer(nn.Module):
    """A Hugging Face vision model with the mean of its last hidden state as output: (B, 3, S, S) -> (B, F).

    The mean is over positions, (B, F, H, W), or over all tokens, (B, T, F), including the class token. The model's own
    ``pooler_output`` is not used: in many checkpoints its layer is missing and would be random.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) float -> (B, F)."""
        hidden: Tensor = self.model(pixel_values=x).last_hidden_state
        return hidden.mean(dim=(2, 3)) if hidden.ndim == 4 else hidden.mean(dim=1)


def hf_backbone(name: str, *, allow: Sequence[str] = ()) -> nn.Module:
    """A pretrained, pooled model from the Hugging Face hub, or from a local folder with ``config.json``.

    Code from the hub never runs (``trust_remote_code`` stays off). Most ViTs accept only one image size: set the size
    of the views to it.

    Args:
        name: a hub name or a folder.
        allow: shell patterns of weights that may be missing from the checkpoint or unmatched in it, such as
            ``classifier.*``.

    Raises:
        LikewiseError: transformers is not installed, the model does not exist, or weights do not match.
    """
    transformers = _import("transformers", extra="hf")
    if Path(name).is_absolute() and not Path(name).is_dir():
        raise LikewiseError(
            f"hf:{name} cannot be loaded: there is no such folder. If it was moved, put it back there, or a link to "
            "its new place."
        )
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
    """A timm model without its classifier, with timm's own pooling: (B, 3, S, S) -> (B, F).

    A name with a tag (``resnet18.a1_in1k``) loads these pretrained weights; a name without one (``resnet18``) starts
    untrained.

    Raises:
        LikewiseError: timm is not installed, does not know the model, or cannot fetch its weights.
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
