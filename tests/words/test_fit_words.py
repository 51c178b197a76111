"""A run of words: what it learns, the command line, stopping and resuming."""

import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import likewise as lw
from likewise.cli.main import main
from likewise.errors import Interrupted, LikewiseError
from likewise.index.embedding_file import read_embedding
from likewise.training import fit_words as module
from likewise.training.end_of_words import End
from likewise.training.metrics_log import read_metrics
from likewise.training.run_folder import read_config, read_data
from likewise.words import learning
from likewise.words.corpus import CORPUS, Corpus
from likewise.words.learning import blocks_of_step
from likewise.words.model import WordVectors, load_words

SMALL = {"encoder.dim": 8, "epochs": 2, "batch_size": 64, "vocabulary.least": 1, "vocabulary.subsample": 0.0}
TOPICS = ["sun moon star sky comet", "bread milk egg butter flour", "oak elm ash pine fir"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lines of words of one of three topics."""
    path, generator = tmp_path_factory.mktemp("text") / "corpus.txt", np.random.default_rng(0)
    lines = (" ".join(generator.choice(TOPICS[generator.integers(3)].split(), 8)) for _ in range(300))
    path.write_text("\n".join(lines))
    return path


def trained(text: Path, out: Path, **settings: Any) -> WordVectors:
    return lw.fit_words(text, out=out, settings={"method": "skipgram", **SMALL, **settings}, progress=False)


@pytest.fixture(scope="module")
def run(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the text, with its index."""
    run = tmp_path_factory.mktemp("run") / "w"
    trained(text, run)
    assert main(["index", str(run)]) == 0
    return run


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"method": "cbow", "epochs": 4},
        {"objective": "nce", "noise.log_z": "learned", "epochs": 4},
        {"objective": "nce", "noise.log_z": "estimated", "epochs": 4},
        {"objective": "sampled-softmax"},
    ],
    ids=lambda values: ", ".join(map(str, values.values())),
)
def test_words_of_a_topic_end_up_alike(values: dict[str, Any], text: Path, tmp_path: Path) -> None:
    vectors = trained(text, tmp_path / "w", **values)
    rows = vectors.embed(" ".join(TOPICS).split()).rows
    alike = (rows @ rows.T).view(3, 5, 3, 5)
    within = torch.stack([alike[topic, :, topic] for topic in range(3)]).mean()
    between = torch.stack([alike[a, :, b] for a in range(3) for b in range(3) if a != b]).mean()
    assert within > between + 0.4
    assert read_metrics(tmp_path / "w")[-1]["epoch"] == values.get("epochs", 2)


def test_a_stopped_run_goes_on_bit_for_bit(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "CHUNK", 500)
    text = Path(shutil.copy(text, tmp_path / "corpus.txt"))
    values = {"method": "skipgram", **SMALL, "objective": "nce", "noise.log_z": "learned"}
    whole = lw.fit_words(text, out=tmp_path / "whole", settings=values, progress=False)

    class Stop:
        asked, number = False, 2

    class Stopping:
        def __enter__(self) -> Stop:
            return Stop()

        def __exit__(self, *_: object) -> None: ...

    steps = learning.Learning.steps

    def stopping(self: learning.Learning) -> Iterator[float | None]:
        for number, loss in enumerate(steps(self)):
            Stop.asked = number % 25 == 24
            yield loss

    with monkeypatch.context() as patch:
        patch.setattr(module, "stop_on_signal", Stopping)
        patch.setattr(learning.Learning, "steps", stopping)
        with pytest.raises(Interrupted, match=r"Stopped after [\d,]+ of 4,800 words; everything is saved"):
            lw.fit_words(text, out=tmp_path / "w", settings=values, progress=False)
        with pytest.raises(LikewiseError, match=r"has read from .*corpus\.txt, and would not read gone\.txt: write"):
            lw.fit_words("gone.txt", out=tmp_path / "w", resume=True, progress=False)
        stops = 1
        while True:
            try:
                again = lw.fit_words(text, out=tmp_path / "w", resume=True, progress=False)
                break
            except Interrupted:
                stops += 1
    assert stops > 2
    assert torch.equal(again.inputs, whole.inputs)
    assert again.outputs is not None
    assert whole.outputs is not None
    assert torch.equal(again.outputs, whole.outputs)
    assert again.weights_hash == whole.weights_hash
    longer = lw.fit_words(text, out=tmp_path / "w", settings={"epochs": 3}, resume=True, progress=False)
    direct = lw.fit_words(text, out=tmp_path / "direct", settings={**values, "epochs": 3}, progress=False)
    assert torch.equal(longer.inputs, direct.inputs)


