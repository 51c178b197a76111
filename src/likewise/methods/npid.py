"""NPID: every item is its own class; its key lies in a memory bank."""

from likewise.config.settings import FitSettings
from likewise.methods.method import Method

NPID = Method(
    name="npid",
    paper="Wu, Xiong, Yu, Lin: Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018",
    alike="same instance: views of one item",
    dictionary="memory bank, a row per item (§3.2)",
    negatives="all n items (softmax), or m drawn uniformly (nce)",
    objective="exact non-parametric softmax (eq. 2) up to 10,000 items, NCE (eq. 5–7) above; parametric (eq. 1); "
    "proximal term λ (eq. 9–10)",
    departures=(
        "cosine learning rate instead of ×0.1 at 120 and 160 of 200 epochs: better when the budget is short; "
        "optim.schedule=steps is the paper's",
        "bank momentum 0.5 and no proximal term, as the released code; bank.momentum=0 with objective.proximal is the "
        "paper's text",
        "log Z follows a moving average; the released code freezes the first batch's (objective.log_z=first)",
        "noise shared across the batch; the paper draws per example (objective.draw=per-example)",
        "the head's output is centred by BatchNorm before its length is made 1, which a short training needs to leave "
        "the narrow cone it starts in; encoder.centre=false is the paper's",
        "views flip, and jitter with probability 0.8, as MoCo v2's; the released CIFAR code never flips",
    ),
    settings=FitSettings(method="npid"),
)
