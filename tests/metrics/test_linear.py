"""The linear SVM against liblinear (scikit-learn), the probe against autograd and torch's SGD."""

import math

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from likewise.errors import LikewiseError, LikewiseWarning
from likewise.metrics import ProbeSettings, linear_probe, linear_svm, squared_hinge


def blobs(count, width, classes, seed=0, dtype=torch.float64, spread=1.5):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % classes
    return (centres[labels] + spread * torch.randn(count, width, generator=generator)).to(dtype), labels


@pytest.mark.parametrize(("classes", "C"), [(2, 1.0), (3, 0.05), (5, 1.0)])
def test_svm_equals_liblinear(classes, C):
    x, y = blobs(200, 6, classes)
    test_x, test_y = blobs(300, 6, classes, seed=1)
    names = torch.tensor([3, 4, 10, 11, 40])[:classes]  # labels need be neither consecutive nor from 0
    result = linear_svm(x, names[y], test_x, names[test_y], C=C, tolerance=1e-10)
    oracle = LinearSVC(C=C, tol=1e-10, max_iter=200_000, dual=False).fit(x.numpy(), names[y].numpy())
    weights, bias = result.weights.numpy(), result.bias.numpy()
    if classes == 2:
        np.testing.assert_allclose(-weights[0], weights[1], atol=1e-8)
        weights, bias = weights[1:], bias[1:]
    np.testing.assert_allclose(weights, oracle.coef_, atol=1e-5)
    np.testing.assert_allclose(bias, oracle.intercept_, atol=1e-5)
    assert result.converged
    assert result.accuracy == oracle.score(test_x.numpy(), names[test_y].numpy())
    assert result.classes.tolist() == names.tolist()


def test_svm_in_float32_at_the_default_tolerance_predicts_as_liblinear(monkeypatch):
    monkeypatch.setattr(squared_hinge, "_tiles", lambda rows: [slice(at, at + 64) for at in range(0, len(rows), 64)])
    x, y = blobs(500, 10, 4, dtype=torch.float32, spread=1.0)
    test_x, test_y = blobs(500, 10, 4, seed=1, dtype=torch.float32, spread=1.0)
    result = linear_svm(x, y, test_x, test_y)
    oracle = LinearSVC(tol=1e-8, max_iter=100_000, dual=False).fit(x.numpy(), y.numpy())
    ours = result.classes[(test_x @ result.weights.T + result.bias).argmax(1)].numpy()
    assert (ours == oracle.predict(test_x.numpy())).mean() >= 0.998
    np.testing.assert_allclose(result.weights.numpy(), oracle.coef_, atol=2e-3)


def test_closed_form_gradients_equal_autograd():
    x, y = blobs(50, 7, 3)
    parameters = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    signs = 2.0 * torch.nn.functional.one_hot(y, 3) - 1
    errors = (1 - signs * (x @ parameters[:, :-1].T + parameters[:, -1])).clamp(min=0)
    losses = 0.5 * parameters.square().sum(1) + 0.7 * errors.square().sum(0)
    (gradient,) = torch.autograd.grad(losses.sum(), parameters)
    ours = squared_hinge.squared_hinge(x, y, parameters.detach(), 0.7)
    torch.testing.assert_close(ours[0], losses.detach())
    torch.testing.assert_close(ours[1], gradient)
    assert torch.equal(ours[2], errors > 0)


@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
@pytest.mark.parametrize("count", [4, 10, 150])
def test_svm_converges_in_float32_whatever_the_scale_and_the_number_of_rows(count, scale):
    """pytest turns the warning of an unconverged fit into an error."""
    x, y = blobs(count, 12, 4, dtype=torch.float32)
    result = linear_svm(x * scale, y, x * scale, y)
    exact = linear_svm(x.double() * scale, y, x.double() * scale, y, tolerance=1e-9)
    assert result.converged

    def objective(fitted):
        parameters = torch.cat([fitted.weights, fitted.bias[:, None]], 1).double()
        return float(squared_hinge.squared_hinge(x.double() * scale, y, parameters, 1.0)[0].sum())

    assert objective(exact) <= objective(result) <= (1.01 if scale <= 1 else 1.5) * objective(exact)


def test_preconditioned_or_not_the_solution_is_the_same(monkeypatch):
    x, y = blobs(400, 9, 3)
    x = x * torch.logspace(-2, 1, 9, dtype=torch.float64)  # columns of very different size
    steps = []
    monkeypatch.setattr(
        squared_hinge, "_precondition", lambda r, f, solve=squared_hinge._precondition: steps.append(f) or solve(r, f)
    )
    fitted = linear_svm(x, y, x, y, tolerance=1e-9)
    preconditioned = len(steps)
    assert all(factor is not None for factor in steps)
    monkeypatch.setattr(squared_hinge, "_factor", lambda gram, weight: None)
    plain = linear_svm(x, y, x, y, tolerance=1e-9)
    torch.testing.assert_close(fitted.weights, plain.weights, rtol=1e-5, atol=1e-7)
    assert preconditioned < (len(steps) - preconditioned) / 2  # and it is what makes it quick


