"""Linear classifiers on frozen features: the SVM of NPID's tables, and MoCo's linear probe.

Both use features that were computed once, so a whole evaluation takes a few hundred matrix products.
"""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from likewise.alike import Ids
from likewise.console import Tick, untold
from likewise.errors import LikewiseError, LikewiseWarning
from likewise.metrics.checks import (
    Rows,
    as_labels,
    as_rows,
    check_classes,
    check_finite,
    check_positive,
    check_same_width,
)
from likewise.metrics.squared_hinge import fit_squared_hinge

_TILE = 16_384  # rows whose scores are held at once


@dataclass(frozen=True, kw_only=True)
class SvmResult:
    """A fitted linear SVM and how well it does.

    Args:
        accuracy: share of test rows classified correctly, in [0, 1].
        weights: (C, D), one row per class, in the features' precision.
        bias: (C,).
        classes: int64 (C,), the label of each row of ``weights``, ascending.
        iterations: number of Newton steps.
        gradient: largest gradient entry at the end, divided by the largest at the start.
        converged: whether ``gradient`` reached the tolerance.
    """

    accuracy: float
    weights: Tensor
    bias: Tensor
    classes: Tensor
    iterations: int
    gradient: float
    converged: bool


@torch.no_grad()
def linear_svm(
    features: Rows,
    labels: Ids,
    test_features: Rows,
    test_labels: Ids,
    *,
    C: float = 1.0,
    tolerance: float = 1e-5,
    max_iterations: int = 100,
    tick: Tick = untold,
) -> SvmResult:
    """One-vs-rest linear SVM: fit on the training rows, accuracy on the test rows.

    Minimises, for each class with targets y = ±1, liblinear's (and scikit-learn's LinearSVC's) default

        ½(‖w‖² + b²) + C Σ_i max(0, 1 − y_i (w·x_i + b))²

    The bias is the weight of a constant feature 1, so it is regularised too, as in liblinear. The solver is also that
    of liblinear, Newton's method with conjugate gradients, but for all classes at once, so that the work is products of
    matrices. Features are used as they are: their scale matters as much as C.

    Args:
        features: (N, D) float32 or float64; the solver works in that precision.
        labels: (N,) integers ≥ 0, at least two different.
        test_features: (M, D).
        test_labels: (M,); a label that training never saw counts as wrong.
        C: weight of the errors against the margin; above 0.
        tolerance: stop when the largest gradient entry is at most this share of the largest at the start. For ten
            balanced classes 1e-5 is liblinear's own rule; float32 features allow no less than about 1e-6.
        max_iterations: largest number of Newton steps; a LikewiseWarning says if they were not enough.
        tick: told the share of the work that is done, by the logarithm of the gradient.

    Raises:
        LikewiseError: wrong shapes or lengths, NaN (by row), fewer than two classes, C ≤ 0.

    Cost: about 50 to 100 passes of 4·N·D·C flops, plus 8·D³ flops to precondition them; memory beyond the features
    O(D² + C·D) and N·C bytes.
    """
    check_positive("C", C)
    check_positive("tolerance", tolerance)
    features, labels, test_features, test_labels = _task(features, labels, test_features, test_labels)
    classes = check_classes(labels)
    targets = torch.searchsorted(classes, labels.long())
    parameters, iterations, shrunk = fit_squared_hinge(
        features, targets, classes.numel(), C=C, tolerance=tolerance, max_iterations=max_iterations, tick=tick
    )
    if shrunk > tolerance:
        warnings.warn(
            f"the linear SVM stopped after {iterations} iterations with its gradient at {shrunk:.1e} of the start "
            f"instead of {tolerance:.0e}: its accuracy is approximate; raise max_iterations or lower C.",
            LikewiseWarning,
            stacklevel=2,
        )
    weights, bias = parameters[:, :-1].contiguous(), parameters[:, -1].contiguous()
    return SvmResult(
        accuracy=_accuracy(test_features, test_labels, weights, bias, classes),
        weights=weights,
        bias=bias,
        classes=classes,
        iterations=iterations,
        gradient=shrunk,
        converged=shrunk <= tolerance,
    )


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How a linear probe is trained; the defaults are MoCo's.

    Args:
        lr: learning rate of the first epochs.
        weight_decay: of weights and bias.
        epochs: passes over the training rows.
        batch_size: rows per step; the last, smaller batch is used too.
        momentum: of SGD.
        milestones: after each of these epochs the learning rate is divided by 10; values ≥ ``epochs`` have no effect.
        seed: seed of the first weights and of the order of the rows.
        normalize: whether to L2-normalise the rows first (see :func:`linear_probe`).

    Raises:
        LikewiseError: a value out of range.
    """

    lr: float = 30.0
    weight_decay: float = 0.0
    epochs: int = 100
    batch_size: int = 256
    momentum: float = 0.9
    milestones: tuple[int, ...] = (60, 80)
    seed: int = 0
    normalize: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        check_positive("lr", self.lr)
        if self.epochs < 1 or self.batch_size < 1:
            raise LikewiseError(
                f"epochs and batch_size must be at least 1, but are {self.epochs} and {self.batch_size}."
            )
        if self.weight_decay < 0 or not 0 <= self.momentum < 1:
            raise LikewiseError(
                f"weight_decay must be ≥ 0 and momentum in [0, 1), but are {self.weight_decay} and {self.momentum}."
            )


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What a linear probe reached.

    Args:
        accuracy_last: test accuracy after the last epoch, in [0, 1]; the number to report. NaN if the probe diverged.
        accuracy_best: highest test accuracy after any epoch; this choice uses the test set.
        best_epoch: epoch of ``accuracy_best``, counted from 1; 0 if there is none.
        train_loss: mean cross-entropy of each epoch in nats, measured while training.
        trouble: why the numbers can't be trusted; empty if they can.
    """

    accuracy_last: float
    accuracy_best: float
    best_epoch: int
    train_loss: tuple[float, ...]
    trouble: str


