"""The state of a training of words, and its steps: through the corpus, epoch by epoch, chunk by chunk."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likewise.config.settings import FitSettings
from likewise.errors import LikewiseError
from likewise.words.blocks import BLOCK, Chunk, Noise, blocks_of, keep_probability
from likewise.words.corpus import Corpus
from likewise.words.objectives import built
from likewise.words.step import STEPS, Tables

CHUNK = 1 << 17  # numbers of the corpus that are made into blocks at once; a sequence is cut where a chunk ends
LOSS_STEPS = 16  # the loss of every so many steps is computed


def blocks_of_step(batch_size: int, words: int) -> int:
    """Blocks of a step: of ``batch_size`` words, but of no more words than have a vector.

    A step reads every vector as it was before the step, and AdaGrad moves a row that occurs R times by up to √R rates.
    Where a few words fill the step, each moves much too far.
    """
    return max(1, min(batch_size, words) // BLOCK)


@dataclass
class Place:
    """Where a training is; with the seed it says what is drawn next.

    Args:
        epoch: from 0.
        start: of the chunk, in numbers of the corpus.
        step: of the chunk, the next one.
    """

    epoch: int = 0
    start: int = 0
    step: int = 0


class Learning:
    """A training of words: tables, objective and place, all of them in the checkpoint.

    Args:
        settings: complete, of a method of words.
        corpus: what is read.
        counts: (n,) int64, of each word in the corpus.
    """

    def __init__(self, settings: FitSettings, corpus: Corpus, counts: Tensor) -> None:
        self.settings, self.corpus, self.place = settings, corpus, Place()
        self.read = 0.0  # numbers of the corpus that are done, of all epochs
        self.seconds = 0.0  # used so far, of a run with minutes
        self.noise = Noise(counts, settings.noise.power)
        self.keep = keep_probability(counts, settings.vocabulary.subsample)
        start = torch.Generator().manual_seed(settings.seed)
        self.tables = Tables.untrained(len(counts), settings.encoder.dim, start)
        self.objective = built(settings.objective.kind, settings.noise, self.noise.log_q)
        self.words = int(counts.sum()) / max(1, len(corpus))  # of each number; the others end sequences
        self.blocks = blocks_of_step(settings.batch_size, len(counts))

    @property
    def total(self) -> int:
        """Numbers of the corpus to read in all epochs."""
        return len(self.corpus) * self.settings.epochs

    @property
    def epoch(self) -> float:
        """Epochs that are done; with ``minutes`` the last one may be a part."""
        return self.place.epoch if self.settings.minutes is None else self.read / len(self.corpus)

    def steps(self) -> Iterator[float | None]:
        """Does the steps that are left. After each it yields the mean loss of its pairs; None where none was computed.

        The same steps follow wherever a training is stopped and goes on. With ``minutes`` there is no last one.
        """
        place, train, lr = self.place, STEPS[self.settings.method], self.settings.optim.lr
        while self.settings.minutes is not None or place.epoch < self.settings.epochs:
            chunk = self._chunk()
            length = min(CHUNK, len(self.corpus) - place.start)
            while place.step < len(chunk):
                told = place.step % LOSS_STEPS == 0
                loss = train(self.tables, self.objective, chunk, place.step, lr, told=told)
                place.step += 1
                if place.step == len(chunk):
                    place.start, place.step = place.start + length, 0
                    if place.start == len(self.corpus):
                        place.epoch, place.start = place.epoch + 1, 0
                    self.read = float(place.epoch * len(self.corpus) + place.start)
                    yield loss
                    break
                self.read += length / len(chunk)
                yield loss

    def _chunk(self) -> Chunk:
        place, settings = self.place, self.settings
        seed = np.random.SeedSequence([settings.seed, place.epoch, place.start]).generate_state(1, np.uint64)
        return blocks_of(
            torch.from_numpy(self.corpus[place.start : place.start + CHUNK]),
            self.keep,
            self.noise,
            settings.window,
            (self.blocks, settings.noise.shared),
            torch.Generator().manual_seed(int(seed[0] >> np.uint64(1))),
        )

    def is_finite(self) -> bool:
        """Whether all numbers are."""
        return all(bool(torch.isfinite(table.sum())) for table in self.tables.state().values())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; the tensors themselves."""
        place = vars(self.place)
        return {
            "tables": self.tables.state(),
            "objective": self.objective.state(),
            "place": dict(place),
            "read": self.read,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what ``state_dict`` gave. Raises LikewiseError when it is of another vocabulary or method."""
        for mine, saved in ((self.tables.state(), state["tables"]), (self.objective.state(), state["objective"])):
            if {name: value.shape for name, value in mine.items()} != {
                name: value.shape for name, value in saved.items()
            }:
                raise LikewiseError("the checkpoint is of another vocabulary or method; start a new run.")
            for name, value in mine.items():
                value.copy_(saved[name])
        self.place, self.read = Place(**state["place"]), state["read"]
        self.seconds = state.get("seconds", 0.0)
