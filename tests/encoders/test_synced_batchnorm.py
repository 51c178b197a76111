"""BatchNorm over processes: two, each with its share of the rows, learn what one with plain BatchNorm does."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from forks import run_together
from torch import Tensor, distributed, nn

from likewise.distributed import processes
from likewise.encoders import resnet_small, synced_batchnorm
from likewise.encoders.synced_batchnorm import SyncedBatchNorm, synchronise
from likewise.errors import LikewiseError

WORLD = 2
STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, the shape of one item, and how many rows each process has."""

    build: Callable[[], nn.Module]
    item: tuple[int, ...]
    rows: tuple[int, int]
    channels_last: bool = False
    dtype: torch.dtype = torch.float64
    autocast: bool = False
    rtol: float = 1e-9


def bn1d(**options: bool | float | None) -> Callable[[], nn.Module]:
    return lambda: disturbed(nn.BatchNorm1d(5, **options))  # type: ignore[arg-type]


def bn2d(**options: bool | float | None) -> Callable[[], nn.Module]:
    return lambda: disturbed(nn.BatchNorm2d(5, **options))  # type: ignore[arg-type]


def disturbed(layer: nn.Module) -> nn.Module:
    """Weights and shifts that are not 1 and 0."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += torch.randn(parameter.shape)
    return layer


def without_bias() -> nn.Module:
    layer = disturbed(nn.BatchNorm1d(5))
    layer.bias = None  # what bias=False makes of it, where torch knows that
    return layer


def whole_encoder() -> nn.Module:
    """As an Embedder with ``centre``, which would go on in float32."""
    return nn.Sequential(resnet_small(), nn.Linear(256, 8, bias=False), nn.BatchNorm1d(8, affine=False))


def shared_layer() -> nn.Module:
    layer = nn.BatchNorm1d(5)
    return nn.Sequential(nn.Linear(5, 5, bias=False), layer, nn.Linear(5, 5, bias=False), layer)


CASES = {
    "1d": Case(build=bn1d(), item=(5,), rows=(4, 4)),
    "1d, uneven": Case(build=bn1d(), item=(5,), rows=(6, 3)),
    "1d, one row on one": Case(build=bn1d(), item=(5,), rows=(1, 7)),
    "1d, one row on each": Case(build=bn1d(), item=(5,), rows=(1, 1)),
    "1d, second empty": Case(build=bn1d(), item=(5,), rows=(6, 0)),
    "1d, of sequences": Case(build=bn1d(), item=(5, 7), rows=(3, 2)),
    "1d, cumulative": Case(build=bn1d(momentum=None), item=(5,), rows=(5, 3)),
    "1d, not affine": Case(build=bn1d(affine=False), item=(5,), rows=(5, 3)),
    "1d, no running statistics": Case(build=bn1d(track_running_stats=False), item=(5,), rows=(5, 3)),
    "1d, no bias": Case(build=without_bias, item=(5,), rows=(5, 3)),
    "1d, one layer in two places": Case(build=shared_layer, item=(5,), rows=(5, 3)),
    "2d": Case(build=bn2d(), item=(5, 4, 3), rows=(4, 4)),
    "2d, uneven": Case(build=bn2d(), item=(5, 4, 3), rows=(2, 5)),
    "2d, first empty": Case(build=bn2d(), item=(5, 4, 3), rows=(0, 5)),
    "2d, channels last": Case(build=bn2d(), item=(5, 4, 3), rows=(4, 3), channels_last=True),
    "2d, channels last, second empty": Case(build=bn2d(), item=(5, 4, 3), rows=(4, 0), channels_last=True),
    "3d": Case(build=lambda: nn.BatchNorm3d(5), item=(5, 2, 3, 2), rows=(3, 2)),
    "2d, float32": Case(build=bn2d(), item=(5, 4, 3), rows=(5, 3), dtype=torch.float32, rtol=1e-5),
    "2d, bf16": Case(
        build=lambda: nn.Sequential(nn.Conv2d(3, 5, 1, bias=False), nn.BatchNorm2d(5)),
        item=(3, 4, 4),
        rows=(5, 3),
        dtype=torch.float32,
        autocast=True,
        rtol=2e-2,
    ),
    "whole encoder": Case(build=whole_encoder, item=(3, 16, 16), rows=(5, 3), channels_last=True, rtol=1e-8),
    "whole encoder, first empty": Case(build=whole_encoder, item=(3, 16, 16), rows=(0, 6), rtol=1e-8),
}


def batch(case: Case, step: int) -> tuple[Tensor, Tensor]:
    """A step's rows of all processes, which drift and are far from 0, and the generator's weights of the output."""
    generator = torch.Generator().manual_seed(step)
    x = (3 + step) + (1 + step) * torch.randn(sum(case.rows), *case.item, generator=generator, dtype=torch.float64)
    return x.to(case.dtype), torch.randn(10_000, generator=generator, dtype=torch.float64)


def train(module: nn.Module, case: Case, mine: slice) -> dict[str, Tensor]:
    """A few steps of forward and backward on the rows ``mine`` of each batch, then eval: all there is to compare."""
    module.train()
    found: dict[str, Tensor] = {}
    for step in range(STEPS):
        x, weights = batch(case, step)
        x = x[mine]
        if case.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=case.autocast):
            y = module(x)
        assert y.shape[0] == x.shape[0]
        per_row = weights[: y[:1].numel() if len(y) else 1].to(y.dtype)
        place = torch.arange(sum(case.rows), dtype=y.dtype)[mine]
        (y.flatten(1).square() @ per_row * place if len(y) else y).sum().backward()
        assert x.grad is not None
        found |= {f"rows:y{step}": y.detach(), f"rows:grad{step}": x.grad}
    found |= {f"sum:{name}": p.grad for name, p in module.named_parameters() if p.grad is not None}
    found |= {f"same:{name}": buffer for name, buffer in module.named_buffers()}
    return found


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    module = CASES[name].build().to(CASES[name].dtype)
    return module.to(memory_format=torch.channels_last) if CASES[name].channels_last else module  # type: ignore[call-overload]


@contextmanager
def refusal() -> Iterator[list[str]]:
    said: list[str] = []
    try:
        yield said
    except LikewiseError as error:
        said.append(str(error))


def work(rank: int, count: int, folder: Path) -> None:
    """What each process does: all cases, in order."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=count)
    results: dict[str, dict[str, Tensor]] = {}
    for name, case in CASES.items():
        start = processes.starts(case.rows)[rank]
        results[name] = train(synchronise(build(name)), case, slice(start, start + case.rows[rank]))
    lone = synchronise(nn.BatchNorm1d(2))
    with refusal() as said:
        lone(torch.zeros(1 - rank, 2))
    evaluated = lone.eval()(torch.full((rank, 2), 3.0))  # each by itself: no message, whatever the rows
    torch.save((results, said, evaluated), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, dict[str, Tensor]], list[str], Tensor]]:
    folder = tmp_path_factory.mktemp("synced")
    run_together(work, WORLD, folder)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_learn_what_one_does(name: str, ranks: list[tuple[dict[str, dict[str, Tensor]], ...]]) -> None:
    case = CASES[name]
    wanted = train(build(name), case, slice(None))
    found = [rank[0][name] for rank in ranks]
    assert found[0].keys() == found[1].keys() == wanted.keys()
    for key, value in wanted.items():
        kind = key.partition(":")[0]
        if kind == "rows":
            merged = torch.cat([found[0][key], found[1][key]])
        elif kind == "sum":
            merged = found[0][key] + found[1][key]
        else:
            merged = found[0][key]
            assert torch.equal(merged, found[1][key]), f"{key} differs between the processes"
        atol = case.rtol * float(value.abs().max())
        assert merged.dtype == value.dtype
        torch.testing.assert_close(merged, value, rtol=case.rtol, atol=atol, msg=lambda text, key=key: f"{key}: {text}")


