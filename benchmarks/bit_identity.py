"""Shows that a change which should change nothing changes nothing: trains small runs and hashes what they learned.

    python benchmarks/bit_identity.py --write before.json     # on the commit before
    python benchmarks/bit_identity.py --compare before.json   # on the commit after; exit code 1 where a hash differs

One run of each method, of each pair-level objective over each dictionary, of each class-level objective, of each policy
of negatives and of each way to say what is alike. A hash covers every trained weight, buffer, bank, queue and optimizer
moment, every loss and measure of the log, and the scores of an evaluation; not times, speeds, or names of the code.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import likewise as lw
from likewise.config.objective_table import OBJECTIVES
from likewise.config.policy_table import POLICIES

PAIR_KINDS = [row.name for row in OBJECTIVES if row.level == "pair"]
CLASS_KINDS = [row.name for row in OBJECTIVES if row.level == "class"]
MINING = [row.name for row in POLICIES if row.name != "all"]
METHODS = (
    *("npid", "moco", "moco-v2", "moco-symmetric", "simclr", "simclr-repo", "end-to-end", "bank"),
    *("facenet", "contrastive", "npair", "lifted", "margin", "ms", "circle", "histogram", "angular"),
    *("arcface", "cosface", "sphereface", "normface"),
)
SMALL = {
    **{"epochs": 2, "batch_size": 12, "size": 16, "encoder.dim": 8, "encoder.hidden": 16, "encoder.head_hidden": 16},
    **{"queue.size": 32, "knn_epochs": 1, "encoder.bn_groups": 1, "device": "cpu"},
}
VECTORS = {"encoder.name": "mlp"}
IN_BATCH = {"alike": "label", "dictionary": "batch", "batch.keys": "same"}
BY_CLASS = {"sampler.kind": "classes", "sampler.per_class": 3}
CLASSES = {"alike": "label", "dictionary": "proxies"}
MEASURED = ("items_per_second", "seconds", "time", "versions", "run", "model", "verdict")  # of the machine, or words


def cells(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, method and settings of each run."""
    for method in METHODS:
        by_class = {} if method in METHODS[:8] or method in METHODS[-4:] else BY_CLASS
        yield f"{method}, images", method, by_class
        yield f"{method}, vectors", method, VECTORS | by_class
    yield "moco, groups", "moco", {"encoder.bn_groups": 2}
    yield "moco, micro-batches", "moco", {"encoder.bn_groups": 2, "micro_batches": 2}
    yield "npid, nce", "npid", VECTORS | {"objective.kind": "nce"}
    yield "npid, softmax", "npid", VECTORS | {"objective.kind": "nonparametric-softmax"}
    yield "npid, parametric", "npid", VECTORS | {"objective.kind": "parametric", "objective.scale": 1 / 0.07}
    for kind in PAIR_KINDS:
        of_kind = VECTORS | {"objective.kind": kind}
        if kind in ("infonce", "supcon"):
            of_kind |= {"objective.temperature": 0.07}
        yield f"{kind}, bank", "bank", of_kind | {"bank.samples": 16}
        yield f"{kind}, queue", "moco", of_kind
        yield f"{kind}, batch", "end-to-end", of_kind | {"batch.keys": "both"}
        yield f"{kind}, labels", "moco", of_kind | IN_BATCH | BY_CLASS
        yield f"{kind}, labels in a queue", "moco", of_kind | {"alike": "label"}
    for kind in CLASS_KINDS:
        yield f"{kind}, proxies", "normface", VECTORS | CLASSES | {"objective.kind": kind}
    for policy in MINING:
        chosen = VECTORS | {"negatives.policies": [policy]}
        yield f"{policy} negatives, triplet", "facenet", chosen | BY_CLASS
        yield f"{policy} negatives, queue", "moco", chosen | {"objective.kind": "margin"}
    turns = {"negatives.policies": ["easy", "hard"], "negatives.at": [3.0]}
    yield "curriculum", "facenet", VECTORS | BY_CLASS | turns
    yield "hard positives", "facenet", VECTORS | BY_CLASS | {"negatives.positives": "hard"}
    for kind in ("contrastive", "margin"):
        relations = {"alike": "pairs", "relations": str(folder / "pairs.csv"), "batch_size": 8}
        yield f"{kind}, pairs", kind, VECTORS | relations | {"negatives.policies": ["all"]}
    yield "triplets", "facenet", VECTORS | {"alike": "triplets", "relations": str(folder / "triplets.csv")}
    yield "steps, warm-up", "npid", VECTORS | {"optim.schedule": "steps", "optim.warmup": 0.2}
    yield "balanced", "arcface", VECTORS | {"sampler.kind": "balanced"}


