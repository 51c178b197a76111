"""Processes, stops and micro-batches never change what is learned: every method, dictionary and objective that goes.

Two ranks, started once, train all jobs and write down what they learned; the one-process side trains here.
"""

import json
import pickle
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from forks import run_together
from torch import Tensor, nn
from torch import distributed as dist

from likewise.config.checks import check, refusals
from likewise.config.objective_table import OBJECTIVES
from likewise.config.overrides import settings_from
from likewise.config.policy_table import POLICIES
from likewise.config.settings import FitSettings
from likewise.data import Graded, Items, Pairs, open_items
from likewise.dictionaries import Queue
from likewise.distributed import processes
from likewise.encoders.embedder import embed_parts
from likewise.encoders.gradient_cache import GradientCache
from likewise.encoders.momentum import Momentum
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.methods import METHODS, OF_ITEMS
from likewise.methods.classes import CLASSES
from likewise.methods.pairs import PAIRS
from likewise.objectives import LiftedStructure
from likewise.proof.jobs import Job, Learned, train_job
from likewise.proof.prove import KINDS, Comparison, compare
from likewise.training import batches, build, step
from likewise.training.checkpoint import save_run
from likewise.training.decide import decide
from likewise.training.session import Session

pytestmark = pytest.mark.filterwarnings("ignore::likewise.errors.LikewiseWarning")  # few rows count in small batches

STEPS, HALF = 3, 1  # with two to an epoch
SMALL: dict[str, Any] = {
    "encoder.name": "mlp",
    "encoder.hidden": 8,
    "encoder.dim": 6,
    "encoder.bn_groups": 1,
    "size": 16,
    "batch_size": 16,
    "epochs": 2,  # batches of 16, 15, 16, 15
    "queue.size": 33,  # two batches and a bit: it wraps around
    "optim.lr": 0.05,
    "optim.warmup": 0.0,
}
DICTIONARIES: dict[str, dict[str, Any]] = {
    "bank": {"dictionary": "bank"},
    "bank with samples": {"dictionary": "bank", "bank.samples": 16},
    "bank sharded": {"dictionary": "bank", "bank.sharded": True},
    "queue": {"dictionary": "queue"},
    "queue own batch": {"dictionary": "queue", "queue.own_batch": True},
    "queue empty start": {"dictionary": "queue", "queue.start": "empty", "queue.own_batch": True},
    "queue symmetric": {"dictionary": "queue", "symmetric": True},
    "batch both": {"dictionary": "batch", "batch.keys": "both"},
    "batch second": {"dictionary": "batch", "batch.keys": "second"},
    "proxies": {"dictionary": "proxies"},
    "proxies sharded": {"dictionary": "proxies", "bank.sharded": True},
    "labels": {"alike": "label", "dictionary": "batch", "batch.keys": "same", "sampler.kind": "classes"},
    "labels, both views": {"alike": "label", "dictionary": "batch", "sampler.kind": "balanced"},
    "labels, queue": {"alike": "label", "dictionary": "queue"},
    "labels, proxies": {"alike": "label", "dictionary": "proxies"},
}
NOISE = {"nce": "objective.noise", "sampled-softmax": "objective.samples", "sampled-classes": "objective.samples"}


def items(kind: Literal["vectors", "images"], n: int = 31) -> Items:
    """Batches of 16 and 15: two processes have 8 and 8 of them, and 8 and 7."""
    random = np.random.default_rng(0)
    names, labels = tuple("abcdefg"), np.arange(n) % 7
    if kind == "vectors":
        values = random.normal(size=(n, 6)).astype(np.float32)
    else:
        values = random.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    ids = tuple(map(str, range(n)))
    return Items(ids=ids, values=values, kind=kind, labels=labels, label_names=names)


VECTORS, IMAGES = items("vectors"), items("images")
# few images: a process may have none of those in a batch
PARTS = open_items({"image": IMAGES.values[:9], "audio": VECTORS.values}, size=16, progress=False)


def small(values: dict[str, Any], base: FitSettings | None = None) -> FitSettings:
    """``values`` over SMALL, and few numbers drawn; decided."""
    settings = settings_from({**SMALL, **values}, base)
    kind = decide(settings, len(VECTORS)).objective.kind
    few = {NOISE[kind]: 24} if kind in NOISE else {}  # there are 31 items and 7 classes
    return decide(settings_from({"objective.kind": kind, **few}, settings), len(VECTORS))


