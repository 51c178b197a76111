"""``likewise verify``: what it compares, what it says of all it is given, and that it finds what is wrong."""

import json
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from likewise.cli.main import main
from likewise.config.overrides import settings_from
from likewise.console import Tick, untold
from likewise.data.pair_files import Graded, Pairs
from likewise.encoders import MLP
from likewise.errors import LikewiseError
from likewise.methods import METHODS, OF_ITEMS
from likewise.proof import prove as module
from likewise.proof.jobs import STEPS, Job, Learned, Unlearned, started, train_job, work
from likewise.proof.prove import HALF, MOST, ROUNDING, Comparison, compare, differences, print_table
from likewise.proof.prove import verify as verify_run
from likewise.proof.small_run import ITEMS, LEAST, make_plan
from likewise.training.fit import fit
from likewise.training.run_folder import write_config

TINY: dict[str, Any] = {"encoder.name": "mlp", "encoder.hidden": 8, "encoder.dim": 4}
VECTORS = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of vectors: one whose data is there, one whose data is not, one with a backbone of one's own."""
    place = tmp_path_factory.mktemp("verify")
    np.save(place / "vectors.npy", VECTORS)
    settings = {**TINY, "epochs": 1, "knn_epochs": 0, "queue.size": 64}
    fit(str(place / "vectors.npy"), out=place / "run", method="moco", settings=settings, progress=False)
    fit(VECTORS, out=place / "gone", method="simclr", settings=settings, progress=False)
    fit(VECTORS, out=place / "own", settings=settings, backbone=Wrong(), progress=False)
    (place / "empty").mkdir()
    return place


class Wrong(nn.Module):
    """Another encoder in every process, and one that keeps a count which no checkpoint has."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.seen = nn.Linear(5, 6), 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += self.training
        rank = dist.get_rank() if dist.is_initialized() else 0
        rows: Tensor = self.linear(x) * (1 + rank) + (self.seen > 2)
        return rows


class Random(nn.Module):
    """With dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.layers(x)
        return rows


class Waits(nn.Module):
    """Keeps the others waiting, or dies, in the process of rank 1."""

    def __init__(self, dies: bool) -> None:
        super().__init__()
        self.linear, self.dies = nn.Linear(5, 6), dies

    def forward(self, x: Tensor) -> Tensor:
        if dist.is_initialized() and dist.get_rank() == 1:
            print("out of memory, say", flush=True)
            os._exit(3) if self.dies else time.sleep(1000)
        rows: Tensor = self.linear(x)
        return rows


class Forgets(nn.Module):
    """Can be saved, but not loaded again."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.linear(x)
        return rows

    def _load_from_state_dict(self, *_: object) -> None:
        raise RuntimeError("another version's")


class Narrow(MLP):
    """In float32, whatever torch's default is, as a file's weights are."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden)
        self.float()


def job(**more: Any) -> Job:
    plan = make_plan("simclr", VECTORS, TINY)
    return replace(Job(settings=plan.settings, items=plan.items, total=STEPS + 1), **more)


@pytest.fixture(scope="module")
def learned() -> Learned:
    plan = make_plan("moco", VECTORS, TINY)
    return train_job(Job(settings=plan.settings, items=plan.items, total=STEPS + 1))


# What is compared


def doctored(learned: Learned, name: str, change: Any) -> Learned:
    assert name in learned.values
    return learned._replace(values={**learned.values, name: change(learned.values[name].clone())})


def test_the_same_is_equal(learned: Learned) -> None:
    result = compare("same", [learned], [learned, learned])
    assert result.verdict == "equal"
    assert result.differences == dict.fromkeys(("dictionary", "gradients", "loss", "weights"), 0.0)
    assert result.hashes_equal
    assert compare("same", [learned], [learned]).hashes_equal is None


NAMES = {
    "loss": "loss",
    "gradients": "gradients.encoder.backbone.layers.0.weight",
    "weights": "weights.key encoder.encoder.backbone.layers.0.weight",
    "dictionary": "dictionary.rows",
}


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("kind", NAMES)
def test_a_difference_is_found_in_either_process(learned: Learned, kind: str, rank: int) -> None:
    """1e-6 of the largest value, in one number of one process."""

    def change(value: Tensor) -> Tensor:
        value.view(-1)[-1] += 1e-6 * value.abs().max()
        return value

    several = [learned, learned]
    several[rank] = doctored(learned, NAMES[kind], change)
    result = compare("doctored", [learned], several)
    assert result.verdict == "DIFFERENT"
    assert [name for name, value in result.differences.items() if value] == [kind]
    assert 0 < result.differences[kind] <= 1.01e-6


