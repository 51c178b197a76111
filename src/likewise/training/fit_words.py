"""``fit_words``: learns vectors of words, or of ids that occur together, and writes them to a run folder."""

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likewise.config.settings import FitSettings
from likewise.config.word_settings import WORD_METHODS
from likewise.console import say, stages
from likewise.distributed import processes
from likewise.errors import Interrupted, LikewiseError, room_for
from likewise.files import as_path
from likewise.stamp import hash_of_bytes
from likewise.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from likewise.training.end_of_words import End
from likewise.training.fit import chosen, names_of
from likewise.training.loop import going_on, stop_on_signal
from likewise.training.metrics_log import MetricsLog
from likewise.training.progress import TrainingProgress
from likewise.training.run_folder import (
    is_longer,
    make_folder,
    read_data,
    remove_folder,
    resolve,
    write_about,
    write_config,
)
from likewise.training.run_lock import written_by_one
from likewise.words.corpus import CORPUS, Corpus
from likewise.words.learning import Learning
from likewise.words.model import NAME as MODEL
from likewise.words.model import WordVectors
from likewise.words.texts import STDIN
from likewise.words.tokens import opened
from likewise.words.vocabulary import (
    VOCABULARY,
    Vocabulary,
    count,
    read_vocabulary,
    write_vocabulary,
)

LOOK_SECONDS = 2.0  # between two looks at the loss
QUARTER = 0.25  # of a training, after which a loss as at the beginning is a warning
LOWER = 0.98  # of the first loss: what counts as lower
RARE = 0.5  # share of the occurrences without a vector that is a warning


