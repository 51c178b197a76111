"""Scores have a protocol; the monitors notice a collapse; raw pixels are centred by the training mean."""

import json
import math

import numpy as np
import pytest
import torch

from likewise.errors import LikewiseError
from likewise.evaluation.baselines import raw_pixels
from likewise.metrics import Score, collapse_std, effective_rank


def test_score_goes_with_its_protocol():
    score = Score(name="knn", value=0.5, protocol={"k": 200, "temperature": 0.07})
    stamped = score.stamped({"layer": "head", "k": 200})
    assert json.loads(stamped.to_json()) == {
        "name": "knn",
        "value": 0.5,
        "std": None,
        "protocol": {"k": 200, "temperature": 0.07, "layer": "head"},
    }
    assert score.protocol == {"k": 200, "temperature": 0.07}
    assert json.loads(Score(name="probe", value=math.nan, protocol={"lr": 30.0}).to_json())["value"] is None
    with pytest.raises(LikewiseError, match="measured with k = 200, not 20"):
        score.stamped({"k": 20})
    with pytest.raises(LikewiseError, match="empty protocol"):
        Score(name="knn", value=0.5, protocol={})
    with pytest.raises(LikewiseError, match="'seeds' of score 'knn' is a list"):
        Score(name="knn", value=0.5, protocol={"seeds": [1, 2]})


@pytest.mark.parametrize("shape", [(300, 20), (20, 300)])
def test_effective_rank_equals_the_definition(shape):
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    singular = np.linalg.svd(rows.double().numpy(), compute_uv=False)
    share = singular / singular.sum()
    assert effective_rank(rows) == pytest.approx(math.exp(-(share * np.log(share)).sum()), rel=1e-9)


def test_monitors_flag_a_planted_collapse_and_pass_a_healthy_sphere():
    generator = torch.Generator().manual_seed(1)
    healthy = torch.nn.functional.normalize(torch.randn(1000, 64, generator=generator), dim=1)
    point = healthy[:1] + 1e-4 * healthy
    assert effective_rank(healthy) > 60
    assert effective_rank(point) < 1.2
    assert effective_rank(torch.zeros(5, 3)) == 0.0
    assert effective_rank(torch.eye(7)) == pytest.approx(7)
    assert effective_rank(1e30 * torch.eye(7)) == pytest.approx(7)
    assert collapse_std(healthy) == pytest.approx(1, abs=0.02)
    assert collapse_std(point) < 0.01
    unit = (healthy / healthy.norm(dim=1, keepdim=True)).numpy()
    assert collapse_std(5 * healthy) == pytest.approx(unit.std(axis=0).mean() * 8, rel=1e-5)
    broken = healthy.clone()
    broken[17, 3] = math.inf
    for monitor in (effective_rank, collapse_std):
        with pytest.raises(LikewiseError, match="row 17"):
            monitor(broken)
    with pytest.raises(LikewiseError, match="at least two"):
        collapse_std(healthy[:1])


def test_raw_pixels_are_unit_rows_centred_by_the_training_mean(monkeypatch):
    monkeypatch.setattr("likewise.evaluation.baselines._PIXEL_TILE", 7)
    random = np.random.default_rng(0)
    train, test = (random.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8) for count in (30, 9))
    rows, mean = raw_pixels(train)
    test_rows, same = raw_pixels(test, mean)
    flat, test_flat = train.reshape(30, -1).astype(float), test.reshape(9, -1).astype(float)
    np.testing.assert_allclose(mean.numpy(), flat.mean(0), rtol=1e-6)
    for ours, raw in ((rows, flat), (test_rows, test_flat)):
        centred = raw - flat.mean(0)
        np.testing.assert_allclose(ours.numpy(), centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-6)
    assert same is mean
    assert rows.dtype == torch.float32


def test_raw_pixels_refuses_what_are_not_images():
    with pytest.raises(LikewiseError, match="uint8"):
        raw_pixels(np.zeros((2, 4, 4, 3)))
    with pytest.raises(LikewiseError, match="empty"):
        raw_pixels(np.zeros((0, 4, 4, 3), np.uint8))
    with pytest.raises(LikewiseError, match="48 pixel values"):
        raw_pixels(np.zeros((2, 4, 4, 3), np.uint8), torch.zeros(12))
    assert raw_pixels(np.zeros((2, 4, 4, 3), np.uint8))[0].abs().max() == 0
