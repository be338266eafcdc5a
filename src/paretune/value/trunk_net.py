"""The torch twin of `trunk`, for fitting; an edge: needs torch. A test holds both to the same numbers."""

from __future__ import annotations

from paretune.extras import missing

try:
    import torch
    from torch import Tensor, nn
    from torch.nn.functional import silu
except ImportError as error:
    raise missing("train", "training this model", error, otherwise="train the model `ridge`") from error


class UnitDropout(nn.Module):
    """Dropout of whole units for a batch: as good for these networks as a mask per row, which takes a fifth of the time to draw."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Return x (n, units), some units zero and the others scaled up while training."""
        if not self.training or self.share == 0:
            return x
        return x * ((torch.rand(x.shape[1]) >= self.share) / (1 - self.share))


class TrunkNet(nn.Module):
    """See `trunk`; the outputs start at zero, so that a model starts at what it knows without data."""

    def __init__(self, width: int, out: int, *, hidden: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out)
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, out, bias=False)
        self.dropout = UnitDropout(dropout)
        for layer in (self.linear, self.last):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, out)."""
        hidden = self.dropout(silu(self.first(x)))
        return self.linear(x) + self.last(self.dropout(silu(self.second(hidden))))