@torch.no_grad()
def linear_probe(
    features: Rows,
    labels: Ids,
    test_features: Rows,
    test_labels: Ids,
    settings: ProbeSettings | None = None,
    tick: Tick = untold,
) -> ProbeResult:
    """MoCo's linear probe: softmax regression on frozen features by SGD with momentum.

    First weights N(0, 0.01²), bias 0; gradients in closed form, in the features' precision.

    Departures. MoCo draws a new crop and flip of every image in every epoch; here features are computed once, from
    the plain view. MoCo's lr of 30 suits the small activations of its backbone. Here rows are L2-normalised first, so
    that this lr suits any encoder; ``settings`` can turn this off and set lr.

    If the probe diverges, ``accuracy_last`` is NaN. If its loss ends above that of guessing, it has learned nothing.
    ``trouble`` says so in both cases.

    Args:
        features: (N, D) float.
        labels: (N,) integers ≥ 0, at least two different.
        test_features: (M, D).
        test_labels: (M,); a label that training never saw counts as wrong.
        settings: None: MoCo's.
        tick: told the share of the work that is done.

    Raises:
        LikewiseError: wrong shapes or lengths, NaN (by row), fewer than two classes.

    Cost: 4·N·D·C flops an epoch, plus 2·M·D·C for its test accuracy. Normalising copies the features.
    """
    settings = settings or ProbeSettings()
    features, labels, test_features, test_labels = _task(features, labels, test_features, test_labels)
    classes = check_classes(labels)
    targets = torch.searchsorted(classes, labels.long())
    if settings.normalize:
        features = torch.nn.functional.normalize(features, dim=1)
        test_features = torch.nn.functional.normalize(test_features, dim=1)
    generator = torch.Generator().manual_seed(settings.seed)
    first = torch.randn(classes.numel(), features.shape[1], generator=generator) * 0.01
    weights, bias = first.to(features), torch.zeros(classes.numel()).to(features)
    momenta = [torch.zeros_like(weights), torch.zeros_like(bias)]
    losses, accuracies = list[float](), list[float]()
    for epoch in range(settings.epochs):
        lr = settings.lr * 0.1 ** sum(epoch >= milestone for milestone in settings.milestones)
        total = torch.zeros((), dtype=torch.float64, device=features.device)
        order = torch.randperm(features.shape[0], generator=generator).to(features.device)
        for start in range(0, features.shape[0], settings.batch_size):
            rows = order[start : start + settings.batch_size]
            loss, gradients = _softmax_regression(features[rows], targets[rows], weights, bias)
            total += loss
            for parameter, gradient, momentum in zip((weights, bias), gradients, momenta, strict=True):
                gradient.add_(parameter, alpha=settings.weight_decay)
                parameter.sub_(momentum.mul_(settings.momentum).add_(gradient), alpha=lr)
        losses.append(float(total) / features.shape[0])
        tick((epoch + 1) / settings.epochs)
        if not math.isfinite(losses[-1]) or not bool(torch.isfinite(weights).all()):
            break
        accuracies.append(_accuracy(test_features, test_labels, weights, bias, classes))
    return _probe_result(losses, accuracies, settings, classes.numel())