def job(values: dict[str, Any], base: FitSettings | None = None, data: Items = VECTORS, **more: Any) -> Job:
    settings = check(small(values, base))
    total = settings.epochs * batches.choose_sampler(settings, data).steps_per_epoch
    return Job(settings=settings, items=data, stop=STEPS, total=total, **more)


def allowed(values: dict[str, Any]) -> bool:
    return not list(refusals(small(values)))


def combinations() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, dictionary in DICTIONARIES.items():
        for kind in (row.name for row in OBJECTIVES):
            values = {**dictionary, "objective.kind": kind}
            if small(values).dictionary == dictionary["dictionary"] and allowed(values):
                yield f"{name}, {kind}", values


COMBINATIONS = dict(combinations())


def few() -> set[str]:
    """Each dictionary with its first objective, and each objective with one dictionary: of labels, where it can."""
    of_dictionary, of_objective = dict[str, str](), dict[str, str]()
    for name in sorted(COMBINATIONS, key=lambda name: not name.startswith("labels, both views")):
        of_objective.setdefault(COMBINATIONS[name]["objective.kind"], name)
    for name in COMBINATIONS:
        of_dictionary.setdefault(name.rpartition(", ")[0], name)
    return {*of_dictionary.values(), *of_objective.values()}


class Plain(nn.Module):
    """No BatchNorm; with dropout where asked."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Dropout(dropout), nn.Linear(12, 7))

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.layers(x)
        return rows


def plain(dropout: float = 0.0) -> Plain:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Plain(dropout)


def jobs() -> dict[str, Job]:
    """What is trained by one process and by two."""
    found = {name: job(values) for name, values in COMBINATIONS.items()}
    for name, method in ((name, METHODS[name]) for name in OF_ITEMS):
        if method.settings.related:
            continue  # below
        small = {"bank.samples": 16} if name == "bank" else {}
        resnet = {**small, "encoder.name": "resnet-small"}
        groups = min(2, method.settings.encoder.bn_groups)  # two where the method has several
        if method.settings.sampler.kind == "classes":
            small = {"sampler.per_class": 4}  # four classes are a batch of 16
            resnet |= small
        found[f"{name}, images, {groups}"] = job({**resnet, "encoder.bn_groups": groups}, method.settings, IMAGES)
        found[f"{name}, vectors, 4"] = job({**small, "encoder.bn_groups": 4}, method.settings)
    for policy in [row.name for row in POLICIES if row.name != "all"]:
        mined = {"objective.kind": "triplet", "negatives.policies": [policy], "objective.margin": 1.0}
        found[f"mined, {policy}"] = job({**DICTIONARIES["labels"], **mined})
        found[f"mined, {policy}, queue"] = job({**DICTIONARIES["labels, queue"], **mined, "encoder.bn_groups": 2})
    found["a curriculum"] = job(
        {
            **DICTIONARIES["labels"],
            "objective.kind": "triplet",
            "negatives": {"policies": ["easy", "random", "hard"], "at": [1, 2], "positives": "hard"},
        }
    )
    tiny = {"batch_size": 5, "objective.kind": "infonce", "optim.name": "lars"}  # shares of 3 and 2
    for name in ("bank with samples", "queue symmetric", "batch both"):
        found[f"batches of 5, {name}"] = job({**tiny, **DICTIONARIES[name]})
        found[f"plain backbone, {name}"] = job(
            {**tiny, "encoder.centre": False, **DICTIONARIES[name]}, backbone=plain()
        )
        found[f"micro-batches, {name}"] = job(
            {"objective.kind": "infonce", "encoder.bn_groups": 2, "micro_batches": 2, **DICTIONARIES[name]}
        )
    micro = {"objective.kind": "infonce", "encoder.centre": False, "micro_batches": 4, **DICTIONARIES["batch both"]}
    found["micro-batches, plain backbone"] = job(micro, backbone=plain())
    queue = {"objective.kind": "infonce", "dictionary": "queue", "encoder.bn_groups": 2}
    found["queue smaller than a batch"] = job({**queue, "queue.size": 7})
    found["cosine momentum, averaged buffers"] = job(
        {**queue, "key_encoder": {"schedule": "cosine", "buffers": "averaged", "momentum": 0.5}}
    )
    found["no shuffle"] = job({**queue, "key_encoder.shuffle": False})
    found["per-example noise"] = job({"objective.kind": "nce", "objective.draw": "per-example"})
    random = np.random.default_rng(0)
    rows = torch.from_numpy(np.unique(np.sort(random.permuted(np.tile(np.arange(31), (23, 1)), axis=1)[:, :2]), axis=0))
    alike = Pairs(rows=rows, alike=torch.ones(len(rows), dtype=torch.bool))
    for kind in ("infonce", "histogram"):
        pairs = {"alike": "pairs", "relations": "made up", "objective.kind": kind}
        found[f"pairs that are alike, {kind}"] = job(
            {**pairs, "dictionary": "batch", "batch.keys": "same"}, relations=alike
        )
    graph = replace(alike, weight=torch.linspace(0.1, 1, len(rows), dtype=torch.float64))
    of_graph = {"relations": "made up", "encoder.name": "mlp", "sampler.per_pair": 1}
    for name in ("cdml", "gcml"):
        found[name] = job(of_graph, METHODS[name].settings, relations=graph)
    classes = {"relations": "made up", "encoder.name": "mlp", "objective.samples": 5}
    found["gcml-classes"] = job(classes, METHODS["gcml-classes"].settings)  # with labels in the place of clusters
    pairs |= {"objective.kind": "margin", "objective.learn": True, "dictionary": "batch", "batch.keys": "same"}
    both = Pairs(rows=rows, alike=torch.arange(len(rows)) % 2 == 0)
    found["pairs, a learned margin"] = job(pairs, relations=both)
    lists = [
        (query, item, (query + item) % 4) for query in range(0, 31, 3) for item in (query - 1, query - 5, query - 9)
    ]
    told = torch.tensor(lists) % 31
    graded = Graded(rows=told[:, :2], relevance=told[:, 2].double())
    for kind in (row.name for row in OBJECTIVES if row.level == "list"):
        ranking = {"relations": "made up", "objective.kind": kind, "encoder.name": "mlp"}
        found[f"ranking, {kind}"] = job(ranking, METHODS["ranking"].settings, relations=graded)
    apart = {"relations": "made up", "encoder.apart": True, "encoder.name": "mlp"}
    found["ranking, two encoders"] = job(apart, METHODS["ranking"].settings, relations=graded)
    for fusion, groups in (("early", 1), ("late", 2)):
        towers = {"encoder.name": "towers", "encoder.fusion": fusion, "encoder.bn_groups": groups}
        found[f"towers, {fusion}, {groups}"] = job({**towers, **DICTIONARIES["batch both"]}, data=PARTS)
    frozen = {"encoder.name": "resnet-small", "encoder.frozen": True, "encoder.bn_groups": 2}
    found["a frozen backbone"] = job({**frozen, **DICTIONARIES["queue"]}, data=IMAGES)
    found["first log Z"] = job({"objective.kind": "nce", "objective.log_z": "first", "objective.proximal": 1.0})
    return found


JOBS = jobs()
ALIKE_BUT_FOR_THE_LOSS = (*PAIRS[1:], *CLASSES[1:])
WHOLE = COMBINATIONS.keys() - few() | {f"{method.name}, images, 1" for method in ALIKE_BUT_FOR_THE_LOSS}


def marked(name: str, *more: Any) -> Any:
    """A parameter of a test: the whole product is for ``make test-all``."""
    return pytest.param(name, *more, marks=pytest.mark.whole if name in WHOLE else ())


NAMES = [marked(name) for name in JOBS]


def sabotaged(name: str) -> str:
    return "queue, infonce" if name in ("stale keys", "own order") else "batch second, infonce"


def train_all(rank: int, count: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=count)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        learned = {name: outcome(JOBS[name]) for name in json.loads((folder / "names").read_text())}
    said = sorted({str(each.message) for each in warned if not issubclass(each.category, LikewiseWarning)})
    (folder / f"warnings {rank}").write_text("\n".join(said))
    for name, sabotage in SABOTAGES.items():
        with pytest.MonkeyPatch.context() as patch:
            sabotage(patch)
            learned[f"sabotaged: {name}"] = outcome(JOBS[sabotaged(name)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "build_objective", lambda *known: LiftedStructure(generalised=True))
        learned["lifted, of rows"] = outcome(JOBS["batch both, lifted-structure"])
    learned["odd groups"] = outcome(job({"dictionary": "batch", "encoder.bn_groups": 3}))
    learned["resumed by two"] = outcome(replace(JOBS["queue, infonce"], resumes=folder / "by one"))
    learned["resumed by two, sharded"] = outcome(
        replace(JOBS["proxies sharded, parametric-softmax"], resumes=folder / "shards")
    )
    with pytest.MonkeyPatch.context() as patch:
        saves_after(patch, HALF, folder / "by two")
        outcome(JOBS["queue, infonce"])
    (folder / f"{rank}").write_bytes(pickle.dumps(learned))
    processes.wait()
    dist.destroy_process_group()


OF_THREE = (
    "queue symmetric, infonce",
    "batch both, infonce",
    "bank, nce",
    "batch both, histogram",
    "bank sharded, nonparametric-softmax",
    "proxies sharded, parametric-softmax",
    "micro-batches, plain backbone",
)


class Unused(Plain):
    """A backbone with a weight that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(3, 3)


