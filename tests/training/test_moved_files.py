"""A resumed run takes its files from another place where they have the same content."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from likewise.config.overrides import flatten, settings_from
from likewise.data import Items
from likewise.errors import LikewiseError
from likewise.training.checkpoint import CHECKPOINT
from likewise.training.run_folder import resolve, write_config, write_data

Make = Callable[[Path, bytes], str]


def file(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def graph(path: Path, content: bytes) -> str:
    path.mkdir()
    for name in ("edges", "items"):
        parquet.write_table(pa.table({name: [content]}), path / f"{name}.parquet")
    return str(path)


PAIRS: dict[str, Any] = {"alike": "pairs", "dictionary": "batch", "batch.keys": "same"}


@pytest.mark.parametrize(
    ("name", "at", "make", "besides"),
    [
        ("relations", "pairs.csv", file, PAIRS),
        ("relations", "graph", graph, PAIRS),
        ("labels", "labels.csv", file, {}),
        ("encoder.weights", "weights.pt", file, {}),
    ],
)
def test_a_file_may_move_but_not_change(
    name: str, at: str, make: Make, besides: dict[str, Any], tmp_path: Path
) -> None:
    run, places = tmp_path / "run", [tmp_path / f"{number}-{at}" for number in range(3)]
    run.mkdir()
    (run / CHECKPOINT).touch()
    first, moved, other = (make(place, text) for place, text in zip(places, (b"a", b"a", b"b"), strict=True))
    given = settings_from({name: first, **besides})
    write_config(run, given)
    write_data(run, Items(ids=("a", "b"), values=np.zeros((2, 3), np.float32), kind="vectors", source="rows"), given)
    Path(first).rename(tmp_path / "gone")
    with pytest.raises(
        LikewiseError, match=f"0-{at}, which {name} of the run .* moved, name its new place with --{name}"
    ):
        resolve(run, given, resume=True)
    found = resolve(run, settings_from({name: moved, "cache": str(tmp_path)}, given), resume=True)
    assert (flatten(found)[name], found.cache) == (moved, str(tmp_path))
    with pytest.raises(LikewiseError, match=f"{name} was .*0-{at}, and .*2-{at} has other content"):
        resolve(run, settings_from({name: other}, given), resume=True)
