"""Learning to rank: a query and its items are encoded alike, and the file says how relevant each item is."""

from likewise.config.settings import BatchSettings, EncoderSettings, FitSettings, ObjectiveSettings, OptimSettings
from likewise.methods.method import Method

RANKING = Method(
    name="ranking",
    aliases=("lambdarank",),
    paper="Burges: From RankNet to LambdaRank to LambdaMART, MSR-TR-2010-82",
    alike="graded relevance of items to queries, of a file (alike=graded)",
    dictionary="the batch: whole lists, a query with its judged items, one view of each",
    negatives="a query's less relevant items; items that are not judged for it are left out",
    objective="logistic loss of each pair of a query's items, weighed by |ΔNDCG|; scores are cosines over τ = 0.1",
    departures=(
        "the paper ranks by features of query and item together; here the score is a cosine of two embeddings, so that "
        "items are embedded once and searched",
        "SGD with momentum and a cosine rate, as the methods of metric learning here; the embedding is centred by "
        "BatchNorm before its length is made 1 (encoder.centre=false leaves it out)",
    ),
    settings=FitSettings(
        method="ranking",
        alike="graded",
        dictionary="batch",
        batch=BatchSettings(keys="same"),
        objective=ObjectiveSettings(kind="lambdarank", parameters={"temperature": 0.1}),
        encoder=EncoderSettings(head="linear", dim=128),
        optim=OptimSettings(lr=0.05, weight_decay=5e-4),
        batch_size=128,
        epochs=60,
    ),
)
