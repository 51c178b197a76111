"""Measures of words beside scipy and loops, and word2vec's files, written and read again."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from reports.test_map import read
from scipy.stats import spearmanr
from torch.nn import functional

from likewise.cli.main import main
from likewise.errors import LikewiseError
from likewise.text import readable
from likewise.words.evaluation import analogies, answered, read_word_pairs, spearman, word_pairs
from likewise.words.model import NAME, WordVectors, load_words
from likewise.words.word2vec_files import read_word2vec, write_word2vec

WORDS = ["the", "King", "queen", "man", "woman", "3.5", "a b", "x\ty", "été", "<b>"]
VECTORS = WordVectors(WORDS, torch.randn(10, 4, generator=torch.Generator().manual_seed(0)))


def test_spearman_is_scipys() -> None:
    generator = np.random.default_rng(0)
    for size in (3, 20):
        a, b = generator.integers(0, 9, size).astype(float), generator.normal(size=size)
        assert spearman(a, b) == pytest.approx(float(spearmanr(a, b).statistic))
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))


def test_pairs_of_words_are_ranked_by_cosine(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    path.write_text(
        "# by people\nw1\tw2\tscore\nThe\tqueen\t3\nman\twoman\t9.5\nKing\t3.5\t1\nman\tgone\t2\nqueen\tthe\t4\n"
    )
    found = word_pairs(VECTORS, path)
    rows = functional.normalize(VECTORS.inputs, dim=1)
    cosines = [float(rows[a] @ rows[b]) for a, b in ((0, 2), (3, 4), (1, 5), (2, 0))]
    score = found.scores[0]
    assert (score.name, score.value) == (
        "p/spearman",
        pytest.approx(float(spearmanr(cosines, [3, 9.5, 1, 4]).statistic)),
    )
    assert (score.protocol["rows"], score.protocol["used"], score.protocol["without_vector"]) == (5, 4, "gone")
    assert found.missing == ("gone",)
    path.write_text("no,such,1")
    with pytest.raises(LikewiseError, match=r"only 0 of its 1 pairs have vectors"):
        word_pairs(VECTORS, path)
    path.write_text("a,b,2\n\nb,a,3\na b 4\n")
    pairs, notes = read_word_pairs(path)
    assert [pair.score for pair in pairs] == [2, 3, 4]
    assert notes[0] == "lines 1 and 3 have the same words, b and a; both count."


BAD = {
    "a,b,1\na,b\n": "line 2: there must be two words and a number, not 'a,b'",
    "a,b,1\na,b,nan\n": "line 2: there must be two words",
    "": "holds no pairs of words",
    "a,b,1\n,b,2": "line 2: there must be two words",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_pairs_are_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(LikewiseError, match=r"p\.csv.*" + BAD[text]):
        read_word_pairs(tmp_path / "p.csv")
    (tmp_path / "l.csv").write_bytes(b"caf\xe9,b,1")
    with pytest.raises(LikewiseError, match=r"l\.csv is not UTF-8 at byte 3"):
        read_word_pairs(tmp_path / "l.csv")


def test_analogies_are_those_of_a_loop(tmp_path: Path) -> None:
    rows = functional.normalize(VECTORS.inputs, dim=1)
    asked = torch.tensor([[1, 2, 3, 4], [0, 5, 8, 9], [4, 3, 2, 1]])
    found = answered(rows, asked)
    for number, (a, b, c, _) in enumerate(asked.tolist()):
        others = [d for d in range(10) if d not in (a, b, c)]
        add = {d: float(rows[d] @ (rows[b] - rows[a] + rows[c])) for d in others}
        near = [[(1 + float(rows[d] @ rows[word])) / 2 for d in others] for word in (a, b, c)]
        mul = {d: near[1][n] * near[2][n] / (near[0][n] + 1e-3) for n, d in enumerate(others)}
        assert int(found["3cosadd"][number]) == max(add, key=add.__getitem__)
        assert int(found["3cosmul"][number]) == max(mul, key=mul.__getitem__)
    path = tmp_path / "q.txt"
    path.write_text(": one\nKing queen man woman\nthe 3.5 été gone\n: two\nwoman man queen King\n")
    shares: list[float] = []
    measured = analogies(VECTORS, path, shares.append)
    wanted = [float(found["3cosadd"][0] == 4), float(found["3cosadd"][2] == 1)]
    scores = {score.name: score for score in measured.scores}
    assert [scores[f"q/3cosadd/{name}"].value for name in ("one", "two", "all")] == [*wanted, np.mean(wanted)]
    assert [scores["q/3cosmul/one"].protocol[name] for name in ("rows", "used")] == [2, 1]
    assert (measured.missing, shares) == (("gone",), [1.0])
    for text, message in (
        ("a b c", "line 1: an analogy has four words"),
        (": s", "no analogies"),
        ("a b c d", "none of"),
    ):
        path.write_text(text)
        with pytest.raises(LikewiseError, match=message):
            analogies(VECTORS, path, shares.append)


@pytest.mark.parametrize("binary", [False, True])
def test_word2vecs_files_are_read_as_they_were_written(binary: bool, tmp_path: Path) -> None:
    notes = write_word2vec(tmp_path / "v", VECTORS, binary=binary)
    assert notes == ["white space of 2 words is written as _, such as 'a_b'."]
    again = read_word2vec(tmp_path / "v")
    assert again.words == tuple("_".join(word.split()) for word in WORDS)
    assert torch.equal(again.inputs, VECTORS.inputs)
    content = (tmp_path / "v").read_bytes()
    assert content.startswith(b"10 4\nthe ")
    (tmp_path / "cut").write_bytes(content[:-30])
    with pytest.raises(LikewiseError, match=r"cut(, line 11: there must be| ends after 8 of 10 words)"):
        read_word2vec(tmp_path / "cut")
    with pytest.raises(LikewiseError, match=r"'a b' and 'a_b' would both be 'a_b' in this format"):
        write_word2vec(tmp_path / "v", WordVectors(["a b", "a_b"], torch.ones(2, 3)), binary=binary)


def test_gloves_text_and_bad_files_of_vectors(tmp_path: Path) -> None:
    path = tmp_path / "g.txt"
    path.write_text("cat 1 2\ndog 3 4\ncat 5 6\n")
    glove = read_word2vec(path)
    assert (glove.words, glove.inputs.tolist()) == (("cat", "dog"), [[1, 2], [3, 4]])
    for text, message in (
        ("hello\n", "is no file of vectors: its first line"),
        ("2 2\ncat 1 2\n", "ends after 1 of 2 words"),
        ("1 2\ncat 1 nan\n", "the vector of 'cat' holds NaN"),
        ("2 2\ncat 1 2\ndog 3\n", "line 3: there must be a word and 2 numbers"),
    ):
        path.write_text(text)
        with pytest.raises(LikewiseError, match=message):
            read_word2vec(path)
    with pytest.raises(LikewiseError, match="there is no file"):
        read_word2vec(tmp_path / "no")


def test_the_commands_measure_and_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    VECTORS.save(run / NAME)
    assert load_words(run).words == tuple(WORDS)
    (tmp_path / "p.tsv").write_text("the queen 3\nman woman 9\nKing 3.5 1\nman gone 2\n")
    (tmp_path / "q.txt").write_text(": family\nKing queen man woman\n")
    measure = ["--pairs", str(tmp_path / "p.tsv"), "--analogies", str(tmp_path / "q.txt")]
    assert main(["evaluate", str(run), *measure]) == 0
    said = capsys.readouterr().out
    assert "without a vector: gone." in said
    assert "family" in said
    scores = json.loads((run / "words.json").read_text())
    assert [score["name"] for score in scores][:2] == ["p/spearman", "q/3cosadd/all"]
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    header, columns = read(page)
    assert header["ids"] == [readable(word) for word in WORDS]
    assert set(columns) == {"x", "y"}
    assert "map" in page.partition('<script type="module">')[2]
    assert "p/spearman</td><td>" in page
    capsys.readouterr()
    assert main(["export", str(run), "--to", "word2vec", "--out", str(tmp_path / "v.bin")]) == 0
    assert "10 words of 4" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "v.bin"), *measure[:2], "--out", str(tmp_path / "o.json")]) == 0
    assert json.loads((tmp_path / "o.json").read_text())[0]["value"] == scores[0]["value"]
    capsys.readouterr()
    for words, message in (
        (
            ["evaluate", str(tmp_path / "v.bin"), *measure[:2]],
            "is a file and no run folder: name the file of the numbers",
        ),
        (["evaluate", str(run), *measure, "--train", "x"], "measure vectors of words; leave --train out"),
        (["export", str(run), "--to", "glove", "--out", "x"], "--to glove is no format of words; it must be word2vec"),
        (["evaluate", str(tmp_path / "no"), *measure, "--out", "o"], "there is no trained model"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