def train_few(rank: int, count: int, folder: Path) -> None:
    """What shows only where sums have more than two terms, in any order; and backbones of one's own."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet three'}", rank=rank, world_size=count)
    warnings.simplefilter("ignore")
    learned = {name: outcome(three(JOBS[name])) for name in OF_THREE}
    for name in ("queue symmetric, infonce", "proxies sharded, parametric-softmax"):
        single = replace(three(JOBS[name]), double=False)
        with pytest.MonkeyPatch.context() as patch:
            saves_after(patch, HALF, folder / f"three, {name}")
            learned[f"whole, {name}"] = outcome(single)
        learned[f"resumed, {name}"] = outcome(replace(single, resumes=folder / f"three, {name}"))
    torch.manual_seed(rank)  # as many first weights as processes
    own = {"objective.kind": "infonce", "encoder.centre": False}
    for name in ("queue symmetric", "batch both"):
        learned[f"own backbone, {name}"] = outcome(job({**own, **DICTIONARIES[name]}, backbone=Unused()))
    (folder / f"three {rank}").write_bytes(pickle.dumps(learned))
    processes.wait()
    dist.destroy_process_group()


def three(each: Job) -> Job:
    """The job with as many parts as three processes can share."""
    parts = 3 if each.settings.micro_batches > 1 else 1
    return replace(each, settings=replace(each.settings, micro_batches=parts))


def outcome(each: Job) -> Learned | str:
    """What is learned, or what went wrong, so that the jobs that follow are tried as well."""
    try:
        return train_job(each)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def other_views(patch: pytest.MonkeyPatch) -> None:
    """A process that draws its own views, where it should draw everyone's and keep its own."""
    seed = batches.stable_seed
    patch.setattr(batches, "stable_seed", lambda *known: seed(*known) + processes.rank())


