"""What is printed and written: names of every kind, streams that are closed or full, Ctrl-C before anything is done."""

import csv
import html
import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from likewise.cli.main import main
from likewise.index.embedding_file import read_embedding, write_embedding
from likewise.proof.fork_server import python
from likewise.text import readable

FIT = ("--size", "8", "--epochs", "1", "--batch_size", "16", "--knn_epochs", "0", "--encoder.dim", "4")
LABELS = ("$\\foo$", "A$10_$x^", "_under", "猫と犬", "esc\x1b[31m\nnext", '<b>&"', "[red]x")
FILES = {"checkpoint.pt", "config.yaml", "data.json", "metrics.jsonl", "model.safetensors", "skipped.csv"}


def write_pictures(folder: bytes, labels: tuple[bytes, ...]) -> None:
    random = np.random.default_rng(0)
    for label in labels:
        os.makedirs(os.path.join(folder, label))
        for number in range(3):
            data = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(data, "PNG")
            Path(os.fsdecode(os.path.join(folder, label, b"%d.png" % number))).write_bytes(data.getvalue())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to work in, with a run on pictures in folders of odd names."""
    place = tmp_path_factory.mktemp("output")
    write_pictures(os.fsencode(place / "odd"), tuple(map(os.fsencode, LABELS)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("LIKEWISE_CACHE", str(place / "cache"))
        assert main(["fit", "odd", "--out", "a run", *FIT]) == 0
        assert main(["index", "a run", "odd"]) == 0
        yield place


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("LIKEWISE_CACHE", str(place / "cache"))


def test_the_report_names_every_label_whatever_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrieve", "a run", "--gallery", "odd"]) == 0
    assert main(["report", "a run"]) == 0
    page = Path("a run/report.html").read_text(encoding="utf-8")
    legend = page.partition('id="map-legend-label"')[2].partition("</ul>")[0]
    shown = [html.unescape(part.partition("<span>")[2].partition("</span>")[0]) for part in legend.split("</li>")[:-1]]
    assert set(shown) == set(map(readable, LABELS))
    assert len(shown) == len(LABELS)
    for label in LABELS:
        assert html.escape(readable(label)) in page.partition("<h2>Label by label</h2>")[2].partition("<h2>")[0]
    assert "<b>&" not in page
    assert "\x1b" not in page
    assert "\x1b" not in capsys.readouterr().out


def test_a_search_prints_one_readable_line_per_hit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "a run", "猫と犬/0.png", "-k", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 * len(LABELS) - 1
    assert r"esc\x1b[31m\nnext/1.png" in {line.partition("\t")[2] for line in lines}


def test_the_next_commands_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "a run", "odd"]) == 0
    assert "likewise search 'a run' QUERY" in capsys.readouterr().out
    assert main(["evaluate", "no run", "--train", "odd"]) == 2
    assert "likewise fit DATA --out 'no run'." in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="names are UTF-16 there")
def test_a_folder_whose_name_is_not_utf8_works_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(b"caf\xe9", (b"b\xff", b"c"))
    data = os.fsdecode(b"caf\xe9")
    assert main(["fit", data, "--out", "latin", *FIT]) == 0
    assert main(["evaluate", "latin", "--train", data, "--measures", "knn,svm,probe"]) == 0
    assert main(["retrieve", "latin", "--gallery", data]) == 0
    assert main(["index", "latin", data]) == 0
    assert main(["embed", "latin", data, "--out", "latin.parquet"]) == 0
    assert main(["report", "latin"]) == 0
    assert json.loads(Path("latin/evaluation.json").read_bytes())[0]["protocol"]["train"] == r"caf\xe9"
    assert json.loads(Path("latin/retrieval.json").read_bytes())[0]["protocol"]["gallery"] == r"caf\xe9"
    assert r"from <b>caf\xe9</b>" in Path("latin/report.html").read_text(encoding="utf-8")
    classes = csv.DictReader(io.StringIO(Path("latin/retrieval/classes.csv").read_text(encoding="utf-8")))
    assert {row["class"] for row in classes} == {r"b\xff", "c"}
    assert read_embedding("latin.parquet").metadata["data"] == r"caf\xe9"
    capsys.readouterr()
    assert main(["fit", data, "--out", os.fsdecode(b"r\xe9"), *FIT]) == 2
    assert capsys.readouterr().err.startswith(r"likewise: the name r\xe9 is not UTF-8")


def test_ids_that_no_file_can_hold_are_written_as_text(tmp_path: Path) -> None:
    write_embedding(tmp_path / "e.parquet", np.eye(2, dtype=np.float32), ["caf\udce9", "b"], {})
    assert read_embedding(tmp_path / "e.parquet").ids == (r"caf\xe9", "b")


def test_very_long_labels_are_cut_in_the_report_only() -> None:
    names = [letter * 200_000 for letter in "abc"]
    files = sorted(Path("odd").glob("*/*.png"))
    images = [{"bytes": file.read_bytes(), "path": str(number)} for number, file in enumerate(files)]
    pq.write_table(pa.table({"image": images, "label": (names * len(files))[: len(files)]}), "long.parquet")
    assert main(["fit", "long.parquet", "--out", "long", *FIT]) == 0
    assert main(["retrieve", "long", "--gallery", "long.parquet"]) == 0
    assert main(["report", "long"]) == 0
    page = Path("long/report.html").read_text(encoding="utf-8").partition("<h2>Nearest neighbours</h2>")[2]
    assert max(len(part) for part in page.split(names[0][:200])) < 200_000
    assert names[0][:201] not in page
    assert names[0] in Path("long/retrieval/classes.csv").read_text(encoding="utf-8")


ENTRY = "import os, signal, sys; import likewise.__main__ as entry; sys.argv = ['likewise', *sys.argv[1:]]; "


def process(code: str, *arguments: str, **streams: int) -> "subprocess.Popen[str]":
    """``code`` and then the command line, in a forked process."""
    command = [*python(), "-c", f"{ENTRY}{code}\nsys.exit(entry.main())", *arguments]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **(pipes | streams), text=True, encoding="utf-8")


CLOSED = "os.close(2); sys.stderr = None"  # as the interpreter finds them after 2>&-
NO_READER = "read, write = os.pipe(); os.close(read); os.dup2(write, 2)"
FULL = "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="closes and fills streams as Linux does")
@pytest.mark.parametrize("broken", [CLOSED, NO_READER, FULL], ids=["closed", "no reader", "full"])
def test_a_run_does_not_end_because_nobody_reads_its_progress(broken: str, tmp_path: Path) -> None:
    run = process(broken, "fit", "odd", "--out", str(tmp_path / "run"), *FIT)
    said, warned = run.communicate()
    assert (run.returncode, warned) == (0, "")
    assert said.startswith("Saved ")
    assert {path.name for path in (tmp_path / "run").iterdir() if path.name != ".lock"} == FILES


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="closes and fills streams as Linux does")
@pytest.mark.parametrize(
    ("broken", "code", "said"),
    [
        ("os.close(1); sys.stdout = None", 0, ""),
        (NO_READER.replace("2)", "1)"), 0, ""),
        (FULL.replace("2)", "1)"), 2, "likewise: standard output: No space left on device.\n"),
    ],
    ids=["closed", "no reader", "full"],
)
def test_results_that_nobody_can_read_are_no_traceback(broken: str, code: int, said: str) -> None:
    search = process(broken, "search", "a run", "猫と犬/0.png")
    assert (search.communicate()[1], search.returncode) == (said, code)


def test_a_character_that_the_terminal_lacks_is_written_as_its_number() -> None:
    latin_only = "sys.stdout = open(1, 'w', encoding='cp1252', closefd=False)"
    search = process(latin_only, "search", "a run", "猫と犬/0.png", "-k", "50")
    said, warned = search.communicate()
    assert (search.returncode, warned) == (0, "")
    assert r"\u732b\u3068\u72ac/1.png" in said


def test_ctrl_c_while_modules_load_is_one_line() -> None:
    code = """
class Interrupting:
    def find_spec(self, name, *_):
        if name == "likewise.cli.main":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
sys.modules.pop("likewise.cli.main", None)
"""
    stopped = process(code, "methods")
    assert stopped.communicate() == ("", "likewise: stopped.\n")
    assert stopped.returncode == 130
