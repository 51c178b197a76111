"""Metric learning by classes: the keys are a proxy of each label, weights that are trained with the encoder."""

from dataclasses import replace

from likewise.config.objective_table import objective as objective_row
from likewise.config.settings import EncoderSettings, FitSettings, ObjectiveSettings, OptimSettings
from likewise.methods.method import Method

OURS = (
    "SGD with momentum and a cosine rate, batches of 128, so that methods compare",
    "the learning rate is ours, chosen by short trainings on Omniglot characters (see benchmarks/omniglot.py)",
    "the embedding is centred by BatchNorm before its length is made 1 (encoder.centre=false leaves it out)",
)
BASE = FitSettings(
    alike="label",
    dictionary="proxies",
    encoder=EncoderSettings(head="linear", dim=128),
    optim=OptimSettings(lr=0.05, weight_decay=5e-4),
    batch_size=128,
    epochs=60,
)
GENTLE = replace(BASE.optim, lr=0.005)  # where s = 64 makes gradients long


def _row(name: str, paper: str, objective: str, settings: FitSettings, *departures: str) -> Method:
    row = objective_row(settings.objective.kind)
    return Method(
        name=name,
        aliases=tuple(each for each in (row.name, *row.aliases) if each != name),
        paper=paper,
        alike="same label",
        dictionary="proxies: weights, a vector of each class",
        negatives="the proxies of all other classes",
        objective=objective,
        departures=departures,
        settings=replace(settings, method=name),
    )


ARCFACE = _row(
    "arcface",
    "Deng, Guo, Xue, Zafeiriou: ArcFace, CVPR 2019",
    "softmax of cosines, the target's angle enlarged: s cos(θ + m), s = 64, m = 0.5",
    replace(BASE, objective=ObjectiveSettings(kind="arcface"), optim=GENTLE),
    "the true slope of cos(θ + m), where the released code passes s",
    *OURS,
)
COSFACE = _row(
    "cosface",
    "Wang et al.: CosFace, CVPR 2018; AM-softmax: Wang, Cheng, Liu, Liu 2018",
    "softmax of cosines, the target's lowered: s (cos θ − m), s = 64, m = 0.35",
    replace(BASE, objective=ObjectiveSettings(kind="am-softmax", parameters={"scale": 64.0}), optim=GENTLE),
    *OURS,
)
SPHEREFACE = _row(
    "sphereface",
    "Liu, Wen, Yu, Li, Raj, Song: SphereFace, CVPR 2017",
    "A-softmax: ‖x‖ ψ(θ) with unit proxies, m = 4, on raw rows",
    replace(
        BASE,
        objective=ObjectiveSettings(kind="a-softmax", parameters={"mix": 5.0}),
        encoder=EncoderSettings(head="linear", dim=128, centre=False, unit=False),
    ),
    "the mix with plain softmax stays at λ = 5, where the paper lowers it to there: at 0 a short training on Omniglot "
    "diverges",
    *OURS[:2],
)
NORMFACE = _row(
    "normface",
    "Wang, Xiang, Cheng, Yuille: NormFace, ACM Multimedia 2017",
    "softmax of scaled cosines, s = 20",
    replace(BASE, objective=ObjectiveSettings(kind="normface")),
    "the scale is fixed; the paper can learn it",
    *OURS,
)
CLASSES = (ARCFACE, COSFACE, SPHEREFACE, NORMFACE)
