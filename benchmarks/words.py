"""Words per second and what the vectors are worth, beside gensim and fastText, in one run on one text.

    python benchmarks/words.py TEXT --tests FOLDER --python OTHER --seeds 3 [--threads 2] [--rounds 1]

TEXT has a sequence of words in each line, words apart by spaces: all tools read the same file. FOLDER holds
wordsim353.tsv, simlex999.txt and questions-words.txt, which gensim ships. OTHER is a Python with gensim and, perhaps,
fasttext; they need not be in likewise's own. The tools take turns, so that other programs on the machine slow all of
them alike; speed is in words of the text, with all epochs, per CPU second of training (and per second, where there are
several threads); reading the text, and building the vocabulary, is not counted for any of them. All have 100 numbers,
window 5, 5 noise words, words that occur 5 times, subsampling 1e-3 and 3 epochs, and each has the learning rates of
``RATES``, tried with seed 0 alone; the best by WordSim-353 and SimLex-999 is then trained with every seed.

The text of docs/results.md is that of Debian's package dict-gcide: ``--gcide gcide.dict.dz`` writes it to TEXT first.
"""

import argparse
import gzip
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

TOOLS = ("likewise", "gensim", "fasttext")
RATES = {"likewise": (0.1, 0.2, 0.3), "gensim": (0.025, 0.05, 0.075, 0.1), "fasttext": (0.05, 0.1, 0.2)}
EPOCHS, DIM, WINDOW, NOISE, LEAST, SUBSAMPLE = 3, 100, 5, 5, 5, 1e-3
TESTS = ("wordsim353.tsv", "simlex999.txt", "questions-words.txt")

# What trains one model in a process of its own, prints its seconds, and writes word2vec's binary format.
GENSIM = f"""
import json, sys, time
from gensim.models import Word2Vec
text, out, rate, seed, threads = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])
sentences = [line.split() for line in open(text, encoding="utf-8")]
model = Word2Vec(vector_size={DIM}, window={WINDOW}, min_count={LEAST}, sg=1, negative={NOISE}, sample={SUBSAMPLE},
                 workers=int(threads), seed=int(seed), alpha=rate, epochs={EPOCHS})
model.build_vocab(sentences)
cpu, wall = time.process_time(), time.perf_counter()
model.train(sentences, total_examples=model.corpus_count, epochs={EPOCHS})
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
model.wv.save_word2vec_format(out, binary=True)
print(json.dumps(dict(cpu=cpu, wall=wall)))
"""
FASTTEXT = f"""
import json, sys, time
import fasttext
text, out, rate, seed, threads = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])
def train(epoch):
    cpu, wall = time.process_time(), time.perf_counter()
    model = fasttext.train_unsupervised(text, "skipgram", lr=rate, dim={DIM}, ws={WINDOW}, epoch=epoch,
        minCount={LEAST}, neg={NOISE}, t={SUBSAMPLE}, thread=int(threads), minn=0, maxn=0, verbose=0, bucket=1)
    return model, time.process_time() - cpu, time.perf_counter() - wall
_, cpu_once, wall_once = train(0)  # reading alone
model, cpu, wall = train({EPOCHS})
words = model.get_words()
with open(out, "wb") as file:
    file.write(b"%d %d\\n" % (len(words), {DIM}))
    for word in words:
        file.write(word.encode() + b" " + model.get_word_vector(word).astype("<f4").tobytes() + b"\\n")
print(json.dumps(dict(cpu=cpu - cpu_once, wall=wall - wall_once)))
"""
LIKEWISE = f"""
import json, sys, time
from pathlib import Path
import torch
from likewise.training import fit_words
from likewise.words.word2vec_files import write_word2vec
text, out, rate, seed, threads = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])
seconds, train = [], fit_words._train
def timed(*arguments):
    cpu, wall = time.process_time(), time.perf_counter()
    train(*arguments)
    seconds[:] = time.process_time() - cpu, time.perf_counter() - wall
fit_words._train = timed
settings = {{"method": "skipgram", "text.tokens": "spaces", "encoder.dim": {DIM}, "window.size": {WINDOW},
    "vocabulary.least": {LEAST}, "vocabulary.subsample": {SUBSAMPLE}, "noise.samples": {NOISE}, "epochs": {EPOCHS},
    "optim.lr": rate, "seed": int(seed), "threads": int(threads), "checkpoint_seconds": 1e9}}
vectors = fit_words.fit_words(text, out=out + "-run", settings=settings, progress=False)
write_word2vec(out, vectors, binary=True)
print(json.dumps(dict(cpu=seconds[0], wall=seconds[1])))
"""
SCRIPTS = {"likewise": LIKEWISE, "gensim": GENSIM, "fasttext": FASTTEXT}


