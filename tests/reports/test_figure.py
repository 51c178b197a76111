"""The figures: what is drawn is what the paper says of Circle loss, and every objective can be drawn."""

import math
import sys
from pathlib import Path
from xml.dom import minidom

import numpy as np
import pytest
import torch
from PIL import Image

from likewise.cli.main import main
from likewise.config.objective_table import DRAWN, OBJECTIVES, Row
from likewise.errors import LikewiseError
from likewise.objectives.hinge import Contrastive, Margin, Triplet
from likewise.objectives.pair_level import Circle, InfoNCE, MultiSimilarity
from likewise.reports.descent import boundary_of, criteria, descend, edges, measure
from likewise.reports.figure import Drawn, build, draw

SQUARE = (-1.0, 1.0)
EACH = pytest.mark.parametrize("known", DRAWN, ids=lambda known: known.name)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# What is drawn


@pytest.mark.parametrize("margin", [0.25, 0.4])
def test_circles_boundary_is_the_papers_circle(margin: float) -> None:
    circle = Circle(gamma=80, margin=margin)
    (accepts,) = criteria(circle, boundary_of(circle))
    (line,) = edges(circle, accepts, SQUARE, nodes=41)
    s_n, s_p = line[line[:, 0] > -margin].T  # further left the negative has no weight
    assert len(s_n) > 20
    np.testing.assert_allclose(s_n**2 + (1 - s_p) ** 2, 2 * margin**2, atol=1e-9)
    np.testing.assert_allclose(line[line[:, 0] < -margin, 1], 1 - margin, atol=1e-9)


def test_circles_gradients_are_equations_9_and_10() -> None:
    gamma, m = 80.0, 0.4
    points = np.random.default_rng(0).uniform(-0.3, 1, (200, 2))
    field = measure(Circle(gamma=gamma, margin=m), points)
    s_n, s_p = points.T
    loss = np.logaddexp(0, gamma * (s_n**2 - m**2 + (1 - s_p) ** 2 - m**2))
    z = -np.expm1(-loss)  # one positive and one negative: the softmaxes are 1
    np.testing.assert_allclose(field.loss, loss, rtol=1e-9)
    np.testing.assert_allclose(field.by_n, z * gamma * (s_n + m), rtol=1e-9)
    np.testing.assert_allclose(field.by_p, z * gamma * (s_p - 1 - m), rtol=1e-9)


def test_gradients_are_slopes_of_the_loss() -> None:
    points = np.random.default_rng(1).uniform(-0.9, 0.9, (50, 2))
    for objective in (InfoNCE(), Triplet(distance="euclidean", soft=True), MultiSimilarity(epsilon=None)):
        field = measure(objective, points)
        for side, slope in ((0, field.by_n), (1, field.by_p)):
            step = np.eye(2)[side] * 1e-6
            difference = measure(objective, points + step).loss - measure(objective, points - step).loss
            np.testing.assert_allclose(difference / 2e-6, slope, atol=1e-5)


def test_boundaries_in_closed_form() -> None:
    lines = {
        "infonce": (InfoNCE(), lambda s_n, s_p: s_p - s_n),
        "triplet": (Triplet(margin=0.2), lambda s_n, s_p: s_p - s_n - 0.1),
        "soft": (Triplet(margin=0.2, soft=True), lambda s_n, s_p: s_p - s_n - 0.1),
        "mining": (MultiSimilarity(epsilon=0.1), lambda s_n, s_p: s_p - s_n - 0.1),
        "apart": (MultiSimilarity(epsilon=None, base=0.55), lambda *s: np.minimum(abs(s[0] - 0.55), abs(s[1] - 0.55))),
        "margin": (Margin(alpha=0.2, beta=1.2), lambda s_n, s_p: np.minimum(abs(s_n - 0.02), abs(s_p - 0.5))),
    }  # fmt: skip
    for name, (objective, zero) in lines.items():
        accepts = criteria(objective, boundary_of(objective))
        found = [line for accept in accepts for line in edges(objective, accept, SQUARE, nodes=31)]
        assert found, name
        np.testing.assert_allclose(zero(*np.concatenate(found).T), 0, atol=1e-6, err_msg=name)


