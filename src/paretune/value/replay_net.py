"""Fitting of `replay`: the teacher on rewards, the student on the teacher; an edge: needs torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paretune.config import Config
from paretune.extras import missing
from paretune.ports import Progress, Team
from paretune.records import PRODUCTION, Floats, Ints
from paretune.value.fitting import annealed, arrays_of, column, fit_network, held_out_users, seeded
from paretune.value.lessons import Lessons
from paretune.value.trunk import TRUNK_ARRAYS, logistic, trunk_output
from paretune.value.trunk_net import TrunkNet

try:
    import torch
    from torch import Tensor, nn
    from torch.nn.functional import binary_cross_entropy_with_logits
except ImportError as error:
    raise missing("train", "training this model", error, otherwise="train the model `ridge`") from error

TEACHER_HIDDEN = 16  # the teacher only corrects the ranker, which takes little
STUDENT_HIDDEN = 128
_ROWS_PER_CHUNK = 20_000


class TeacherNet(nn.Module):
    """See `replay`: the ranker's word, corrected."""

    def __init__(self, width: int, objectives: int) -> None:
        super().__init__()
        self.trunk = TrunkNet(width, 2 * objectives, hidden=TEACHER_HIDDEN, dropout=0.0)
        self.level = nn.Parameter(torch.ones(objectives))
        self.slope = nn.Parameter(torch.ones(objectives))

    def forward(self, x: Tensor, at_production: Tensor, change: Tensor) -> Tensor:
        """Return (n, M) logits from logit H(s, pi0) and the logged action's change of it."""
        b, c = self.trunk(x).chunk(2, dim=1)
        return b + self.level * at_production + (self.slope + c) * change


@dataclass(frozen=True, slots=True)
class Teacher:
    """Fitted values of all actions, of any request with candidates."""

    values: Callable[[Floats, Floats], Floats]  # features (r, D), replayed logits (r, K, M) -> (r, K, M)
    production: Floats  # (M,) mean value of production
    loss: float  # held-out cross-entropy


def fit_teacher(
    rows: Lessons, config: Config, x: Floats, logits: Floats, *, seed: int, checkpoint: Path | None, progress: Progress, team: Team
) -> Teacher:
    """Return the teacher of n rows, the first of encoded states x and replayed logits (n or more, K, M)."""
    training, n, action = config.training, len(rows), rows.action
    every = int(team.total(np.array([n]))[0])
    parts = [slice(start, min(n, start + _ROWS_PER_CHUNK)) for start in range(0, n, _ROWS_PER_CHUNK)]
    served = [_served(logits[part], action[part]) for part in parts]
    at_production, change = (np.concatenate(column) for column in zip(*served, strict=True))
    inputs = (column(x, n), column(at_production), column(change))
    net: TeacherNet = seeded(lambda: TeacherNet(x.shape[1], logits.shape[2]), seed)
    fitted = fit_network(
        net,
        inputs,
        torch.from_numpy(rows.rewards.astype(np.float32)),
        lambda out, rewards: binary_cross_entropy_with_logits(out, rewards) * rewards.shape[1],
        validation=held_out_users(rows.user, training.validation_share, team=team),
        seed=seed,
        recipe=annealed(every, training, weight_decay=0.1),
        checkpoint=None if checkpoint is None else checkpoint / "teacher.npz",
        progress=progress,
        team=team,
    )
    arrays = arrays_of(net)
    trunk = {name: arrays[f"trunk.{name}"] for name in TRUNK_ARRAYS}
    m = logits.shape[2]

    def values(features: Floats, replayed: Floats) -> Floats:
        out = trunk_output(features, trunk)
        block = replayed.astype(np.float32)
        level = out[:, None, :m] + arrays["level"] * block[:, :1]
        return logistic(level + (arrays["slope"] + out[:, None, m:]) * (block - block[:, :1]))

    means = [values(x[part], logits[part])[:, PRODUCTION].sum(axis=0) for part in parts]
    return Teacher(values, team.total(np.sum(means, axis=0)) / every, fitted.best_loss)


def _served(logits: Floats, action: Ints) -> tuple[Floats, Floats]:
    """Return (r, M) the logits of production's list, and how the served list's differ from them."""
    at_production = logits[:, PRODUCTION].astype(np.float32)
    return at_production, logits[np.arange(len(action)), action].astype(np.float32) - at_production


def fit_student(
    rows: Lessons, config: Config, x: Floats, targets: Floats, *, seed: int, checkpoint: Path | None, progress: Progress, team: Team
) -> tuple[dict[str, Floats], float]:
    """Return the arrays of the trunk that predicts targets (n, R + M) from encoded states x (n, D), and its held-out squared error."""
    training = config.training
    net: TrunkNet = seeded(lambda: TrunkNet(x.shape[1], targets.shape[1], hidden=STUDENT_HIDDEN, dropout=0.1), seed)
    fitted = fit_network(
        net,
        (column(x),),
        column(targets),
        lambda out, wanted: ((out - wanted) ** 2).sum(dim=1).mean(),
        validation=held_out_users(rows.user, training.validation_share, team=team),
        seed=seed,
        recipe=annealed(int(team.total(np.array([len(rows)]))[0]), training, weight_decay=1e-3),
        checkpoint=None if checkpoint is None else checkpoint / "student.npz",
        progress=progress,
        team=team,
    )
    arrays = arrays_of(net)
    return {name: arrays[name] for name in TRUNK_ARRAYS}, fitted.best_loss