def made_up(folder: Path) -> tuple[lw.Items, lw.Items]:
    """36 images and 36 vectors of four classes, and files of pairs and triplets of them."""
    random = np.random.default_rng(0)
    labels = np.arange(36) % 4
    images = random.integers(0, 255, (4, 16, 16, 3))[labels] * 0.5 + random.integers(0, 127, (36, 16, 16, 3))
    vectors = (random.normal(size=(4, 12))[labels] + random.normal(size=(36, 12))).astype(np.float32)
    pairs = [(a, b) for a in range(0, 36, 2) for b in (a + 4, a + 5) if b < 36]
    rows = "".join(f"{a},{b},{int(labels[a] == labels[b])}\n" for a, b in pairs)
    (folder / "pairs.csv").write_text("a,b,alike\n" + rows)
    triplets = "".join(f"{a},{a + 4},{a + 5}\n" for a in range(24))
    (folder / "triplets.csv").write_text("anchor,positive,negative\n" + triplets)
    return lw.open_items((images.astype(np.uint8), labels)), lw.open_items((vectors, labels))


def digest(value: object) -> str:
    """Of nested dicts and lists of tensors, arrays, numbers and texts."""
    summary = hashlib.blake2b(digest_size=12)
    _add(summary, value)
    return summary.hexdigest()


def _add(summary: "hashlib._Hash", value: object) -> None:
    if isinstance(value, torch.Tensor):
        _add(summary, (str(value.dtype), list(value.shape)))
        summary.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        for name in sorted(value, key=str):
            if name not in MEASURED:
                _add(summary, str(name))
                _add(summary, value[name])
    elif isinstance(value, list | tuple):
        summary.update(f"[{len(value)}".encode())
        for part in value:
            _add(summary, part)
    else:
        summary.update(repr(value).encode())


def learned(folder: Path) -> dict[str, str]:
    """Hashes of a run: its weights and states, its log."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    parts = {name: digest(state[name]) for name in ("embedder", "objective", "dictionary", "key_encoder", "optimizer")}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return parts | {"log": digest(lines)}


def hashes(only: str) -> dict[str, dict[str, str]]:
    """Of every cell whose name has ``only`` in it."""
    found: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, vectors = made_up(folder)
        for number, (cell, method, settings) in enumerate(cells(folder)):
            assert cell not in found, cell
            if only not in cell:
                continue
            items = vectors if settings.get("encoder.name") == "mlp" else images
            out = folder / f"{number}"
            try:
                model = lw.fit(items, out=out, method=method, settings=SMALL | settings, progress=False)
                scores = lw.evaluate(model, train=items)
                found[cell] = learned(out) | {"scores": digest(scores)}
            except ValueError as refused:  # a combination that is refused must be refused after the change too
                found[cell] = {"refused": type(refused).__name__}
            print(f"{cell}: {' '.join(found[cell].values())}", file=sys.stderr, flush=True)
    return found


def main() -> int:
    """Writes or compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="JSON file of the hashes")
    parser.add_argument("--compare", type=Path, help="a file that --write wrote")
    parser.add_argument("--only", default="", help="cells whose name has this text in it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums of several threads may add up in another order
    found = hashes(arguments.only)
    if arguments.write:
        arguments.write.write_text(json.dumps(found, indent=1))
    if not arguments.compare:
        return 0
    before = json.loads(arguments.compare.read_text())
    before = {cell: parts for cell, parts in before.items() if arguments.only in cell}
    changed = []
    for cell, parts in before.items():
        now = found.get(cell, {})
        differ = [part for part in {**parts, **now} if parts.get(part) != now.get(part)]
        changed += [f"{cell}: {', '.join(differ)}"] if differ else []
    refused = sum("refused" in parts for parts in before.values())
    print(f"{len(before) - len(changed)} of {len(before)} runs are bit-identical ({refused} of them refused).")
    print("\n".join(changed))
    return 1 if changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
