"""Fitting of `smooth`; an edge: needs torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paretune.config import Config
from paretune.extras import missing
from paretune.ports import Progress, Team
from paretune.records import Floats
from paretune.value.fitting import Lookup, annealed, arrays_of, column, fit_network, held_out_users, seeded
from paretune.value.lessons import Lessons
from paretune.value.smooth import DROPOUT, HIDDEN, PERSONAL_PENALTY
from paretune.value.trunk_net import TrunkNet

try:
    import torch
    from torch import Tensor, nn
    from torch.nn.functional import binary_cross_entropy_with_logits
except ImportError as error:
    raise missing("train", "training this model", error, otherwise="train the model `ridge`") from error


class SmoothNet(nn.Module):
    """See `smooth`: returns the linear predictor, and the penalty of the personal effect while training."""

    def __init__(self, width: int, objectives: int, basis: int) -> None:
        super().__init__()
        self.trunk = TrunkNet(width, 2 * objectives, hidden=HIDDEN, dropout=DROPOUT)
        self.shared = nn.Parameter(torch.zeros(objectives, basis))
        self.personal = nn.Parameter(0.1 * torch.randn(objectives, basis))

    def forward(self, x: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
        """Return (n, M) predictors and the penalty."""
        b, c = self.trunk(x).chunk(2, dim=1)
        penalty = PERSONAL_PENALTY * (c**2).mean() if self.training else torch.zeros(())
        return b + phi @ self.shared.T + c * (phi @ self.personal.T), penalty


def reward_loss(predictor: Tensor, rewards: Tensor, clipped: Tensor) -> Tensor:
    """Return the mean over rows of the losses summed over objectives: cross-entropy where clipped, squared error elsewhere."""
    loss = torch.zeros(())
    if bool(clipped.any()):
        loss = loss + binary_cross_entropy_with_logits(predictor[:, clipped], rewards[:, clipped], reduction="none").sum(dim=1).mean()
    if not bool(clipped.all()):
        loss = loss + ((predictor[:, ~clipped] - rewards[:, ~clipped]) ** 2).sum(dim=1).mean()
    return loss


def fit_smooth_net(
    rows: Lessons, config: Config, x: Floats, basis: Floats, *, seed: int, checkpoint: Path | None, progress: Progress, team: Team
) -> tuple[dict[str, Floats], float]:
    """Return the fitted arrays and the held-out loss; x (n, D) is the encoded rows, in memory or on disk."""
    training = config.training
    clipped = torch.tensor([objective.transform == "clip" for objective in config.objectives])
    phi = Lookup(torch.from_numpy(basis), torch.from_numpy(rows.action.astype(np.int32)))
    net: SmoothNet = seeded(lambda: SmoothNet(x.shape[1], len(clipped), basis.shape[1]), seed)
    fitted = fit_network(
        net,
        (column(x), phi),
        torch.from_numpy(rows.rewards.astype(np.float32)),
        lambda out, rewards: reward_loss(out[0], rewards, clipped) + out[1],
        validation=held_out_users(rows.user, training.validation_share, team=team),
        seed=seed,
        recipe=annealed(int(team.total(np.array([len(rows)]))[0]), training, weight_decay=1e-2),
        checkpoint=None if checkpoint is None else checkpoint / "smooth.npz",
        progress=progress,
        team=team,
    )
    return arrays_of(net), fitted.best_loss
