"""CDML and GCML on related cold items: items without any interaction in training, found from their content.

    python benchmarks/related_items.py --only movielens                       # 5 splits, semi-hard and random: an hour
    python benchmarks/related_items.py --only citeulike --words 2048 --out runs/related_2048
    python benchmarks/related_items.py --only anime --methods cdml "cdml, 128 edges alone" gcml \\
        --options "--batch_size 384 --sampler.per_pair 1 --epochs 1" --seeds 2
    python benchmarks/related_items.py --only movielens --seeds 1 --baselines # as evaluate has them, and histories

Each split is made as a user makes it: `likewise graph --split cold-items --seed S`, `likewise fit --features ...
--relations GRAPH`, and the measure of `likewise evaluate --split cold-items`: NDCG@10 of cold items with 5 users or
more, each among all items, by the cosine of who likes them (linear gains). Training sees no interaction of a cold item,
and of its content only the scale of each column. The interval is that of a bootstrap over the items that are asked, of
all splits together; differences are paired.

Likes: ratings from 4 (MovieLens), from 7 (anime), all of citeulike-a. Content: genres, title; genres, title, type;
tags. Runs are kept in --out (take another for other --words), and one that is finished is measured again, not trained.
Needs LIKEWISE_DATA (default ../shared/data), and the extra ``graph``.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from first_run import slug
from liked import DATA, SETS
from numpy.typing import NDArray
from pooled_splits import Values, print_table
from pyarrow import parquet
from views import ROOT, cpu

import likewise as lw
from likewise.errors import LikewiseError
from likewise.graph.build import build_graph
from likewise.graph.columns import Columns
from likewise.graph.opening import open_interactions
from likewise.graph.splits import SplitRule
from likewise.recommendation.catalogue import catalogue
from likewise.recommendation.evaluate import evaluate_interactions, save_evaluation
from likewise.recommendation.related import Cosines, RelatedItems

METHODS = {  # a name for the table, and what fit is told after --options
    "cdml": "--method cdml",
    "cdml, random negatives": "--method cdml --negatives random",
    "cdml, InfoNCE": "--method cdml --objective infonce --objective.temperature 0.1 --negatives all",
    "cdml, 128 edges alone": "--method cdml --sampler.planted none --batch_size 256",
    "gcml": "--method gcml",
    "gcml, level 1": "--method gcml --clusters.level 1",
    "gcml-classes": "--method gcml-classes",
}


def written(name: str, folder: Path) -> float:
    """Writes the interactions and a file for each part of the items; the lowest rating of a like."""
    data = SETS[name]()
    lines = [",".join(row) + data.end for row in (data.header, *data.rows)]
    (folder / "interactions.csv").write_text("".join(lines), encoding="utf-8", newline="")
    for part, values in data.content.items():
        parquet.write_table(pa.table({"id": data.ids, part: values}), folder / f"{part}.parquet")
    return data.least


def split_of(name: str, seed: int, options: str, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """NDCG@10 of each asked item, by method, on one split."""
    folder = given.out / name
    folder.mkdir(parents=True, exist_ok=True)
    least = written(name, folder)
    features = {path.stem: str(path) for path in sorted(folder.glob("*.parquet"))}
    interactions, rule = folder / "interactions.csv", SplitRule(name="cold-items", seed=seed)
    graph = folder / f"graph-{seed}"
    if not (graph / "edges.parquet").exists():
        build_graph(interactions, graph, least=least, split="cold-items", seed=seed)
    items = lw.open_items(features, progress=False, words=given.words)
    opened = open_interactions(interactions, Columns(user=None, item=None, weight=None, time=None), least)
    known = catalogue(opened.log, items)
    split = rule.divide(known.rows, len(known))
    task = RelatedItems(
        known.rows, len(known.users), len(known), asked=split.candidates & known.known, candidates=known.known
    )
    found = dict[str, dict[str, float]]()

    def measured(method: str, rows: NDArray[np.float32]) -> None:
        values = task.measure(Cosines(known.spread(rows)))["ndcg@10"].values
        found[method] = dict(zip((known.ids[query] for query in task.queries), values.tolist(), strict=True))

    measured("content, cosine", as_it_is(items))
    for method in given.methods:
        run = folder / slug(method, options, str(seed))
        if not (run / "model.safetensors").exists():
            words = ["--words", str(given.words), *shlex.split(options)]
            train(features, run, graph, method, words)
        model = lw.load(run)
        measured(method, model.features(items).numpy())
        print(f"{run.name}: {value(found[method])}", file=sys.stderr)
        if given.baselines and method == given.methods[0]:
            whole = evaluate_interactions(
                model, data=features, interactions=interactions, split="cold-items", seed=seed, least=least
            )
            save_evaluation(run / "recommendation.json", whole)
    return found


def as_it_is(items: lw.Items) -> NDArray[np.float32]:
    """The parts of the items, each of length 1."""
    parts = [items.batch(np.arange(len(items)))[:, block.content] for block in items.blocks]
    return torch.cat([torch.nn.functional.normalize(each, dim=1) for each in parts], 1).numpy()


def train(features: dict[str, str], run: Path, graph: Path, method: str, options: list[str]) -> None:
    parts = [word for name, path in features.items() for word in ("--features", f"{name}={path}")]
    command = ["fit", *parts, "--relations", str(graph), "--out", str(run), "--threads", "1"]
    command += [*options, *shlex.split(METHODS[method])]
    subprocess.run([sys.executable, "-m", "likewise", *command], check=True, stdout=sys.stderr)


def value(of_items: dict[str, float]) -> str:
    return f"NDCG@10 {np.mean(list(of_items.values())):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["cdml", "cdml, random negatives"])
    parser.add_argument("--seeds", type=int, default=5, help="splits")
    parser.add_argument("--options", default="", metavar="TEXT", help='of every fit, such as "--batch_size 384"')
    parser.add_argument("--words", type=int, default=512, help="columns of a hashed part")
    parser.add_argument("--baselines", action="store_true", help="also all of evaluate, into recommendation.json")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "related_items", metavar="FOLDER")
    given = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"{DATA} is missing; set LIKEWISE_DATA.")
    print(f"{cpu()}, torch {torch.__version__}, {given.options}")
    for name in given.only:
        values: dict[str, Values] = {}
        try:
            for seed in range(given.seeds):
                for method, of_items in split_of(name, seed, given.options, given).items():
                    for item, ndcg in of_items.items():
                        values.setdefault(method, {}).setdefault(item, []).append(ndcg)
        except LikewiseError as error:
            sys.exit(f"{name}: {error}")
        print_table(f"{name}, {given.seeds} splits", values, given.methods[0])


if __name__ == "__main__":
    main()