def test_vectors_are_loaded_embedded_and_found(run: Path, tmp_path: Path) -> None:
    vectors = load_words(run)
    assert set(vectors.words) == set(" ".join(TOPICS).split())
    assert vectors.counts is not None
    assert vectors.counts.sum() == 2400
    assert vectors["sun"].norm() == pytest.approx(1)
    assert [hit.id for hit in vectors.search("sun", 4)] == [hit.id for hit in vectors.index().search("sun", 4)]
    assert {hit.id for hit in vectors.search("sun", 4)} == set(TOPICS[0].split()) - {"sun"}
    assert "sun" in vectors
    assert (len(vectors), read_config(run).method) == (15, "skipgram")
    assert (read_data(run) or {})["items"] == 15
    with pytest.raises(LikewiseError, match="'sunn' has no vector; the words with one look like"):
        vectors["sunn"]
    with pytest.raises(LikewiseError, match=r"holds vectors of words; load them with lw\.load_words"):
        lw.load(run)
    assert main(["embed", str(run), "--out", str(tmp_path / "z.parquet")]) == 0
    saved = read_embedding(tmp_path / "z.parquet")
    assert torch.equal(saved.rows, vectors.embed().rows)
    assert saved.metadata["model"] == vectors.weights_hash


def test_the_command_line(text: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    assert main(["fit", str(text), "--method", "skipgram", "--out", str(tmp_path / "w"), *options]) == 0
    said = capsys.readouterr()
    assert f"Saved {tmp_path / 'w'}. Next: likewise index" in said.out
    assert "15 words of 15 get a vector: 2,400 of 2,400 occurrences, in 300 sequences." in said.err
    assert torch.equal(load_words(tmp_path / "w").inputs, load_words(run).inputs)
    assert main(["search", str(run), "egg", "-k", "4"]) == 0
    assert {line.split("\t")[1] for line in capsys.readouterr().out.splitlines()} == set(TOPICS[1].split()) - {"egg"}


BAD = {
    "views.flip": (0.1, "skipgram does not use views.flip; leave it out"),
    "objective.samples": (
        9,
        r"does not use objective.samples; noise.samples, noise.power and noise.log_z say its noise",
    ),
    "objective": ("circle", "takes the objectives negative-sampling, nce, sampled-softmax, not circle"),
    "noise.log_z": ("learned", "noise.log_z=learned is of objective nce; negative-sampling has no Z"),
    "device": ("cuda", "trains on the CPU, not on device=cuda"),
    "alike": ("instance", "alike=window, dictionary=words and optim.name=adagrad go together, in the methods skipgram"),
}


@pytest.mark.parametrize("name", BAD)
def test_settings_that_do_not_fit_are_refused(name: str, text: Path, tmp_path: Path) -> None:
    value, message = BAD[name]
    with pytest.raises(LikewiseError, match=message):
        trained(text, tmp_path / "w", **{name: value})
    assert not (tmp_path / "w").exists()


def test_runs_that_cannot_be(text: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for call, message in (
        (
            lambda: lw.fit(text, out=tmp_path / "w", method="skipgram"),
            r"learns from words, not from items: use lw\.fit_wo",
        ),
        (
            lambda: lw.fit_words(text, out=tmp_path / "w", method="npid"),
            r"npid learns an encoder of items: use lw\.fit",
        ),
        (lambda: trained(tmp_path / "no.txt", tmp_path / "w"), "there is no file or folder"),
        (lambda: trained(text, run), r"already holds a run; add --resume"),
        (lambda: lw.verify("skipgram"), "skipgram trains in one process and without micro-batches"),
    ):
        with pytest.raises(LikewiseError, match=message):
            call()  # type: ignore[no-untyped-call]
        assert not (tmp_path / "w").exists()
    assert main(["index", str(run), str(text)]) == 2
    with monkeypatch.context() as patch:
        patch.setattr(learning.Learning, "is_finite", lambda self: False)
        with pytest.raises(LikewiseError, match=r"are no numbers any more, after .* words: .* lower optim\.lr=0\.2"):
            trained(text, tmp_path / "w")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LikewiseError, match="trains in one process: two would have to exchange more rows"):
        trained(text, tmp_path / "w")
    shutil.copytree(run, tmp_path / "w")
    monkeypatch.delenv("WORLD_SIZE")
    (tmp_path / "w" / CORPUS).unlink()
    with pytest.raises(LikewiseError, match=r"corpus\.bin is missing or damaged, which holds the words of the run"):
        lw.fit_words(text, out=tmp_path / "w", resume=True, settings={"epochs": 9}, progress=False)


def test_what_looks_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    lists = [[str(word)] for word in generator.integers(0, 3, 50)] + [[f"rare {n}"] for n in range(80)]
    lw.fit_words(lists, out=tmp_path / "w", settings={**SMALL, "vocabulary.least": 5})
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: 62% of the text are words that occur fewer than 5 times" in said
    assert "warning: a sequence has 1.0 words on the average, so few words have a neighbour" in said
    lw.fit_words(["a b c"] * 5, out=tmp_path / "few", settings={**SMALL, "epochs": 1})
    said = capsys.readouterr().err
    assert "warning: the training had 1 steps, too few to learn; give more text or epochs." in said
    assert "nothing is learned" not in said


def test_a_few_words_learn_at_the_default_rate(tmp_path: Path) -> None:
    """A step of 1,024 places of 16 words would move each word by many rates; the loss would pass 200."""
    generator = np.random.default_rng(0)
    lists = [[str(word + 8 * topic) for word in generator.integers(0, 8, 10)] for topic in (0, 1) for _ in range(500)]
    vectors = lw.fit_words([lists[place] for place in generator.permutation(1000)], out=tmp_path / "w", progress=False)
    assert len(vectors) == 16
    assert read_metrics(tmp_path / "w")[-1]["loss"] < 4
    assert all(int(hit.id) // 8 == int(word) // 8 for word in vectors.words for hit in vectors.index().search(word, 7))
    assert [blocks_of_step(1024, words) for words in (2, 16, 64, 1023, 1024, 1_000_000)] == [1, 1, 2, 31, 32, 32]


def test_minutes_end_a_run_and_are_added(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, options = tmp_path / "w", {**SMALL, "minutes": 0.01}
    del options["epochs"]
    began = time.monotonic()
    first = lw.fit_words(text, out=run, settings=options)
    assert time.monotonic() - began > 0.6
    said = capsys.readouterr().err
    assert "warning" not in said
    assert first.epoch > 1
    assert read_config(run).epochs == math.ceil(first.epoch)
    same = lw.fit_words(text, out=run, resume=True)
    assert "all 0.01 minutes of the run are done already: nothing is trained." in capsys.readouterr().err
    assert torch.equal(same.inputs, first.inputs)
    longer = lw.fit_words(text, out=run, settings={"minutes": 0.005}, resume=True, progress=False)
    assert longer.epoch > first.epoch
    more = math.ceil(longer.epoch) + 2
    assert lw.fit_words(text, out=run, settings={"epochs": more}, resume=True, progress=False).epoch == more
    lw.fit_words(text, out=tmp_path / "short", settings={**options, "minutes": 1e-9, "batch_size": 32})
    assert "warning: the time was over after 1% of the text: words that come later" in capsys.readouterr().err


def test_the_end_by_the_clock_is_foreseen(text: Path, tmp_path: Path) -> None:
    now = [0.0]
    trained(text, tmp_path / "w")
    settings = replace(read_config(tmp_path / "w"), minutes=1.0)
    state = learning.Learning(settings, Corpus(tmp_path / "w" / CORPUS), torch.ones(15, dtype=torch.long))
    end = End(learning=state, used=10.0, clock=lambda: now[0])
    now[0], state.read = 10.0, 2700.0
    assert (end.share, end.total) == (pytest.approx(1 / 3), 2700 * 5)
    assert end.line() == "minutes=1: it stops by the clock, after about 5 epochs."


def test_a_file_of_vectors_becomes_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, made = tmp_path / "v.bin", tmp_path / "made"
    assert main(["export", str(run), "--out", str(file)]) == 0
    for command in ("index", "report"):
        assert main([command, str(file)]) == 2
        assert f"make a run of it: likewise import {file} --out RUN." in capsys.readouterr().err
    assert main(["import", str(file), "--out", str(made)]) == 0
    assert main(["search", str(made), "sun"]) == 2
    assert capsys.readouterr().err.endswith(f"make one with: likewise index {made}\n")
    assert main(["index", str(made)]) == 0
    assert [hit.id for hit in load_words(made).search("sun", 3)] == [hit.id for hit in load_words(run).search("sun", 3)]
    assert main(["report", str(made)]) == 0
    capsys.readouterr()
    assert main(["search", str(made), "Sun", "-k", "1"]) == 0
    assert capsys.readouterr().out.strip()
    assert main(["search", str(made), "sunn"]) == 2
    assert "'sunn' has no vector. Did you mean 'sun'?" in capsys.readouterr().err
    assert main(["import", str(file), "--out", str(made)]) == 2
    assert "already holds a run; name another --out." in capsys.readouterr().err
    assert main(["import", str(tmp_path / "no.bin"), "--out", str(tmp_path / "none")]) == 2
    assert main(["export", str(run), "--out", str(tmp_path / "v.txt.gz")]) == 2
    assert not (tmp_path / "none").exists()


def test_words_are_asked_for_by_their_method(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--sequences", str(text), "--out", str(tmp_path / "w")]) == 2
    assert "--sequences is of methods of words; add --method skipgram, or cbow." in capsys.readouterr().err
    assert main(["fit", str(text), "--out", str(tmp_path / "w")]) == 2
    assert "for vectors of its words, add --method skipgram" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
