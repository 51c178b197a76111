"""Near-copies: similarity, groups, estimate and candidates against plain loops; planted copies; what is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import likewise as lw
from likewise.answers import candidates
from likewise.answers.candidates import Neighbours, Search
from likewise.answers.changed_copies import changed_copies
from likewise.answers.duplicates import duplicates
from likewise.answers.page import duplicates_page
from likewise.answers.same_picture import between, similarities, similarity, small_pictures
from likewise.answers.same_vector import distances, in_scale, on_sphere
from likewise.answers.stars import stars
from likewise.answers.unlike_pairs import unlike_pairs
from likewise.cli.main import main
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.evaluation.picture_page import page_file
from likewise.index import all_rows
from likewise.index.all_rows import Known

SIZE = 16


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path / "cache"))


def blobs(count: int, seed: int = 0) -> np.ndarray:
    """(N, 16, 16, 3) uint8 smooth pictures of random colours."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic", align_corners=True)
    return (fine.permute(0, 2, 3, 1) * 255).clamp(0, 255).byte().numpy()


def as_items(images: np.ndarray, **more: object) -> Items:
    ids = tuple(f"{row:03}.png" for row in range(len(images)))
    return Items(ids=ids, values=images, kind="images", source="blobs", **more)  # type: ignore[arg-type]


def loop_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """The definition, by a ridge regression with an extra row for each weight."""

    def explained(a: np.ndarray, b: np.ndarray) -> float:
        side = len(a) - 2
        columns = []
        for down in range(3):
            for across in range(3):
                part = a[down : down + side, across : across + side].ravel()
                columns.append(part - part.mean())
        wanted = b[1:-1, 1:-1].ravel()
        wanted = wanted - wanted.mean()
        matrix = np.stack(columns, 1)
        ridge = 1e-3 * np.mean([column @ column for column in columns])
        weights, *_ = np.linalg.lstsq(
            np.concatenate([matrix, ridge**0.5 * np.eye(9)]), np.append(wanted, np.zeros(9)), rcond=None
        )
        return float(max(0.0, weights @ (matrix.T @ wanted) / (wanted @ wanted)) ** 0.5)

    a, b = a.astype(np.float64), b.astype(np.float64)
    return max(explained(a, b), explained(b, a))


def test_similarity_is_that_of_a_plain_regression() -> None:
    images = blobs(12)
    _, copies = changed_copies(images, np.arange(12), 12)
    pairs = np.array([(a, b) for a in range(12) for b in range(0, 12, 5)])
    expected = [loop_similarity(images[a], copies[b]) for a, b in pairs]
    assert between(images, copies, pairs) == pytest.approx(expected, abs=2e-4)


def test_similarity_forgives_shift_brightness_and_blur_but_not_another_picture() -> None:
    image, other = blobs(2).astype(np.float32)
    shifted = np.roll(image, (1, -1), (0, 1))
    blurred = sum(np.roll(image, move, (0, 1)) for move in [(0, 0), (0, 1), (1, 0), (1, 1)]) / 4
    changed = torch.from_numpy(np.stack([shifted, blurred, 0.5 * image + 20, other, np.full_like(image, 90)]))
    found = similarity(torch.from_numpy(image).expand(5, -1, -1, -1), changed)
    assert (found[:3] > 0.999).all()
    assert found[3] < 0.9
    assert found[4] == 0  # of a single colour
    assert torch.equal(found, similarity(changed, torch.from_numpy(image).expand(5, -1, -1, -1)))


def test_small_pictures_are_means_of_squares() -> None:
    images = blobs(3)
    expected = images.reshape(3, 8, 2, 8, 2, 3).mean((2, 4))
    assert np.abs(small_pictures(images).astype(float) - expected).max() <= 0.5


def loop_stars(count: int, pairs: list[tuple[int, int]], order: list[int]) -> dict[int, list[int]]:
    taken, groups = set[int](), dict[int, list[int]]()
    for centre in order:
        if centre in taken:
            continue
        members = [x for x in range(count) if x not in taken and ((centre, x) in pairs or (x, centre) in pairs)]
        if members:
            groups[centre] = members
            taken |= {centre, *members}
    return groups


