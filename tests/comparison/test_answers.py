"""The answers of a comparison: a kill, a full disk or another process loses no line; an error names a damaged line."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from likewise.comparison.answers import Answers, claim_folder, describe_states, question_in
from likewise.comparison.table import MEASURES
from likewise.errors import LikewiseError


def question(number: int) -> dict[str, Any]:
    return {"what": "circle", "seed": number, "steps": 8}


def answer(value: float) -> dict[str, Any]:
    return {"found": dict.fromkeys(MEASURES, value), "made": [{"likewise": "0.1"}]}


def values(path: Path) -> dict[int, float]:
    """The answers by seed, read from the file again."""
    return {known["question"]["seed"]: known["found"]["map@r"] for known in Answers(path).known.values()}


def test_two_processes_lose_nothing_and_the_last_answer_holds(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    one, two = Answers(path), Answers(path)
    for number in range(3):
        one.add(question(number), answer(0.1))
        two.add(question(number + 10), answer(0.2))
    one.add(question(0), {"failed": "τ\udc80 and\u2028more"})  # surrogates are of a file's name
    found = Answers(path).find(question(0))
    assert found is not None
    assert found["failed"] == "τ\udc80 and\u2028more"
    one.add(question(0), answer(0.3))
    assert values(path) == {0: 0.3, 1: 0.1, 2: 0.1, 10: 0.2, 11: 0.2, 12: 0.2}
    assert one.find(question(10)) is None  # asked again at worst
    assert two.find(question(10)) == {"question": question(10), **answer(0.2)}


def test_a_last_line_cut_off_anywhere_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    Answers(path).add(question(0), answer(0.1))
    whole = path.read_bytes()
    Answers(path).add(question(1), answer(0.2))
    both = path.read_bytes()
    for length in range(len(whole), len(both)):
        path.write_bytes(both[:length])
        again = Answers(path)
        complete = {1: 0.2} if length == len(both) - 1 else {}  # but for its end
        assert values(path) == {0: 0.1, **complete}
        again.add(question(2), answer(0.3))
        assert values(path) == {0: 0.1, **complete, 2: 0.3}
        Answers(path).add(question(3), answer(0.4))
        assert values(path) == {0: 0.1, **complete, 2: 0.3, 3: 0.4}


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '{"a": 1}',
        "nonsense",
        "1",
        b"\xff\xfe",
        b'{"question": "\xe9"}',
        '{"question": {}}',
        '{"question": [], "failed": "x"}',
        '{"question": {}, "found": {}}',
        '{"question": {}, "found": {"map@r": "a"}}',
        '{"question": {}, "failed": 3}',
        '{"question": {}, "failed": "x", "made": {}}',
    ],
    ids=str,
)
def test_a_line_that_is_no_answer_is_said(line: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    damage = line if isinstance(line, bytes) else line.encode()
    Answers(path).add(question(0), answer(0.1))
    whole = path.read_bytes()
    for text in (whole + damage + b"\n", whole + damage + b"\n" + whole):
        path.write_bytes(text)
        with pytest.raises(LikewiseError, match=r"cells.jsonl is damaged in line 2; delete that line to go on\."):
            Answers(path)
        assert path.read_bytes() == text


def test_a_disk_that_fills_up_within_a_line(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    one = Answers(path)
    one.add(question(0), answer(0.1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 30, limits[1]))
    try:
        for _ in range(2):
            with pytest.raises(OSError):
                one.add(question(1), answer(0.2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert one.find(question(1)) is None
    assert values(path) == {0: 0.1}
    one.add(question(2), answer(0.3))
    assert values(path) == {0: 0.1, 2: 0.3}


def test_what_is_said_of_states() -> None:
    now, before = {"likewise": "2", "device": "cpu"}, {"likewise": "1", "device": "cpu"}
    assert describe_states({"circle-seed-0": [now], "ms-seed-0": [now]}, now, Path("cells.jsonl")) == ""
    made = {"circle-seed-0": [before], "ms-seed-0": [now], "ms-seed-1": [before], "raw-seed-0": [before, now]}
    assert describe_states(made, now, Path("out/cells.jsonl")) == (
        "3 of 4 cells were made with another state of likewise, torch or the device than the present one "
        "(likewise 2, device cpu), and may differ for this reason alone: circle-seed-0, ms-seed-1 (likewise 1, device "
        "cpu); raw-seed-0 (likewise 1, device cpu, then likewise 2, device cpu). To make all cells again, delete "
        "out/cells.jsonl, or name a new --out."
    )


def test_a_folder_that_a_kill_left_without_a_question_is_ours(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/.question.json.tmp-dead-1-0").write_text("{")
    claim_folder(tmp_path / "a", question(0), {"likewise": "1"})
    assert question_in(tmp_path / "a") == (question(0), [{"likewise": "1"}])
    assert json.loads((tmp_path / "a/question.json").read_text())["made"] == [{"likewise": "1"}]
