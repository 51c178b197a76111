"""What 10, 30 and 100 labels are worth on the demo's digits, by who chooses them and what classifies the rest.

    likewise demo --out runs/demo                                       # once: 2 minutes on a free core
    python benchmarks/few_labels_select.py runs/demo                    # a minute
    python benchmarks/few_labels_select.py runs/demo --only reliability

The pool is the demo's 4,000 training digits. In each of the draws (``--draws``) a tenth of them, other ones each time,
can't be chosen, so that methods without chance get other items too; k-means and ``random`` also get another seed. All
items without a label are counted, also those that could not be chosen. Mean ± standard deviation over the draws.

Selection: accuracy of the vote of neighbours and of label propagation, with the labels that each method chose.
Reliability, of 30 and 100 labels: of ``lw.classify`` with the labels that each method chose: its confidence against
what is right among the items without a label (ECE), and "unlike" against the truth: all labels of a digit are taken
away, and the area under the ROC of that digit among the items without a label is averaged over the digits. Beside both
is what leave-one-out on the labels says of them.
"""

import argparse
import statistics
from pathlib import Path

import torch
from torch import Tensor

import likewise as lw
from likewise.answers.calibration import calibration_error, reliability
from likewise.answers.choosers import METHODS, choose_rows
from likewise.answers.classified import Classified
from likewise.answers.classify_rows import classify_rows
from likewise.answers.select import BEST
from likewise.cli.demo import digits
from likewise.metrics.verification import roc

COUNTS = (10, 30, 100)


def chosen(rows: Tensor, count: int, method: str, draw: int) -> Tensor:
    """(n,) the rows that a method chooses in a draw."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1000 + draw))
    pool = order[: len(rows) * 9 // 10].sort().values
    return pool[choose_rows(rows[pool], count, method=method, seed=draw)]


def classified(rows: Tensor, truth: Tensor, known: Tensor, classifier: str = "auto") -> Classified:
    """The rows, classified by the labels of the ``known`` ones."""
    labels = torch.full((len(rows),), -1)
    labels[known] = truth[known]
    names, ids = [str(digit) for digit in range(10)], [str(row) for row in range(len(rows))]
    return classify_rows(rows, labels, names=names, ids=ids, method=classifier)


def right(found: Classified, truth: Tensor) -> float:
    """The share of the items without a label that got theirs, in %."""
    return 100 * float((found.labels == truth)[~found.given].double().mean())


def cell(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def selection(rows: Tensor, truth: Tensor, draws: int) -> None:
    """Prints the accuracy with the labels of each method."""
    print("| labels | weighted kNN | label propagation | classes with a label |\n|-|-|-|-|")
    for count in COUNTS:
        for method in METHODS:
            known = [chosen(rows, count, method, draw) for draw in range(draws)]
            cells = [
                cell([right(classified(rows, truth, each, classifier), truth) for each in known])
                for classifier in ("knn", "propagation")
            ]
            cells.append(cell([float(len(truth[each].unique())) for each in known]))
            print(f"| {count} {method} | {' | '.join(cells)} |", flush=True)


def without(rows: Tensor, truth: Tensor, known: Tensor) -> float:
    """The mean over the digits of the AUROC of "unlike" for a digit whose labels are taken away."""
    aurocs = []
    for digit in range(10):
        found = classified(rows, truth, known[truth[known] != digit])
        fresh = ~found.given
        fresh[known] = False
        aurocs.append(roc(found.unlike[fresh], (truth == digit)[fresh]).auc)
    return statistics.mean(aurocs)


def trust(rows: Tensor, truth: Tensor, draws: int) -> None:
    """Prints how far confidence and "unlike" can be trusted, and what leave-one-out says of them."""
    print("| labels | used | right, % | ECE by labels | ECE, truth | AUROC by labels | AUROC, truth |\n|-|-|-|-|-|-|-|")
    for method in ("random", BEST):
        for count in COUNTS[1:]:
            cells: list[list[float]] = [[], [], [], [], []]
            used = []
            for draw in range(draws):
                known = chosen(rows, count, method, draw)
                found = classified(rows, truth, known)
                fresh = ~found.given
                bins = reliability(found.confidence[fresh], (found.labels == truth)[fresh])
                used.append(found.method)
                figures = (
                    right(found, truth),
                    100 * calibration_error(found.trials[0].bins),
                    100 * calibration_error(bins),
                    100 * found.auroc,
                    100 * without(rows, truth, known),
                )
                for place, figure in enumerate(figures):
                    cells[place].append(figure)
            of = ", ".join(f"{name} {used.count(name)}×" for name in sorted(set(used)))
            print(f"| {count} {method} | {of} | {' | '.join(map(cell, cells))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of the demo")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--only", choices=["selection", "reliability"])
    given = parser.parse_args()
    items, _ = digits()
    rows, truth = lw.load(given.run).features(items), torch.from_numpy(items.labels)
    if given.only != "reliability":
        selection(rows, truth, given.draws)
    if given.only != "selection":
        trust(rows, truth, given.draws)


if __name__ == "__main__":
    main()
