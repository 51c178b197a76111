"""``layout``: rows become points in the plane, near where they are alike; how faithful that is, is measured."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from likewise.console import Tick, part_of, untold
from likewise.errors import LikewiseError, closest
from likewise.index.all_rows import nearest_of_all
from likewise.maps.kept import kept_share
from likewise.maps.tsne import EARLY, EXAGGERATION, LATE, NEIGHBOURS, tsne
from likewise.metrics import top_k
from likewise.metrics.checks import Rows, as_rows, check_peaks, peaks

METHODS = ("auto", "tsne", "pacmap")
ASKED = 2_000  # items that tell how faithful a map is; all items where they are fewer
_PARTS = 3  # neighbours, layout, kept share: of the bar


@dataclass(frozen=True, kw_only=True, eq=False)
class Map:
    """Points in the plane.

    Args:
        xy: (N, 2) float32, centred, in the order of the rows; the unit has no meaning.
        method: tsne, pacmap, or components where there are too few rows for either.
        settings: what the method was given, the seed among it.
        kept: the mean share of an item's ``neighbours`` nearest that are among its nearest in the plane.
        neighbours: how many: 15, or fewer of fewer than 16 rows.
        asked: number of items that ``kept`` was measured on.
    """

    xy: npt.NDArray[np.float32]
    method: str
    settings: Mapping[str, str | int | float]
    kept: float
    neighbours: int
    asked: int

    def __len__(self) -> int:
        """Number of points."""
        return len(self.xy)

    def __repr__(self) -> str:
        return f"Map({self.sentence()})"

    def sentence(self) -> str:
        """How the map was made and how faithful it is, for people."""
        if len(self) == 1:
            return "1 item."
        how = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        how = f" ({how})" if how else ""
        among = "" if self.asked == len(self) else f" (measured on {self.asked:,} of them)"
        return (
            f"{len(self):,} items by {NAMES[self.method]}{how}. The map keeps {self.kept:.0%} of an item's "
            f"{self.neighbours} nearest{among}; distances between groups have no meaning."
        )


NAMES = {"tsne": "t-SNE", "pacmap": "PaCMAP", "components": "principal components"}


def layout(rows: Rows, *, method: str = "auto", seed: int = 0, near: Tensor | None = None, tick: Tick = untold) -> Map:
    """A map of (N, D) rows in the plane, by their cosines; the same for the same rows, seed and version.

    Args:
        rows: (N, D) float, of any length but 0; N ≥ 1.
        method: tsne, by the 15 nearest of each row; pacmap, of the extra ``map``; auto is tsne, which is as quick and
            keeps more of the neighbours. Fewer than 5 rows are laid out by their principal components.
        near: (N, 15) what ``nearest`` gives for the rows, where it is known; of fewer than 16 rows (N, N − 1).
        seed: of what is drawn: a jitter that parts equal rows, and the items that ``kept`` is measured on.
        tick: told the share of the work that is done.

    Raises:
        LikewiseError: an unknown method, pacmap is not installed, rows with NaN or infinity, or of length 0.

    Cost: that of ``nearest`` and of ``tsne``, and exact search for 2,000 rows.
    """
    if method not in METHODS:
        raise LikewiseError(f"there is no map by {method!r}.{closest(method, METHODS)} Choose {', '.join(METHODS)}.")
    unit = _unit(as_rows("rows", rows))
    many = len(unit)
    k = min(NEIGHBOURS, many - 1)
    start = components(unit)
    if many < 5:
        return Map(xy=_numbers(start), method="components", settings={}, kept=1.0, neighbours=k, asked=many)
    random = torch.Generator().manual_seed(seed)
    if method == "pacmap":
        points, settings = _pacmap(unit, seed)
    else:
        near = nearest(unit, k, part_of(tick, 0, _PARTS)) if near is None else near
        if near.shape != (many, k):
            raise LikewiseError(f"near has shape {tuple(near.shape)}; a map of these rows needs {(many, k)}.")
        jitter = torch.randn(many, 2, generator=random) * (1e-3 * start[:, 0].std().clamp_min(1e-12))
        points = tsne(start + jitter, near, tick=part_of(tick, 1, _PARTS))
        settings = {"neighbours": k, "steps": EARLY + LATE, "exaggeration": int(EXAGGERATION), "seed": seed}
    asked = torch.randperm(many, generator=random)[:ASKED]
    exact = top_k(unit[asked], unit, k, query_ids=asked, key_ids=torch.arange(many), tick=part_of(tick, 2, _PARTS))[1]
    return Map(
        xy=_numbers(points),
        method="pacmap" if method == "pacmap" else "tsne",
        settings=settings,
        kept=kept_share(exact, points, asked),
        neighbours=k,
        asked=len(asked),
    )


def nearest(unit: Tensor, k: int, tick: Tick = untold) -> Tensor:
    """(N, k) int64, the nearest other rows of each of (N, D) unit rows; the places of ``nearest_of_all``."""
    return nearest_of_all(unit, k, tick)[1]


def components(rows: Tensor) -> Tensor:
    """(N, 2) float32, the two principal components; of each, the number largest in magnitude is positive."""
    centred = (rows - rows.mean(0)).double()
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :2]
    found = torch.nn.functional.pad(centred @ directions, (0, 2 - directions.shape[1]))
    largest = found.gather(0, found.abs().argmax(0, keepdim=True))
    return (found * torch.where(largest < 0, -1.0, 1.0)).float()


def _pacmap(unit: Tensor, seed: int) -> tuple[Tensor, dict[str, str | int | float]]:
    """PaCMAP with its own neighbours and defaults."""
    try:
        from pacmap import PaCMAP
    except ImportError:
        raise LikewiseError("maps by pacmap need the extra map: pip install 'likewise[map]'") from None
    made = np.asarray(PaCMAP(n_components=2, random_state=seed).fit_transform(unit.numpy(), init="pca"), np.float32)
    settings: dict[str, str | int | float] = {"neighbours": 10, "seed": seed}
    return torch.from_numpy(made), settings


def _unit(rows: Tensor) -> Tensor:
    """float32 rows of length 1 on the CPU."""
    rows = rows.detach().cpu().float()
    check_peaks("rows", peaks(rows), 0)
    lengths = rows.norm(dim=1, keepdim=True)
    if bool((lengths == 0).any()):
        raise LikewiseError(f"row {int((lengths == 0).nonzero()[0, 0])} has length 0, so it has no cosine.")
    unit: Tensor = rows / lengths
    return unit


def _numbers(points: Tensor) -> npt.NDArray[np.float32]:
    return (points - points.mean(0)).numpy().astype(np.float32)
