"""Every method, as a user runs it: by name, by file, stopped and resumed, on few items, and what it says of itself."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from likewise.cli.main import main
from likewise.config.names import letters
from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.data import Items
from likewise.distributed import processes
from likewise.errors import LikewiseError
from likewise.methods import METHODS, OF_ITEMS, method_named, over_method
from likewise.model import Model
from likewise.training import fit as run
from likewise.training.batches import batches, build_sampler, refuse_few
from likewise.training.build import build_session
from likewise.training.checkpoint import load_checkpoint
from likewise.training.decide import decide
from likewise.training.fit import chosen, fit
from likewise.training.metrics_log import read_metrics
from likewise.training.run_folder import began_here, read_config
from likewise.training.session import Session

SMALL = {
    "encoder": {"name": "mlp", "hidden": 8, "head_hidden": 8, "dim": 4},
    "batch_size": 20,
    "queue.size": 33,
    "epochs": 2,
    "knn_epochs": 0,
}
ARGUMENTS = ("--encoder.name", "mlp", "--encoder.dim", "4", "--batch_size", "20", "--epochs", "1", "--queue.size", "33")


def vectors(n: int = 60) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 6)).astype(np.float32)


def labelled(name: str, n: int = 60) -> Any:
    """The vectors, with labels for the methods that ask for some."""
    return (vectors(n), np.arange(n) % 7) if METHODS[name].settings.alike == "label" else vectors(n)


def small(name: str, **values: Any) -> dict[str, Any]:
    groups = min(2, METHODS[name].settings.encoder.bn_groups)
    samples = {"bank.samples": 16} if name == "bank" else {}
    classes = {"sampler.per_class": 4} if METHODS[name].settings.sampler.kind == "classes" else {}
    return {**SMALL, "encoder.bn_groups": groups, **samples, **classes, **values}


def session_of(method: str, n: int = 60, **values: Any) -> Session:
    items = Items(ids=tuple(map(str, range(n))), values=vectors(n), kind="vectors")
    settings = decide(settings_from(small(method, **values), METHODS[method].settings), n)
    embedder = Model.untrained(settings, items).embedder
    return build_session(settings, embedder, items, 10, torch.device("cpu"))


@pytest.mark.parametrize("name", OF_ITEMS)
def test_every_method_trains_and_its_loss_starts_near_chance(name: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(
        "query,item,relevance\n" + "".join(f"{n},{(n + 7) % 60},{n % 3 + 1}\n" for n in range(60))
    )
    with (tmp_path / "g.csv").open("a") as file:
        file.writelines(f"{n},{(n + 9) % 60},0\n" for n in range(60))
    (tmp_path / "p.csv").write_text("a,b\n" + "".join(f"{n},{(n + 7) % 60}\n" for n in range(60)))
    file = "g.csv" if METHODS[name].settings.alike == "graded" else "p.csv"
    files = {"relations": tmp_path / file} if METHODS[name].settings.related else {}
    fit(labelled(name), out=tmp_path / "run", method=name, settings=small(name, **files), progress=False)
    first = read_metrics(tmp_path / "run")[0]
    assert math.isfinite(float(first["loss"]))
    if METHODS[name].settings.dictionary == "proxies" or METHODS[name].settings.alike == "instance":
        assert float(first["chance"]) > 0
    assert read_config(tmp_path / "run").method == name


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_row_says_what_its_settings_do(name: str) -> None:
    method = METHODS[name]
    assert method.settings.method == name
    words = {"bank": "bank", "queue": "queue", "batch": "batch", "proxies": "weights", "words": "second vector"}
    assert words[method.settings.dictionary] in method.dictionary
    assert all((method.paper, method.alike, method.negatives, method.objective, method.departures))


@pytest.mark.parametrize(
    ("method", "values", "negatives"),
    [
        ("moco", {}, 33),
        ("moco", {"queue.own_batch": True}, 33 + 19),
        ("moco-symmetric", {"loss_weight": 1.0, "queue.own_batch": True}, 33 + 38),
        ("simclr", {}, 38),
        ("simclr", {"batch_size": 512}, 118),
        ("end-to-end", {}, 19),
        ("bank", {}, 16),
        ("npid", {"objective.kind": "infonce"}, 59),
    ],
)
def test_chance_is_the_log_of_one_and_the_negatives(method: str, values: dict[str, Any], negatives: int) -> None:
    session = session_of(method, **values)
    chance = session.chance(min(session.settings.batch_size, 60))
    assert chance == pytest.approx(math.log1p(negatives))


def test_chance_is_not_claimed_where_it_is_not_known() -> None:
    assert session_of("simclr", **{"objective.kind": "circle"}).chance(20) is None


def test_a_run_is_resumed_by_the_command_that_it_prints(tmp_path: Path) -> None:
    """Without naming the method again: the run's own is taken."""
    np.save(tmp_path / "v.npy", vectors())
    run = str(tmp_path / "run")
    assert main(["fit", str(tmp_path / "v.npy"), "--out", run, "--method", "moco", *ARGUMENTS]) == 0
    assert main(["fit", str(tmp_path / "v.npy"), "--out", run, "--resume"]) == 0


