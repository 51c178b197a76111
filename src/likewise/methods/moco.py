"""MoCo: the keys lie in a queue, encoded by a slowly moving copy of the encoder."""

from dataclasses import replace

from likewise.config.settings import (
    EncoderSettings,
    FitSettings,
    KeyEncoderSettings,
    ObjectiveSettings,
    OptimSettings,
    QueueSettings,
    ViewSettings,
)
from likewise.methods.method import Method

PAPER = "He, Fan, Wu, Xie, Girshick: Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020"
OLDER_KEYS = (
    "an item's own older keys in the queue neither pull nor push, by their id; the released code lets them push"
)
DROPPED = "any batch size and queue size go together; the released code asks that one divide the other"

MOCO = Method(
    name="moco",
    paper=PAPER,
    alike="same instance: two views of one item",
    dictionary="queue of the newest K keys (§3.2), encoded by the momentum encoder (eq. 2)",
    negatives="all K keys of the queue",
    objective="InfoNCE (eq. 1), τ = 0.07",
    departures=(OLDER_KEYS, DROPPED, "one process shuffles between BatchNorm groups as the paper's GPUs do (§3.3)"),
    settings=FitSettings(
        method="moco",
        dictionary="queue",
        queue=QueueSettings(size=65_536),
        key_encoder=KeyEncoderSettings(momentum=0.999),
        objective=ObjectiveSettings(kind="infonce", parameters={"temperature": 0.07}),
        encoder=EncoderSettings(head="linear", centre=False, bn_groups=8),
        optim=OptimSettings(lr=0.03, weight_decay=1e-4, schedule="steps", milestones=(0.6, 0.8)),
        views=ViewSettings(hue=0.4, jitter=1.0),
        batch_size=256,
    ),
)

MOCO_V2 = Method(
    name="moco-v2",
    paper="Chen, Fan, Girshick, He: Improved Baselines with Momentum Contrastive Learning, 2020",
    alike=MOCO.alike,
    dictionary=MOCO.dictionary,
    negatives=MOCO.negatives,
    objective="InfoNCE, τ = 0.2",
    departures=MOCO.departures,
    settings=replace(
        MOCO.settings,
        method="moco-v2",
        objective=ObjectiveSettings(kind="infonce", parameters={"temperature": 0.2}),
        encoder=EncoderSettings(head="mlp", head_hidden=2048, centre=False, bn_groups=8),
        optim=OptimSettings(lr=0.03, weight_decay=1e-4, schedule="cosine"),
        views=ViewSettings(blur=0.5),
    ),
)

MOCO_SYMMETRIC = Method(
    name="moco-symmetric",
    paper=PAPER + "; the CIFAR-10 recipe of its authors",
    alike=MOCO.alike,
    dictionary=MOCO.dictionary + "; both views' keys are enqueued",
    negatives=MOCO.negatives,
    objective="InfoNCE (eq. 1), τ = 0.1, each view a query against the other's key",
    departures=MOCO.departures,
    settings=replace(
        MOCO.settings,
        method="moco-symmetric",
        symmetric=True,
        queue=QueueSettings(size=4096),
        key_encoder=KeyEncoderSettings(momentum=0.99),
        objective=ObjectiveSettings(kind="infonce", parameters={"temperature": 0.1}),
        loss_weight=2.0,
        optim=OptimSettings(lr=0.06, weight_decay=5e-4, schedule="cosine"),
        views=ViewSettings(crop_scale=(0.08, 1.0)),
        batch_size=512,
    ),
)
