"""Backbones of timm and transformers, by stand-in modules: neither package is needed here."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from likewise.config.settings import EncoderSettings, FitSettings
from likewise.encoders import build_embedder
from likewise.encoders.external import PooledTransformer
from likewise.errors import LikewiseError
from likewise.training.run_folder import placed

Put = Callable[[str, dict[str, Any]], None]
_CLEAN: dict[str, Any] = {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Put:
    def install(package: str, content: dict[str, Any]) -> None:
        module = ModuleType(package)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, package, module)

    return install


class _Vision(nn.Module):
    """Answers as a transformers model does: tokens (B, T, F) or positions (B, F, H, W)."""

    def __init__(self, *, tokens: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 5, 4, 4)
        self.pooler = nn.Linear(5, 5)
        self.tokens = tokens

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        y = self.patches(pixel_values)
        return SimpleNamespace(last_hidden_state=y.flatten(2).transpose(1, 2) if self.tokens else y, pooler_output=None)


def _auto_model(model: nn.Module, info: dict[str, Any], asked: list[str] | None = None) -> dict[str, Any]:
    def from_pretrained(name: str, *, output_loading_info: bool) -> tuple[nn.Module, dict[str, Any]]:
        assert output_loading_info
        if asked is not None:
            asked.append(name)
        return model, info

    return {"AutoModel": SimpleNamespace(from_pretrained=from_pretrained)}


@pytest.mark.parametrize("tokens", [True, False])
def test_hf_is_averaged(put: Put, tokens: bool) -> None:
    torch.manual_seed(0)
    model, asked, x = _Vision(tokens=tokens), [], torch.randn(2, 3, 8, 12)
    put("transformers", _auto_model(model, _CLEAN, asked))
    embedder = build_embedder(EncoderSettings(name="hf:org/model", head="none"), example=x)
    assert asked == ["org/model"]
    assert (embedder.feature_dim, embedder.dim) == (5, 5)
    patches = model.patches(x)
    expected = sum(patches[:, :, i, j] for i in range(2) for j in range(3)) / 6
    torch.testing.assert_close(embedder.features(x), expected)
    assert set(PooledTransformer(model).state_dict()) == {f"model.{name}" for name in model.state_dict()}


def test_hf_weights_must_match_too(put: Put) -> None:
    info = {
        "missing_keys": {"pooler.weight", "pooler.bias"},
        "unexpected_keys": {"classifier.weight"},
        "mismatched_keys": {("patches.bias", (9,), (5,))},
    }
    put("transformers", _auto_model(_Vision(tokens=True), info))
    x = torch.zeros(2, 3, 8, 8)
    with pytest.raises(LikewiseError, match=r"hf:m: 4 names .*'pooler\.\*', 'classifier\.\*', 'patches\.bias',\)"):
        build_embedder(EncoderSettings(name="hf:m"), example=x)
    allow = ("pooler.*", "classifier.*", "patches.bias")
    assert build_embedder(EncoderSettings(name="hf:m", allow=allow), example=x).feature_dim == 5


@pytest.mark.parametrize("error", [OSError("no such repository\nlong advice"), ValueError("no such repository")])
def test_hf_failure_is_one_sentence(put: Put, error: Exception) -> None:
    def from_pretrained(name: str, *, output_loading_info: bool) -> None:
        raise error

    put("transformers", {"AutoModel": SimpleNamespace(from_pretrained=from_pretrained)})
    with pytest.raises(LikewiseError, match=r"^hf:none/such cannot be loaded: no such repository$"):
        build_embedder(EncoderSettings(name="hf:none/such"), example=torch.zeros(1, 3, 8, 8))


def test_hf_folder_that_was_moved(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run knows the folder by its full path, so that it loads from any folder; where it is gone, that is said."""
    put("transformers", _auto_model(_Vision(tokens=False), _CLEAN))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit").mkdir()
    named = placed(FitSettings(encoder=EncoderSettings(name="hf:vit"))).encoder
    assert named.name == f"hf:{tmp_path / 'vit'}"
    assert placed(FitSettings(encoder=EncoderSettings(name="hf:org/model"))).encoder.name == "hf:org/model"
    x = torch.zeros(1, 3, 8, 8)
    assert build_embedder(named, example=x).feature_dim == 5
    (tmp_path / "vit").rename(tmp_path / "moved")
    with pytest.raises(LikewiseError, match=r"vit cannot be loaded: there is no such folder. If it was moved, put it"):
        build_embedder(named, example=x)


def test_hf_model_that_refuses_the_size(put: Put) -> None:
    put("transformers", _auto_model(_Vision(tokens=True), _CLEAN))
    with pytest.raises(LikewiseError, match=r"hf:m fails on a batch of shape \(2, 3, 2, 2\): .*Kernel size"):
        build_embedder(EncoderSettings(name="hf:m"), example=torch.zeros(2, 3, 2, 2))
    with pytest.raises(LikewiseError, match=r"hf:m is not known; pass example="):
        build_embedder(EncoderSettings(name="hf:m"))


@pytest.mark.parametrize(("name", "pretrained"), [("resnet18.a1_in1k", True), ("resnet18", False)])
def test_timm_takes_weights_when_a_tag_names_them(put: Put, name: str, pretrained: bool) -> None:
    calls: list[tuple[Any, ...]] = []

    def create_model(name: str, *, pretrained: bool, num_classes: int) -> nn.Module:
        calls.append((name, pretrained, num_classes))
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 6))

    put("timm", {"create_model": create_model})
    embedder = build_embedder(EncoderSettings(name=f"timm:{name}", dim=4), example=torch.zeros(2, 3, 2, 2))
    assert calls == [(name, pretrained, 0)]
    assert (embedder.feature_dim, embedder.dim) == (6, 4)


def test_timm_unknown_name_is_answered_with_the_closest(put: Put) -> None:
    def create_model(name: str, *, pretrained: bool, num_classes: int) -> None:
        raise RuntimeError(f"Unknown model ({name})")

    known = ["resnet18", "resnet34", "vit_base"]
    put("timm", {"create_model": create_model, "list_models": lambda: known})
    with pytest.raises(
        LikewiseError, match=r"timm:resnet81 cannot be made: Unknown model.*\. Did you mean 'resnet18'\?"
    ):
        build_embedder(EncoderSettings(name="timm:resnet81"), example=torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(("package", "extra"), [("transformers", "hf"), ("timm", "timm")])
def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if not installed
    with pytest.raises(LikewiseError, match=rf'needs {package}, .*pip install "likewise\[{extra}\]"'):
        build_embedder(EncoderSettings(name=f"{extra}:x"), example=torch.zeros(1, 3, 8, 8))
