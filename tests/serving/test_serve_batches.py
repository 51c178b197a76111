"""A batch of requests is answered as each alone would be; what is wrong with one changes no other."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from serving.small_server import loaded_of, png, small_run

from likewise.data.decode import quiet_pillow
from likewise.errors import LikewiseError
from likewise.serving.asked import Answer, Ask, answer_all
from likewise.serving.encoding import ModelEncoder, encoder_of
from likewise.serving.finding import ServerFinder
from likewise.serving.loaded import Loaded
from likewise.serving.refused import Refused


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loaded, dict[str, bytes]]:
    place = tmp_path_factory.mktemp("batches")
    files = small_run(place)
    return loaded_of(place / "run"), files


def answers(loaded: Loaded, asks: list[Ask]) -> list[Answer]:
    with quiet_pillow(1.0):
        return answer_all(loaded, asks, 1.0)


def same(one: Answer, other: Answer) -> bool:
    """Whether two answers are equal, but for rounding."""
    if isinstance(one, Refused) or isinstance(other, Refused):
        return isinstance(one, Refused) and isinstance(other, Refused) and one.status == other.status
    if "embedding" in one:
        return np.allclose(one["embedding"], other["embedding"], atol=1e-5)
    pairs = list(zip(one["hits"], other["hits"], strict=True))
    return all(a["id"] == b["id"] and abs(a["score"] - b["score"]) < 1e-5 for a, b in pairs)


def mixed(files: dict[str, bytes]) -> list[Ask]:
    """32 requests of every kind, with poison among them."""
    bodies = list(files.values())
    asks = [Ask(then="embed" if place % 3 else "search", picture=bodies[place % 20], k=3) for place in range(24)]
    asks += [Ask(then="search", id="b/01.png", k=5), Ask(then="search", id="b/01.png", where=("year >= 2010",))]
    asks += [Ask(then="search", embedding=[float("nan")] * 8), Ask(then="search", picture=bodies[0][:60])]
    asks += [Ask(then="search", picture=png(np.zeros((1, 1, 3), np.uint8))), Ask(then="embed", picture=b"")]
    return [*asks, Ask(then="search", picture=png(np.zeros((1200, 1200), np.uint8))), Ask(then="embed", vector=[1.0])]


def test_together_as_alone(made: tuple[Loaded, dict[str, bytes]]) -> None:
    loaded, files = made
    asks = mixed(files)
    assert len(asks) == 32
    together, alone = answers(loaded, asks), [answers(loaded, [ask])[0] for ask in asks]
    assert all(same(*pair) for pair in zip(together, alone, strict=True))
    assert sum(isinstance(answer, Refused) for answer in together) == 5


def test_onnx_runtime_embeds_as_the_model(made: tuple[Loaded, dict[str, bytes]]) -> None:
    loaded, _ = made
    assert loaded.model is not None
    fast, slow = encoder_of(loaded.model, {"embedding"}, loaded.run), ModelEncoder(loaded.model)
    assert fast.engine == "ONNX Runtime"
    values = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    assert torch.allclose(fast.rows(values, "embedding"), slow.rows(values, "embedding"), atol=1e-5)
    with mock.patch("likewise.serving.encoding.find_spec", return_value=None):  # not installed
        assert encoder_of(loaded.model, {"embedding"}, loaded.run).engine == "torch"


class Away:
    """Servers that are away."""

    kind, protocol = "postgresql", dict[str, str | int | float]()

    def __len__(self) -> int:
        return 20

    def row_by_id(self, item: str) -> torch.Tensor:
        raise LikewiseError("h1 is away.")


def test_servers_that_are_away_are_no_fault_of_the_request(made: tuple[Loaded, dict[str, bytes]]) -> None:
    loaded, _ = made
    finder = ServerFinder(Away(), loaded.shown)
    with pytest.raises(Refused, match="h1 is away") as refused:
        finder.row_by_id("b/01.png")
    assert refused.value.status == 503


class Broken:
    """An encoder that fails at black pictures, or gives NaN for them."""

    engine = "broken"

    def __init__(self, loaded: Loaded, fails: bool) -> None:
        self._loaded, self._fails = loaded, fails

    def rows(self, values: Any, layer: Any) -> torch.Tensor:
        assert self._loaded.encoder is not None
        black = values.reshape(len(values), -1).max(1) == 0
        if self._fails and black.any():
            raise RuntimeError("a planted fault")
        rows = self._loaded.encoder.rows(values, layer).clone()
        rows[torch.from_numpy(black)] = torch.nan
        return rows


@pytest.mark.parametrize("fails", [True, False])
def test_what_breaks_the_encoder_is_one_answer(made: tuple[Loaded, dict[str, bytes]], fails: bool) -> None:
    loaded, files = made
    good = next(iter(files.values()))
    asks = [Ask(then="search", picture=good, k=3) for _ in range(32)]
    right = answers(loaded, asks)[0]
    asks[7] = Ask(then="search", picture=png(np.zeros((16, 16, 3), np.uint8)))
    found = answers(replace(loaded, encoder=Broken(loaded, fails)), asks)
    assert isinstance(found[7], Refused)
    assert found[7].status == (500 if fails else 422)
    assert all(same(answer, right) for place, answer in enumerate(found) if place != 7)


def test_a_health_that_is_off_says_so(made: tuple[Loaded, dict[str, bytes]]) -> None:
    loaded, _ = made
    assert answers(loaded, [Ask(then="health")])[0]["ok"]  # type: ignore[index]
    assert loaded.check is not None
    off = replace(loaded, check=replace(loaded.check, row=-loaded.check.row))
    sick = answers(off, [Ask(then="health")])[0]
    assert isinstance(sick, Refused)
    assert sick.status == 503


def test_words_are_searched_by_word(tmp_path: Path) -> None:
    from likewise.index.index import Index
    from likewise.words.model import WordVectors

    words = [f"w{number}" for number in range(30)]
    vectors = WordVectors(words, torch.randn(30, 6, generator=torch.Generator().manual_seed(0)))
    (tmp_path / "run").mkdir()
    vectors.save(tmp_path / "run" / "model.safetensors")
    Index(*vectors.embed()).save(tmp_path / "run" / "index")
    loaded = loaded_of(tmp_path / "run")
    asks = [Ask(then="search", id="w3", k=2), Ask(then="embed", picture=b"x"), Ask(then="health")]
    found, refused, health = answers(loaded, asks)
    wanted = Index(*vectors.embed()).search("w3", 2)
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in wanted]  # type: ignore[index]
    assert isinstance(refused, Refused)
    assert health["ok"]  # type: ignore[index]