@pytest.mark.parametrize("seed", range(5))
def test_stars_are_those_of_a_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    every = [(a, b) for a in range(15) for b in range(a + 1, 15)]
    pairs = [every[place] for place in random.permutation(len(every))[: 4 + 5 * seed]]
    degree = [sum(row in pair for pair in pairs) for row in range(15)]
    by_degree = sorted(range(15), key=lambda row: (-degree[row], row))
    order = random.permutation(15)
    assert stars(15, np.array(pairs)) == loop_stars(15, pairs, by_degree)
    assert stars(15, np.array(pairs), order) == loop_stars(15, pairs, order.tolist())


def test_a_chain_is_not_one_group() -> None:
    chain = np.array([(0, 1), (1, 2), (2, 3), (3, 4)])
    assert stars(5, chain) == {1: [0, 2], 3: [4]}
    assert stars(5, chain, np.arange(5)) == {0: [1], 2: [3]}
    assert stars(3, np.empty((0, 2), np.int64)) == {}


def test_the_estimated_precision_is_near_the_true_one() -> None:
    random = np.random.default_rng(0)
    unlike, copies = np.tanh(np.abs(random.normal(0, 0.7, 20_000))), np.tanh(random.normal(3, 0.4, 700))
    estimate = unlike_pairs(np.concatenate([unlike, copies[:200]]), copies[200:])
    assert estimate is not None
    for wanted in (0.8, 0.9, 0.95):
        limit = estimate.threshold(wanted)
        true = (copies[:200] >= limit).sum() / ((copies[:200] >= limit).sum() + (unlike >= limit).sum())
        assert estimate.precision(limit) == pytest.approx(true, abs=0.08)
        assert estimate.precision(limit) >= wanted - 1e-9
        assert (copies[:200] >= limit).mean() > 0.6
    alone = unlike_pairs(unlike, copies[200:])
    assert alone is not None
    assert (unlike >= alone.threshold(0.95)).sum() <= 1  # no copies: hardly a pair is called one
    assert unlike_pairs(unlike[:599], copies) is None


def test_the_effort_of_an_engine_is_the_least_that_finds_known_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="candidates by an engine were not tested")
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(4000, 12, generator=generator), dim=1)
    asked = rows[::10] + 0.1 * torch.randn(400, 12, generator=generator)
    places, ids = np.arange(0, 4000, 10), tuple(map(str, range(4000)))
    known = Known(torch.nn.functional.normalize(asked, dim=1), places, 3)

    def share(found: torch.Tensor) -> float:
        return float(np.mean([place in near for place, near in zip(places, found.tolist(), strict=True)]))

    exact = share((known.rows @ rows.T).topk(3, dim=1).indices)
    monkeypatch.setattr(all_rows, "_ALL_PAIRS", 0)
    tuned = Neighbours(rows, ids, known=known)
    assert share(tuned.of_rows(known.rows, 3)[1]) >= exact - 0.01
    engine = tuned._index.engine
    assert engine is not None
    chosen = engine.effort
    assert chosen < Neighbours(rows, ids)._index.engine.effort  # type: ignore[union-attr]
    engine.effort = max(each for each in engine.efforts() if each < chosen)
    assert share(tuned.of_rows(known.rows, 3)[1]) < exact - 0.01