def test_svm_says_when_it_did_not_converge():
    x, y = blobs(200, 6, 3)
    with pytest.warns(LikewiseWarning, match="stopped after 1 iterations"):
        assert not linear_svm(x, y, x, y, tolerance=1e-7, max_iterations=1).converged


def test_probe_equals_torch_sgd():
    x, y = blobs(100, 5, 3)
    test_x, test_y = blobs(60, 5, 3, seed=1)
    settings = ProbeSettings(lr=2.0, weight_decay=0.01, epochs=4, batch_size=32, milestones=(1, 3), seed=5)
    result = linear_probe(x, y, test_x, test_y, settings)
    generator = torch.Generator().manual_seed(5)
    layer = torch.nn.Linear(5, 3, dtype=torch.float64)
    torch.nn.init.zeros_(layer.bias)
    layer.weight.data = (torch.randn(3, 5, generator=generator) * 0.01).double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=2.0, momentum=0.9, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3])
    x, test_x = torch.nn.functional.normalize(x), torch.nn.functional.normalize(test_x)
    losses, accuracies = [], []
    for _ in range(4):
        total = 0.0
        for rows in torch.randperm(100, generator=generator).split(32):
            loss = torch.nn.functional.cross_entropy(layer(x[rows]), y[rows])
            total += loss.item() * len(rows) / 100
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        losses.append(total)
        accuracies.append((layer(test_x).argmax(1) == test_y).double().mean().item())
    assert result.train_loss == pytest.approx(losses, rel=1e-9)
    assert (result.accuracy_last, result.accuracy_best) == (accuracies[-1], max(accuracies))
    assert result.best_epoch == accuracies.index(max(accuracies)) + 1
    assert result.trouble == ""


def test_probe_with_mocos_settings_learns_and_does_not_care_for_the_scale():
    x, y = blobs(600, 16, 4, dtype=torch.float32, spread=1.0)
    test_x, test_y = blobs(400, 16, 4, seed=1, dtype=torch.float32, spread=1.0)
    result = linear_probe(x, y, test_x, test_y)
    assert result.accuracy_last > 0.9
    assert result == linear_probe(x * 1024, y, test_x * 0.5, test_y)


def test_probe_says_that_it_diverged():
    x, y = blobs(100, 5, 3, dtype=torch.float32)
    result = linear_probe(x, y, x, y, ProbeSettings(weight_decay=10.0, epochs=60))
    assert "diverged in epoch" in result.trouble
    assert "weight_decay (now 10.0)" in result.trouble
    assert math.isnan(result.accuracy_last)
    wild = linear_probe(x, y, x, y, ProbeSettings(lr=1e6, epochs=3, normalize=False))
    assert "of guessing: it did not learn" in wild.trouble
    assert wild.accuracy_last <= wild.accuracy_best


@pytest.mark.parametrize("classify", [linear_svm, linear_probe])
@pytest.mark.parametrize(
    ("position", "value", "text"),
    [
        (0, torch.ones(5, 2), "one label per row"),
        (0, torch.full((6, 2), math.nan), "features row 0 holds NaN"),
        (0, torch.ones(6, 2, dtype=torch.float16), "convert to float32"),
        (1, torch.zeros(6, dtype=torch.int64), "at least two classes"),
        (1, torch.tensor([0, 1, 0, 1, 0, -1]), "row 5 is -1"),
        (2, torch.ones(4, 3), "features have 2 columns but test_features have 3"),
        (3, torch.zeros(9, dtype=torch.int64), "test_labels must hold one label per row"),
    ],
)
def test_bad_input(classify, position, value, text):
    task = [torch.ones(6, 2), torch.tensor([0, 1] * 3), torch.ones(4, 2), torch.tensor([0, 1] * 2)]
    task[position] = value
    with pytest.raises(LikewiseError, match=text):
        classify(*task)


def test_bad_settings():
    x, y = blobs(6, 2, 2)
    with pytest.raises(LikewiseError, match="C must be a number above 0"):
        linear_svm(x, y, x, y, C=0)
    with pytest.raises(LikewiseError, match="lr must be"):
        ProbeSettings(lr=-1)
    with pytest.raises(LikewiseError, match="lr must be"):
        ProbeSettings(lr=1e300)  # overflows float32
    with pytest.raises(LikewiseError, match="momentum in"):
        ProbeSettings(momentum=1.0)
    with pytest.raises(LikewiseError, match="at least 1"):
        ProbeSettings(epochs=0)


def test_a_label_unseen_in_training_counts_as_wrong():
    x, y = blobs(60, 4, 2)
    strange = torch.full_like(y, 7)
    assert linear_svm(x, y, x, strange).accuracy == 0.0
    assert linear_probe(x, y, x, strange, ProbeSettings(epochs=2)).accuracy_last == 0.0
