"""SimCLR: the batch is the dictionary, and every view meets every other."""

from dataclasses import replace

from likewise.config.settings import (
    BatchSettings,
    EncoderSettings,
    FitSettings,
    ObjectiveSettings,
    OptimSettings,
    ViewSettings,
)
from likewise.methods.method import Method

PAPER = (
    "Chen, Kornblith, Norouzi, Hinton: A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020"
)

SIMCLR = Method(
    name="simclr",
    paper=PAPER,
    alike="same instance: two views of one item",
    dictionary="the batch: both views of all items, with gradient",
    negatives="the 2B − 2 views of other items",
    objective="NT-Xent (eq. 1), τ = 0.5 as on CIFAR-10 (B.9)",
    departures=(
        "as in its CIFAR-10 experiments (B.9): colours at half strength, no blur; batches of 512",
        "BatchNorm over the whole batch of 2B views, across processes too, as the paper's global BN",
    ),
    settings=FitSettings(
        method="simclr",
        dictionary="batch",
        batch=BatchSettings(keys="both"),
        objective=ObjectiveSettings(kind="infonce", parameters={"temperature": 0.5}),
        encoder=EncoderSettings(head="mlp", head_hidden=0, centre=False),
        optim=OptimSettings(name="lars", lr=2.0, weight_decay=1e-6, schedule="cosine", warmup=0.05),  # 1.0 · B / 256
        views=ViewSettings(crop_scale=(0.08, 1.0)),
        batch_size=512,
    ),
)

SIMCLR_REPO = Method(
    name="simclr-repo",
    paper=PAPER + "; its released code",
    alike=SIMCLR.alike,
    dictionary=SIMCLR.dictionary,
    negatives=SIMCLR.negatives,
    objective="NT-Xent, the two views' losses added (loss_weight=2)",
    departures=(
        "a head of three layers with a BatchNorm after each and weight decay 1e-4, as the released code; its last "
        "BatchNorm has no bias there",
    ),
    settings=replace(
        SIMCLR.settings,
        method="simclr-repo",
        objective=ObjectiveSettings(kind="infonce", parameters={"temperature": 0.5}),
        loss_weight=2.0,
        encoder=EncoderSettings(head="mlp-bn", head_hidden=0, centre=False),
        optim=OptimSettings(name="lars", lr=2.0, weight_decay=1e-4, schedule="cosine", warmup=0.01),
    ),
)
