"""The items whose neighbours a report shows are chosen to inform, and what is wrong is marked."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_map import made

from likewise.reports.labels import called, differ
from likewise.reports.neighbours import look_up, neighbours, of_labels


@pytest.mark.parametrize("wide", [1, 3])
def test_whether_labels_differ_is_as_sets_say(wide: int) -> None:
    random = np.random.default_rng(wide)
    labels = random.integers(-1, 4, (20, wide))
    rows, others = torch.arange(20), torch.from_numpy(random.integers(-1, 20, (20, 6)))
    found = differ(torch.from_numpy(labels), rows, others)
    for row in range(20):
        for place, other in enumerate(others[row].tolist()):
            mine, theirs = (set(labels[each].tolist()) - {-1} for each in (row, other))
            wanted = other >= 0 and bool(mine) and bool(theirs) and not mine & theirs
            assert bool(found[row, place]) == wanted


def test_labels_go_from_the_weakest_to_the_strongest_with_a_typical_and_the_worst_item() -> None:
    items, rows = made(200, 8)
    near = look_up(items, rows)
    assert near.wrong is not None
    share = near.wrong.double().mean(1)
    labels = torch.from_numpy(np.asarray(items.labels))
    examples = of_labels(items, near)
    assert examples == of_labels(items, look_up(items, rows))
    groups = list(dict.fromkeys(each.group for each in examples))
    assert len(groups) == 5
    means = {f"label {label}": float(share[labels == label].mean()) for label in range(8)}
    shown = [means[group] for group in groups]
    assert shown == sorted(shown, reverse=True)
    assert (max(shown), min(shown)) == (max(means.values()), min(means.values()))
    for each in examples:
        mine = share[labels == int(labels[each.place])]
        wanted = mine.max() if each.why.startswith("worst") else mine.median()
        assert share[each.place] == wanted
        assert f"{round(10 * float(share[each.place]))} of 10 wrong" in each.why


def test_every_caption_is_of_one_kind_and_wrong_hits_are_marked_by_more_than_colour() -> None:
    items, rows = made(40, 3)
    page = neighbours(items, rows)
    figures = re.findall("<figure.*?</figure>", page)
    queries = [figure for figure in figures if "hit query" in figure]
    wrong = [figure for figure in figures if "hit wrong" in figure]
    assert all(re.search("query: </span>label [0-2]<", figure) for figure in queries)
    assert all(re.search(r"> ?(−?\d\.\d\d) · label [0-2]<", figure) for figure in figures if figure not in queries)
    assert wrong
    assert all("✗" in figure and "another label: " in figure for figure in wrong)
    assert sum("✗" in figure for figure in figures) == len(wrong)
    assert "<item>" not in page
    assert re.search(r"<h3><bdi>label [0-2]</bdi>: \d+% of the nearest", page)


def test_items_without_labels_show_typical_and_lonely_items_by_id() -> None:
    items, rows = made(40, 4)
    rows[7] = -rows.mean(0) / rows.mean(0).norm()
    page = neighbours(replace(items, labels=None, label_names=()), rows)
    typical, far = page.split("<h3>")[1:]
    assert typical.startswith("Typical items")
    assert far.startswith("Items that are far from all others")
    assert re.findall(r'<figure class="hit query"><img[^>]* alt="&lt;item&gt; (\d+)"', far)[0] == "7"
    assert "✗" not in page
    assert called(items, 0).startswith("label")


def test_vectors_are_listed_and_one_item_has_no_neighbours() -> None:
    items, rows = made(6, 2)
    vectors = replace(items, kind="vectors", values=np.zeros((6, 2), np.float32))
    page = neighbours(vectors, rows)
    assert "<img" not in page
    assert re.search(r"<li>\d\.\d\d · &lt;item&gt; \d \(label [01]\)", page)
    assert "one item only" in neighbours(items.select([0]), rows[:1])
    unknown = neighbours(replace(items, labels=np.full(6, -1)), rows)
    assert "Typical items" in unknown
