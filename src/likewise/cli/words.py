"""What the commands do with words: import, export, and the measures of ``likewise evaluate``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from likewise.cli.parser import Command, Parser
from likewise.console import stages
from likewise.errors import LikewiseError
from likewise.files import as_path, place_for
from likewise.text import readable

if TYPE_CHECKING:
    from likewise.metrics.score import Score

BINARY, WORD2VEC = ".bin", "word2vec"
RULES = ("3cosadd", "3cosmul")


def evaluate_words(run: str, pairs: list[str], questions: str | None, out: str | None) -> int:
    """Measures a run of words, or a file of vectors, prints a table and writes every number."""
    from likewise.evaluation.scores import print_rows, save_scores
    from likewise.words.evaluation import SCORES, analogies, word_pairs
    from likewise.words.model import load_words
    from likewise.words.word2vec_files import read_word2vec

    place = as_path(run, "RUN")
    is_run = place.is_dir() or place.suffix == ".safetensors" or not place.exists()
    if not is_run and out is None:
        raise LikewiseError(f"{run} is a file and no run folder: name the file of the numbers with --out.")
    path = place_for(out or place / SCORES)
    with stages() as begin:
        begin("reading the vectors")
        vectors = load_words(run) if is_run else read_word2vec(run)
        measured = [word_pairs(vectors, file) for file in pairs]
        measured += [] if questions is None else [analogies(vectors, questions, begin("analogies"))]
    scores = [score for each in measured for score in each.scores]
    save_scores(path, scores)
    print_rows(["file", "measure", "score", "used"], [_cells(score) for score in scores if _section(score) == "all"])
    sections = {_section(score): score for score in scores if _section(score) != "all"}
    if sections:
        rules = {score.name: score for score in scores}
        print_rows(
            ["analogies of", "3cosadd", "3cosmul", "used"],
            [
                [name, *(f"{rules[score.name.replace('3cosmul', rule)].value:.1%}" for rule in RULES), _used(score)]
                for name, score in sections.items()
            ],
        )
    for line in (line for each in measured for line in each.lines()):
        print(readable(line))
    print(readable(f"Every number with its protocol: {path}"))
    return 0


def _section(score: "Score") -> str:
    """The section of a score of analogies; "all" for the others."""
    return score.name.split("/", 2)[2] if score.name.count("/") > 1 else "all"


def _cells(score: "Score") -> list[str]:
    """A row of the table."""
    file, measure = score.name.split("/")[:2]
    value = f"{score.value:.1%}" if score.std is None else f"{score.value:.3f} ± {score.std:.3f}"
    return [file, measure, value, _used(score)]


def _used(score: "Score") -> str:
    return f"{score.protocol['used']:,} of {score.protocol['rows']:,}"


def export_words(run: str, to: str, out: str) -> int:
    """Writes the vectors of a run of words in a text format, or a binary one."""
    from likewise.words.model import load_words
    from likewise.words.word2vec_files import GZIP, write_word2vec

    if to != WORD2VEC:
        raise LikewiseError(f"--to {to} is no format of words; it must be {WORD2VEC}. `likewise embed` writes parquet.")
    path = place_for(out)
    if Path(path).suffix.lower() == GZIP:
        raise LikewiseError(f"{path} would not be packed; leave {GZIP} out, and pack it afterwards.")
    vectors = load_words(run)
    with stages() as begin:
        begin(f"writing {path}")
        notes = write_word2vec(path, vectors, binary=Path(path).suffix.lower() == BINARY)
    for line in [*notes, f"{path}: {len(vectors):,} words of {vectors.inputs.shape[1]}"]:
        print(readable(line))
    return 0


def _add_import(parser: Parser) -> None:
    parser.add_argument(
        "vectors", type=str, metavar="FILE", help="vectors of another tool, in word2vec's text or binary format"
    )
    parser.add_argument("--out", type=str, required=True, metavar="RUN", help="new run folder")


def _import(arguments: Namespace) -> int:
    from likewise.config.yaml_file import CONFIG
    from likewise.training.run_folder import make_folder, remove_folder
    from likewise.words.model import NAME
    from likewise.words.word2vec_files import read_word2vec

    folder = as_path(arguments.out, "--out")
    for name in (NAME, CONFIG):
        if (folder / name).exists():
            raise LikewiseError(f"{folder} already holds a run; name another --out.")
    with stages() as begin:
        begin(f"reading {arguments.vectors}")
        vectors = read_word2vec(arguments.vectors)
    made = make_folder(folder)
    try:
        vectors.save(folder / NAME)
    except LikewiseError:
        remove_folder(made)
        raise
    run = shlex.quote(arguments.out)
    said = f"{folder}: {len(vectors):,} words of {vectors.inputs.shape[1]}."
    print(readable(f"{said} Next: likewise index {run}; likewise search {run} WORD"))
    return 0


IMPORT = Command(
    name="import",
    group="use",
    help="Make a run of vectors that another tool wrote in word2vec's format.",
    add=_add_import,
    run=_import,
)