def mean_gradients(patch: pytest.MonkeyPatch) -> None:
    """The loss divided by the processes, as DistributedDataParallel would have it."""
    look_up = step.look_up
    patch.setattr(step, "look_up", lambda *known: look_up(*known) / processes.size())


def constant_keys(patch: pytest.MonkeyPatch) -> None:
    """The other processes' keys without gradient, as all_gather leaves them."""
    gather_rows = processes.gather_rows

    def gather(x: Tensor, sizes: list[int]) -> Tensor:
        rows = list(torch.split(gather_rows(x.detach(), sizes), sizes))
        rows[processes.rank()] = x
        return torch.cat(rows)

    patch.setattr(processes, "gather_rows", gather)


def stale_keys(patch: pytest.MonkeyPatch) -> None:
    """The key encoder of one process is never moved."""
    if processes.rank() == 1:
        patch.setattr(Momentum, "update", lambda *known: None)


def own_order(patch: pytest.MonkeyPatch) -> None:
    """The keys are enqueued with this process' first."""
    update = Queue.update
    patch.setattr(
        Queue, "update", lambda queue, *new, look: update(queue, *(x.roll(processes.rank(), 0) for x in new), look=look)
    )


def plain_batch_norm(patch: pytest.MonkeyPatch) -> None:
    """BatchNorm of a process' own rows."""
    patch.setattr(build, "synchronise", lambda embedder: embedder)


