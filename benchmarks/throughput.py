"""End to end against the encoder alone: what share of its images/s is left with views, objective, bank and optimizer.

    python benchmarks/throughput.py                                    # resnet-small, 32 px, NCE m=4096, n=50,000
    python benchmarks/throughput.py --encoder.name resnet18 --objective nonparametric-softmax

The encoder alone is forward + backward on one batch of floats already in memory. Rounds of both are interleaved; the
median of the rounds' ratios is the share (target ≥ 90 %). Images are random: speed does not depend on what they show.
"""

import sys
import time

import numpy as np
import torch

from likewise.cli.commands import COMMANDS
from likewise.cli.parser import build_parser
from likewise.data import open_items
from likewise.methods import over_method
from likewise.model import Model
from likewise.training.build import pick_device
from likewise.training.decide import decide
from likewise.training.run import begin
from likewise.training.step import train_step

ITEMS, STEPS, ROUNDS = 50_000, 12, 9


def synchronise(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main() -> None:
    given = build_parser(COMMANDS).parse_args(["fit", "images", *sys.argv[1:]], defaults=False)["fit"].as_dict()
    del given["data"]  # the options are those of fit
    settings = decide(over_method(given), ITEMS)
    device, bf16 = pick_device(settings.device), settings.precision == "bf16"
    pixels = np.random.default_rng(0).integers(0, 256, (ITEMS, settings.size, settings.size, 3), dtype=np.uint8)
    items = open_items(pixels, size=settings.size, progress=False)
    model = Model.untrained(settings, items)
    run = begin(model, items, 10**9, device)
    session, stream = run.session, run.batches()
    ready = next(stream).views[0]

    def whole() -> float:
        start = synchronise(device)
        for _ in range(STEPS):
            train_step(session, next(stream))
        return STEPS * settings.batch_size / (synchronise(device) - start)

    def alone() -> float:
        start = synchronise(device)
        for _ in range(STEPS):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                queries = session.embedder(ready)
            session.optimizer.zero_grad(set_to_none=True)
            queries.backward(queries.detach())
        return STEPS * settings.batch_size / (synchronise(device) - start)

    whole(), alone()
    rounds = [(whole(), alone()) for _ in range(ROUNDS)]
    end_to_end, encoder = (np.median([pair[i] for pair in rounds]) for i in (0, 1))
    share = np.median([a / b for a, b in rounds])
    print(
        f"{settings.encoder.name} {settings.size} px, {settings.objective.kind}, B={settings.batch_size}, n={ITEMS}, ",
        end="",
    )
    print(f"{settings.precision}, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("| encoder alone, images/s | end to end, images/s | share |\n|-|-|-|")
    print(f"| {encoder:,.0f} | {end_to_end:,.0f} | {share:.1%} (target ≥ 90 %) |")


if __name__ == "__main__":
    main()