def fit_words(
    data: object,
    *,
    out: str | Path,
    method: str | None = None,
    settings: FitSettings | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> WordVectors:
    """Learns a vector for each word of ``data`` and returns them. All files go to the folder ``out``.

    The text is read once, as a stream, and kept as numbers in RUN/corpus.bin (4 bytes a word), which every epoch reads.

    Args:
        data: a text in UTF-8, a folder of texts, gzip of these, ``-`` for standard input, a parquet file with a column
            of strings or of lists (``settings.columns`` names it), or an iterable of texts or of lists of words.
        out: the run folder; it must not hold a run unless ``resume``.
        method: skipgram (the default) or cbow.
        settings: as of ``likewise.fit``.
        resume: continue from the last checkpoint, bit for bit, with the words and settings of the run; ``data`` is not
            read again, and another name than the run's is refused. More epochs make the run longer, as if it had them
            from the beginning.
        progress: show bars and lines on standard error.

    Raises LikewiseError for unusable data or settings, and in several processes; Interrupted on Ctrl-C (the state is
    saved).
    """
    folder = as_path(out, "--out")
    if method is None and not resume and "method" not in names_of(settings):
        method = WORD_METHODS[0]
    began, asked = time.monotonic(), names_of(settings)
    settings = chosen(method, settings, goes_on=folder if resume else None)
    if not settings.of_words:
        raise LikewiseError(f"{settings.method} learns an encoder of items: use lw.fit.")
    refuse_processes(settings)
    longer = resume and is_longer(folder, settings, asked)
    settings = resolve(folder, settings, resume)
    made = make_folder(folder)
    with written_by_one(folder):
        settings = resolve(folder, settings, resume)
        try:
            return _fit(data, folder, settings, progress, resume=resume, longer=longer, began=began)
        except LikewiseError:
            if not (folder / CHECKPOINT).exists():
                for name in (CORPUS, VOCABULARY):
                    (folder / name).unlink(missing_ok=True)
                remove_folder(made)
            raise


def _fit(
    data: object, folder: Path, settings: FitSettings, progress: bool, *, resume: bool, longer: bool, began: float
) -> WordVectors:
    going = resume and (folder / CHECKPOINT).exists()
    if going:
        _refuse_other_text(data, folder)
        state = load_checkpoint(folder / CHECKPOINT)
        vocabulary = read_vocabulary(folder / VOCABULARY)
    else:
        state, vocabulary = {}, _read(data, folder, settings, progress)
    counts = torch.from_numpy(vocabulary.counts)
    with room_for(f"two vectors of {settings.encoder.dim} numbers for {len(vocabulary):,} words"):
        learning = Learning(settings, Corpus(folder / CORPUS), counts)
    if going:
        learning.load_state_dict(state)
        del state
    end = End(learning=learning, used=time.monotonic() - began + (0.0 if longer else learning.seconds))
    if going and end.share >= 1:
        length = f"{settings.epochs:,} epochs" if settings.minutes is None else f"{settings.minutes:g} minutes"
        say([f"all {length} of the run are done already: nothing is trained."] if progress else [])
    else:
        write_config(folder, settings)
        with _threads(settings.threads):
            _train(learning, end, folder, progress)
    tables, epoch = learning.tables, learning.epoch
    if settings.minutes is not None:  # the clock had the last word
        settings = replace(settings, epochs=math.ceil(epoch))
        write_config(folder, settings)
    del learning  # the noise, before the model is written
    vectors = WordVectors(
        vocabulary.words,
        tables.inputs,
        outputs=tables.outputs,
        counts=counts,
        settings=settings,
        epoch=epoch,
        run=folder,
    )
    vectors.save(folder / MODEL)
    return vectors


def _read(data: object, folder: Path, settings: FitSettings, progress: bool) -> Vocabulary:
    """Reads the data into RUN/corpus.bin, and says what it holds."""
    sequences = opened(data, settings.text, settings.columns)
    with stages(enabled=progress) as begin:
        vocabulary = count(
            sequences,
            settings.vocabulary,
            folder / CORPUS,
            begin(f"reading {sequences.name}"),
            paragraphs=settings.text.ends == "paragraph",
        )
    write_vocabulary(folder / VOCABULARY, vocabulary)
    _write_data(folder, sequences.name, data, vocabulary)
    if progress:
        say([*sequences.notes, vocabulary.line(), *_doubts(vocabulary, settings)])
    return vocabulary


def _doubts(vocabulary: Vocabulary, settings: FitSettings) -> Iterator[str]:
    """A line about each thing that looks wrong in what was read."""
    kept = int(vocabulary.counts.sum())
    if kept < (1 - RARE) * vocabulary.read:
        yield (
            f"warning: {1 - kept / vocabulary.read:.0%} of the text are words that occur fewer than "
            f"{settings.vocabulary.least} times, so they get no vector; vocabulary.least can be lower."
        )
    if kept < 2 * vocabulary.sequences:
        yield (
            f"warning: a sequence has {kept / max(1, vocabulary.sequences):.1f} words on the average, so few words "
            "have a neighbour; text.ends=paragraph joins lines."
        )


def _refuse_other_text(data: object, folder: Path) -> None:
    """Raises LikewiseError on a text by another name than the run's, which a run that goes on would not read."""
    about = read_data(folder) or {}
    path, source = about.get("path"), about.get("source")
    if not isinstance(data, str | Path) or (path is None and source != STDIN):
        return
    if (source != STDIN) if str(data) == "-" else (os.path.abspath(data) != path):
        typed = "-" if source == STDIN else f"{source}, even if it is gone"
        raise LikewiseError(
            f"{folder} goes on with the words that it has read from {source}, and would not read {data}: write "
            f"{typed}, or start a new run."
        )


def _write_data(folder: Path, name: str, data: object, vocabulary: Vocabulary) -> None:
    """Writes data.json: what was read."""
    about: dict[str, object] = {
        "source": name,
        "path": os.path.abspath(name) if isinstance(data, str | Path) and name != STDIN else None,
        "items": len(vocabulary),
        "kind": "words",
        "ids_hash": hash_of_bytes("\n".join(vocabulary.words).encode(errors="backslashreplace")),
        "sketch": {},
        "skipped": vocabulary.seen - len(vocabulary),
        "read": vocabulary.read,
        "sequences": vocabulary.sequences,
    }
    write_about(folder, about)


def _train(learning: Learning, end: End, folder: Path, progress: bool) -> None:
    """Trains to the end; looks at the loss, logs it, and saves. Raises as ``fit_words`` does."""
    settings, timed = learning.settings, learning.settings.minutes is not None
    watch = _Watch(learning, end)
    log = MetricsLog(folder, step=int(learning.read), tensorboard=settings.tensorboard)
    words = learning.words
    done, total = round(learning.read * words), round(learning.total * words)
    bar = TrainingProgress(total, done=done, enabled=progress, what="word")
    saved_at = time.monotonic()
    with bar, stop_on_signal() as stop, closing(log):
        for loss in learning.steps():
            watch.see(loss)
            ended = end.share >= 1
            late = time.monotonic() - saved_at > settings.checkpoint_seconds
            if watch.is_due() or late or stop.asked or ended:
                values = watch.look()
                done = round(learning.read * words)
                total = done if ended else round(end.total * words)
                if timed:
                    bar.retarget(total)
                bar.update(done, f"loss {values['loss']:.3f} · {values['words_per_second']:,.0f} words/s")
                for warning in watch.doubts():
                    bar.say(warning)
                with going_on(bar):
                    log.write(int(learning.read), values)
            if late or stop.asked or ended:
                learning.seconds = end.spent
                with nullcontext() if stop.asked or ended else going_on(bar):
                    save_checkpoint(folder / CHECKPOINT, learning.state_dict())
                saved_at = time.monotonic()
            if ended:
                break
            if stop.asked:
                said = f"Stopped after {done:,} of {total:,} words; everything is saved."
                raise Interrupted(said, stop.number)


class _Watch:
    """Looks at the loss and the speed of a training every few seconds."""

    def __init__(self, learning: Learning, end: End) -> None:
        self.learning, self.end, self.losses = learning, end, list[float]()
        self.first, self.last, self.warned, self.looked = math.nan, math.nan, False, False
        self.read, self.at = learning.read, time.monotonic()
        self.steps, self.told, self.begins = 0, 0, learning.read == 0

    def see(self, loss: float | None) -> None:
        """Notes a step, and its loss if it was computed."""
        self.steps += 1
        if loss is not None:
            self.told += 1
            self.losses.append(loss)
            self.first = loss if math.isnan(self.first) else self.first

    def is_due(self) -> bool:
        """Whether the last look is long ago."""
        return time.monotonic() - self.at > LOOK_SECONDS

    def look(self) -> dict[str, float]:
        """The mean loss since the last look, and the speed. Raises LikewiseError where a number is not finite."""
        now, learning = time.monotonic(), self.learning
        self.last = float(np.mean(self.losses)) if self.losses else self.last
        if (self.losses and not math.isfinite(self.last)) or not learning.is_finite():
            raise LikewiseError(
                f"the vectors are no numbers any more, after {learning.read * learning.words:,.0f} words: they grew "
                f"beyond all bounds; lower optim.lr={learning.settings.optim.lr:g}. The last checkpoint is kept."
            )
        speed = learning.words * (learning.read - self.read) / max(1e-9, now - self.at)
        self.read, self.at, self.losses = learning.read, now, []
        return {"epoch": learning.read / len(learning.corpus), "loss": self.last, "words_per_second": speed}

    def doubts(self) -> Iterator[str]:
        """Lines, each once: how long a run by the clock will be, and what looks wrong."""
        learning, share = self.learning, self.end.share
        if not self.looked and share < 1 and learning.settings.minutes is not None:
            yield self.end.line()
        self.looked = True
        if share >= 1 and learning.read < len(learning.corpus):
            yield (
                f"warning: the time was over after {learning.read / len(learning.corpus):.0%} of the text: words that "
                "come later have learned nothing; give more minutes."
            )
        if self.begins and self.told < 2:
            if share >= 1:
                yield f"warning: the training had {self.steps} steps, too few to learn; give more text or epochs."
        elif not self.warned and share > QUARTER and self.last > LOWER * self.first:
            self.warned = True
            yield (
                f"warning: the loss is {self.last:.3f} and began at {self.first:.3f}: nothing is learned. Are the "
                "words of a sequence related, and is optim.lr as of the method?"
            )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch uses so many threads; 0: as many as it would."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def refuse_processes(settings: FitSettings) -> None:
    """Raises LikewiseError in one of several processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or processes.size() > 1:
        raise LikewiseError(
            f"{settings.method} trains in one process: two would have to exchange more rows at each step than a step "
            "computes; start it without torchrun, and give it threads."
        )