def test_too_few_rows_are_refused_on_all_processes(ranks: list[tuple[object, list[str], Tensor]]) -> None:
    for _, said, _ in ranks:
        assert said == [
            "BatchNorm needs at least 2 values per channel in training, but all processes together hold 1; "
            "raise batch_size."
        ]


def test_eval_is_plain_and_needs_no_other_process(ranks: list[tuple[object, list[str], Tensor]]) -> None:
    torch.testing.assert_close(
        [rank[2] for rank in ranks], [torch.zeros(0, 2), torch.full((1, 2), 3.0)], rtol=1e-5, atol=0
    )


def test_in_one_process_it_is_plain_batchnorm_bit_for_bit() -> None:
    for name, case in CASES.items():
        wanted, found = (train(module, case, slice(None)) for module in (build(name), synchronise(build(name))))
        for key, value in wanted.items():
            assert torch.equal(found[key], value), (name, key)


def test_the_state_stays_the_same_objects_under_the_same_names() -> None:
    module = whole_encoder()
    next(module.children()).eval()
    tensors = module.state_dict(keep_vars=True)
    modes = {name: layer.training for name, layer in module.named_modules()}
    assert synchronise(module) is module
    after = module.state_dict(keep_vars=True)
    assert list(after) == list(tensors)
    assert all(after[name] is tensors[name] for name in tensors)
    assert {name: layer.training for name, layer in module.named_modules()} == modes
    kinds = [type(layer) for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert set(kinds) == {SyncedBatchNorm}
    assert len(kinds) == 10
    whole_encoder().load_state_dict(module.state_dict())
    layers = list(module.modules())
    synchronise(module)  # twice changes nothing more
    assert all(a is b for a, b in zip(layers, module.modules(), strict=True))


def test_a_batchnorm_itself_and_a_shared_one() -> None:
    layer = nn.BatchNorm2d(3, eps=0.1, momentum=None)
    new = synchronise(layer)
    assert isinstance(new, SyncedBatchNorm)
    assert (new.eps, new.momentum, new.weight) == (0.1, None, layer.weight)
    both = synchronise(shared_layer())
    assert isinstance(both, nn.Sequential)
    assert both[1] is both[3]
    copy.deepcopy(both)
    already = nn.Sequential(nn.SyncBatchNorm(3))
    assert synchronise(already)[0] is already[0]  # type: ignore[index]


class RectifiedBatchNorm(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: more than a BatchNorm."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


def test_a_batchnorm_with_a_forward_of_its_own_is_refused_and_nothing_is_replaced() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(RectifiedBatchNorm(3)))
    with pytest.raises(LikewiseError, match=r"layer '1\.0' is a RectifiedBatchNorm"):
        synchronise(module)
    assert type(module[0]) is nn.BatchNorm2d


def test_torchs_own_refuses_the_cpu(tmp_path: Path) -> None:
    """Why there is one of ours. (Should this fail, torch has learned it: SyncedBatchNorm's forward can go.)"""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match="GPU"):
            nn.SyncBatchNorm(2)(torch.zeros(3, 2))
        torch.testing.assert_close(synchronise(nn.BatchNorm1d(2))(torch.zeros(3, 2)), torch.zeros(3, 2))
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("item", "affine", "wants_rows"), [((), True, True), ((4, 3), True, False), ((7,), False, True)]
)
def test_alone_the_statistics_and_gradients_are_those_of_plain_batchnorm(
    item: tuple[int, ...], affine: bool, wants_rows: bool
) -> None:
    plain = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d}[len(item)](5, affine=affine).double()
    disturbed(plain)
    synced = copy.deepcopy(synchronise(copy.deepcopy(plain)))
    assert isinstance(synced, SyncedBatchNorm)
    x = (3 + 2 * torch.randn(6, 5, *item, dtype=torch.float64)).requires_grad_(wants_rows)
    direction = torch.randn(x.shape, dtype=torch.float64)
    mean, var, total = synced_batchnorm._statistics(x)
    synced._follow(mean, var, total)
    found = synced_batchnorm._Normalise.apply(x, synced.weight, synced.bias, mean, var, total, synced.eps)
    expected = plain(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(dict(synced.named_buffers()), dict(plain.named_buffers()))
    sought = [[x] * wants_rows + list(layer.parameters()) for layer in (synced, plain)]
    mine, theirs = (
        torch.autograd.grad((rows * direction).sum(), of) for rows, of in zip((found, expected), sought, strict=True)
    )
    torch.testing.assert_close(mine, theirs)


def test_rows_without_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 2 dimensions, got 1"):
        SyncedBatchNorm(5)._check_input_dim(torch.zeros(5))
