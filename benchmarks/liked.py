"""Three data sets of who took what, with the content of the items: MovieLens-small, anime and citeulike-a.

Likes: ratings from 4 (MovieLens), from 7 (anime), all of citeulike-a. Content: genres, title; genres, title, type;
tags. Needs LIKEWISE_DATA (default ../shared/data).
"""

import csv
import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

DATA = Path(os.environ.get("LIKEWISE_DATA", Path(__file__).parents[2] / "shared" / "data"))
Texts = list[str]
Words = list[list[str]]


class Liked(NamedTuple):
    """A data set.

    Args:
        header: the columns of ``rows``: user, item and perhaps rating and timestamp, as the data set names them.
        rows: a row for each user and item, as text.
        least: the lowest rating of a like.
        ids: the items with content.
        content: of these items, by name: text, or words.
        end: of a line of the data set's own file, so that a copy has the same bytes.
    """

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    least: float
    ids: list[str]
    content: dict[str, Texts | Words]
    end: str = "\n"

    def likes(self) -> list[tuple[str, ...]]:
        """The rows that are likes."""
        return [row for row in self.rows if len(row) < 3 or float(row[2]) >= self.least]


def movielens() -> Liked:
    folder = DATA / "movielens-small"
    with open(folder / "ratings.csv", encoding="utf-8", newline="") as file:
        header, *rows = map(tuple, csv.reader(file))
    with open(folder / "movies.csv", encoding="utf-8", newline="") as file:
        movies = list(csv.DictReader(file))
    content: dict[str, Texts | Words] = {
        "genres": [movie["genres"].split("|") for movie in movies],
        "title": [movie["title"] for movie in movies],
    }
    return Liked(header, rows, 4.0, [movie["movieId"] for movie in movies], content, "\r\n")


def anime() -> Liked:
    with open(DATA / "anime" / "items.tsv", encoding="utf-8", newline="") as file:
        known = list(csv.DictReader(file, delimiter="\t"))
    with gzip.open(DATA / "anime" / "ratings.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = [tuple(row) for row in list(csv.reader(file, delimiter="\t"))[1:] if len(row) == 3]
    content: dict[str, Texts | Words] = {
        "genres": [re.split(r",\s*", row["genre"]) if row["genre"] else [] for row in known],
        "title": [row["name"] or "" for row in known],
        "type": [[row["type"]] if row["type"] else [] for row in known],
    }
    return Liked(("user", "item", "rating"), rows, 7.0, [row["anime_ids"] for row in known], content)


def citeulike() -> Liked:
    with gzip.open(DATA / "citeulike-a" / "users.dat.gz", "rt") as file:
        rows = [(str(user), item) for user, line in enumerate(file) for item in line.split()[1:]]
    with gzip.open(DATA / "citeulike-a" / "item-tag.dat.gz", "rt") as file:
        tags = [line.split()[1:] for line in file]
    return Liked(("user", "item"), rows, 0.0, [str(row) for row in range(len(tags))], {"tags": tags})


SETS: dict[str, Callable[[], Liked]] = {"movielens": movielens, "anime": anime, "citeulike": citeulike}