def _softmax_regression(
    rows: Tensor, targets: Tensor, weights: Tensor, bias: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Summed cross-entropy of a batch, and the gradients of its mean for weights and bias."""
    log_shares = torch.log_softmax(torch.addmm(bias, rows, weights.T), dim=1)
    loss = -log_shares.gather(1, targets[:, None]).sum(dtype=torch.float64)
    errors = log_shares.exp_()
    errors.scatter_add_(1, targets[:, None], errors.new_full((rows.shape[0], 1), -1.0))
    errors.div_(rows.shape[0])
    return loss, (errors.T @ rows, errors.sum(0))


def _probe_result(losses: list[float], accuracies: list[float], settings: ProbeSettings, classes: int) -> ProbeResult:
    """The result, with ``trouble`` from the curve of losses."""
    diverged = len(accuracies) < len(losses)
    trouble, advice = "", f"lower lr (now {settings.lr}) or weight_decay (now {settings.weight_decay})."
    if diverged:
        trouble = f"the linear probe diverged in epoch {len(losses)}: its loss became infinite; {advice}"
    elif losses[-1] > math.log(classes):
        trouble = (
            f"the linear probe ended at loss {losses[-1]:.3g}, above log({classes}) = {math.log(classes):.3g} "
            f"of guessing: it did not learn; {advice}"
        )
    best = max(accuracies, default=math.nan)
    return ProbeResult(
        accuracy_last=math.nan if diverged else accuracies[-1],
        accuracy_best=best,
        best_epoch=accuracies.index(best) + 1 if accuracies else 0,
        train_loss=tuple(losses),
        trouble=trouble,
    )


def _task(features: Rows, labels: Ids, test_features: Rows, test_labels: Ids) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features and labels as tensors. Raises LikewiseError if they can't be classified."""
    features, test_features = as_rows("features", features), as_rows("test_features", test_features)
    labels = as_labels("labels", labels, features)
    test_labels = as_labels("test_labels", test_labels, test_features)
    check_finite("features", features)
    check_finite("test_features", test_features)
    check_same_width("features", features, "test_features", test_features)
    if features.dtype not in (torch.float32, torch.float64):
        raise LikewiseError(f"features are {features.dtype}; convert to float32 or float64 before fitting.")
    return features, labels, test_features, test_labels


def _accuracy(rows: Tensor, labels: Tensor, weights: Tensor, bias: Tensor, classes: Tensor) -> float:
    """Share of rows whose largest score is that of their label."""
    right = 0
    for start in range(0, rows.shape[0], _TILE):
        scores = torch.addmm(bias, rows[start : start + _TILE].to(weights.dtype), weights.T)
        right += int((classes[scores.argmax(1)] == labels[start : start + _TILE]).sum())
    return right / rows.shape[0]