def write_gcide(package: Path, text: Path) -> None:
    """The dictionary as words in lower case, a paragraph in each line."""
    content = gzip.decompress(package.read_bytes()).decode(errors="replace").lower()
    content = re.sub(r"\[[^\]\n]*webster[^\]]*\]", "", content)
    paragraphs = (re.findall(r"[^\W\d_]+", part) for part in re.split(r"\n\s*\n", content))
    text.write_text("".join(" ".join(words) + "\n" for words in paragraphs if words), encoding="utf-8")


def train(tool: str, python: str, text: Path, out: Path, rate: float, seed: int, threads: int) -> dict[str, float]:
    """Trains one model in a process of its own and returns its seconds."""
    command = [sys.executable if tool == "likewise" else python, "-c", SCRIPTS[tool], str(text), str(out)]
    done = subprocess.run([*command, *map(str, (rate, seed, threads))], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tool}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def measured(vectors: Path, tests: Path) -> dict[str, float]:
    """The three tests, by likewise's own measures, for every tool alike."""
    from likewise.words.evaluation import analogies, word_pairs
    from likewise.words.word2vec_files import read_word2vec

    read = read_word2vec(vectors)
    pairs = {name: word_pairs(read, tests / name).scores[0].value for name in TESTS[:2]}
    return {**pairs, TESTS[2]: analogies(read, tests / TESTS[2], lambda share: None).scores[0].value}


def runs(tools: list[str], rates: dict[str, list[float]], seeds: int) -> Iterator[tuple[str, float, int]]:
    """Every training of a list of rates, the tools in turn."""
    for seed in range(seeds):
        for place in range(max(map(len, rates.values()))):
            for tool in tools:
                if place < len(rates[tool]):
                    yield tool, rates[tool][place], seed


def main() -> None:
    """Prints a line for each training, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--gcide", type=Path, help="gcide.dict.dz, from which TEXT is written")
    parser.add_argument("--tests", type=Path, required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rate", nargs="+", default=[], metavar="TOOL=RATE", help="no others are tried")
    parser.add_argument("--out", type=Path, help="JSON of every training")
    a = parser.parse_args()
    if a.gcide is not None:
        write_gcide(a.gcide, a.text)
    words = sum(len(line.split()) for line in a.text.open(encoding="utf-8"))
    given = {tool: float(rate) for tool, rate in (each.split("=") for each in a.rate)}
    done: list[dict[str, object]] = []

    def train_all(rates: dict[str, list[float]], seeds: int, skip: int = 0) -> None:
        for tool, rate, seed in runs(a.tools, rates, seeds):
            if seed < skip:
                continue
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "vectors.bin"
                seconds = train(tool, a.python, a.text, out, rate, seed, a.threads)
                scores = measured(out, a.tests)
            speed = {f"{kind} speed": EPOCHS * words / seconds[kind] for kind in seconds}
            done.append({"tool": tool, "rate": rate, "seed": seed, **speed, **scores})
            print(json.dumps(done[-1]), flush=True)

    def best(tool: str) -> float:
        first = [each for each in done if each["tool"] == tool and each["seed"] == 0]
        return float(max(first, key=lambda each: each[TESTS[0]] + each[TESTS[1]])["rate"])  # type: ignore[operator]

    train_all({tool: [given[tool]] if tool in given else list(RATES[tool]) for tool in a.tools}, 1)
    chosen = {tool: best(tool) for tool in a.tools}
    train_all({tool: [rate] for tool, rate in chosen.items()}, a.seeds, skip=1)
    print("| | rate | k words / CPU s | k words / s | WordSim-353 | SimLex-999 | analogies |\n|-|-|-|-|-|-|-|")
    for tool in a.tools:
        mine = [each for each in done if each["tool"] == tool and each["rate"] == chosen[tool]]
        cells = [f"{mean(float(each[kind]) for each in mine) / 1e3:,.0f}" for kind in ("cpu speed", "wall speed")]  # type: ignore[arg-type]
        values = {name: [float(each[name]) for each in mine] for name in TESTS}  # type: ignore[arg-type]
        cells += [f"{mean(v):.3f} ({min(v):.3f}–{max(v):.3f})" for v in values.values()]
        print(f"| {tool} | {chosen[tool]:g} | {' | '.join(cells)} |")
    if a.out is not None:
        a.out.write_text(json.dumps(done, indent=1))
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"{words:,} words; the most memory of a training: {most / 1024:,.0f} MiB")
    print(time.strftime("%Y-%m-%d"))


if __name__ == "__main__":
    main()