def test_pairs_of_neighbours_are_those_of_a_loop() -> None:
    rows = torch.nn.functional.normalize(torch.randn(30, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    cosines = (rows.double() @ rows.double().T).fill_diagonal_(-2)
    wanted = set[tuple[int, int]]()
    for row in (3, 7, 20):
        for other in cosines[row].argsort(descending=True)[:4].tolist():
            wanted.add((min(row, other), max(row, other)))
    found = Neighbours(rows, tuple(map(str, range(30)))).pairs(4, np.array([3, 7, 20]))
    assert set(map(tuple, found.places.tolist())) == wanted
    assert found.closeness == pytest.approx([float(cosines[a, b]) for a, b in found.places], abs=1e-6)


def test_a_search_looks_further_where_all_candidates_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    angle = torch.cat([torch.linspace(0, 0.01, 25), torch.linspace(1, 6, 25)])
    rows = torch.stack([angle.cos(), angle.sin()], 1)
    neighbours = Neighbours(rows, tuple(map(str, range(50))))
    search = Search([neighbours], lambda places, tick: -distances(rows, places), 50, 2)
    search.look([-2.0], lambda what: lambda share: None)
    close = search.beyond(-0.02, lambda what: lambda share: None)
    assert {tuple(pair) for pair in close.places.tolist()} == {(a, b) for a in range(25) for b in range(a + 1, 25)}
    monkeypatch.setattr(candidates, "_MOST", 25 * 8 - 1)
    search = Search([neighbours], lambda places, tick: -distances(rows, places), 50, 2)
    search.look([-2.0], lambda what: lambda share: None)
    assert len(search.beyond(-0.02, lambda what: lambda share: None).places) < 25 * 8  # too many to look for


def test_vectors_are_in_the_scale_of_their_distances() -> None:
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) * [1, 100, 0] + [0, 5, 7]
    items = Items(ids=tuple(map(str, range(40))), values=values.astype(np.float32), kind="vectors")
    rows = in_scale(items)
    pairs = np.array([(a, b) for a in range(40) for b in range(40)])
    found = distances(rows, pairs)
    standard = values[:, :2] / values[:, :2].std(0)
    expected = [np.linalg.norm(standard[a] - standard[b]) / 6**0.5 for a, b in pairs]
    assert found == pytest.approx(expected, abs=1e-5)
    assert (found**2).mean() == pytest.approx(2 / 3, abs=1e-5)  # 1, but that one of three numbers never varies
    sphere = on_sphere(rows)
    assert torch.allclose(sphere.norm(dim=1), torch.ones(40), atol=1e-6)


def planted(count: int = 150, copies: int = 40) -> tuple[np.ndarray, set[tuple[int, int]]]:
    """Pictures, then changed copies of some of them and an exact copy; the true pairs."""
    images = blobs(count)
    drawn, changed = changed_copies(images, np.arange(count), copies, seed=5)
    true = {(int(row), count + place) for place, row in enumerate(drawn)}
    return np.concatenate([images, changed, images[:1]]), true | {(0, count + copies)}


def test_planted_copies_are_found_and_nothing_else() -> None:
    images, true = planted()
    found = lw.duplicates(as_items(images), progress=False)
    pairs = {(min(m.first, m.second), max(m.first, m.second)) for group in found.groups for m in group.members}
    assert len(pairs & true) >= 0.9 * len(pairs)
    assert len(pairs & true) >= 0.7 * len(true)
    assert found.exact == 1
    assert found.precision is not None
    assert found.precision >= 0.95
    assert found.recall is not None
    assert 0.7 < found.recall <= 1
    values = similarities(images, np.array([(m.first, m.second) for group in found.groups for m in group.members]))
    assert (values >= found.threshold - 1e-6).all()  # each is alike to what stands for it
    assert [each.value for each in found.look] == sorted((each.value for each in found.look), reverse=True)
    assert {found.alike(each) for each in found.look} == {True, False}
    assert len(found.spare) == len(set(found.spare)) == len(pairs)
    fixed = duplicates(as_items(images), threshold=1.0, progress=False)
    assert [len(group.members) for group in fixed.groups] == [1]  # the exact copy, whatever the threshold


def test_a_model_proposes_pairs_too() -> None:
    images, true = planted(60, 10)
    items = as_items(images)
    settings = lw.FitSettings(size=SIZE)
    model = lw.Model.untrained(settings, items)
    found = duplicates(items, run=model, k=3, progress=False)
    pairs = {(min(m.first, m.second), max(m.first, m.second)) for group in found.groups for m in group.members}
    assert len(pairs & true) >= 7
    with pytest.raises(LikewiseError, match=r"the size is that of the run, 16 px; leave size=8 out"):
        duplicates(items, run=model, size=8)


def test_vectors_are_alike_up_to_a_distance() -> None:
    values = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
    values[50], values[51], values[52] = values[3] + 0.001, values[3], values[4] + 0.2
    items = Items(ids=tuple(f"v{row}" for row in range(80)), values=values, kind="vectors", source="vectors")
    found = duplicates(items, progress=False)
    assert [(group.centre, {m.second for m in group.members}) for group in found.groups] == [(3, {50, 51})]
    assert found.precision is found.recall is None
    assert "0.05 times the usual one" in found.about()
    wide = duplicates(items, threshold=0.2, progress=False)
    rows = in_scale(items)
    for group in wide.groups:
        for each in group.members:
            assert each.value == pytest.approx(float((rows[each.first] - rows[each.second]).norm()), abs=1e-6)
            assert each.value <= 0.2
    assert {4, 52} in [{group.centre, *(m.second for m in group.members)} for group in wide.groups]


def folder(place: Path) -> None:
    """Pictures, a larger copy of one, and an exact copy of another with a name that HTML must not read."""
    place.mkdir()
    images = blobs(30)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(place / f"a{number:02}.png")
    Image.fromarray(images[3]).resize((64, 64), Image.Resampling.BICUBIC).save(place / "big of 3.png")
    Image.fromarray(images[4]).save(place / "z <b>[red]4.png")


def test_the_command_writes_a_list_and_a_page_and_deletes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out, page = tmp_path / "photos", tmp_path / "new" / "list.csv", tmp_path / "page.html"
    folder(photos)
    before = sorted(photos.iterdir())
    given = [str(photos), "--size", str(SIZE), "--out", str(out), "--html", str(page)]
    assert main(["duplicates", *given, "--keep", "largest"]) == 0
    printed = capsys.readouterr().out
    assert "32 images; 2 groups of near-copies; 2 items could go, of which 1 are exact copies." in printed
    assert "too few to estimate" in printed
    assert "z <b>[red]4.png" in printed
    with open(out, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["id"], row["stands_for_it"], row["keep"]) for row in rows} == {
        ("big of 3.png", "big of 3.png", "yes"),
        ("a03.png", "big of 3.png", "no"),
        ("a04.png", "a04.png", "yes"),
        ("z <b>[red]4.png", "a04.png", "no"),
    }
    text = page.read_text(encoding="utf-8")
    assert 'alt="z &lt;b&gt;[red]4.png"' in text
    assert "<b>[red]" not in text
    assert "src=" in text
    assert 'src="http' not in text
    assert sorted(photos.iterdir()) == before
    assert main(["duplicates", *given, "--keep", "first"]) == 0
    with open(out, newline="", encoding="utf-8") as file:
        assert {row["id"] for row in csv.DictReader(file) if row["keep"] == "yes"} == {"a03.png", "a04.png"}


