"""Baselines of recommendation under three splits, by full ranking: where do simple models stand?

    python benchmarks/recommend.py                                  # MovieLens-small, anime, citeulike-a
    python benchmarks/recommend.py --only movielens --splits cold per-user

Likes: ratings from 4 (MovieLens), from 7 (anime), all of citeulike-a. Content: genres, words of the title, type
(anime); tags (citeulike-a); each block of unit rows. NDCG@10 with its bootstrap interval over users; the last column is
the paired difference to the best row. Every setting is chosen on a validation split of the training rows, made by the
same rule. EASE inverts a matrix of all pairs of items, several times: minutes. Needs LIKEWISE_DATA (default
../shared/data).
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from liked import DATA, SETS
from numpy.typing import NDArray

from likewise.console import stages
from likewise.errors import LikewiseError
from likewise.graph.co_engagement import Interactions
from likewise.graph.splits import SplitRule
from likewise.recommendation.bench import Bench
from likewise.recommendation.catalogue import Catalogue
from likewise.recommendation.rivals import of_content, of_interactions

MOST = {  # words of a part
    "movielens": {"genres": 50, "title": 500},
    "anime": {"genres": 100, "title": 800, "type": 10},
    "citeulike": {"tags": 4000},
}


class Data(NamedTuple):
    rows: Interactions
    users: int
    items: int
    blocks: tuple[NDArray[np.float32], ...]  # (items, F) each


def words(texts: Iterable[Sequence[str]], most: int) -> NDArray[np.float32]:
    """Unit rows of a bag of words: the ``most`` most frequent ones that occur twice, by inverse document frequency."""
    texts = list(texts)
    counts: dict[str, int] = {}
    for text in texts:
        for word in set(text):
            counts[word] = counts.get(word, 0) + 1
    kept = sorted((word for word in counts if counts[word] > 1), key=lambda word: (-counts[word], word))[:most]
    place = {word: column for column, word in enumerate(kept)}
    found = np.zeros((len(texts), len(kept)), np.float32)
    for row, text in enumerate(texts):
        for word in text:
            if word in place:
                found[row, place[word]] = np.log(len(texts) / counts[word])
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(lengths > 0, lengths, 1)


def numbered(users: Sequence[object], items: Sequence[str], times: Sequence[int] | None, known: Sequence[str]) -> Data:
    """Rows with numbers; items in the order of ``known``."""
    place = {name: row for row, name in enumerate(known)}
    kept = [row for row, name in enumerate(items) if name in place]
    user = np.unique([str(users[row]) for row in kept], return_inverse=True)[1].astype(np.int64)
    item = np.array([place[items[row]] for row in kept])
    time = None if times is None else np.array([times[row] for row in kept])
    return Data(Interactions(user, item, time), int(user.max()) + 1, len(known), ())


def opened(name: str) -> Data:
    """The likes, and unit rows of each part of the content."""
    data = SETS[name]()
    likes = data.likes()
    times = [int(row[3]) for row in likes] if len(data.header) > 3 else None
    found = numbered([row[0] for row in likes], [row[1] for row in likes], times, data.ids)
    texts = (
        [re.findall(r"\w+", value.lower()) if isinstance(value, str) else value for value in values]
        for values in data.content.values()
    )
    blocks = tuple(words(each, MOST[name][part]) for part, each in zip(data.content, texts, strict=True))
    return found._replace(blocks=blocks)


SPLITS = {"cold": "cold-items", "per-user": "per-user", "time": "time"}


def table(name: str, data: Data, rule: str, seed: int) -> None:
    known = Catalogue(
        ids=[str(number) for number in range(data.items)],
        users=[str(number) for number in range(data.users)],
        rows=data.rows,
        content=np.arange(data.items),
        notes=(),
    )
    with stages() as begin:
        bench = Bench(known, SplitRule(name=SPLITS[rule], seed=seed), 10, begin)
        content = bench.content([f"block {number}" for number in range(len(data.blocks))], {"as given": data.blocks})
        rivals = [*of_content(known, content.rows), *([] if rule == "cold" else of_interactions(known))]
        rows = sorted(map(bench.measured, rivals), key=lambda row: -float(row.first))
    print(f"\n{name}; {bench.about}; {len(rows[0].first.values):,} users asked; content: {content.words}")
    print("| model | chosen | NDCG@10 | recall@10 | coverage | popularity | − best, paired |\n|-|-|-|-|-|-|-|")
    for row in rows:
        cells = [row.name, row.chosen, str(row.first.interval()), f"{float(row.measures['recall@10']):.3f}"]
        cells += [f"{row.catalogue[name]:.2f}" for name in ("coverage", "popularity")]
        print(f"| {' | '.join(cells)} | {'–' if row is rows[0] else row.first.minus(rows[0].first)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--seeds", type=int, default=1, help="draws of cold items")
    given = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"{DATA} is missing; set LIKEWISE_DATA.")
    for name in given.only:
        data = opened(name)
        for rule in given.splits:
            for seed in range(given.seeds if rule == "cold" else 1):
                try:
                    table(name, data, rule, seed)
                except LikewiseError as error:
                    print(f"\n{name}, {rule}: {error}")


if __name__ == "__main__":
    main()
