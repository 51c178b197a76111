"""Weights by name: public checkpoints' layouts, allowed and refused names, and files that mean harm."""

import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from likewise.config.settings import EncoderSettings
from likewise.encoders import build_embedder, load_weights, resnet_small
from likewise.errors import LikewiseError

State = dict[str, Tensor]


def _public(fc: State | None = None, *, prefix: str = "") -> State:
    """A state dict named as torchvision's, with values of its own; the small network keeps the tests quick."""
    torch.manual_seed(7)
    state = {}
    for name, value in resnet_small().state_dict().items():
        state[name] = torch.rand_like(value) if value.is_floating_point() else value + 3
    state |= {"fc.weight": torch.rand(1000, 256), "fc.bias": torch.rand(1000)} if fc is None else fc
    return {prefix + name: value for name, value in state.items()}


def _assert_holds(network: nn.Module, state: State, *, but: tuple[str, ...] = ()) -> None:
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]) != name.startswith(but or ("none",)), name


def _moco(fc: State) -> dict[str, Any]:
    state = _public(fc, prefix="module.encoder_q.")
    torch.manual_seed(8)
    state |= {f"module.encoder_k.{n}": torch.rand_like(v.float()) for n, v in _public(fc).items()}
    state |= {"module.queue": torch.rand(128, 64), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {"epoch": 200, "arch": "resnet50", "state_dict": OrderedDict(state), "optimizer": {"state": {}}}


def test_torchvision_classifier_must_be_allowed_by_name(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save(OrderedDict(_public()), path)
    network = resnet_small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(
        LikewiseError, match=r"2 names .*fc\.weight \(not in.*fc\.bias.*pass allow=\('fc\.\*',\)"
    ) as info:
        load_weights(network, path)
    assert str(path) in str(info.value)
    _assert_holds(network, before)
    load_weights(network, path, allow=("fc.*",))
    _assert_holds(network, _public())


@pytest.mark.parametrize("legacy", [False, True])
def test_moco_gives_its_query_encoder(tmp_path: Path, legacy: bool) -> None:
    fc = {"fc.0.weight": torch.rand(9, 256), "fc.0.bias": torch.rand(9), "fc.2.weight": torch.rand(4, 9)}
    path = tmp_path / "moco_v2_200ep_pretrain.pth.tar"
    torch.save(_moco(fc), path, _use_new_zipfile_serialization=not legacy)
    network = resnet_small()
    with pytest.raises(LikewiseError, match=r"3 names .*fc\.0\.weight.*allow=\('fc\.\*',\)"):
        load_weights(network, path)
    load_weights(network, path, allow=["fc.*"])
    _assert_holds(network, _public(fc))


def test_moco_head_loads_into_an_embedder(tmp_path: Path) -> None:
    fc = {"fc.0.weight": torch.rand(9, 256), "fc.0.bias": torch.rand(9)}
    fc |= {"fc.2.weight": torch.rand(4, 9), "fc.2.bias": torch.rand(4)}
    torch.save(_moco(fc), tmp_path / "moco.pth.tar")
    embedder = build_embedder(EncoderSettings(head="mlp", head_hidden=9, dim=4, centre=False))
    load_weights(embedder, tmp_path / "moco.pth.tar")
    _assert_holds(embedder.backbone, _public(fc))
    assert torch.equal(embedder.head[2].weight, fc["fc.2.weight"])
    other = build_embedder(EncoderSettings(head="mlp", head_hidden=9, dim=5, centre=False))
    with pytest.raises(
        LikewiseError, match=r"fc\.2\.weight \(\(4, 9\) in the file, \(5, 9\) in the encoder\).*fc\.2\.\*"
    ):
        load_weights(other, tmp_path / "moco.pth.tar")
    load_weights(other, tmp_path / "moco.pth.tar", allow=("head.2.*",))  # the module's name does as well
    _assert_holds(other.backbone, _public(fc))


def _npid_modules(monkeypatch: pytest.MonkeyPatch) -> tuple[type, type]:
    """lemniscate's modules as far as a pickle shows: a bank (nn.Module) that owns an alias table (plain object)."""

    class AliasMethod:
        def __init__(self) -> None:
            self.prob, self.alias = torch.rand(5), torch.zeros(5, dtype=torch.long)

        def __setstate__(self, state: object) -> None:
            raise AssertionError("the file's code was run")

    class NCEAverage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nLem, self.multinomial = 5, AliasMethod()
            self.register_buffer("memory", torch.rand(5, 4))

        def __setstate__(self, state: object) -> None:
            raise AssertionError("the file's code was run")

    for kind, where in ((AliasMethod, "lib.alias_multinomial"), (NCEAverage, "lib.NCEAverage")):
        module = types.ModuleType(where)
        kind.__module__, kind.__qualname__ = where, kind.__name__
        monkeypatch.setitem(module.__dict__, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, where, module)
    monkeypatch.setitem(sys.modules, "lib", types.ModuleType("lib"))
    return NCEAverage, AliasMethod


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("present", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
def test_npid_loads_without_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool, present: bool
) -> None:
    fc = {"fc.weight": torch.rand(4, 256), "fc.bias": torch.rand(4)}
    state = {k: v for k, v in _public(fc, prefix="module.").items() if not k.endswith("num_batches_tracked")}
    path = tmp_path / "lemniscate_resnet50.pth.tar"
    with monkeypatch.context() as patch:
        bank, _ = _npid_modules(patch)
        content = {"epoch": 200, "arch": "resnet50", "state_dict": OrderedDict(state), "lemniscate": bank()}
        torch.save(content | {"best_prec1": 0.41}, path, _use_new_zipfile_serialization=not legacy)
        if present:  # even a module of that name, importable, is not used
            load_weights(resnet_small(), path, allow=("fc.*",))
    assert "lib" not in sys.modules
    with pytest.raises(LikewiseError, match=r"2 names .*allow=\('fc\.\*',\)"):
        load_weights(resnet_small(), path)
    embedder = build_embedder(EncoderSettings(dim=4, centre=False))
    load_weights(embedder, path)
    for name, value in embedder.backbone.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(value, state["module." + name]), name
    assert torch.equal(embedder.head.weight, fc["fc.weight"])


def test_own_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    source = build_embedder(EncoderSettings(dim=4))
    save_file(source.state_dict(), path)
    copy = build_embedder(EncoderSettings(dim=4))
    load_weights(copy, path)
    _assert_holds(copy, source.state_dict())
    with pytest.raises(
        LikewiseError, match=r"head\.weight \(not in the encoder\).*allow=\('centre\.\*', 'head\.\*',\)"
    ):
        load_weights(resnet_small(), path)
    settings = EncoderSettings(dim=8, weights=str(path), allow=("head.*", "centre.*"))
    _assert_holds(build_embedder(settings).backbone, source.backbone.state_dict())


def test_public_files_hold_no_centre(tmp_path: Path) -> None:
    torch.save(_public({"fc.weight": torch.rand(4, 256), "fc.bias": torch.rand(4)}), tmp_path / "r.pth")
    embedder = build_embedder(EncoderSettings(dim=4, centre=True))
    with pytest.raises(LikewiseError, match=r"centre\.running_mean \(missing.*allow=\('centre\.\*',\)"):
        load_weights(embedder, tmp_path / "r.pth")
    load_weights(embedder, tmp_path / "r.pth", allow=("centre.*",))
    assert embedder.centre.state_dict()["running_mean"].eq(0).all()


def test_build_embedder_passes_weights_on(tmp_path: Path) -> None:
    torch.save(_public(), tmp_path / "r.pth")
    with pytest.raises(LikewiseError, match=r"fc\.weight"):
        build_embedder(EncoderSettings(weights=str(tmp_path / "r.pth")))
    embedder = build_embedder(EncoderSettings(weights=str(tmp_path / "r.pth"), allow=("fc.*",)))
    _assert_holds(embedder.backbone, _public())


def test_missing_unexpected_and_reshaped_are_one_error(tmp_path: Path) -> None:
    state = _public({})
    del state["bn1.bias"], state["layer3.0.conv1.weight"], state["layer3.0.bn1.num_batches_tracked"]
    state |= {f"extra.{i}": torch.zeros(1) for i in range(4)}
    state["conv1.weight"] = torch.zeros(64, 3, 7, 7)
    torch.save(state, tmp_path / "odd.pt")
    network = resnet_small()
    with pytest.raises(LikewiseError) as info:
        load_weights(network, tmp_path / "odd.pt")
    message = str(info.value)
    assert "7 names" in message
    assert "conv1.weight ((64, 3, 7, 7) in the file, (64, 3, 4, 4) in the encoder)" in message
    assert message.count("(not in the encoder)") == 4
    assert "and 2 more" in message
    patterns = ("conv1.*", "extra.*", "bn1.bias", "layer3.0.conv1.*")
    assert all(repr(pattern) in message for pattern in patterns)
    for left_out in patterns:  # the suggestion is exactly what is needed
        with pytest.raises(LikewiseError):
            load_weights(network, tmp_path / "odd.pt", allow=[p for p in patterns if p != left_out])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    load_weights(network, tmp_path / "odd.pt", allow=patterns)
    kept = ("conv1.weight", "bn1.bias", "layer3.0.conv1.weight", "layer3.0.bn1.num_batches_tracked")
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name] if name in kept else state[name]), name