SABOTAGES = {
    "own views": other_views,
    "mean gradients": mean_gradients,
    "constant keys": constant_keys,
    "stale keys": stale_keys,
    "own order": own_order,
    "plain BatchNorm": plain_batch_norm,
}


def saves_after(patch: pytest.MonkeyPatch, steps: int, folder: Path) -> None:
    """Has the step write a checkpoint when so many are done."""
    train_step = step.train_step

    def saving(run: Session, batch: step.Seen) -> tuple[Tensor, Tensor]:
        result = train_step(run, batch)
        if run.step == steps:
            folder.mkdir(exist_ok=True)
            save_run(folder, run)
        return result

    patch.setattr("likewise.proof.jobs.train_step", saving)


@pytest.fixture(scope="module")
def by_one() -> dict[str, Learned]:
    """Filled by the tests: what one process learned."""
    return {}


def alone(by_one: dict[str, Learned], name: str) -> Learned:
    if name not in by_one:
        by_one[name] = train_job(JOBS[name])
    return by_one[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where checkpoints are."""
    folder = tmp_path_factory.mktemp("equivalence")
    for name, place in (("queue, infonce", "by one"), ("proxies sharded, parametric-softmax", "shards")):
        with pytest.MonkeyPatch.context() as patch:
            saves_after(patch, HALF, folder / place)
            train_job(JOBS[name])
    return folder


@pytest.fixture(scope="module")
def by_two(folder: Path, request: pytest.FixtureRequest) -> list[dict[str, Learned | str]]:
    """What each of two processes learned in the jobs whose tests run."""
    names = [
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_two_processes_learn_what_one_does
    ]
    (folder / "names").write_text(json.dumps(names))
    run_together(train_all, 2, folder)
    return [pickle.loads((folder / f"{rank}").read_bytes()) for rank in range(2)]


@pytest.fixture(scope="module")
def by_three(folder: Path) -> list[dict[str, Any]]:
    """What each of three processes learned."""
    run_together(train_few, 3, folder)
    return [pickle.loads((folder / f"three {rank}").read_bytes()) for rank in range(3)]


@pytest.mark.parametrize("name", OF_THREE)
def test_three_processes_learn_what_one_does(name: str, by_three: list[dict[str, Any]]) -> None:
    result = compared(train_job(three(JOBS[name])), by_three, name)
    assert result.verdict == "equal", (result.differences, result.hashes_equal)


@pytest.mark.parametrize("name", ["queue symmetric, infonce", "proxies sharded, parametric-softmax"])
def test_three_processes_resume_bit_for_bit(name: str, by_three: list[dict[str, Any]]) -> None:
    for each in by_three:
        whole, resumed = each[f"whole, {name}"], each[f"resumed, {name}"]
        assert isinstance(whole, Learned), whole
        assert isinstance(resumed, Learned), resumed
        assert resumed.hashes == whole.hashes[HALF:]
        assert all(torch.equal(resumed.values[part], value) for part, value in whole.values.items() if part != "loss")


@pytest.mark.parametrize("name", ["queue symmetric", "batch both"])
def test_processes_with_backbones_of_their_own_start_from_the_first_ones(
    name: str, by_three: list[dict[str, Any]]
) -> None:
    """Whatever each process' own first weights; and a weight that nothing depends on stays as it is."""
    learned = [each[f"own backbone, {name}"] for each in by_three]
    assert all(isinstance(each, Learned) for each in learned), learned
    assert learned[0].hashes == learned[1].hashes == learned[2].hashes
    for part, value in learned[0].values.items():
        assert torch.equal(value, learned[2].values[part]), part


def compared(one: Learned, several: list[dict[str, Learned | str]], name: str) -> Comparison:
    learned = [each[name] for each in several]
    assert not any(isinstance(each, str) for each in learned), learned
    return compare(name, [one], [each for each in learned if isinstance(each, Learned)])


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_learn_what_one_does(name: str, by_one: dict[str, Learned], by_two: list[dict[str, Any]]) -> None:
    result = compared(alone(by_one, name), by_two, name)
    assert result.verdict == "equal", (result.differences, result.hashes_equal)
    assert {"loss", "gradients", "weights"} <= result.differences.keys() <= set(KINDS)
    assert result.hashes_equal


def test_a_loss_sees_the_rows_of_all_where_it_must(by_two: list[dict[str, Any]]) -> None:
    """Lifted's original does, as NCE and Histogram; the generalised one, of no setting, is a sum of rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "build_objective", lambda *known: LiftedStructure(generalised=True))
        one = train_job(JOBS["batch both, lifted-structure"])
    assert compared(one, by_two, "lifted, of rows").verdict == "equal"
    assert not torch.equal(one.values["loss"], train_job(JOBS["batch both, lifted-structure"]).values["loss"])


def test_the_user_sees_no_warning_of_torch(by_two: list[dict[str, Any]], folder: Path) -> None:
    assert [(folder / f"warnings {rank}").read_text() for rank in range(2)] == ["", ""]


def test_groups_that_two_processes_cannot_share_are_refused(by_two: list[dict[str, Any]]) -> None:
    for each in by_two:
        assert re.match(r"Refused: .*\b3\b.* can't be shared by 2 processes", str(each["odd groups"]))


def test_a_job_learns_something(by_one: dict[str, Learned]) -> None:
    """Else all would be equal."""
    first = train_job(replace(JOBS["queue, infonce"], stop=1)).values
    last = alone(by_one, "queue, infonce").values
    for name, value in last.items():
        if name.startswith(("weights.encoder.backbone", "dictionary.rows")) and value.is_floating_point():
            assert not torch.allclose(first[name], value, rtol=1e-6, atol=0), name


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_planted_bug_is_found(name: str, by_one: dict[str, Learned], by_two: list[dict[str, Any]]) -> None:
    result = compared(alone(by_one, sabotaged(name)), by_two, f"sabotaged: {name}")
    assert result.verdict == "DIFFERENT"
    assert result.largest > 1e-4
    assert result.hashes_equal is (name not in ("stale keys", "own order", "plain BatchNorm"))


def test_two_processes_go_on_where_one_was_stopped(by_one: dict[str, Learned], by_two: list[dict[str, Any]]) -> None:
    for name, resumed in (
        ("queue, infonce", "resumed by two"),
        ("proxies sharded, parametric-softmax", "resumed by two, sharded"),
    ):
        one = alone(by_one, name)
        later = Learned({**one.values, "loss": one.values["loss"][HALF:]}, one.hashes)
        assert compared(later, by_two, resumed).verdict == "equal", resumed


def test_one_process_goes_on_where_two_were_stopped(
    by_one: dict[str, Learned], by_two: list[dict[str, Any]], folder: Path
) -> None:
    one = alone(by_one, "queue, infonce")
    later = Learned({**one.values, "loss": one.values["loss"][HALF:]}, one.hashes)
    resumed = train_job(replace(JOBS["queue, infonce"], resumes=folder / "by two"))
    assert compare("", [later], [resumed]).verdict == "equal"


@pytest.mark.parametrize("name", NAMES)
def test_resumed_is_the_same_to_the_last_bit(name: str, tmp_path: Path) -> None:
    """In float32, by a session that has seen nothing but the checkpoint."""
    whole = replace(JOBS[name], double=False)
    with pytest.MonkeyPatch.context() as patch:
        saves_after(patch, HALF, tmp_path)
        expected = train_job(whole)
    torch.manual_seed(99)  # of no use to it
    result = compare("", [expected], [train_job(replace(whole, resumes=tmp_path))], resumed_at=HALF)
    assert result.verdict == "equal", result.differences
    assert result.largest == 0
    assert result.hashes_equal


def test_a_generator_that_is_not_restored_is_found(tmp_path: Path) -> None:
    """What the test above would say if a resumed run drew other samples."""
    whole = replace(JOBS["bank with samples, infonce"], double=False)
    with pytest.MonkeyPatch.context() as patch:
        saves_after(patch, HALF, tmp_path)
        expected = train_job(whole)
    with pytest.MonkeyPatch.context() as patch:
        restore = Session._restore

        def forgetful(run: Session, state: dict[str, Any]) -> None:
            restore(run, {**state, "noise_generator": torch.Generator().get_state()})

        patch.setattr(Session, "_restore", forgetful)
        resumed = train_job(replace(whole, resumes=tmp_path))
    assert compare("", [expected], [resumed], resumed_at=HALF).verdict == "DIFFERENT"


MICRO = {
    name: values
    for name, values in COMBINATIONS.items()
    if allowed({**values, "micro_batches": 2, "encoder.bn_groups": 2})
}


@pytest.mark.parametrize(
    ("name", "groups"), [marked(name, 2) for name in MICRO] + [marked(name, 4) for name in MICRO if "infonce" in name]
)
def test_micro_batches_learn_what_the_whole_batch_does(name: str, groups: int) -> None:
    """With BatchNorm in groups on both sides."""
    grouped = job({**MICRO[name], "encoder.bn_groups": groups})
    cached = replace(grouped, settings=replace(grouped.settings, micro_batches=groups))
    result = compare("", [train_job(grouped)], [train_job(cached)])
    assert result.verdict == "equal", result.differences


@pytest.mark.parametrize("micro", [2, 3, 8])
@pytest.mark.parametrize("name", ["batch both", "batch second", "queue symmetric", "bank with samples"])
def test_micro_batches_of_an_encoder_without_batchnorm(name: str, micro: int) -> None:
    """No groups at all: any number of micro-batches is the whole batch."""
    whole = job({"objective.kind": "infonce", "encoder.centre": False, **DICTIONARIES[name]}, backbone=plain())
    cached = replace(whole, settings=replace(whole.settings, micro_batches=micro))
    result = compare("", [train_job(whole)], [train_job(cached)])
    assert result.verdict == "equal", result.differences


@pytest.mark.parametrize("name", ["batch both", "batch second", "queue symmetric"])
def test_micro_batches_with_dropout(name: str) -> None:
    """The same random numbers are drawn when a part is encoded again; both sides embed the same parts."""
    grouped = job(
        {"objective.kind": "infonce", "encoder.centre": False, "encoder.bn_groups": 2, **DICTIONARIES[name]},
        backbone=plain(0.5),
    )
    cached = replace(grouped, settings=replace(grouped.settings, micro_batches=2))
    result = compare("", [train_job(grouped)], [train_job(cached)])
    assert result.verdict == "equal", result.differences


def test_gradient_cache_draws_the_same_numbers_twice() -> None:
    """By hand: the gradient of the rows that the loss has seen; and torch's generator ends where it would."""
    parts = list(torch.randn(9, 6, generator=torch.Generator().manual_seed(0)).split([4, 3, 2]))
    target = torch.randn(9, 7, generator=torch.Generator().manual_seed(1))
    by_hand, cached = plain(0.5), plain(0.5)
    torch.manual_seed(7)
    rows = embed_parts(by_hand, parts)
    (rows * target).exp().sum().backward()
    after = torch.get_rng_state()

    torch.manual_seed(7)
    cache = GradientCache(cached, parts)
    assert torch.equal(cache.rows, rows)
    (cache.rows * target).exp().sum().backward()
    torch.rand(100)  # what a loss draws in between
    between = torch.get_rng_state()
    cache.backward()
    assert torch.equal(torch.get_rng_state(), between)  # as if nothing had been drawn again
    for mine, theirs in zip(cached.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    torch.manual_seed(7)
    embed_parts(plain(0.5), parts)
    assert torch.equal(torch.get_rng_state(), after)


def test_micro_batches_over_the_whole_batchs_statistics_are_refused() -> None:
    refused = job({"dictionary": "batch", "objective.kind": "infonce", "micro_batches": 2})
    with pytest.raises(LikewiseError, match=r"encoder\.bn_groups=2"):
        train_job(refused)


def test_all_that_config_allows_is_tried() -> None:
    """A new objective or dictionary can't be forgotten here."""
    assert JOBS.keys() >= WHOLE
    jobs = [JOBS[name] for name in JOBS.keys() - WHOLE]
    tried = {(each.settings.dictionary, each.settings.objective.kind) for each in jobs}
    assert {kind for _, kind in tried} == {row.name for row in OBJECTIVES}
    assert {dictionary for dictionary, _ in tried} == {"bank", "queue", "batch", "proxies"}
    assert {each.settings.method for each in jobs} >= set(OF_ITEMS)