def test_the_page_of_vectors_has_names(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    values[7] = values[2]
    items = Items(ids=tuple(f"<{row}>" for row in range(20)), values=values, kind="vectors", source="vectors")
    duplicates_page(tmp_path / "page.html", duplicates(items, progress=False))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "&lt;2&gt;" in text
    assert "<2>" not in text
    with pytest.raises(LikewiseError, match=r"a page is written as .html"):
        page_file(tmp_path / "page.pdf")


def test_all_the_same_picture_is_one_group() -> None:
    found = duplicates(as_items(np.repeat(blobs(1), 5, 0)), progress=False)
    assert [(group.centre, len(group.members)) for group in found.groups] == [(0, 4)]
    assert found.look == ()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"k": 0}, "k=0 must be at least 1; it is a number of candidates of each item."),
        (
            {"keep": "larges"},
            "there is no rule 'larges' of which to keep. Did you mean 'largest'? Known: largest, first.",
        ),
        ({"keep": "largest"}, "the items of blobs are all of one size, so none is the largest."),
        ({"threshold": 1.5}, "threshold=1.5 must be at most 1: it is the similarity of two pictures."),
        ({"threshold": -1}, "threshold=-1 must be 0 or more."),
        ({"precision": 1.0}, "precision=1.0 must be above 0 and below 1; 0.95 is usual."),
    ],
)
def test_what_duplicates_refuses(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(LikewiseError) as error:
        duplicates(as_items(blobs(4)), progress=False, **given)  # type: ignore[arg-type]
    assert str(error.value) == sentence


def test_sources_that_duplicates_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LikewiseError, match=r"holds one item only, so there is no other to compare it with"):
        duplicates(as_items(blobs(1)), progress=False)
    with pytest.raises(LikewiseError, match=r"items of several parts can't be compared"):
        duplicates({"image": "photos/"}, progress=False)
    with pytest.raises(LikewiseError, match=r"are 4 px wide, which is too small"):
        duplicates(as_items(blobs(4)[:, :4, :4]), progress=False)
    (tmp_path / "empty").mkdir()
    for words, sentence in (
        (["duplicates", str(tmp_path / "empty")], "holds no images"),
        (["duplicates", "photos", "--keep", "first"], "--keep needs --out FILE"),
        (["duplicates", "photos", "-k", "0"], "-k is 0; it must be"),
        (["duplicates", "photos", "--out", "list.txt"], "a table is written as .csv or .parquet"),
        (["duplicates", str(tmp_path), "--run", str(tmp_path / "none")], "there is no run"),
    ):
        assert main(words) == 2
        assert sentence in capsys.readouterr().err