@pytest.mark.parametrize("kind", NAMES)
def test_rounding_is_no_difference_but_not_in_a_resumed_run(learned: Learned, kind: str) -> None:
    rounded = doctored(learned, NAMES[kind], lambda value: value * (1 + 4e-16))
    assert compare("doctored", [learned], [rounded]).verdict == "equal"
    later = rounded._replace(
        values={**rounded.values, "loss": rounded.values["loss"][HALF:]}, hashes=rounded.hashes[HALF:]
    )
    assert compare("doctored", [learned], [later], resumed_at=HALF).verdict == "DIFFERENT"


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows * math.nan,
        lambda rows: rows * math.inf,
        lambda rows: rows[:-1],
        lambda rows: rows.float(),
    ],
    ids=["nan", "inf", "shape", "dtype"],
)
def test_what_is_no_number_or_of_another_shape_is_infinitely_far(learned: Learned, change: Any) -> None:
    wrong = doctored(learned, "dictionary.rows", change)
    assert compare("doctored", [learned], [wrong]).differences["dictionary"] == math.inf
    assert compare("doctored", [wrong], [learned]).differences["dictionary"] == math.inf


def test_what_is_missing_is_infinitely_far(learned: Learned) -> None:
    fewer = {name: value for name, value in learned.values.items() if name != "weights.encoder.head.bias"}
    assert differences(learned.values, fewer)["weights"] == math.inf
    assert differences(fewer, learned.values)["weights"] == math.inf


def test_of_whole_numbers_no_difference_is_small(learned: Learned) -> None:
    def change(ids: Tensor) -> Tensor:
        ids[3] += 1
        return ids

    assert differences(learned.values, doctored(learned, "dictionary.ids", change).values)["dictionary"] == math.inf


def test_a_gradient_that_is_zero_but_for_rounding_is_measured_by_its_module(learned: Learned) -> None:
    """That of a bias before BatchNorm, say: relative to itself it differs by anything."""
    name = "gradients.encoder.head.bias"
    before = doctored(learned, name, lambda gradient: gradient * 0 + 1e-18)
    after = doctored(learned, name, lambda gradient: gradient * 0 - 1e-18)
    assert compare("doctored", [before], [after]).verdict == "equal"


def test_hashes_must_agree_at_every_step(learned: Learned) -> None:
    other = learned._replace(hashes=[*learned.hashes[:1], "0", *learned.hashes[2:]])
    result = compare("doctored", [learned], [learned, other])
    assert result.hashes_equal is False
    assert result.largest == 0
    assert result.verdict == "DIFFERENT"


def test_what_was_refused_is_impossible_and_what_failed_is_broken(learned: Learned) -> None:
    refused, failed = Unlearned("so it is.", True), Unlearned("a process ended early", False)
    assert compare("refused", [learned], [failed, refused]).impossible == "so it is."
    assert compare("refused", [learned], [learned, refused]).verdict == "impossible"
    assert compare("failed", [learned], [failed, learned]).verdict == "BROKEN"
    assert compare("neither", [], [], impossible="of dropout").impossible == "of dropout"


# What it is given


def test_a_method_has_its_aliases_and_a_sampled_objective_few_samples() -> None:
    plan = make_plan("AMSoftmax", settings={"encoder.name": "mlp"})
    assert plan.settings.method == "cosface"
    for kind, name in (("nce", "noise"), ("sampled-softmax", "samples")):
        plan = make_plan("npid", settings={"encoder.name": "mlp", "objective": kind})
        assert plan.settings.objective.parameters[name] == 24
        assert f"objective.{name} 4096 → 24" in plan.notes[1]


def test_a_method_is_made_small_and_keeps_its_choices() -> None:
    for name in OF_ITEMS:
        method, plan = METHODS[name], make_plan(name, settings={"encoder.name": "mlp", "encoder.hidden": 16})
        small, own = plan.settings, method.settings
        assert (small.method, small.dictionary, small.symmetric) == (name, own.dictionary, own.symmetric)
        assert (small.views, small.optim, small.key_encoder) == (own.views, own.optim, own.key_encoder)
        assert (small.encoder.head, small.encoder.centre) == (own.encoder.head, own.encoder.centre)
        assert small.batch_size <= 16
        assert small.encoder.bn_groups == min(2, own.encoder.bn_groups)
        assert len(plan.items) == ITEMS
        assert small.dictionary != "queue" or small.queue.size < 3 * small.batch_size
        assert "made-up vectors" in plan.notes[0]
        assert f"batch_size {own.batch_size} → 16" in plan.notes[1]


