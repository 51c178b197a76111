"""The binary columns, read by the layout that their docstring states."""

import json
import struct

import numpy as np
import pytest

from likewise.errors import LikewiseError
from likewise.viewer.columns import pack_columns


def test_columns_are_where_the_header_says() -> None:
    x = np.array([-3.0, 0.25, 7.0], np.float32)
    label = np.array([2, -1, 0], np.int32)
    packed = pack_columns({"x": x, "wide": x, "label": label}, {"labels": ["é", "b", "c"]}, small=["x"])
    assert packed[:4] == b"LWC1"
    (length,) = struct.unpack("<I", packed[4:8])
    header, body = json.loads(packed[8 : 8 + length]), packed[8 + length :]
    assert length % 8 == 0
    assert header["rows"] == 3
    assert header["labels"] == ["é", "b", "c"]
    small, wide, numbers = header["columns"]
    assert [column["offset"] % 8 for column in header["columns"]] == [0, 0, 0]
    raw = struct.unpack_from("<3H", body, small["offset"])
    for stored, value in zip(raw, x.tolist(), strict=True):
        assert small["least"] + small["scale"] * stored == pytest.approx(value, abs=10 / 65_535)
    assert struct.unpack_from("<3f", body, wide["offset"]) == tuple(x.tolist())
    assert struct.unpack_from("<3i", body, numbers["offset"]) == (2, -1, 0)


def test_columns_that_do_not_fit_are_refused() -> None:
    x = np.zeros(3, np.float32)
    with pytest.raises(LikewiseError, match="the column y is float64"):
        pack_columns({"x": x, "y": np.zeros(3)}, {})
    with pytest.raises(LikewiseError, match=r"the column y is float32 of shape \(2,\)"):
        pack_columns({"x": x, "y": x[:2]}, {})
