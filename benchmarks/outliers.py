"""Foreign items planted among digits, and swapped labels: are they found?

    python benchmarks/outliers.py runs/demo       # the run of `make demo`: a minute

Among the 4,000 digits that the run was trained on, 40 items of one other kind: drawings of Omniglot (white on black,
28 px, as the digits), grey photos of CIFAR-10, stripes of one random direction, width and phase each, and noise. AUROC
in % of the distance to the k-th neighbour: by the embedding and the backbone's features at length 1, and as `likewise
outliers` has it (features whitened, not scaled; k = 50 is its default). 0.5 % to 5 % of labels swapped: AUROC in % of
the neighbours' votes against the label, and precision and recall of the suspects (0.8 of the votes for another label).

Needs LIKEWISE_DATA with cifar10 and omniglot-small (default ../shared/data), and the extra ``demo``.
"""

import argparse
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from omniglot import drawings, read
from PIL import Image
from sklearn.metrics import roc_auc_score
from views import cpu

import likewise as lw
from likewise.answers.outliers import outliers
from likewise.cli.demo import digits
from likewise.data import Items
from likewise.metrics import top_k

FOREIGN, SIDE = 40, 28


def grey(images: list[Image.Image]) -> np.ndarray:
    """(N, 28, 28, 3) uint8."""
    small = (np.asarray(each.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for each in images)
    return np.stack([np.repeat(each[..., None], 3, 2) for each in small])


def foreign(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Items of each kind."""
    from pyarrow import parquet

    path = drawings()
    drawn = read(path)[2]
    some = drawn[random.choice(len(drawn), FOREIGN, replace=False)]
    photos = parquet.read_table(path.parents[1] / "cifar10" / "test.parquet")["image"].slice(0, FOREIGN).to_pylist()
    down, across = np.mgrid[0:SIDE, 0:SIDE]
    angle, width, phase = random.uniform((0, 0.5, 0), (np.pi, 2, 6), (FOREIGN, 3)).T[..., None, None]
    waves = 127.5 * (1 + np.sin((across * np.cos(angle) + down * np.sin(angle)) * width + phase))
    return {
        "Omniglot": grey([Image.fromarray(255 - each) for each in some]),
        "CIFAR-10": grey([Image.open(io.BytesIO(each["bytes"])) for each in photos]),
        "stripes": np.repeat(waves.astype(np.uint8)[..., None], 3, 3),
        "noise": np.repeat(random.integers(0, 256, (FOREIGN, SIDE, SIDE, 1), np.uint8), 3, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run that was trained on the demo's digits")
    model = lw.load(parser.parse_args().run)
    train, _ = digits()
    random = np.random.default_rng(0)
    print(f"{cpu()}, {torch.get_num_threads()} threads")
    print("| foreign | embedding, k 10 | k 50 | backbone, k 10 | k 50 | likewise outliers, k 10 | k 50 |")
    print("|-|-|-|-|-|-|-|")
    for name, pixels in foreign(random).items():
        values = np.concatenate([np.asarray(train.values), pixels])
        items = Items(ids=tuple(map(str, range(len(values)))), values=values, kind="images", source=name)
        is_foreign, numbers, scores = np.arange(len(items)) >= len(train), torch.arange(len(items)), list[float]()
        for layer in ("embedding", "backbone"):
            rows = model.features(items, layer=layer)  # type: ignore[arg-type]
            cosines, _ = top_k(rows, rows, 50, query_ids=numbers, key_ids=numbers)
            scores += [float(roc_auc_score(is_foreign, -cosines[:, k - 1])) for k in (10, 50)]
        for k in (10, 50):
            found = outliers(model, items, k=k, progress=False)
            scores.append(float(roc_auc_score(is_foreign, found.distances)))
        print(f"| {name} | {' | '.join(f'{100 * score:.1f}' for score in scores)} |")
    print("\n| labels swapped | AUROC | suspects | precision | recall |\n|-|-|-|-|-|")
    assert train.labels is not None
    for share in (0.005, 0.01, 0.02, 0.05):
        wrong = np.zeros(len(train), np.bool_)
        wrong[random.choice(len(train), round(share * len(train)), replace=False)] = True
        labels = np.where(wrong, (train.labels + random.integers(1, 10, len(train))) % 10, train.labels)
        found = outliers(model, replace(train, labels=labels), labels="auto", progress=False)
        assert found.votes is not None
        suspects = [row for row, _ in found.suspects()]
        right = int(wrong[suspects].sum())
        score = float(roc_auc_score(wrong, 1 - found.votes.own))
        print(
            f"| {100 * share:g} % ({wrong.sum()}) | {100 * score:.1f} | {len(suspects)} "
            f"| {100 * right / max(1, len(suspects)):.1f} | {100 * right / wrong.sum():.1f} |"
        )


if __name__ == "__main__":
    main()
