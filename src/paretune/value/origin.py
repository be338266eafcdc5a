"""Where a value model comes from: the resolved configuration, the rows, the seed and the losses; stored in every artefact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from paretune.config import Config, parse_config
from paretune.errors import ArtefactError, DataError
from paretune.ports import ALONE, Team
from paretune.records import Floats, Log
from paretune.surface.grid import log_coordinates
from paretune.surface.heads import Surface
from paretune.value.lessons import Lessons


@dataclass(frozen=True, slots=True)
class Origin:
    """What a model was trained on and for."""

    config: Config
    seed: int
    rows: int  # training rows, held-out users included
    first_day: int  # days since 1970-01-01
    last_day: int
    losses: dict[str, float]  # by name, "validation" at least; and what was searched, e.g. "learning_rate"

    @staticmethod
    def of(rows: Log | Lessons, config: Config, *, seed: int, losses: dict[str, float], team: Team = ALONE) -> Origin:
        """Return the origin of a model trained on some rows, or on those of all members of a team."""
        day = rows.day
        shares = np.stack(team.each(np.array([len(day), day.min(), day.max()], dtype=np.int64)))
        total, first, last = int(shares[:, 0].sum()), int(shares[:, 1].min()), int(shares[:, 2].max())
        return Origin(config, seed, total, first, last, {name: float(loss) for name, loss in losses.items()})

    @property
    def surface(self) -> Surface:
        """Heads and actions the values are of."""
        return self.config.surface.build()

    @property
    def objectives(self) -> tuple[str, ...]:
        """(M,) names."""
        return tuple(objective.name for objective in self.config.objectives)

    @property
    def clipped(self) -> tuple[bool, ...]:
        """(M,) whether the reward lies in [0, 1]."""
        return tuple(objective.transform == "clip" for objective in self.config.objectives)

    def manifest(self) -> dict[str, Any]:
        """Return the origin as JSON-able values."""
        return {
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "rows": self.rows,
            "training_window": [str(np.datetime64(day, "D")) for day in (self.first_day, self.last_day)],
            "losses": self.losses,
        }

    @staticmethod
    def from_manifest(manifest: dict[str, Any]) -> Origin:
        """Return the origin that `manifest` wrote.

        Raises:
            ArtefactError: it is none.
            ConfigError: its configuration is of another version.
        """
        try:
            days = [int(np.datetime64(day, "D").astype(np.int64)) for day in manifest["training_window"]]
            losses = {str(name): float(loss) for name, loss in manifest["losses"].items()}
            config = parse_config(manifest["config"], source="configuration of the artefact")
            return Origin(config, int(manifest["seed"]), int(manifest["rows"]), days[0], days[1], losses)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ArtefactError(f"the origin of the artefact cannot be read: {error!r}", hint="train and save the model again") from error


def checked_coordinates(surface: Surface, actions: Floats) -> Floats:
    """Return (K, t) log coordinates of full weight vectors that a caller sent.

    Raises:
        DataError: another number of heads, or a tuned weight that is not positive and finite.
    """
    actions = np.asarray(actions, dtype=np.float64)
    if actions.ndim != 2 or actions.shape[1] != len(surface.heads):
        raise DataError(f"actions have shape {actions.shape}, the model has {len(surface.heads)} heads", hint="give full weight vectors")
    tuned = actions[:, list(surface.tuned)]
    if not (np.isfinite(tuned).all() and (tuned > 0).all()):
        raise DataError("a tuned weight is not positive and finite", hint="stay within the levels of the tuned heads")
    return log_coordinates(surface, actions)
