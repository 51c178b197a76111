"""What objectives and dictionaries answer for themselves, so that training asks no class for its name."""

import ast
import inspect
import textwrap
from pathlib import Path

import pytest
import torch

from likewise import dictionaries, objectives
from likewise.dictionaries import Batch, Fresh, MemoryBank, Proxies, Queue
from likewise.errors import LikewiseError
from likewise.negatives import Hard, Random
from likewise.objectives import (
    Histogram,
    InfoNCE,
    LiftedStructure,
    Margin,
    Mined,
    SampledClasses,
    SampledSoftmax,
    Triplet,
)
from likewise.training import loop

TRAINING = Path(loop.__file__).parent


def test_training_asks_no_objective_or_dictionary_for_its_class() -> None:
    parts = {*objectives.__all__, *dictionaries.__all__, "PairObjective", "ClassObjective", "InstanceObjective"}
    for path in TRAINING.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "isinstance":
                asked = {name.id for name in ast.walk(call.args[1]) if isinstance(name, ast.Name)}
                assert not asked & parts, f"{path.name}, line {call.lineno}"


def test_the_loop_is_one_screen_and_three_deep() -> None:
    source = textwrap.dedent(inspect.getsource(loop.train))
    assert source.count("\n") <= 60

    def depth(node: ast.AST) -> int:
        deeper = isinstance(node, ast.For | ast.While | ast.If | ast.With | ast.Try)
        return deeper + max((depth(child) for child in ast.iter_child_nodes(node)), default=0)

    assert depth(ast.parse(source)) <= 3


def test_mining_answers_by_the_objective_inside() -> None:
    soft, hinge = Mined(Triplet(soft=True), negatives=Hard()), Mined(Triplet(margin=0.3), negatives=Hard())
    assert (soft.can_be_zero, hinge.can_be_zero, Mined(InfoNCE(), negatives=Hard()).can_be_zero) == (False, True, False)
    assert soft.triplet_margin() is None
    assert hinge.triplet_margin() == (0.3, "squared")
    assert hinge.log_values() == {"active": 1.0, "stage": 0.0}
    assert not hinge.joins_rows
    assert Mined(Margin(), negatives=Random(2)).joins_rows  # all processes draw alike


def test_which_losses_are_no_sum_over_rows() -> None:
    assert Histogram().joins_rows
    assert LiftedStructure().joins_rows
    assert not LiftedStructure(generalised=True).joins_rows
    assert SampledSoftmax().joins_rows
    assert SampledClasses(3, 2).joins_rows
    assert not InfoNCE().joins_rows


def test_dictionaries_say_among_how_many_keys_a_query_finds_its_own() -> None:
    assert Batch().choices(14) == 15
    assert Proxies(7).choices(14) == 7
    assert Queue(32, 4).choices(14) == 33
    assert Queue(32, 4, own_batch=True).choices(14) == 47
    assert MemoryBank(20, 4).choices(14) == 20
    assert MemoryBank(20, 4, samples=5).choices(14) == 6


def test_a_queue_shows_what_it_has_kept_and_the_others_nothing() -> None:
    queue = Queue(8, 4, start="empty")
    queue.update(torch.randn(3, 4), torch.arange(3))
    rows, ids = queue.kept(2)
    assert torch.equal(rows, queue.rows[:2])
    assert ids.tolist() == [0, 1]
    assert len(queue.kept(100)[1]) == 3
    assert MemoryBank(3, 4).kept(2) == (None, None)


def test_keys_follow_their_items_or_say_that_they_cannot() -> None:
    generator, old, new = torch.Generator(), ["a", "b", "c"], ["c", "a", "new"]
    bank = MemoryBank(3, 4, item_ids=new, generator=generator)
    saved = torch.randn(3, 4)
    bank.restore({"rows": saved})
    bank.follow(old, new, generator)
    assert torch.equal(bank.rows[:2], saved[[2, 0]])
    queue, by_label = Queue(3, 4), Queue(3, 4, older_pull=True)
    for each in (queue, by_label):
        each.update(torch.randn(3, 4), torch.arange(3))
        each.follow(old, new, generator)
    assert queue.ids.tolist() == [1, -1, 0]
    assert by_label.ids.tolist() == [0, 1, 2]  # labels are not rows
    assert (queue.bound, by_label.bound) == ("", "queue's keys")
    Proxies(3, bound="proxies of arcface").follow(old, new, generator)
    with pytest.raises(LikewiseError, match="a weight per item"):
        Proxies(3).follow(old, new, generator)


def test_every_objective_takes_what_any_dictionary_gives() -> None:
    rows, ids = torch.nn.functional.normalize(torch.randn(6, 4), dim=1), torch.arange(3).repeat(2)
    own = torch.arange(6)
    keys = Batch().keys(ids, Fresh(rows, ids, own))
    assert torch.equal(Triplet().against(rows, ids, keys), Triplet()(rows, ids))
    assert torch.equal(Triplet().against(rows, ids, None), Triplet()(rows, ids))
    bank = MemoryBank(3, 4)
    wanted = objectives.NonParametricSoftmax()(rows, ids, bank.rows)
    assert torch.equal(objectives.NonParametricSoftmax().against(rows, ids, bank.keys(ids)), wanted)
    proxies = objectives.NormFace(3, 4)
    assert torch.equal(proxies.against(rows, ids, None), proxies(rows, ids))