def test_another_architecture_is_named_as_such(tmp_path: Path) -> None:
    torch.save({"blocks.0.attn.weight": torch.zeros(3)}, tmp_path / "vit.pth")
    with pytest.raises(LikewiseError, match=r"none of its 1 entries fits.*blocks\.0\.attn\.weight.*conv1\.weight"):
        load_weights(resnet_small(), tmp_path / "vit.pth", allow=("*",))


class _Harm:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare pickle", "legacy with a bank"])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_malicious_files_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    content: Any = {"state_dict": _public({}), "lemniscate": _Harm(trace)}
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(_Harm(trace)))
    else:
        with monkeypatch.context() as patch:
            if kind.endswith("bank"):  # the way in where torch's own limited reader gives up
                bank, _ = _npid_modules(patch)
                content = {"lemniscate": bank(), "other": _Harm(trace)} | content
            torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(LikewiseError, match=r"evil\.pth: not loaded, because it holds more than tensors"):
        load_weights(resnet_small(), path)
    assert not trace.exists()
    if kind in ("zip", "legacy"):  # trusted, the same file does run its code: the test can fail
        torch.load(path, weights_only=False)
        assert trace.exists()


@pytest.mark.parametrize("name", ["a.pth", "a.pth.tar", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 cut short"])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LikewiseError, match=name):
        load_weights(resnet_small(), tmp_path / name)


def test_truncated_checkpoint(tmp_path: Path) -> None:
    for legacy in (False, True):
        path = tmp_path / f"cut{legacy}.pth"
        torch.save(_public({}), path, _use_new_zipfile_serialization=not legacy)
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(LikewiseError, match="is damaged or no weights file"):
            load_weights(resnet_small(), path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(2)])
def test_no_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(LikewiseError, match=r"x\.pth: holds no state dict"):
        load_weights(resnet_small(), tmp_path / "x.pth")


def test_absent_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(LikewiseError, match="no such weights file"):
            load_weights(resnet_small(), path)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    state = {name: value.half() if value.is_floating_point() else value for name, value in _public({}).items()}
    save_file(state, tmp_path / "half.safetensors")
    network = resnet_small()
    load_weights(network, tmp_path / "half.safetensors")
    assert network.conv1.weight.dtype == torch.float32
    assert torch.equal(network.conv1.weight, state["conv1.weight"].float())
