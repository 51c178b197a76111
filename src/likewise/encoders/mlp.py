"""An encoder for vectors. Letters in shapes: B items, D numbers in an item, H hidden width."""

from torch import Tensor, nn


class MLP(nn.Module):
    """Linear, BatchNorm, ReLU, twice: (B, D) -> (B, H), non-negative.

    BatchNorm (Ioffe & Szegedy 2015) in the first layer makes the features' units irrelevant after one step. The linear
    layers have no bias because BatchNorm's shift follows. Training needs B >= 2.

    Attributes:
        feature_dim: H.
    """

    feature_dim: int

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.feature_dim = hidden
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) float -> (B, H)."""
        features: Tensor = self.layers(x)
        return features
