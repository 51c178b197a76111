"""The two mechanisms that He et al. compare MoCo's queue with (CVPR 2020, Fig. 2 and 3)."""

from dataclasses import replace

from likewise.config.settings import BankSettings, BatchSettings, EncoderSettings, ViewSettings
from likewise.methods.method import Method
from likewise.methods.moco import MOCO, PAPER

END_TO_END = Method(
    name="end-to-end",
    paper=PAPER + " (Fig. 2a)",
    alike=MOCO.alike,
    dictionary="the batch: the items' second views, encoded by the same encoder, with gradient",
    negatives="the B − 1 second views of other items",
    objective=MOCO.objective,
    departures=(
        "BatchNorm over the whole batch; the paper needs linear scaling of the learning rate with large batches",
    ),
    settings=replace(
        MOCO.settings,
        method="end-to-end",
        dictionary="batch",
        batch=BatchSettings(keys="second"),
        encoder=EncoderSettings(head="linear", centre=False),
    ),
)

BANK = Method(
    name="bank",
    paper=PAPER + " (Fig. 2b), after Wu et al., CVPR 2018",
    alike="same instance: a view, and the item's row in the bank",
    dictionary="memory bank, a row per item",
    negatives="K rows drawn at each step",
    objective=MOCO.objective,
    departures=("K defaults to 4,096 rows; bank momentum 0.5, as NPID's released code",),
    settings=replace(
        MOCO.settings,
        method="bank",
        dictionary="bank",
        bank=BankSettings(momentum=0.5, samples=4096),
        encoder=EncoderSettings(head="linear", centre=False),
        views=ViewSettings(hue=0.4, jitter=1.0),
    ),
)
