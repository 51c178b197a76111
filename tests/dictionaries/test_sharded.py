"""Sharded bank, weights and softmax: any number of processes does what one does, and saves what any number can load.

One group of 4 and one of 2 processes run everything and write down what they got; the tests compare that with the
unsharded objectives in this process.
"""

import json
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from forks import run_together
from torch import Tensor
from torch import distributed as dist
from torch.autograd import forward_ad
from torch.nn import functional

from likewise.dictionaries import MemoryBank
from likewise.dictionaries import sharded as sharding
from likewise.dictionaries.sharded import ShardedMemoryBank, sharded_weight
from likewise.distributed import shard_files as shards
from likewise.distributed.processes import add_up, gather_rows, shares, starts
from likewise.distributed.shard_files import load_sharded, save_sharded
from likewise.errors import LikewiseError
from likewise.metrics import Metric, retrieval
from likewise.objectives import NonParametricSoftmax, ParametricSoftmax
from likewise.objectives.sharded import ShardedSoftmax

WORLDS = (2, 4)
SAVED_ROWS, DRAWN_ROWS, STEPS = 103, 83, 4
TOLERANCES = {torch.float64: (1e-9, 1e-12), torch.float32: (1e-5, 1e-6)}


@dataclass(frozen=True)
class Case:
    """A batch of ``sizes`` (None: shared out evenly) queries against n keys; the last ``uncounted`` ids are below 0."""

    n: int
    batch: int = 13
    sizes: tuple[tuple[int, ...], tuple[int, ...]] | None = None  # in 2 and in 4 processes
    learn: bool = False
    proximal: float = 0.0
    temperature: float = 0.07
    uncounted: int = 0
    dim: int = 6

    def shares(self, world: int) -> list[int]:
        return shares(self.batch, world) if self.sizes is None else list(self.sizes[WORLDS.index(world)])

    def draw(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, D), ids (B,), keys (n, D)."""
        generator = torch.Generator().manual_seed(self.n + self.batch)
        queries = functional.normalize(torch.randn(self.batch, self.dim, generator=generator, dtype=dtype), dim=1)
        keys = functional.normalize(torch.randn(self.n, self.dim, generator=generator, dtype=dtype), dim=1)
        ids = torch.randint(self.n, (self.batch,), generator=generator)
        ids[self.batch - self.uncounted :] = -1
        return queries, ids, keys


CASES = {
    "uneven": Case(101),
    "uneven, keys learn": Case(101, learn=True),
    "several tiles": Case(9001, batch=300),
    "several tiles, keys learn": Case(18001, batch=1000, learn=True),  # beyond what the kernel keeps
    "proximal": Case(64, proximal=3.0),
    "a process without queries": Case(50, batch=5, sizes=((5, 0), (3, 0, 2, 0))),
    "a process without queries, keys learn": Case(50, batch=5, sizes=((0, 5), (0, 4, 0, 1)), learn=True),
    "a process without keys": Case(3, batch=5),
    "a process without keys, keys learn": Case(1, batch=5, learn=True),
    "some do not count": Case(31, uncounted=4, proximal=1.0),
    "one process' queries do not count": Case(31, batch=9, sizes=((4, 5), (2, 1, 1, 5)), uncounted=5, learn=True),
    "none counts": Case(31, batch=4, uncounted=4, proximal=1.0),
    "sharp": Case(40, temperature=0.001),  # exp of a logit alone would overflow
}


def run_case(case: Case, dtype: torch.dtype) -> dict[str, Tensor | None]:
    world, rank = dist.get_world_size(), dist.get_rank()
    queries, ids, keys = case.draw(dtype)
    sizes = case.shares(world)
    queries = queries.split(sizes)[rank].clone().requires_grad_()
    keys = keys.split(shares(case.n, world))[rank].clone().requires_grad_(case.learn)
    objective = ShardedSoftmax(case.n, temperature=case.temperature, proximal=case.proximal, keys_learn=case.learn)
    share = objective(queries, ids.split(sizes)[rank], keys, sizes if case.n % 2 else None)
    share.backward()
    return {"share": share.detach(), "queries": queries.grad, "keys": keys.grad}


def train(dtype: torch.dtype) -> dict[str, Tensor]:
    """A linear encoder against a bank, an uneven batch each step: as the training loop calls it."""
    world, rank = dist.get_world_size(), dist.get_rank()
    bank = ShardedMemoryBank(29, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    objective = ShardedSoftmax(29, proximal=2.0)
    weight, batches = training_data(dtype)
    for x, ids in batches:
        sizes = shares(len(x), world)
        queries = functional.normalize(x.split(sizes)[rank] @ weight, dim=1)
        share = objective(queries, ids.split(sizes)[rank], bank.rows, sizes)
        (gradient,) = torch.autograd.grad(share, weight)
        add_up([gradient])
        weight = (weight - 0.1 * gradient).detach().requires_grad_()
        bank.update(gather_rows(queries.detach(), sizes), gather_rows(ids.split(sizes)[rank], sizes))
    return {"weight": weight.detach(), "rows": bank.rows}


def training_data(dtype: torch.dtype) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(7, 5, generator=generator, dtype=dtype).requires_grad_()
    batches = [
        (torch.randn(11, 7, generator=generator, dtype=dtype), torch.randperm(29, generator=generator)[:11])
        for _ in range(STEPS)
    ]
    return weight, batches


def first_rows() -> dict[str, Tensor | list[str] | None]:
    """Drawn in many parts, which do not divide the whole."""
    sharding.DRAWN_FLOATS = 16 * 7
    generator = torch.Generator().manual_seed(3)
    bank = ShardedMemoryBank(DRAWN_ROWS, 7, generator=generator)
    weight = sharded_weight(DRAWN_ROWS, 7, generator=generator)
    return {"bank": bank.rows, "weight": weight.detach(), "state": generator.get_state()}


def saved_tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {
        "rows": torch.randn(SAVED_ROWS, 5, generator=generator),
        "half": torch.randn(SAVED_ROWS, 3, 2, generator=generator).bfloat16(),
        "counts": torch.arange(SAVED_ROWS),
    }


def mine(whole: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.split(shares(len(x), dist.get_world_size()))[dist.get_rank()] for name, x in whole.items()}


def message(call: Any) -> str:
    try:
        call()
    except LikewiseError as error:
        return str(error)
    return ""


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def files(folder: Path) -> dict[str, Any]:
    """Saves, fails to save, loads; the messages of the failures."""
    world, rank = dist.get_world_size(), dist.get_rank()
    whole, said = saved_tensors(), {}
    kept = folder / f"at-{world}"
    save_sharded(kept, {name: x + 1 for name, x in mine(whole).items()}, SAVED_ROWS)
    shards.PIECE_BYTES = 300  # several files per process
    save_sharded(kept, mine(whole), SAVED_ROWS)  # in place of the other
    before = sorted(path.name for path in kept.iterdir())
    write = shards.save_file
    if rank == 1:
        shards.save_file = full_disk  # type: ignore[assignment]
    said["full disk"] = message(lambda: save_sharded(kept, mine(whole), SAVED_ROWS))
    shards.save_file = write
    said["no parent"] = message(lambda: save_sharded(folder / "absent" / "x", mine(whole), SAVED_ROWS))
    if rank == 0:
        shutil.copytree(kept, folder / f"damaged-{world}")
        (folder / f"damaged-{world}" / before[0]).unlink()  # one file: most processes do not need it
    dist.barrier()
    said["damaged"] = message(lambda: load_sharded(folder / f"damaged-{world}", ["rows"], SAVED_ROWS))
    same = before == sorted(path.name for path in kept.iterdir())
    other = folder / f"at-{WORLDS[0] + WORLDS[1] - world}"  # of the group that ran before
    loaded = load_sharded(other if other.exists() else kept, list(whole), SAVED_ROWS)
    few = {"rows": torch.arange(3.0).split(shares(3, world))[rank]}  # fewer rows than processes
    save_sharded(folder / f"few-{world}", few, 3)
    again = load_sharded(folder / f"few-{world}", ["rows"], 3)["rows"]
    return {"said": said, "untouched": same, "loaded": loaded, "few": torch.equal(again, few["rows"])}


def misuse() -> dict[str, str]:
    """What all processes must refuse, with none left waiting."""
    rank = dist.get_rank()
    rows = torch.randn(sharding.own_share(10)[1], 4)
    too_high = torch.tensor([10 if rank == 0 else 0, 1])
    return {
        "id": message(lambda: ShardedSoftmax(10)(torch.randn(2, 4), too_high, rows)),
        "empty": message(lambda: ShardedSoftmax(10)(torch.randn(0, 4), too_high[:0], rows)),
        "share": message(lambda: ShardedSoftmax(10)(torch.randn(2, 4), too_high, torch.randn(10, 4))),
    }


def metric_of_all() -> dict[str, str]:
    """What is said while this or another process has no rows; then the measure of the rows of all."""
    metric, rank, sizes = Metric(retrieval), dist.get_rank(), shares(30, dist.get_world_size())
    rows, labels = (x.split(sizes)[rank] for x in metric_data())
    if rank == 0:
        metric.update(rows, labels)
    said = message(metric.compute)
    if rank > 0:
        metric.update(rows, labels)
    return {"said": said, "found": repr(metric.compute())}


def metric_data() -> tuple[Tensor, Tensor]:
    return torch.randn(30, 6, generator=torch.Generator().manual_seed(7)), torch.arange(30) % 5


def work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    meeting = (folder / f"meeting-{world}").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    found = {
        "cases": {(name, dtype): run_case(case, dtype) for name, case in CASES.items() for dtype in TOLERANCES},
        "half": ShardedSoftmax(20)(torch.randn(3, 4).bfloat16(), torch.arange(3), torch.randn(20 // world, 4)).dtype,
        "training": {dtype: train(dtype) for dtype in TOLERANCES},
        "first rows": first_rows(),
        "misuse": misuse(),
        "files": files(folder),
        "metric": metric_of_all(),
    }
    torch.save(found, folder / f"found-{world}-{rank}")
    dist.destroy_process_group()


Found = dict[int, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharding")


@pytest.fixture(scope="module")
def found(folder: Path) -> Found:
    """What each process of each group got."""
    result = {}
    for world in reversed(WORLDS):
        run_together(work, world, folder)
        result[world] = [torch.load(folder / f"found-{world}-{rank}", weights_only=False) for rank in range(world)]
    return result


def alone(case: Case, dtype: torch.dtype) -> dict[str, Tensor | None]:
    """The unsharded objective."""
    queries, ids, keys = case.draw(dtype)
    queries.requires_grad_()
    if case.learn:
        objective = ParametricSoftmax(case.n, case.dim, scale=1 / case.temperature)
        keys.requires_grad_()
        loss = objective(queries, ids, keys)
    else:
        loss = NonParametricSoftmax(temperature=case.temperature, proximal=case.proximal)(queries, ids, keys)
    loss.backward()
    return {"share": loss.detach(), "queries": queries.grad, "keys": keys.grad}


@pytest.mark.filterwarnings("ignore::likewise.errors.LikewiseWarning")  # "none counts" has too few that count
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("world", WORLDS)
def test_loss_and_gradients_are_those_of_one_process(found: Found, world: int, name: str, dtype: torch.dtype) -> None:
    case, (rtol, atol) = CASES[name], TOLERANCES[dtype]
    parts = [process["cases"][name, dtype] for process in found[world]]
    expected = alone(case, dtype)
    torch.testing.assert_close(sum(part["share"] for part in parts), expected["share"], rtol=rtol, atol=atol)
    torch.testing.assert_close(
        torch.cat([part["queries"] for part in parts]), expected["queries"], rtol=rtol, atol=atol
    )
    if case.learn:
        gradients = [part["keys"] for part in parts if part["keys"] is not None]  # None where there are no keys
        torch.testing.assert_close(torch.cat(gradients), expected["keys"], rtol=rtol, atol=atol)
    else:
        assert all(part["keys"] is None for part in parts)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_a_share_is_the_loss_of_its_own_queries(found: Found, dtype: torch.dtype) -> None:
    case, (rtol, atol) = CASES["uneven"], TOLERANCES[dtype]
    queries, ids, keys = case.draw(dtype)
    losses = NonParametricSoftmax(reduction="none")(queries, ids, keys)
    sizes = case.shares(4)
    for process, start, length in zip(found[4], starts(sizes), sizes, strict=True):
        expected = losses[start : start + length].sum() / case.batch
        torch.testing.assert_close(process["cases"]["uneven", dtype]["share"], expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("world", WORLDS)
def test_half_precision_queries_give_a_float32_loss(found: Found, world: int) -> None:
    assert all(process["half"] == torch.float32 for process in found[world])


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("world", WORLDS)
def test_training_moves_encoder_and_bank_as_one_process_does(found: Found, world: int, dtype: torch.dtype) -> None:
    bank = MemoryBank(29, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    objective = NonParametricSoftmax(proximal=2.0)
    weight, batches = training_data(dtype)
    for x, ids in batches:
        queries = functional.normalize(x @ weight, dim=1)
        (gradient,) = torch.autograd.grad(objective(queries, ids, bank.rows), weight)
        weight = (weight - 0.1 * gradient).detach().requires_grad_()
        bank.update(queries, ids)
    rtol, atol = TOLERANCES[dtype]
    rows = torch.cat([process["training"][dtype]["rows"] for process in found[world]])
    torch.testing.assert_close(rows, bank.rows, rtol=rtol, atol=atol)
    for process in found[world]:
        torch.testing.assert_close(process["training"][dtype]["weight"], weight.detach(), rtol=rtol, atol=atol)


@pytest.mark.parametrize("world", WORLDS)
def test_first_rows_are_those_of_one_process_bit_for_bit(found: Found, world: int) -> None:
    generator = torch.Generator().manual_seed(3)
    bank, weight = MemoryBank(DRAWN_ROWS, 7, generator=generator), ParametricSoftmax(DRAWN_ROWS, 7, generator=generator)
    parts = [process["first rows"] for process in found[world]]
    assert torch.equal(torch.cat([part["bank"] for part in parts]), bank.rows)
    assert torch.equal(torch.cat([part["weight"] for part in parts]), weight.weight.detach())
    assert all(torch.equal(part["state"], generator.get_state()) for part in parts)


@pytest.mark.parametrize("world", WORLDS)
def test_a_metric_is_of_the_rows_of_all_processes(found: Found, world: int) -> None:
    for process in found[world]:
        assert process["metric"]["said"].startswith("there are no rows to measure")
        assert process["metric"]["found"] == repr(retrieval(*metric_data()))


@pytest.mark.parametrize(("n", "dim"), [(1, 1), (3, 4), (100, 17), (257, 5), (1001, 1), (640, 128)])
def test_rows_drawn_in_parts_are_the_rows_drawn_at_once(monkeypatch: pytest.MonkeyPatch, n: int, dim: int) -> None:
    whole = MemoryBank(n, dim, generator=torch.Generator().manual_seed(5)).rows
    for floats in (1, 16 * dim, 48 * dim, 1 << 22):
        monkeypatch.setattr(sharding, "DRAWN_FLOATS", floats)
        assert torch.equal(ShardedMemoryBank(n, dim, generator=torch.Generator().manual_seed(5)).rows, whole)


def test_in_one_process_the_bank_is_a_memory_bank_bit_for_bit() -> None:
    ours = ShardedMemoryBank(40, 9, momentum=0.3, generator=torch.Generator().manual_seed(6))
    bank = MemoryBank(40, 9, momentum=0.3, generator=torch.Generator().manual_seed(6))
    for _ in range(5):
        ids, queries = torch.randperm(40)[:12], torch.randn(12, 9, requires_grad=True)
        ours.update(queries, ids)
        bank.update(queries, ids)
        assert torch.equal(ours.rows, bank.rows)
    other = ShardedMemoryBank(40, 9)
    other.load_state_dict(ours.state_dict())
    assert torch.equal(other.rows, bank.rows)


def test_second_derivatives_and_tangents_of_a_sharded_softmax_are_refused() -> None:
    queries = functional.normalize(torch.randn(3, 4), dim=1).requires_grad_()
    loss = ShardedSoftmax(5)(queries, torch.arange(3), torch.randn(5, 4))
    with (
        pytest.raises(LikewiseError, match="ShardedSoftmax has no forward mode"),
        forward_ad.dual_level(),
    ):
        ShardedSoftmax(5)(forward_ad.make_dual(queries, queries), torch.arange(3), torch.randn(5, 4))
    with pytest.raises(LikewiseError, match="ShardedSoftmax has first-order gradients only"):
        torch.autograd.grad(loss, queries, create_graph=True)


@pytest.mark.parametrize("learn", [False, True])
def test_in_one_process_the_loss_is_the_formula(learn: bool) -> None:
    queries, ids, keys = Case(23).draw(torch.float64)
    queries.requires_grad_()
    keys.requires_grad_(learn)
    objective = ShardedSoftmax(23, temperature=0.2, proximal=0.0 if learn else 0.7, keys_learn=learn)
    terms = []
    for v, own in zip(queries.detach(), keys.detach()[ids], strict=True):
        log_partition = math.log(sum(math.exp(float(v @ key) / 0.2) for key in keys.detach()))
        terms.append(log_partition - float(v @ own) / 0.2 + objective.proximal * float((v - own).norm()) ** 2)
    assert float(objective(queries, ids, keys).detach()) == pytest.approx(sum(terms) / len(terms), rel=1e-12)
    if learn:
        assert torch.autograd.gradcheck(lambda q, k: objective(q, ids, k), (queries, keys))
    else:
        assert torch.autograd.gradcheck(lambda q: objective(q, ids, keys), (queries,))
    assert objective.chance(23) == pytest.approx(math.log(23))


@pytest.mark.parametrize("world", WORLDS)
def test_what_one_process_saved_any_number_loads(found: Found, folder: Path, world: int) -> None:
    """The 4 loaded what 4 saved, the 2 what 4 saved; this process loads what each group saved."""
    whole = saved_tensors()
    here = load_sharded(folder / f"at-{world}", list(whole), SAVED_ROWS)
    names = {path.name for path in (folder / f"at-{world}").glob("rows-*.safetensors")}
    pieces = json.loads((folder / f"at-{world}" / "shards.json").read_text())["pieces"]
    assert names == {f"rows-{a}-{b}.safetensors" for a, b in pieces}  # nothing of the folder it replaced
    assert len(names) > world
    for name, expected in whole.items():
        joined = torch.cat([process["files"]["loaded"][name] for process in found[world]])
        assert torch.equal(joined, expected)
        assert torch.equal(here[name], expected)
    assert all(process["files"]["few"] for process in found[world])


@pytest.mark.parametrize("world", WORLDS)
def test_a_save_that_fails_in_one_process_fails_in_all_and_leaves_the_last_one(
    found: Found, folder: Path, world: int
) -> None:
    for rank, process in enumerate(found[world]):
        said = process["files"]["said"]
        assert ("No space left on device" if rank == 1 else "another process") in said["full disk"]
        assert ("No such file" if rank == 0 else "another process") in said["no parent"]
        assert process["files"]["untouched"]
    assert not [path for path in folder.iterdir() if ".tmp-" in path.name]


@pytest.mark.parametrize("world", WORLDS)
def test_damage_that_one_process_finds_stops_all(found: Found, world: int) -> None:
    said = [process["files"]["said"]["damaged"] for process in found[world]]
    assert all(said)
    assert sum("is missing" in one for one in said) == 1


@pytest.mark.parametrize("world", WORLDS)
def test_misuse_is_refused_by_all_processes(found: Found, world: int) -> None:
    for process in found[world]:
        assert "ids[0] is 10, but there are 10 keys in all" in process["misuse"]["id"]
        assert "no process has a query" in process["misuse"]["empty"]
        assert "this process' share of 10 rows" in process["misuse"]["share"]


def test_saved_files_are_safetensors_and_json_alone(tmp_path: Path) -> None:
    save_sharded(tmp_path / "saved", saved_tensors(), SAVED_ROWS)
    assert {path.suffix for path in (tmp_path / "saved").iterdir()} == {".safetensors", ".json"}
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def damage(folder: Path, what: str) -> None:
    contents = folder / "shards.json"
    parsed = json.loads(contents.read_text())
    if what == "no contents":
        contents.unlink()
    elif what == "not json":
        contents.write_bytes(b"\x80\x04garbage")
    elif what == "a list":
        contents.write_text("[]")
    elif what == "version":
        contents.write_text(json.dumps(parsed | {"format": 99}))
    elif what == "rows lost":
        contents.write_text(json.dumps(parsed | {"pieces": []}))
    elif what == "dtype":
        contents.write_text(json.dumps(parsed | {"rows": {"rows": {"dtype": "complex999", "shape": [5]}}}))
    elif what == "shape":
        contents.write_text(json.dumps(parsed | {"rows": {"rows": {"dtype": "float32", "shape": [6]}}}))
    else:
        piece = next(folder.glob("rows-*"))
        piece.write_bytes(piece.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no contents", "is missing"),
        ("not json", "damaged"),
        ("a list", "damaged"),
        ("version", "another version"),
        ("rows lost", "not all there"),
        ("dtype", "damaged"),
        ("shape", "damaged"),
        ("cut short", "damaged"),
    ],
)
def test_unusable_files_are_one_sentence(tmp_path: Path, what: str, said: str) -> None:
    save_sharded(tmp_path / "saved", saved_tensors(), SAVED_ROWS)
    damage(tmp_path / "saved", what)
    with pytest.raises(LikewiseError, match=said):
        load_sharded(tmp_path / "saved", ["rows"], SAVED_ROWS)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ShardedMemoryBank(3, 2, momentum=1.0), "momentum=1.0"),
        (
            lambda: ShardedMemoryBank(3, 2).update(torch.ones(1, 2), torch.tensor([3])),
            r"ids\[0\] is 3, but there are 3 rows",
        ),
        (lambda: ShardedSoftmax(0), "n=0"),
        (lambda: ShardedSoftmax(3, temperature=0), "temperature"),
        (lambda: ShardedSoftmax(3, proximal=1.0, keys_learn=True), "proximal"),
        (lambda: ShardedSoftmax(3)(torch.ones(2, 2), torch.zeros(3).long(), torch.ones(3, 2)), "must be"),
        (lambda: ShardedSoftmax(3)(torch.ones(2, 2), torch.zeros(2).long(), torch.ones(4, 2)), "share of 3 rows"),
        (lambda: save_sharded(Path("x"), {"rows": torch.ones(4, 2)}, 3), "share of 3 rows is 3"),
        (lambda: save_sharded(Path("x"), {"rows": torch.ones(3, dtype=torch.complex64)}, 3), "complex64"),
    ],
)
def test_misuse_is_one_sentence(make: Any, said: str) -> None:
    with pytest.raises(LikewiseError, match=said):
        make()


@pytest.mark.parametrize(("names", "n", "said"), [(["bank"], SAVED_ROWS, "no 'bank'"), (["rows"], 104, "not 104")])
def test_loading_what_is_not_there_is_one_sentence(tmp_path: Path, names: list[str], n: int, said: str) -> None:
    save_sharded(tmp_path / "saved", saved_tensors(), SAVED_ROWS)
    with pytest.raises(LikewiseError, match=said):
        load_sharded(tmp_path / "saved", names, n)


def test_the_example_of_the_documentation_runs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}
    exec(example[1], names)
    assert float(names["share"].detach()) == pytest.approx(math.log(1000), rel=0.2)  # nothing is learnt in three steps
