"""Does the sign by which a run of minutes chooses its views agree with labels? Short trainings with several views.

    python benchmarks/tried_views.py                          # five sets: half an hour of one core
    python benchmarks/tried_views.py --only omniglot --steps 250

The sets and measures are those of ``first_run.py``, and so is what they need. Each training has ``--steps`` steps of 64
pictures and no labels; labels only measure it afterwards. The views are the recipe's, milder, stronger, and those of
the other kind of pictures (of photos for drawings, of drawings for photos). The sign is the share of views that find
the other view of their item, over the views of all of them.
"""

import argparse
import os
import sys
from pathlib import Path

import torch
from first_run import LEARNED, measure, tasks
from views import ROOT, cpu

import likewise as lw
from likewise.config.overrides import settings_from
from likewise.config.settings import FitSettings
from likewise.model import Model
from likewise.training.batches import choose_sampler
from likewise.training.candidates import TRY_BATCH, Candidate, of_views, trained
from likewise.training.decide import decide
from likewise.training.recipe import with_recipe
from likewise.training.run import begin
from likewise.training.signs import signs_of

SETS = ("omniglot", "emoji", "textures", "digits", "cifar10")
SHAPE = {"views.rotation": 0.0, "views.deform": 0.0, "views.crop_ratio": (3 / 4, 4 / 3)}
OF_PHOTOS = SHAPE | {f"views.{name}": 0.4 for name in ("brightness", "contrast", "saturation")}
OF_PHOTOS |= {"views.crop_scale": (0.2, 1.0), "views.flip": 0.5, "views.hue": 0.1, "views.grayscale": 0.2}
OF_DRAWINGS = {f"views.{name}": 0.2 for name in ("brightness", "contrast", "saturation")}
OF_DRAWINGS |= {"views.crop_scale": (0.8, 1.0), "views.crop_ratio": (0.9, 1.1), "views.rotation": 10.0}
OF_DRAWINGS |= {"views.deform": 0.03, "views.flip": 0.0, "views.hue": 0.02, "views.grayscale": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path.home() / ".cache" / "likewise-first-run", metavar="FOLDER")
    parser.add_argument("--only", nargs="+", default=SETS, choices=SETS, metavar="SET")
    parser.add_argument("--steps", type=int, default=250)
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    print(f"{cpu()}, torch {torch.__version__}, {arguments.steps} steps of {TRY_BATCH}; {ROOT.name}")
    for name in arguments.only:
        task = tasks(arguments.data)[name]
        if missing := [str(path) for path in task[:3] if not path.exists()]:
            sys.exit(f"{missing[0]} is missing; see first_run.py --help.")
        items = lw.open_items(str(task.train), labels="none")
        minutes = settings_from({"minutes": 3.0})
        recipe = with_recipe(minutes, items, ["minutes"]).settings
        recipe = decide(settings_from({"batch_size": TRY_BATCH, "minutes": None}, recipe), len(items))
        other = OF_DRAWINGS if name == "cifar10" else OF_PHOTOS
        candidates = [
            *of_views(recipe, ["minutes"]),
            Candidate("views of the other kind", settings_from(other, recipe)),
        ]
        models = [short(items, each.settings, arguments.steps) for each in candidates]
        signs = signs_of(models, items)
        queries, gallery = (models[0].open(str(path), labels=task.labels) for path in (task.queries, task.gallery))
        print(f"\n| {name} | {task.measure}, % | views that find their item | effective rank |\n|-|-|-|-|", flush=True)
        for candidate, model, sign in zip(candidates, models, signs, strict=True):
            score = measure(task, queries, gallery, model.features, LEARNED)
            print(f"| {candidate.name} | {score} | {sign.agreement:.1%} | {sign.rank:.0f} |", flush=True)


def short(items: lw.data.Items, settings: FitSettings, steps: int) -> Model:
    """The model after ``steps`` steps."""
    model = Model.untrained(settings, items)
    run = begin(model, items, steps, torch.device("cpu"), sampler=choose_sampler(settings, items))
    return trained(run, "views", float("inf"), progress=True) or model


if __name__ == "__main__":
    main()
