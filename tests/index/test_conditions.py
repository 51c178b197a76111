"""Conditions on metadata, held to Python's own comparisons."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from likewise.errors import LikewiseError
from likewise.index.conditions import Condition, matching, parse, parse_all

TABLE = pa.table(
    {
        "year": pa.array([1999, 2000, 2001, None], pa.int16()),
        "colour": ["red", "light blue", "blue, dark", None],
        "price": [1.5, -2.0, float("nan"), 7.0],
        "sold": [True, False, None, True],
        "day": pa.array([datetime.date(2020, 1, day) for day in (1, 2, 3)] + [None]),
        "kind of": pa.array(["a", "b", "a", "b"]).dictionary_encode(),
    }
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("year >= 2000", [1, 2]),
        ("year=2000", [1]),
        ("year == 2000", [1]),
        ("year != 2000", [0, 2]),
        ("year in 1999, 2001", [0, 2]),
        ("colour = red", [0]),
        ("colour = light blue", [1]),
        ("colour = 'blue, dark'", [2]),
        ("colour in red,'blue, dark'", [0, 2]),
        ("price < 0", [1]),
        ("price > 1.25", [0, 3]),
        ("sold = yes", [0, 3]),
        ("sold = false", [1]),
        ("day > 2020-01-01", [1, 2]),
        ("kind of = a", [0, 2]),
    ],
)
def test_a_condition_holds_for_the_rows_it_says(text: str, wanted: list[int]) -> None:
    assert np.flatnonzero(matching(TABLE, [parse(text)])).tolist() == wanted


def test_a_long_text_takes_no_longer_than_its_length() -> None:
    for text in (
        " " * 200_000,
        "a" + " " * 200_000 + "b",
        "(" * 200_000,
    ):  # some hours, by an expression that backtracks
        with pytest.raises(LikewiseError, match="is no COLUMN SIGN VALUE"):
            parse(text)
    with pytest.raises(LikewiseError, match="needs a value"):
        parse("colour = red\rblue")


def test_several_conditions_hold_together() -> None:
    assert np.flatnonzero(matching(TABLE, parse_all(["year >= 2000", "colour = light blue"]))).tolist() == [1]
    assert matching(TABLE, parse_all(())).all()
    assert parse_all("year > 3") == (Condition("year", ">", ("3",)),)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("yaer > 3", "the index has no column 'yaer'. Did you mean 'year'? It has year, colour,"),
        ("year > x", "the condition on 'year' has 'x', but the column holds int16"),
        ("year > 99999", "the condition on 'year' has '99999', but the column holds int16"),
        ("sold = perhaps", "the condition on 'sold' has 'perhaps', but the column holds bool"),
        ("day = tomorrow", "but the column holds date32"),
        ("year", "the condition 'year' is no COLUMN SIGN VALUE, such as 'year >= 2000'"),
        ("", "the condition '' is no COLUMN SIGN VALUE"),
        ("year >", "the condition 'year >' needs a value"),
        ("year = 1, 2", "the condition 'year = 1, 2' needs one value"),
    ],
)
def test_what_can_not_hold_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(LikewiseError) as refused:
        matching(TABLE, [parse(text)])
    assert sentence in str(refused.value)


def test_an_index_without_columns_says_how_to_give_some() -> None:
    with pytest.raises(LikewiseError, match="It has none; give some with --metadata FILE"):
        matching(TABLE.select([]), [parse("year > 3")])
