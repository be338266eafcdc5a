"""The `smooth` value model, the default without logged candidates: what the state does, what weights do to everyone, and to this user.

    Q_j(s, a) = sigmoid( b_j(s) + gamma_j . Phi(a) + c_j(s) * eta_j . Phi(a) )

Phi is a fixed basis that saturates like the lists do: tanh steps of each pair's log weight ratio, and the common log scale, all zero at
production. The personal effect is one learned shape per objective (eta_j), scaled by c_j(s) and held small: free personal slopes drown in
noise below a million rows. Rewards that are not clipped take the same form without the sigmoid and squared error.
An edge: fitting needs torch; values are numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from paretune.config import Config
from paretune.errors import ArtefactError
from paretune.logs.paged import Scratch
from paretune.ports import ALONE, Progress, Team, ValueModel, silent
from paretune.records import Floats, Log, State
from paretune.surface.grid import log_coordinates
from paretune.surface.heads import Surface
from paretune.value.features import Encoder
from paretune.value.lessons import training_lessons
from paretune.value.origin import Origin, checked_coordinates
from paretune.value.trunk import TRUNK_ARRAYS, check_trunk, combined, squash, trunk_output

STEPS = (-0.9, -0.45, 0.0, 0.45, 0.9)  # centres of the tanh steps, in half ranges of the log ratio
STEP_WIDTH = 0.6
HIDDEN = 128
DROPOUT = 0.2
PERSONAL_PENALTY = 0.3  # of mean c_j(s)^2
_CHUNK = 65_536


def steps_basis(surface: Surface, coordinates: Floats) -> Floats:
    """Return (K, B) the saturating basis of actions, zero at production.

    Args:
        surface: gives each head's log range, which scales the ratios.
        coordinates: (K, t) of `log_coordinates`.
    """
    heads = [surface.heads[i] for i in surface.tuned]
    half_range = np.array([np.log(head.levels[-1] / head.levels[0]) / 2 for head in heads])
    logs = coordinates * half_range
    pairs = list(combinations(range(len(heads)), 2))
    ratios = [(logs[:, i] - logs[:, j]) / (half_range[i] + half_range[j]) for i, j in pairs] or [coordinates[:, 0]]
    scale = logs.mean(axis=1) / half_range.mean()
    columns = [scale]
    for ratio in ratios:
        columns += [np.tanh((ratio - centre) / STEP_WIDTH) + np.tanh(centre / STEP_WIDTH) for centre in STEPS]
        columns.append(scale * np.tanh(ratio / STEP_WIDTH))
    return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True)
class Smooth:
    """A fitted model: one state pass gives b and c, each action costs two numbers per objective."""

    origin: Origin
    encoder: Encoder
    trunk: dict[str, Floats]  # by TRUNK_ARRAYS; out = 2 M: b, then c
    shared: Floats  # (M, B) gamma
    personal: Floats  # (M, B) eta

    @property
    def name(self) -> str:
        """The kind."""
        return "smooth"

    @property
    def objectives(self) -> tuple[str, ...]:
        """(M,) names."""
        return self.origin.objectives

    def values(self, state: State, actions: Floats) -> Floats:
        """Return (n, K, M) float32 expected rewards.

        Raises:
            DataError: a feature is absent or infinite, or a weight vector is not one of this surface.
        """
        surface, m = self.origin.surface, len(self.objectives)
        basis = steps_basis(surface, checked_coordinates(surface, actions)).astype(np.float32)
        common, own = basis @ self.shared.T, basis @ self.personal.T  # (K, M)
        one = np.eye(m, dtype=np.float32)
        rows = np.concatenate([np.tile(one, len(actions)), (one[:, None] * own).reshape(m, -1), common.reshape(1, -1)])  # (2 M + 1, K M)
        clipped = np.array(self.origin.clipped)
        result = np.empty((len(state), len(actions), m), dtype=np.float32)
        for start in range(0, len(state), _CHUNK):
            out = trunk_output(self.encoder.wide(state.take(slice(start, start + _CHUNK))), self.trunk)
            for block in combined(out, rows, result[start : start + _CHUNK]):
                squash(block, clipped)
        return result

    def arrays(self) -> dict[str, Floats]:
        """Return the coefficients."""
        return self.trunk | {"shared": self.shared, "personal": self.personal}

    def manifest(self) -> dict[str, Any]:
        """Return origin and encoder."""
        return {"origin": self.origin.manifest(), "encoder": self.encoder.manifest()}

    def save(self, folder: Path) -> None:
        """Write the artefact."""
        from paretune.value.bundle import save_model

        save_model(self, folder)


def from_arrays(arrays: dict[str, Floats], manifest: dict[str, Any]) -> ValueModel:
    """Return the model that `Smooth.arrays` and `Smooth.manifest` took apart."""
    origin, encoder = Origin.from_manifest(manifest["origin"]), Encoder.from_manifest(manifest["encoder"])
    check_trunk(arrays, len(encoder.groups))
    m = len(origin.objectives)
    if arrays["shared"].shape != arrays["personal"].shape or len(arrays["shared"]) != m or len(arrays["linear.bias"]) != 2 * m:
        raise ArtefactError(
            f"coefficients of shape {arrays['shared'].shape} do not fit {m} objectives", hint="train and save the model again"
        )
    return Smooth(origin, encoder, {name: arrays[name] for name in TRUNK_ARRAYS}, arrays["shared"], arrays["personal"])


def fit_smooth(
    log: Log,
    config: Config,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress = silent,
    scratch: Scratch | None = None,
    team: Team = ALONE,
) -> Smooth:
    """Return the smooth model of the log's exploration rows, and of production rows where there are any.

    Args:
        log: in memory or on disk.
        config: features, surface, how long to train.
        seed: of initial weights and row order.
        checkpoint: folder.
        progress: told of each epoch.
        scratch: where the encoded rows are kept; by default in memory. The model is the same to the bit.
        team: whose members each have a part of the log.

    Raises:
        DataError: no exploration rows, fewer than two users, or a feature that is absent or infinite.
        MissingExtraError: torch is not installed.
    """
    from paretune.value.smooth_net import fit_smooth_net

    rows = training_lessons(log, with_production=True, team=team)
    encoder = Encoder.fit(rows, config.features, team=team)
    x = encoder.stacked(rows, scratch or Scratch())
    surface = config.surface.build()
    basis = steps_basis(surface, log_coordinates(surface, surface.actions)).astype(np.float32)
    arrays, loss = fit_smooth_net(rows, config, x, basis, seed=seed, checkpoint=checkpoint, progress=progress, team=team)
    origin = Origin.of(rows, config, seed=seed, losses={"validation": loss}, team=team)
    trunk = {name: arrays[f"trunk.{name}"] for name in TRUNK_ARRAYS}
    return Smooth(origin, encoder, trunk, arrays["shared"], arrays["personal"])