def test_descent_ends_where_it_should() -> None:
    def end(objective: torch.nn.Module, start: tuple[float, float]) -> tuple[np.ndarray, bool]:
        way = descend(objective, criteria(objective, boundary_of(objective)), start, SQUARE)  # type: ignore[arg-type]
        assert np.abs(way.points).max() <= 1
        return way.points[-1], way.met

    np.testing.assert_allclose(end(InfoNCE(), (0.9, 0.6))[0], [0.75, 0.75], atol=1e-9)
    np.testing.assert_allclose(end(Triplet(margin=0.2), (0.4, 0.1))[0], [0.2, 0.3], atol=1e-9)
    np.testing.assert_allclose(end(Contrastive(), (0.9, 0.6))[0], [0.5, 1], atol=0.01)
    at, met = end(Circle(), (0.4, 0.1))
    assert met
    assert math.hypot(at[0], 1 - at[1]) == pytest.approx(0.4 * math.sqrt(2), abs=1e-9)
    at, met = end(Circle(), (0.0, 0.9))  # good already
    assert met
    assert at.tolist() == [0.0, 0.9]


def test_descent_says_when_it_never_gets_there() -> None:
    class Flat(torch.nn.Module):
        def pair_loss(self, s_p: torch.Tensor, s_n: torch.Tensor) -> torch.Tensor:
            return torch.ones_like(s_p)

    way = descend(Flat(), criteria(Flat(), "balance"), (0.9, 0.6), SQUARE)
    assert not way.met
    assert len(way.points) == 1
    assert "A (s_n 0.90, s_p 0.60) stays" in str(Drawn((Path("flat.png"),), "balance", (way, way)))


# Files


@EACH
def test_every_objective_draws(known: Row) -> None:
    objective, title = build(known, {})
    drawn = draw(objective, known.name, title=title, grid=8, formats=("svg",))
    assert drawn.boundary == known.boundary
    (file,) = drawn.files
    text = file.read_text(encoding="utf-8")
    minidom.parseString(text.encode())
    assert f">{known.class_name}</text>" in text
    assert " nan" not in text.lower()
    points = np.random.default_rng(2).uniform(-0.99, 0.99, (100, 2))
    field = measure(objective, points)
    assert all(np.isfinite(part).all() for part in (field.loss, field.by_n, field.by_p))


def test_both_files_and_the_same_bytes_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figure", "circle", "--range", "0", "1", "--set", "margin=0.25", "--set", "gamma=64"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("circle.png, circle.svg: the boundary is L = log 2")
    with Image.open("circle.png") as picture:
        picture.load()
        assert (picture.format, picture.width) == ("PNG", 1350)
    assert "gamma = 64, margin = 0.25" in Path("circle.svg").read_text(encoding="utf-8")
    assert main(["figure", "Circle", "--range", "0", "1", "--set", "margin=0.25", "gamma=64", "--out", "b.svg"]) == 0
    assert sorted(path.name for path in Path().iterdir()) == ["b.png", "b.svg", "circle.png", "circle.svg"]
    for suffix in ("png", "svg"):
        assert Path(f"b.{suffix}").read_bytes() == Path(f"circle.{suffix}").read_bytes()


def test_all_draws_all_into_a_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("likewise.reports.figure.DRAWN", DRAWN[1:2])
    assert main(["figure", "all", "--out", "figures"]) == 0
    names = sorted(path.name for path in Path("figures").iterdir())
    assert names == ["circle.png", "circle.svg"]
    assert capsys.readouterr().out.count("the boundary is") == 1


# Parameters


