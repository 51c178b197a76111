"""All settings of a run: frozen, keyword-only dataclasses. Every field has a default and the reason for it.

This module imports neither torch nor anything heavy, so that ``likewise --help`` is fast. ``likewise.config.checks``
refuses values that no run can use.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self

from likewise.config.objective_table import AUTO, AUTO_MEANS, objective
from likewise.config.policy_table import policy
from likewise.config.values import Scalar, Value
from likewise.config.word_settings import NoiseSettings, TextSettings, VocabularySettings, WindowSettings


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """How a view of an item is drawn. Names and ranges as in torchvision's transforms.

    Args:
        crop_scale: share of the area kept by the random resized crop; NPID's and MoCo's (0.2, 1).
        crop_ratio: aspect ratio of the crop, drawn log-uniformly; torchvision's default.
        flip: probability of a horizontal flip; set 0 for text, digits, and where left and right matter.
        rotation: degrees, drawn from ±rotation; 0 because photos are upright.
        deform: bends a picture: the points of a 4 × 4 net over it move by ± this share of its sides, the pixels between
            them in proportion; 0 because the papers do not. Suits digits and other handwriting.
        brightness: factor from 1 ± this; MoCo v2's 0.4.
        contrast: factor from 1 ± this; MoCo v2's 0.4.
        saturation: factor from 1 ± this; MoCo v2's 0.4.
        hue: shift in turns from ± this; MoCo v2's 0.1.
        jitter: probability of the four colour changes; MoCo v2's 0.8.
        grayscale: probability of a grey view; 0.2 in NPID, MoCo and SimCLR.
        blur: probability of a Gaussian blur; 0 because it costs time and does not help at 32 px.
        blur_sigma: pixels, drawn uniformly; SimCLR's (0.1, 2).
        small_until: share of the training, from its beginning, in which views have half the side: such steps are more
            than twice as fast, so that more of them fit; 0 is never.
        noise: vectors only: standard deviation of added noise, in units of each feature's standard deviation.
        dropout: vectors only: probability that a feature is set to its mean.
        mean: per channel, subtracted after scaling to [0, 1]; ImageNet's, as public weights expect.
        std: per channel, the divisor after that; ImageNet's.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    rotation: float = 0.0
    deform: float = 0.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter: float = 0.8
    grayscale: float = 0.2
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    small_until: float = 0.0
    noise: float = 0.1
    dropout: float = 0.1
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """The encoder, which turns a view into a unit row.

    Args:
        name: resnet-small (suits 2 CPU cores), resnet-fine (the same with four times the positions; for training on
            views of half the side), resnet18, resnet50, mlp (vectors), towers (items of several parts: a resnet-small
            or a layer for each), timm:NAME, hf:NAME_OR_FOLDER.
        stem: small (3×3, no max-pool, for images up to about 64 px; resnet-small and resnet-fine: patches of 4×4) or
            imagenet (7×7, stride 2, max-pool).
        head: layers after the backbone: none, linear (NPID, MoCo v1), mlp (SimCLR's paper, MoCo v2: Linear-ReLU-Linear)
            or mlp-bn (SimCLR's code: three linear layers, a BatchNorm after each).
        centre: apply BatchNorm to the head's output before the L2 norm. The papers do not have it (SimCLR's code does);
            without it the first embeddings lie in a narrow cone, and a short training hardly leaves it.
        unit: normalise rows in training too. False: objectives get raw rows, as N-pair and A-softmax need; embeddings
            and searches use unit rows in any case.
        dim: length of the embedding; NPID's accuracy stops growing at 128.
        pixels: images only: share of the similarity of two items that comes from their coarse pixels, which nothing
            trains; they add ``dim`` numbers to the embedding. 0 is none, as in the papers.
        hidden: width of the mlp encoder, and of the towers of vectors and words.
        head_hidden: width of the mlp heads; 0 is the width of the backbone's features, as in SimCLR.
        fusion: towers only: early (the head takes the features of all parts, one after the other) or late (a head for
            each part, and the product of their outputs, element by element).
        frozen: keep the backbone, with its BatchNorm statistics, as it starts: only the head learns. For ``weights``,
            timm:NAME and hf:NAME_OR_FOLDER.
        apart: with alike=graded: queries have an encoder of their own, which starts as a copy of that of the items. A
            search then embeds what is looked for with the one, and what is found with the other.
        bn_groups: number of groups of the batch, each with its own batch statistics; 1 is the whole batch over all
            processes. MoCo's shuffled BN needs several (8 in its papers, one per GPU).
        weights: a checkpoint or safetensors file with start weights of the backbone.
        allow: names (shell patterns) that may be missing from ``weights`` or unmatched in it.
    """

    name: str = "resnet-small"
    stem: Literal["small", "imagenet"] = "small"
    head: Literal["none", "linear", "mlp", "mlp-bn"] = "linear"
    centre: bool = True
    unit: bool = True
    dim: int = 128
    pixels: float = 0.0
    hidden: int = 512
    head_hidden: int = 512
    fusion: Literal["early", "late"] = "early"
    frozen: bool = False
    apart: bool = False
    bn_groups: int = 1
    weights: str | None = None
    allow: tuple[str, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Chosen(ABC):
    """A choice from a table, by name, with parameters of its constructor. Abstract.

    Args:
        parameters: by the constructor's names; the others have the constructor's defaults.
    """

    by_name: ClassVar[str]  # the field with the name; it may be given alone: ``objective: circle``
    parameters: Mapping[str, Scalar] = field(default_factory=dict)

    @abstractmethod
    def canonical(self) -> Self:
        """With the table's names instead of aliases. Raises LikewiseError, with the closest name, on unknown names."""

    @abstractmethod
    def has(self) -> Mapping[str, Value]:
        """The parameters of this choice and their allowed values."""

    @abstractmethod
    def follows(self, old: Self) -> bool:
        """Whether the parameters of ``old`` apply to this choice too."""

    @abstractmethod
    def title(self) -> str:
        """The choice in words."""

    def number(self, name: str, default: float) -> float:
        """The parameter ``name`` if it is set to a number; otherwise ``default``."""
        value = self.parameters.get(name)
        return float(value) if isinstance(value, int | float) else default


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings(Chosen):
    """The objective. ``likewise objectives`` lists the kinds and their parameters.

    Args:
        kind: a name of ``likewise objectives``, or auto: with a whole bank, nonparametric-softmax up to 10,000 items,
            where it is cheap, and nce above; with alike=graded lambdarank; otherwise infonce.
        parameters: of the kind, by its constructor's names, as in ``--objective.gamma 128``.
    """

    by_name = "kind"
    kind: str = AUTO

    def canonical(self) -> Self:
        """See :class:`Chosen`."""
        return self if self.kind == AUTO else replace(self, kind=objective(self.kind).name)

    def has(self) -> Mapping[str, Value]:
        """The kind's parameters; for auto those of all kinds that it stands for."""
        kinds = reversed(AUTO_MEANS) if self.kind == AUTO else (self.kind,)
        return {name: value for kind in kinds for name, value in objective(kind).parameters.items()}

    def follows(self, old: Self) -> bool:
        """True for the same kind, and where ``old`` is auto."""
        return old.kind in (self.kind, AUTO)

    def title(self) -> str:
        """See :class:`Chosen`."""
        return f"objective {self.kind}"


@dataclass(frozen=True, kw_only=True)
class BankSettings:
    """The dictionary that keeps one key per item.

    Args:
        momentum: share of the old row that is kept, before normalising; 0 replaces it (NPID's paper), 0.5 is its code.
        samples: K, rows drawn as negatives in each step; 0 uses all rows. nce has its own (objective.noise).
        sharded: each process keeps its share of the rows instead of all; for nonparametric-softmax and
            parametric-softmax.
    """

    momentum: float = 0.5
    samples: int = 0
    sharded: bool = False


@dataclass(frozen=True, kw_only=True)
class QueueSettings:
    """The dictionary that keeps the newest keys (MoCo §3.2).

    Args:
        size: K; MoCo's 65,536 for a million photos, 4,096 for CIFAR-10. The batch size need not divide it.
        start: random unit rows, as in the paper, or empty.
        own_batch: use the other new keys of the batch as negatives too. MoCo's negatives are older keys only.
    """

    size: int = 65_536
    start: Literal["random", "empty"] = "random"
    own_batch: bool = False


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """The dictionary that is the batch itself; keys have gradients (end-to-end).

    Args:
        keys: both (every view of every item is a key, as in SimCLR), second (the items' second views, as in He et
            al.'s end-to-end comparison) or same (one view of each item is query and key: positives are other items).
    """

    keys: Literal["both", "second", "same"] = "both"


@dataclass(frozen=True, kw_only=True)
class NegativeSettings(Chosen):
    """Mining: which negatives and positives an objective over an anchor's row of pairs uses.

    Args:
        policies: one, or several in turn (a curriculum). all; random (``count``); easy (the furthest); two kinds of
            semi-hard: inside-margin (all further than the positive, by less than ``margin``) and hardest-beyond (the
            nearest that is further than the positive); hard (the nearest); distance-weighted (``count``, ``least``,
            ``most``); multi-similarity (``epsilon``; chooses positives too).
        at: when a curriculum changes, one value fewer than policies: steps, epochs, or shares of active triplets.
        by: the unit of ``at``: step, epoch or active.
        positives: all, or the furthest (hard) or nearest (easy) of each anchor.
        pairs: over an anchor's chosen pairs: active (the mean of those above 0), all (the mean) or sum.
        parameters: of the policies, by their constructors' names. inside-margin's margin is on squared distances; its
            default is objective.margin of a triplet loss.
    """

    by_name = "policies"
    policies: tuple[str, ...] = ("all",)
    at: tuple[float, ...] = ()
    by: Literal["step", "epoch", "active"] = "step"
    positives: Literal["all", "hard", "easy"] = "all"
    pairs: Literal["active", "all", "sum"] = "active"

    @property
    def mines(self) -> bool:
        """Whether a policy leaves out any pair."""
        return self.policies != ("all",) or self.positives != "all"

    def canonical(self) -> Self:
        """See :class:`Chosen`."""
        return replace(self, policies=tuple(policy(name).name for name in self.policies))

    def has(self) -> Mapping[str, Value]:
        """The parameters of all policies."""
        return {name: value for kind in self.policies for name, value in policy(kind).parameters.items()}

    def follows(self, old: Self) -> bool:
        """True for the same policies."""
        return old.policies == self.policies

    def title(self) -> str:
        """See :class:`Chosen`."""
        return f"negatives.policies={','.join(self.policies)}"


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """The items of a batch.

    Args:
        kind: instance (every item once per epoch), classes (batch_size / ``per_class`` classes × ``per_class`` items of
            each) or balanced (every class equally often).
        per_class: K items of each class; 4, between 2 (N-pair) and 40 (FaceNet).
        planted: with alike=pairs of pairs that are all alike: items that are added to a batch as negatives; none,
            uniform (of all that are known, as in CDML) or siblings (of the clusters beside an item's own, as in GCML).
        per_pair: number of planted negatives for each pair.
    """

    kind: Literal["instance", "classes", "balanced"] = "instance"
    per_class: int = 4
    planted: Literal["none", "uniform", "siblings"] = "none"
    per_pair: int = 1


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Affinity clusters of the graph in ``relations``, for planted=siblings and alike=clusters.

    Args:
        level: whose clusters are used; 0 is the finest.
        levels: rounds of joining; GCML has 3.
        largest: the largest share of the items in a cluster.
        large: what is done with a larger one: split it, or stop before this level.
    """

    level: int = 0
    levels: int = 3
    largest: float = 0.25
    large: Literal["split", "stop"] = "split"


@dataclass(frozen=True, kw_only=True)
class KeyEncoderSettings:
    """The momentum encoder, which encodes the keys of a queue.

    Args:
        momentum: m of the average of the encoder's past weights (MoCo eq. 2); MoCo's 0.999, 0.99 in short trainings. 0
            is the encoder itself, which fails in the paper.
        schedule: constant, or cosine from m to 1 (MoCo v3).
        buffers: BatchNorm's running statistics: own (from the keys, as in MoCo) or averaged like the weights.
        shuffle: shuffle the keys of a batch between the BatchNorm groups (MoCo §3.3).
    """

    momentum: float = 0.999
    schedule: Literal["constant", "cosine"] = "constant"
    buffers: Literal["own", "averaged"] = "own"
    shuffle: bool = True


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """Stochastic gradient descent with momentum.

    Args:
        name: sgd; lars (You et al. 2017: each layer's step is in proportion to the norm of its weights), as SimCLR
            uses for large batches; or muon (Jordan et al. 2024: a step changes all directions of a layer alike), which
            learns more in few steps, with a rate near 0.04; or adamw (Loshchilov and Hutter 2019), with a rate near
            0.002 and ``momentum`` for β1; or adagrad (Duchi et al. 2011, a sum for each row), of the methods of words.
        lr: learning rate; NPID's 0.03, for ``batch_size`` 128. It is never rescaled automatically.
        momentum: the papers' 0.9.
        weight_decay: NPID's 5e-4 for CIFAR (1e-4 for ImageNet).
        schedule: cosine to zero (best for short trainings), steps (×0.1 at ``milestones``) or constant.
        milestones: shares of the training at which ``steps`` lowers the rate; NPID's 120 and 160 of 200 epochs.
        warmup: share of the training in which the rate rises linearly from 0; 0 as in NPID.
        nesterov: Nesterov momentum; off as in the papers.
    """

    name: Literal["sgd", "lars", "muon", "adamw", "adagrad"] = "sgd"
    lr: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    milestones: tuple[float, ...] = (0.6, 0.8)
    warmup: float = 0.0
    nesterov: bool = False


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """All settings of a run, saved as ``config.yaml`` in the run folder.

    Args:
        method: the method that gives the defaults; see ``likewise methods``. Without one: npid, or where ``alike`` is
            set that which trains with it.
        size: side in pixels of the images in cache and training.
        labels: auto, none, a column (in a folder of images, labels are the folder names), or a file: .npy by row, or
            .parquet or .csv by id. With alike=instance they are used only to measure.
        key: column with the names of the items; default: the image's path, or of vectors the column id.
        image: parquet column with the images; default: the first that holds images.
        split: of a folder of parquet files, those of this split only, such as train; default: all.
        columns: columns of the vectors, names or patterns: one of lists, or several of numbers, such as pixel*.
        words: of items of several parts: number of columns that the words of a part of text are hashed to.
        max_megapixels: larger images are skipped before they are decoded; phones make 200.
        cache: folder of decoded images; default $LIKEWISE_CACHE or ~/.cache/likewise.
        alike: which items are alike: instance (views of one item), label (items with a common label), pairs or triplets
            (those in the file ``relations``, by item id), graded (how relevant items are to a query, in that file), or
            clusters (items of one cluster of the pairs in that file; see ``clusters``). Of words: window (those that
            occur near each other in a sequence).
        relations: CSV or parquet file of pairs (a, b, alike), triplets (anchor, positive, negative) or graded relevance
            (query, item, relevance), or the folder of a graph, whose edges are pairs that are alike. In a file of pairs
            with a and b alone all are alike, and the other items of a batch are the negatives.
        loss_weight: factor of the loss; 2 gives the sum of the losses of the two views, as in SimCLR's code and MoCo's
            CIFAR recipe, instead of their mean.
        dictionary: the source of the keys: bank (a row per item), queue (the newest keys), batch (end-to-end) or
            proxies (weights of the objective: parametric-softmax and the class-level objectives). Of words: words (a
            second vector of each).
        symmetric: with a queue: each of the two views is a query, and the other view its key; twice the work.
        epochs: passes over the items. With ``minutes`` they follow from the time.
        minutes: train for so long, by the clock: a few timed steps choose epochs, precision, threads, size and batches,
            and the learning rate ends its schedule in time. A resumed run goes on for so long again. Words: stop after
            so long. Default: ``epochs`` count.
        recipe: data (views, temperature, learning rate and method follow from a look at the items, never at labels),
            paper (the method's defaults), or auto: data with ``minutes``, paper without. What you set yourself stays.
        batch_size: items per step, over all processes; batches of an epoch differ in size by one at most. Words: of a
            step, at most as many as have a vector.
        micro_batches: number of parts in which the encoder sees the batch, with the gradient of the whole batch
            (gradient caching): a large batch in little memory, for a second forward pass. Needs an encoder without
            BatchNorm, or an encoder.bn_groups that is a multiple of it.
        seed: for weights, order, views, bank and noise.
        device: auto (the accelerator if there is one), cpu, cuda, cuda:1 ...
        threads: of a CPU; 0 chooses by a short measurement in runs of over half a minute; for words 0 is torch's own
            number, which OMP_NUM_THREADS or the cores say.
        precision: fp32, or bf16 (autocast of the encoder; similarities stay in fp32).
        checkpoint_seconds: seconds between checkpoints; one is always written at the end.
        knn_epochs: measure weighted kNN every so many epochs, if labels exist; 0: never.
        knn_items: the most items that kNN uses, so that it stays cheap.
        keep_best: also save the weights of the best measured epoch (selects by labels; off).
        tensorboard: also log to TensorBoard, in RUN/tensorboard; needs the extra ``tb``.
    """

    method: str = "npid"
    size: int = 32
    labels: str = "auto"
    key: str | None = None
    image: str | None = None
    split: str | None = None
    columns: tuple[str, ...] = ()
    words: int = 512
    max_megapixels: float = 256.0
    cache: str | None = None
    alike: Literal["instance", "label", "pairs", "triplets", "graded", "clusters", "window"] = "instance"
    relations: str | None = None
    views: ViewSettings = field(default_factory=ViewSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    loss_weight: float = 1.0
    dictionary: Literal["bank", "queue", "batch", "proxies", "words"] = "bank"
    bank: BankSettings = field(default_factory=BankSettings)
    queue: QueueSettings = field(default_factory=QueueSettings)
    batch: BatchSettings = field(default_factory=BatchSettings)
    negatives: NegativeSettings = field(default_factory=NegativeSettings)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    clusters: ClusterSettings = field(default_factory=ClusterSettings)
    key_encoder: KeyEncoderSettings = field(default_factory=KeyEncoderSettings)
    symmetric: bool = False
    text: TextSettings = field(default_factory=TextSettings)
    vocabulary: VocabularySettings = field(default_factory=VocabularySettings)
    window: WindowSettings = field(default_factory=WindowSettings)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    epochs: int = 200
    minutes: float | None = None
    recipe: Literal["auto", "data", "paper"] = "auto"
    batch_size: int = 128
    micro_batches: int = 1
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoint_seconds: float = 60.0
    knn_epochs: int = 1
    knn_items: int = 5000
    keep_best: bool = False
    tensorboard: bool = False

    @property
    def source_of_keys(self) -> Literal["bank", "queue", "batch", "proxies", "words"]:
        """The dictionary; proxies where the objective has its own keys."""
        owns = self.objective.kind != AUTO and objective(self.objective.kind).keys == "own"
        return "proxies" if owns else self.dictionary

    @property
    def of_words(self) -> bool:
        """Whether words of sequences are learned, by a step of their own, and not an encoder of items."""
        return self.alike == "window"

    @property
    def listed(self) -> bool:
        """Whether the file ``relations`` says which items are alike."""
        return self.alike in ("pairs", "triplets", "graded")

    @property
    def by_label(self) -> bool:
        """Whether items with a common label are alike: one that is given, or a cluster of a graph."""
        return self.alike in ("label", "clusters")

    @property
    def related(self) -> bool:
        """Whether ``relations`` are read."""
        return self.listed or self.alike == "clusters"

    @property
    def items_are_keys(self) -> bool:
        """Whether the items of the batch, one view of each, are also the keys."""
        return self.dictionary == "batch" and self.batch.keys == "same"

    @property
    def views_per_item(self) -> int:
        """Number of views of each item in a step. With bank and proxies, the key is not a view of this step."""
        return 2 if self.dictionary in ("queue", "batch") and not self.items_are_keys else 1

    @property
    def views_encoded(self) -> int:
        """Number of these views that are encoded with gradient."""
        return 2 if self.symmetric or (self.dictionary == "batch" and not self.items_are_keys) else 1

    @property
    def joint(self) -> bool:
        """Whether the views of an item share batch statistics, as in SimCLR's one pass over 2B views."""
        return self.dictionary == "batch" and self.batch.keys == "both"

    @property
    def views_querying(self) -> int:
        """Number of these views that are queries. A query never meets its own view as a key."""
        return 2 if self.symmetric or self.joint else 1
