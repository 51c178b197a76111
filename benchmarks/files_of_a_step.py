"""Counts the files of likewise that one training step opens: how far a reader follows the code of a method.

    python benchmarks/files_of_a_step.py            # every method
    python benchmarks/files_of_a_step.py moco npid  # some

A small run of each method is trained for one step; of the second step every Python frame is counted, forwards and
backwards, whose code is in a file of likewise. The batch is ready before: views and samplers are not part of the step.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import numpy as np
import torch

import likewise as lw
from likewise.methods import METHODS, OF_ITEMS
from likewise.model import Model
from likewise.training.fit import chosen, prepare
from likewise.training.run import begin
from likewise.training.step import train_step

PACKAGE = Path(lw.__file__).parent
SMALL = {
    **{"epochs": 1, "batch_size": 40, "size": 16, "encoder.dim": 8, "encoder.hidden": 16, "encoder.head_hidden": 16},
    **{"queue.size": 64, "device": "cpu", "encoder.name": "resnet-small"},
}


def files_of_a_step(method: str) -> Counter[str]:
    """How many frames of each file the second step of a small run enters."""
    random = np.random.default_rng(0)
    labels = np.arange(120) % 20
    items = lw.open_items((random.integers(0, 255, (120, 16, 16, 3)).astype(np.uint8), labels), progress=False)
    with TemporaryDirectory() as folder:
        file, usual = Path(folder) / "relations.csv", METHODS[method].settings
        graded = "query,item,relevance\n" + "".join(f"{n},{n + 40},{n % 3 + 1}\n{n},{n + 50},0\n" for n in range(40))
        pairs = "a,b\n" + "".join(f"{n},{n + 40}\n" for n in range(40))
        file.write_text(graded if usual.alike == "graded" else pairs)
        files = {"relations": str(file)} if usual.related else {}
        settings, items, relations, sampler, _ = prepare(chosen(method, {**SMALL, **files}), items)
    model = Model.untrained(settings, items)
    run = begin(model, items, 4, torch.device("cpu"), relations=relations, sampler=sampler)
    session, seen = run.session, run.batches()
    train_step(session, next(seen))
    batch, frames = next(seen), Counter[str]()

    def watch(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            frames[str(path.relative_to(PACKAGE))] += 1

    sys.setprofile(watch)
    try:
        train_step(session, batch)
    finally:
        sys.setprofile(None)
    return frames


def main(methods: Sequence[str]) -> int:
    """Prints a table."""
    print(f"{'method':<16}{'files':>5}{'frames':>8}  files, with the frames of each")
    for method in methods or OF_ITEMS:
        frames = files_of_a_step(method)
        names = ", ".join(f"{name.removesuffix('.py')} {count}" for name, count in frames.most_common())
        print(f"{method:<16}{len(frames):>5}{frames.total():>8}  {names}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