def test_parameters_are_read_as_their_types() -> None:
    built, title = build(by_name("InfoNCE"), {"temperature": 1e-1, "positives": "sum"})
    assert (built.temperature, built.positives) == (0.1, "sum")
    assert title == "InfoNCE\ntemperature = 0.1, positives = sum"
    assert build(by_name("MultiSimilarity"), {"epsilon": None})[0].epsilon is None
    assert build(by_name("Triplet"), {"soft": True})[0].soft is True
    assert build(by_name("Histogram"), {"bins": 10})[0].bins == 10


def by_name(name: str) -> Row:
    return next(known for known in OBJECTIVES if known.class_name == name)


MISTAKES: list[tuple[str, str]] = [
    ("ranknet", "objective ranknet takes lists of scores, so it has no loss of one positive"),
    ("circel", "there is no objective 'circel'. Did you mean 'circle'?"),
    ("circle --set gama=3", "circle has no parameter 'gama'. Did you mean 'gamma'? It has gamma, margin."),
    ("circle --set gamma=x", "setting 'gamma' is 'x'; it must be a number above 0."),
    ("circle --set gamma=-1", "setting 'gamma' is -1; it must be a number above 0"),
    ("circle --set gamma", "--set takes NAME=VALUE, such as encoder.bn_groups=4, not 'gamma'"),
    ("circle --set reduction=sum", "circle has no parameter 'reduction'"),
    ("infonce --set positives=al", "setting 'positives' is 'al'; it must be each or sum"),
    ("triplet --set soft=maybe", "setting 'soft' is 'maybe'; it must be true or false"),
    ("histogram --set bins=1.5", "setting 'bins' is 1.5; it must be a whole number from 1"),
    ("multisimilarity --set epsilon=abc", "setting 'epsilon' is 'abc'; it must be a number or null"),
    ("circle --range 1 0", "range 1 0 makes no square of cosines; give LOW HIGH"),
    ("circle --range 0 1e-300", "range 0 1e-300 makes no square of cosines"),
    ("circle --range nan 1", "--range can't be 'nan'; it must be a number"),
    ("circle --range 0", "--range needs 2 values"),
    ("circle --out /dev/null", "/dev/null is a device, pipe or socket, not a file"),
    ("circle --out /dev/null/x", "can't write /dev/null/x.png: Not a directory"),
    ("all --set gamma=3", "--set gives the parameters of one objective"),
    ("all --out /dev/null", "Not a directory; choose another --out"),
]


@pytest.mark.parametrize(("line", "expected"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_sentence_and_leaves_no_file(
    line: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(["figure", *line.split()])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert said.err.startswith("likewise: ")
    assert said.err.count("\n") == 1
    assert expected in said.err
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(LikewiseError, match=r'pip install "likewise\[plot\]"'):
        draw(Circle(), "circle")
    assert list(tmp_path.iterdir()) == []


class Flat:
    """A loss with a small slope everywhere, which no point is accepted of."""

    def pair_loss(self, s_p: torch.Tensor, s_n: torch.Tensor) -> torch.Tensor:
        return s_n - s_p


def test_an_unknown_objective_is_drawn_by_balance() -> None:
    assert boundary_of(Flat()) == "balance"


def test_descent_ends_in_a_corner_or_after_its_steps() -> None:
    never = (lambda field: np.array(False),)
    corner = descend(Flat(), never, (0.9, 0.6), (0.0, 1.0))
    assert not corner.met
    np.testing.assert_allclose(corner.points[-1], (0.0, 1.0))  # the loss is least there

    class Turns:
        """Its gradient is across the way to the middle: the path goes round it."""

        def pair_loss(self, s_p: torch.Tensor, s_n: torch.Tensor) -> torch.Tensor:
            across = (s_n - 0.5) * (s_p.detach() - 0.5) - (s_p - 0.5) * (s_n.detach() - 0.5)
            return across

    round_it = descend(Turns(), never, (0.7, 0.5), (0.0, 1.0))
    assert (round_it.met, len(round_it.points)) == (False, 801)
