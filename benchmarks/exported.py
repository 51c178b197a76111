"""Pictures a second of one core: a run's model by ONNX Runtime and by torch, in batches of several sizes.

python benchmarks/exported.py RUN
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

import likewise as lw
from likewise.exporting.network import Array, inputs_of
from likewise.exporting.runtime import runner

SECONDS = 2.0  # of each measurement, of a CPU


def eager(model: lw.Model) -> Callable[..., object]:
    """What ``Model.features`` does with a batch of pictures."""

    def run(images: Array) -> object:
        with torch.inference_mode():
            return torch.nn.functional.normalize(model.embedder.embed(model.prepare(torch.from_numpy(images))), dim=1)

    return run


def rate(run: Callable[..., object], batch: Array) -> float:
    """Items a second of CPU time, of all threads."""
    run(batch)
    calls, begin = 0, time.process_time()
    while (taken := time.process_time() - begin) < SECONDS:
        run(batch)
        calls += 1
    return calls * len(batch) / taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    model = lw.load(parser.parse_args().run)
    torch.set_num_threads(1)
    begin = time.process_time()
    fast = runner(model)
    print(f"making the runner: {time.process_time() - begin:.1f} s of CPU time")
    (given,) = inputs_of(model)
    for count in (1, 8, 64, 256):
        batch = np.random.default_rng(0).integers(0, 256, (count, *given.shape)).astype(given.dtype)
        a, b = rate(fast, batch), rate(eager(model), batch)
        print(f"batches of {count}: ONNX Runtime {a:,.0f}, torch {b:,.0f} items a second: {a / b:.1f} times")


if __name__ == "__main__":
    main()
