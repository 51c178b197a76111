"""The public face: one order of arguments, reprs that show parameters, what is taken for ids."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import likewise as lw
from likewise import dictionaries, metrics
from likewise.dictionaries import sharded
from likewise.index import embedding_file

# Rows and what names them: the rows come first, wherever a call takes both.
NAMED = [
    ("rows", "ids"),
    ("rows", "labels"),
    ("queries", "ids"),
    ("queries", "query_labels"),
    ("queries", "query_ids"),
    ("keys", "key_ids"),
    ("keys", "key_labels"),
    ("gallery", "gallery_labels"),
    ("gallery", "gallery_ids"),
    ("features", "labels"),
    ("test_features", "test_labels"),
    ("train_features", "train_labels"),
    ("train_labels", "train_ids"),
    ("embeddings", "pairs"),
    ("embeddings", "triplets"),
]


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function, constructor and method."""
    for home in (lw, lw.objectives, lw.negatives, dictionaries, sharded, metrics, embedding_file):
        for name, value in inspect.getmembers(home):
            if name.startswith("_") or not callable(value) or not value.__module__.startswith("likewise."):
                continue
            if inspect.isclass(value) and issubclass(value, Exception | Warning):
                continue
            yield f"{home.__name__}.{name}", value
            if inspect.isclass(value):
                for method, function in inspect.getmembers(value, inspect.isfunction):
                    if method == "forward" or not method.startswith("_"):
                        yield f"{home.__name__}.{name}.{method}", function


CALLS = dict(public())


@pytest.mark.parametrize(("first", "second"), NAMED)
def test_rows_come_before_what_names_them(first: str, second: str) -> None:
    both = {name: [*inspect.signature(call).parameters] for name, call in CALLS.items()}
    both = {name: order for name, order in both.items() if first in order and second in order}
    assert both, f"no call takes {first} and {second} any more: take the pair out"
    wrong = [name for name, order in both.items() if order.index(first) > order.index(second)]
    assert not wrong