@pytest.mark.parametrize("items", [LEAST, 50])
def test_graded_relevance_is_made_up_and_proved(items: int) -> None:
    plan = make_plan("ranking", VECTORS[:items], TINY | {"objective": "ordinal"})
    assert isinstance(plan.relations, Graded)
    assert "Their relevance is made-up too." in plan.notes[0]
    assert not (plan.relations.rows[:, 0] == plan.relations.rows[:, 1]).any()
    assert set(plan.relations.relevance.tolist()) <= {0, 1, 2, 3}
    if items > LEAST:
        assert [each.verdict for each in module.prove(plan)] == ["equal"] * 3


@pytest.mark.parametrize("items", [LEAST, 50])
@pytest.mark.parametrize("kind", ["pairs", "triplets"])
def test_pairs_and_triplets_are_made_up_and_proved(kind: str, items: int) -> None:
    method = {"pairs": "contrastive", "triplets": "facenet"}[kind]
    settings = {"alike": kind, "relations": "gone.csv", "sampler.kind": "instance", "negatives.policies": ["all"]}
    plan = make_plan(method, VECTORS[:items], TINY | settings)
    assert plan.relations is not None
    assert f"Their {kind} are made-up too." in plan.notes[0]
    rows, labels = plan.relations.rows, min(8, items // 2)
    assert int(rows.max()) < len(plan.items)
    same = rows[:, 0] % labels == rows[:, 1] % labels
    if isinstance(plan.relations, Pairs):
        assert torch.equal(same, plan.relations.alike)
        assert same.any()
        assert not same.all()
    else:
        assert same.all()
        assert not (rows[:, 0] % labels == rows[:, 2] % labels).any()
    assert not (rows[:, 0] == rows[:, 1]).any()
    if items > LEAST:
        assert [each.verdict for each in module.prove(plan)] == ["equal"] * 3


def test_pairs_that_are_all_alike_are_made_up_and_proved_so(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("a,b\n0,1\n")
    settings = {"alike": "pairs", "relations": str(tmp_path / "p.csv"), "sampler.kind": "instance"}
    plan = make_plan("contrastive", VECTORS[:50], TINY | settings | {"negatives.policies": ["all"]})
    assert isinstance(plan.relations, Pairs)
    assert plan.relations.all_alike
    assert [each.verdict for each in module.prove(plan)] == ["equal"] * 3


@pytest.mark.parametrize(("classes", "kept"), [(3, 8), (500, 500)])
def test_as_many_classes_as_the_made_up_labels_need(classes: int, kept: int) -> None:
    plan = make_plan("margin", VECTORS, TINY | {"objective.classes": classes})
    assert plan.items.labels is not None
    assert plan.items.labels.max() == 7
    assert plan.settings.objective.number("classes", 0) == kept


def test_images_are_made_small_where_the_encoder_lets_them() -> None:
    plan = make_plan("npid", settings={"size": 64, "objective.kind": "nce"})
    assert plan.items.values.shape == (ITEMS, 32, 32, 3)
    assert plan.settings.size == 32
    assert plan.settings.objective.parameters["noise"] == 24
    large = make_plan("npid", settings={"size": 64, "encoder.name": "resnet18"})
    assert large.items.values.shape == (22, 16, 16, 3)


def test_odd_and_even_groups_stay_so() -> None:
    groups = {3: 3, 5: 3, 8: 2, 2: 2, 1: 1}
    for asked, small in groups.items():
        assert make_plan("moco", settings={**TINY, "encoder.bn_groups": asked}).settings.encoder.bn_groups == small


def test_data_of_a_run_is_its_own_where_it_is_still_there(place: Path, tmp_path: Path) -> None:
    plan = make_plan(place / "run")
    np.testing.assert_array_equal(plan.items.values, VECTORS[:ITEMS])
    assert "the run's own" in plan.notes[0]
    gone = make_plan(place / "gone")
    assert gone.items.kind == "vectors"
    assert "made-up vectors, since the run's own can't be opened" in gone.notes[0]
    other = make_plan(place / "gone", data=VECTORS[:9])
    assert len(other.items) == 9
    write_config(tmp_path / "just begun", settings_from(TINY))  # killed before there was data.json
    assert make_plan(tmp_path / "just begun").items.kind == "vectors"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["moco-v3"], "there is no run folder and no method 'moco-v3'. Did you mean 'moco-v2'?"),
        (["empty"], "empty holds no run (config.yaml is missing); give a run folder, or a method's name."),
        (["own"], "own was trained with the user's own backbone; verify it from Python with backbone=."),
        (["moco", "--set", "queue_size=8"], "there is no setting 'queue_size'. Did you mean 'queue.size'?"),
        (["moco", "--set", "queue.size"], "--set takes NAME=VALUE, such as encoder.bn_groups=4, not 'queue.size'."),
        (["moco", "--set", "size=[1"], "--set size can't be read: expected ',' or ']'"),
        (["moco", "--set", "symmetric=3"], "setting 'symmetric' can't be 3; it must be true or false."),
        (["npid", "--set", "objective.kind=nce", "dictionary=batch"], "objective nce needs a row for every item"),
        (["npid", "--data", "vectors.npy"], "encoder 'resnet-small' does not fit the items"),
        (["npid", "--data", "nothing"], "nothing does not exist"),
        (["npid", "--data", "few.npy"], f"few.npy holds 5 usable items; verify needs at least {LEAST}."),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(
    arguments: list[str],
    sentence: str,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    np.save("few.npy", VECTORS[:5])
    assert main(["verify", *arguments]) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert err.count("\n") == 1
    assert out == ""


# What comes out


def result(**more: Any) -> Comparison:
    return replace(Comparison(name="2 processes ≡ 1", differences={}, hashes_equal=None, tolerance=ROUNDING), **more)


@pytest.mark.parametrize(
    ("comparison", "code", "said"),
    [
        (result(differences={"loss": 0.0, "weights": 3e-12}, hashes_equal=True), 0, ("3e-12", "0", "–", "equal")),
        (result(differences={"loss": 3e-3}, hashes_equal=True), 1, ("3e-03", "DIFFERENT", "not your mistake")),
        (result(differences={"loss": 0.0}, hashes_equal=False), 1, ("differ", "DIFFERENT")),
        (result(differences={"weights": math.inf}), 1, ("inf", "DIFFERENT")),
        (result(broken="no end within 300 s"), 1, ("BROKEN", "2 processes ≡ 1: no end within 300 s")),
        (result(impossible="3 groups [odd]"), 0, ("impossible", "2 processes ≡ 1: 3 groups [odd]")),
    ],
    ids=["equal", "different", "hashes", "inf", "broken", "impossible"],
)
def test_the_table_and_the_exit_code(
    comparison: Comparison,
    code: int,
    said: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "prove", lambda plan, begin: [comparison])
    assert main(["verify", "npid", "--set", "encoder.name=mlp"]) == code
    out, _ = capsys.readouterr()
    assert all(text in out for text in said)


def test_the_table_names_magnified_rounding(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([result(differences={"loss": 1e-8}, tolerance=1e-7)])
    assert "up to 1e-07 is rounding, because this encoder magnifies it" in capsys.readouterr().out


# For real, in fresh processes


def test_a_run_is_proved(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """MoCo's queue, momentum encoder and shuffled groups; all is equal, and nothing else is printed."""
    assert main(["verify", str(place / "run")]) == 0
    out, err = capfd.readouterr()
    lines = out.splitlines()
    table = [line.split() for line in lines if "≡" in line][:3]
    assert [words[-1] for words in table] == ["equal"] * 3
    assert table[1][-6:] == ["0", "0", "0", "0", "equal", "equal"]  # the resumed one, bit for bit
    assert "the first of the run's own" in lines[0]
    assert "batch_size 256 → 16" in lines[1]
    assert "Warning" not in out + err


def test_an_encoder_that_breaks_the_promises_is_found() -> None:
    """Other weights in each process, and a count that is not restored and that a second forward pass doubles."""
    plain = {"encoder.centre": False, "encoder.name": "mlp"}
    found = verify_run("simclr", VECTORS, plain, backbone=Wrong())
    assert [each.verdict for each in found] == ["DIFFERENT"] * 3
    assert min(each.largest for each in found) > MOST


def test_dropout_and_batch_norm_decide_what_is_compared(monkeypatch: pytest.MonkeyPatch, learned: Learned) -> None:
    trained = list[tuple[dict[str, Job], Job | None]]()

    def train(place: Path, jobs: dict[str, Job], own: Job, shared: Job | None, tick: Tick) -> dict[str, list[Learned]]:
        trained.append((jobs, shared))
        later = learned._replace(values={**learned.values, "loss": learned.values["loss"][HALF:]})
        later = later._replace(hashes=learned.hashes[HALF:])
        return {name: [learned] for name in [*jobs, "shared"]} | {"resumed": [later]}

    monkeypatch.setattr(module, "_train", train)
    plain = {**TINY, "encoder.centre": False}
    dropout, _, micro = verify_run("simclr", VECTORS, plain, backbone=Random())
    assert "dropout" in dropout.impossible
    assert "dropout" in micro.remark
    linear = verify_run("simclr", VECTORS, plain, backbone=nn.Linear(5, 6))
    assert [each.verdict for each in linear] == ["equal"] * 3
    assert not linear[2].remark
    normalised = verify_run("simclr", VECTORS, TINY)
    assert "yours is 1, BatchNorm over the whole batch" in normalised[2].remark
    sharded = verify_run("npid", VECTORS, {**TINY, "bank.sharded": True, "objective.kind": "nonparametric-softmax"})
    assert sharded[2].impossible.startswith("micro_batches and bank.sharded do not work together yet")
    assert [shared is None for _, shared in trained] == [True, False, False, False]
    groups = [[(name, job.settings.encoder.bn_groups) for name, job in jobs.items()] for jobs, _ in trained]
    assert groups[0] == groups[2] == [("one", 1), ("own", 1), ("parts", 2), ("full", 2)]
    assert groups[1] == [("one", 1), ("own", 1), ("parts", 1), ("full", 1)]
    assert groups[3] == [("one", 1), ("own", 1)]
    for jobs, _ in trained[:3]:
        assert (jobs["parts"].settings.micro_batches, jobs["full"].settings.micro_batches) == (2, 1)
        assert (jobs["one"].double, jobs["own"].double) == (True, False)


def test_processes_that_wait_or_die_do_not_hang_it(tmp_path: Path) -> None:
    begin = time.monotonic()
    slow = job(backbone=Waits(dies=False))
    with started(tmp_path / "slow", {"one": slow}, count=2, limit=3.0) as wait:
        late = wait()["one"]
    reason = "no end within 3 s: the processes wait for each other, or are very slow"
    assert late == [Unlearned(reason, False)] * 2
    with started(tmp_path / "dead", {"one": job(backbone=Waits(dies=True))}, count=2, limit=100.0) as wait:
        dead = wait()["one"]
    assert Unlearned("a process ended early: out of memory, say", False) in dead
    assert all(isinstance(each, Unlearned) for each in dead)
    assert time.monotonic() - begin < 60


def test_a_process_that_never_starts_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likewise.proof.jobs.python", lambda: ("/bin/false",))
    with started(tmp_path / "jobs", {"one": job()}, limit=10.0) as wait:
        assert wait()["one"] == [Unlearned("a process ended early: it printed nothing", False)]


def test_the_error_of_an_encoder_is_said(tmp_path: Path) -> None:
    wide = job(backbone=nn.Linear(5, 6))
    with started(tmp_path / "jobs", {"bad": replace(wide, stop=1, resumes=tmp_path), "good": wide}, limit=60.0) as wait:
        found = wait()
    assert isinstance(found["bad"][0], Unlearned)
    assert not found["bad"][0].refused
    assert "no checkpoint" in found["bad"][0].reason
    assert isinstance(found["good"][0], Learned)


def worked(place: Path, job: Job) -> Unlearned:
    """What a process that fails leaves, without its start."""
    (place / "jobs").write_bytes(pickle.dumps({"one": job}))
    work(str(place), 0, 1)
    return Unlearned(*torch.load(place / "one 0.pt"))


def test_a_run_that_cant_be_resumed_is_broken(
    learned: Learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan("simclr", VECTORS, {"encoder.centre": False, "encoder.name": "mlp"}, backbone=Forgets())
    own = Job(settings=plan.settings, items=plan.items, backbone=plan.backbone, total=STEPS + 1)
    with monkeypatch.context() as patch:
        patch.setattr("likewise.proof.jobs.os.kill", lambda *_: None)
        train_job(replace(own, stop=HALF, killed=tmp_path))
    resumed = worked(tmp_path, replace(own, resumes=tmp_path))
    found = compare("resumed ≡ unstopped", [learned], [resumed], resumed_at=HALF)
    assert found.verdict == "BROKEN"
    assert "does not fit this run (RuntimeError: another version's)" in found.broken


@pytest.mark.parametrize(
    ("killed", "saved", "reason"),
    [
        (Unlearned("can't write the checkpoint", False), True, "can't write the checkpoint"),
        (Unlearned("a process ended early", False, True), False, "killed before it had written checkpoint.pt"),
        (None, True, "the process that was to be killed at step 2 was not killed"),
    ],
    ids=["failed", "too early", "not at all"],
)
def test_without_a_kill_and_a_checkpoint_nothing_is_resumed(
    killed: Unlearned | None,
    saved: bool,
    reason: str,
    learned: Learned,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def pretended(place: Path, jobs: dict[str, Job], *, limit: float) -> Iterator[Callable[[], Any]]:
        assert place.name in ("alone", "killed")
        if place.name == "killed" and saved:
            (place.parent / "run" / "checkpoint.pt").touch()
        ended = killed if place.name == "killed" and killed is not None else learned
        yield lambda: {name: [ended] for name in jobs}

    monkeypatch.setattr(module, "started", pretended)
    found = module._train(tmp_path, {"own": job()}, job(), None, untold)
    result = compare("resumed ≡ unstopped", found["own"], found["resumed"], resumed_at=HALF)
    assert result.verdict == "BROKEN"
    assert reason in result.broken


def test_what_is_refused_before_it_is_built_is_impossible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan("moco", VECTORS, {**TINY, "encoder.bn_groups": 3})
    monkeypatch.setattr("likewise.distributed.processes.size", lambda: 2)
    three = worked(tmp_path, Job(settings=plan.settings, items=plan.items, total=STEPS + 1))
    found = compare("2 processes ≡ 1", [], [three])
    assert found.verdict == "impossible"
    assert "can't be shared by 2 processes" in found.impossible


def test_in_float64_is_all_of_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likewise.encoders.build.MLP", Narrow)
    values = train_job(job(stop=1)).values
    assert {value.dtype for value in values.values() if value.is_floating_point()} == {torch.float64}
    narrow = train_job(job(stop=1, double=False)).values
    assert {value.dtype for value in narrow.values() if value.is_floating_point()} == {torch.float32}


def test_a_methods_auto_is_proved_as_of_many_items_and_a_runs_is_decided(place: Path) -> None:
    """On 43 items auto would be the exact softmax, whose proof says nothing of NCE and its log Z."""
    for data in (None, VECTORS):
        plan = make_plan("npid", data, TINY)
        assert plan.settings.objective.kind == "nce"
        assert "objective auto is nce here, as for more than 10,000 items" in plan.notes[-1]
    asked = make_plan("npid", settings={**TINY, "objective.kind": "nonparametric-softmax"})
    assert asked.settings.objective.kind == "nonparametric-softmax"
    own = make_plan(place / "own", VECTORS, backbone=Wrong())
    assert own.settings.objective.kind == "nonparametric-softmax"
    for plan in (asked, make_plan("moco", settings=TINY), own):
        assert not any("auto" in note for note in plan.notes)


def test_an_encoder_beyond_the_memory_is_refused_but_a_queue_is_made_small() -> None:
    with pytest.raises(LikewiseError, match="this run needs at least"):
        make_plan("npid", VECTORS, {**TINY, "encoder.dim": 10**12})
    assert make_plan("moco", VECTORS, {**TINY, "queue.size": 10**12}).settings.queue.size < 100


def test_torchscript_is_refused_in_a_sentence() -> None:
    with pytest.raises(LikewiseError, match="TorchScript can't be sent"):
        make_plan("simclr", VECTORS, {}, backbone=torch.jit.script(nn.Linear(5, 6)))


def test_items_of_a_run_that_are_gone_are_made_up(tmp_path: Path) -> None:
    write_config(tmp_path, METHODS["moco"].settings)
    (tmp_path / "text").write_text("no items")
    (tmp_path / "data.json").write_text(json.dumps({"kind": "images", "source": str(tmp_path / "text")}))
    plan = make_plan(tmp_path, None, {})
    assert "made-up images, since the run's own can't be opened." in " ".join(plan.notes)