def test_a_method_named_in_a_file_or_among_the_settings_gives_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("method: simclr\nepochs: 1\nencoder: {name: mlp, dim: 4}\n")
    np.save(tmp_path / "v.npy", vectors())
    run = tmp_path / "run"
    assert main(["fit", str(tmp_path / "v.npy"), "--out", str(run), "--config", str(tmp_path / "own.yaml")]) == 0
    assert read_config(run).dictionary == "batch"
    fit(vectors(), out=tmp_path / "other", settings={**small("simclr"), "method": "simclr"}, progress=False)
    assert read_config(tmp_path / "other").dictionary == "batch"


@pytest.mark.parametrize(
    ("method", "values", "n", "said"),
    [
        ("moco", {"encoder.bn_groups": 8}, 10, "10 items do not fill encoder.bn_groups=8 groups of two"),
        ("simclr", {"micro_batches": 6}, 5, "5 items do not fill micro_batches=6 parts; set it to 5 or less"),
        ("simclr", {}, 1, "holds 1 usable item; training needs at least 2"),
        ("simclr", {"micro_batches": 2}, 60, "micro_batches=2 would change what is learned"),
        ("simclr", {"objective.kind": "nce"}, 60, "needs a row for every item: dictionary=bank with bank.samples=0"),
        ("simclr", {"symmetric": True}, 60, "symmetric=true needs dictionary=queue"),
        ("moco", {"objective.kind": "parametric"}, 60, "has its own keys"),
        ("npid", {"bank.sharded": True, "objective.kind": "nce"}, 60, "needs the exact softmax"),
        (
            "npid",
            {"dictionary": "proxies", "objective.kind": "nonparametric-softmax"},
            60,
            "needs a row for every item",
        ),
        (
            "npid",
            {"bank.sharded": True, "objective.kind": "parametric", "optim.name": "lars"},
            60,
            "optim.name=lars needs whole weights",
        ),
        ("moco", {"queue.size": 0}, 60, "'queue.size' is 0"),
        ("moco", {"key_encoder.momentum": 1.5}, 60, "'key_encoder.momentum' is 1.5"),
        ("moco", {"encoder.bn_groups": 11}, 60, "'encoder.bn_groups' is 11"),
        ("mocco", {}, 60, "no method 'mocco'. Did you mean 'moco'"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    method: str, values: dict[str, Any], n: int, said: str, tmp_path: Path
) -> None:
    settings = {**(small(method) if method in METHODS else SMALL), **values}
    with pytest.raises(LikewiseError, match=said):
        fit(vectors(n), out=tmp_path / "run", method=method, settings=settings, progress=False)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())  # no config.yaml, no data.json


@pytest.mark.parametrize(("n", "least"), [(3, 3), (21, 10)])
def test_a_batch_smaller_than_the_processes_is_refused_beforehand(
    n: int, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 21 items in batches of 20 at most, the smallest has 10."""
    settings = settings_from(small("simclr"), METHODS["simclr"].settings)
    assert build_sampler(settings, n).steps_per_epoch == 1 + (n == 21)
    monkeypatch.setattr("likewise.distributed.processes.size", lambda: 11)
    with pytest.raises(LikewiseError, match=f"a batch of {least} rows can't be shared by 11 processes"):
        refuse_few(settings, n)


def test_groups_of_batchnorm_are_not_for_one_that_is_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.SyncBatchNorm(8))
    items = Items(ids=tuple(map(str, range(60))), values=vectors(), kind="vectors")
    settings = settings_from(small("moco"), METHODS["moco"].settings)
    embedder = Model.untrained(settings, items, backbone=backbone).embedder
    build_session(settings, embedder, items, 10, torch.device("cpu"))  # one process: all rows are here
    monkeypatch.setattr("likewise.distributed.processes.size", lambda: 2)
    with pytest.raises(LikewiseError, match=r"layer 'backbone\.1' is a SyncBatchNorm.*encoder.bn_groups=2 gives each"):
        build_session(settings, embedder, items, 10, torch.device("cpu"))


def test_batches_are_prepared_ahead_for_an_accelerator_that_is_not_cuda() -> None:
    session = session_of("simclr")
    session.device = torch.device("meta")  # as mps: no device of CUDA's
    items = Items(ids=session.item_ids, values=vectors(), kind="vectors")
    found = list(batches(items, build_sampler(session.settings, 60), lambda rows, *_: rows, session))
    assert [len(batch.ids) for batch in found] == [20] * 10
    assert {view.device.type for batch in found for view in batch.views} == {"meta"}


def test_a_run_that_goes_on_meets_on_its_own_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device says how the processes meet, NCCL or gloo: not that of a command which does not repeat it."""
    met: list[str] = []

    def joined(device: str) -> AbstractContextManager[None]:
        met.append(device)
        return nullcontext()

    def pick_device(name: str) -> torch.device:
        assert name == "cpu"  # auto would be the accelerator
        return torch.device("cpu")

    monkeypatch.setattr(processes, "joined", joined)
    monkeypatch.setattr(run, "pick_device", pick_device)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    settings = small("npid", device="cpu")
    fit(vectors(), out=tmp_path / "run", settings=settings, progress=False)
    fit(vectors(), out=tmp_path / "run", resume=True, progress=False)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    fit(vectors(), out=tmp_path / "run", progress=False)
    assert met == ["cpu", "cpu", "cpu"]


@pytest.mark.parametrize(
    ("method", "given", "kind"),
    [("moco", {"objective.kind": "auto"}, "infonce"), ("bank", {"objective.kind": "auto", "bank.samples": 0}, "nce")],
)
def test_what_the_run_decided_may_be_given_as_it_was(
    method: str, given: dict[str, Any], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command again, by hand with --resume or by torchrun without."""
    monkeypatch.setattr("likewise.training.decide.EXACT_ITEMS", 10)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    settings = {**small(method), **given}
    for resume in (False, True):
        fit(vectors(), out=tmp_path / "run", method=method, settings=settings, resume=resume, progress=False)
        assert read_config(tmp_path / "run").objective.kind == kind
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    fit(vectors(), out=tmp_path / "run", method=method, settings=settings, progress=False)
    other = {**settings, "objective.kind": "supcon"}
    with pytest.raises(LikewiseError, match=r"keeps its saved settings, but objective.kind was"):
        fit(vectors(), out=tmp_path / "run", method=method, settings=other, resume=True, progress=False)


def test_a_bank_whose_kind_made_it_weights_may_be_given_again(tmp_path: Path) -> None:
    settings = {**small("bank"), "bank.samples": 0, "dictionary": "bank", "objective.kind": "parametric"}
    for resume in (False, True):
        fit(vectors(), out=tmp_path / "run", method="simclr", settings=settings, resume=resume, progress=False)
    assert read_config(tmp_path / "run").dictionary == "proxies"


def test_the_queue_and_the_key_encoder_are_in_the_checkpoint(tmp_path: Path) -> None:
    fit(vectors(), out=tmp_path / "run", method="moco-symmetric", settings=small("moco-symmetric"), progress=False)
    saved = load_checkpoint(tmp_path / "run/checkpoint.pt")
    assert set(saved["dictionary"]) == {"rows", "ids", "pointer", "filled"}
    assert int(saved["dictionary"]["pointer"]) == 2 * 2 * 60 % 33  # two epochs, both views' keys
    assert any(name.startswith("encoder.backbone") for name in saved["key_encoder"])


def test_only_torchruns_own_run_is_gone_on_with_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that another start began is refused at a restart, as it was at the start."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    fit(vectors(), out=tmp_path / "run", settings=small("npid"), progress=False)
    assert began_here(tmp_path / "run")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert processes.restarted()
    assert not began_here(tmp_path / "run")
    with pytest.raises(LikewiseError, match="already holds a run"):
        fit(vectors(), out=tmp_path / "run", settings=small("npid"), progress=False)
    assert not began_here(tmp_path / "nothing")


def test_a_data_set_that_grew_keeps_its_queue_by_name(tmp_path: Path) -> None:
    settings = small("moco")
    ids = [f"item{i}" for i in range(60)]
    items = Items(ids=tuple(ids), values=vectors(), kind="vectors")
    fit(items, out=tmp_path / "run", method="moco", settings={**settings, "epochs": 1}, progress=False)
    saved = load_checkpoint(tmp_path / "run/checkpoint.pt")
    order = np.random.default_rng(1).permutation(60)
    shuffled = items.select(order)
    session = build_session(
        read_config(tmp_path / "run"),
        Model.untrained(read_config(tmp_path / "run"), shuffled).embedder,
        shuffled,
        10,
        torch.device("cpu"),
    )
    session.load_state_dict(saved)
    queue = session.dictionary
    names = [shuffled.ids[row] for row in queue.get_buffer("ids").tolist() if row >= 0]
    assert names == [ids[row] for row in saved["dictionary"]["ids"].tolist() if row >= 0]


def test_defaults_of_every_method_are_whole_settings() -> None:
    for method in METHODS.values():
        assert isinstance(method.settings, FitSettings)
        assert settings_from({}, method.settings) == method.settings


# Names


NAMES = {
    **{"am-softmax": "cosface", "AMSoftmax": "cosface", "a-softmax": "sphereface", "Triplet": "facenet"},
    **{
        "multi-similarity": "ms",
        "lifted-structure": "lifted",
        "Circle": "circle",
        "NPID": "npid",
        "MoCo_v2": "moco-v2",
    },
}


@pytest.mark.parametrize(("name", "canonical"), NAMES.items())
def test_a_method_has_the_names_of_its_objective_and_settings_hold_its_own(name: str, canonical: str) -> None:
    method = METHODS[canonical]
    assert method_named(name) is method
    assert over_method({"method": name}) == over_method(
        {"epochs": 3}, {"method": name, "epochs": method.settings.epochs}
    )
    assert over_method({"method": name}) == chosen(name, None) == chosen(name, {"method": canonical})
    assert over_method({"method": name}).method == canonical
    assert chosen(None, replace(method.settings, method=name)) == chosen(None, method.settings)
    assert main(["methods", name]) == 0


def test_a_name_means_one_method_and_unknown_ones_get_the_closest() -> None:
    names = [letters(name) for method in METHODS.values() for name in (method.name, *method.aliases)]
    assert len(names) == len(set(names))
    with pytest.raises(LikewiseError, match=r"no method 'tripelt'. Did you mean 'triplet'\? Known: npid, moco"):
        method_named("tripelt")


def test_what_is_alike_chooses_the_method_where_none_is_named(tmp_path: Path) -> None:
    for given, name in (
        ({}, "npid"),
        ({"alike": "label"}, "normface"),
        ({"alike": "label", "objective.kind": "circle"}, "npid"),
        ({"alike": "pairs", "relations": "pairs.csv"}, "contrastive"),
        ({"alike": "pairs", "relations": str(tmp_path)}, "cdml"),
        ({"alike": "pairs", "relations": "pairs.csv", "dictionary": "queue"}, "npid"),
        ({"alike": "triplets"}, "facenet"),
        ({"alike": "graded", "objective": "ranknet"}, "ranking"),
        ({"alike": "clusters"}, "gcml-classes"),
    ):
        assert over_method(given).method == name
        assert over_method(given, {"method": "circle"}).method == "circle"
