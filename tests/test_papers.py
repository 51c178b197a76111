"""The papers' scripts run in their small mode, and their full recipes are what the papers' code says."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "papers" / "npid_cifar10.py"


@pytest.mark.parametrize("objective", ["nce", "nonparametric-softmax", "parametric-softmax"])
def test_npid_small_mode(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path / "cache"))
    arguments = [str(SCRIPT), "--objective", objective, "--epochs", "2", "--out", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", arguments)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr().out
    assert "weighted kNN, all labels" in printed
    assert f"{objective}: trained" in printed
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_npid_full_recipe_is_the_released_codes() -> None:
    recipe = runpy.run_path(str(SCRIPT))["RECIPE"]
    assert (recipe.encoder.name, recipe.encoder.stem, recipe.encoder.dim) == ("resnet18", "small", 128)
    assert (*recipe.objective.parameters.values(), recipe.bank.momentum) == (0.1, 4096, 0.5)
    assert (recipe.optim.lr, recipe.optim.weight_decay, recipe.optim.milestones) == (0.03, 5e-4, (0.6, 0.8))
    assert (recipe.epochs, recipe.batch_size, recipe.views.flip, recipe.encoder.centre) == (200, 128, 0.0, False)


def test_missing_data_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_DATA", str(tmp_path))
    monkeypatch.setattr("sys.argv", [str(SCRIPT), "--full"])
    with pytest.raises(SystemExit, match=r"train\.parquet is missing; point LIKEWISE_DATA"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
