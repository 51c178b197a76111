"""Item2vec on related warm items: skip-gram on what users took, beside CDML, the co-engagement graph and popularity.

    python benchmarks/item2vec.py --only movielens anime [--cdml] [--seeds 1]

A fifth of the users is held out. How related two items are is the cosine of who, among these users, likes them:
NDCG@10 (linear gains) of the items with 5 of them or more, each among all items that a training user likes. Everything
learns from the other users alone: skipgram from their likes as sequences (in the order of time, where there are times),
the graph from the same rows (cosine of who likes them, no least number of users), CDML from the graph and the content.
The interval is that of a bootstrap over the items that are asked, of all splits together; differences are paired.

Needs LIKEWISE_DATA (default ../shared/data), and the extra ``graph``.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from liked import SETS, Liked
from numpy.typing import NDArray
from pooled_splits import Values, print_table
from pyarrow import parquet

import likewise as lw
from likewise.graph.build import build_graph
from likewise.graph.co_engagement import Interactions
from likewise.recommendation.baselines import matrix
from likewise.recommendation.related import Cosines, Popular, RelatedItems

SHARE = 0.2  # of the users that are held out
SKIPGRAM: dict[str, Any] = {
    **{"method": "skipgram", "vocabulary.least": 5, "vocabulary.subsample": 0.0, "threads": 1},
    **{"window.size": 60, "window.near": "all", "noise.power": 0.0, "encoder.dim": 32, "epochs": 60},
}


class Graph:
    """Cosines of who likes two items."""

    def __init__(self, rows: Interactions, users: int, items: int) -> None:
        self._taken = matrix(rows, users, items)
        self._root = np.sqrt(np.maximum(1, np.asarray(self._taken.sum(0), np.float64)))

    def near(self, items: NDArray[np.int64]) -> NDArray[np.float64]:
        """See :class:`likewise.recommendation.related.Relater`."""
        both: NDArray[np.float64] = (self._taken[:, items].T @ self._taken).toarray()
        return both / self._root[items][:, None] / self._root


def split_of(data: Liked, seed: int, settings: dict[str, Any], *, cdml: bool) -> dict[str, dict[str, float]]:
    """NDCG@10 of each asked item, by model, on one split of the users."""
    likes = data.likes()
    users, items = sorted({row[0] for row in likes}), sorted({row[1] for row in likes})
    user_of, item_of = ({name: place for place, name in enumerate(names)} for names in (users, items))
    generator = np.random.default_rng(seed)
    held = generator.random(len(users)) < SHARE
    order = generator.permutation(len(likes)).tolist()
    if len(data.header) > 3:
        order.sort(key=lambda row: float(likes[row][3]))
    train = [likes[row] for row in order if not held[user_of[likes[row][0]]]]
    test = [row for row in likes if held[user_of[row[0]]]]

    def numbers(rows: list[tuple[str, ...]]) -> Interactions:
        columns = [[user_of[row[0]] for row in rows], [item_of[row[1]] for row in rows]]
        return Interactions(*(np.array(column, np.int64) for column in columns), None)

    known = numbers(train)
    warm = np.zeros(len(items), bool)
    warm[known.item] = True
    task = RelatedItems(numbers(test), len(users), len(items), asked=warm, candidates=warm)
    print(f"split {seed}: {task.about}", file=sys.stderr)
    histories: dict[str, list[str]] = {}
    for row in train:
        histories.setdefault(row[0], []).append(row[1])
    found = dict[str, dict[str, float]]()

    def measured(name: str, model: Any) -> None:
        values = task.measure(model)["ndcg@10"].values.tolist()
        found[name] = dict(zip((items[query] for query in task.queries), values, strict=True))
        print(f"{name}: {np.mean(values):.4f}", file=sys.stderr, flush=True)

    def spread(ids: Any, rows: Any) -> NDArray[np.float32]:
        table = np.zeros((len(items), rows.shape[1]), np.float32)
        place = [item_of.get(name, -1) for name in ids]
        table[[each for each in place if each >= 0]] = rows[[each >= 0 for each in place]]
        return table

    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        vectors = lw.fit_words(
            histories.values(),
            out=Path(folder) / "words",
            settings={**SKIPGRAM, **settings, "seed": seed},
            progress=False,
        )
        print(f"skipgram: {time.process_time() - began:.0f} CPU s", file=sys.stderr)
        measured("skipgram", Cosines(spread(vectors.words, vectors.embed().rows.numpy())))
        if cdml:
            measured("cdml, from content", Cosines(spread(*of_content(data, train, Path(folder)))))
    measured("graph, cosine", Graph(known, len(users), len(items)))
    measured("popularity", Popular(known, len(users), len(items)))
    return found


def of_content(data: Liked, train: list[tuple[str, ...]], folder: Path) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """The ids and rows of CDML, trained on the graph of the training rows and the content."""
    for part, values in data.content.items():
        parquet.write_table(pa.table({"id": data.ids, part: values}), folder / f"{part}.parquet")
    lines = [",".join(row) + "\n" for row in (data.header, *train)]
    (folder / "interactions.csv").write_text("".join(lines), encoding="utf-8")
    build_graph(folder / "interactions.csv", folder / "graph", least=data.least)
    features = {path.stem: str(path) for path in sorted(folder.glob("*.parquet"))}
    parts = [word for name, path in features.items() for word in ("--features", f"{name}={path}")]
    command = [*parts, "--relations", str(folder / "graph"), "--method", "cdml", "--out", str(folder / "run")]
    subprocess.run([sys.executable, "-m", "likewise", "fit", *command, "--threads", "1"], check=True, stdout=sys.stderr)
    embedding = lw.load(folder / "run").embed(features, progress=False)
    return embedding.ids, embedding.rows.numpy()


def main() -> None:
    """Prints a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SETS, default=["movielens", "anime"])
    parser.add_argument("--seeds", type=int, default=1, help="splits")
    parser.add_argument("--cdml", action="store_true", help="train CDML too, a minute of CPU time for each split")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of skipgram")
    given = parser.parse_args()
    settings = dict(each.split("=", 1) for each in given.set)
    for name in given.only:
        values: dict[str, Values] = {}
        for seed in range(given.seeds):
            typed = {
                key: float(value) if value.replace(".", "").isdigit() else value for key, value in settings.items()
            }
            for model, of_items in split_of(SETS[name](), seed, typed, cdml=given.cdml).items():
                for item, ndcg in of_items.items():
                    values.setdefault(model, {}).setdefault(item, []).append(ndcg)
        print_table(f"{name}, {given.seeds} splits", values, "skipgram")


if __name__ == "__main__":
    main()
