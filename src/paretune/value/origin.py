"""Where a value model comes from: the resolved configuration, the rows, the seed and the losses; stored in every artefact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from paretune.config import Config, parse_config
from paretune.errors import ArtefactError, DataError
from paretune.ports import ALONE, Team
from paretune.records import Floats, Log
from paretune.surface.grid import log_coordinates
from paretune.surface.heads import Surface


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
    def of(log: Log, config: Config, *, seed: int, losses: dict[str, float], team: Team = ALONE) -> Origin:
        """Return the origin of a model trained on `log`, or on the logs of a team."""
        shares = np.stack(team.each(np.array([len(log), log.day.min(), log.day.max()], dtype=np.int64)))
        rows, first, last = int(shares[:, 0].sum()), int(shares[:, 1].min()), int(shares[:, 2].max())
        return Origin(config, seed, rows, first, last, {name: float(loss) for name, loss in losses.items()})

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


PRODUCTION_PER_EXPLORED = 4  # production rows are plenty; beyond this they cost time and teach little


def training_rows(log: Log, *, with_production: bool = False, team: Team = ALONE) -> Log:
    """Return the rows that teach the value of weights: exploration on the grid.

    Args:
        log: of the training days.
        with_production: add production rows, up to four for each exploration row, spread evenly over the log: they tell nothing of other
            weights, but what a request is worth under the static ones, which is most of what a model must learn.
        team: whose members each have a part of the log.

    Raises:
        DataError: there are none, in any member's part, or rewards are not finite.
    """
    rows = log.exploration()
    explored = np.concatenate(team.each(np.array([len(rows)])))
    if explored.any() and not explored.all():
        raise DataError(
            f"{int((explored == 0).sum())} of {team.size} workers have no exploration rows in their part of the log",
            hint="train with fewer workers, or in one process",
        )
    if len(rows) == 0:
        raise DataError(
            f"none of {len(log)} rows explored the grid, so nothing can be learned about other weights",
            hint="serve weights drawn from the grid to a share of requests first, and log them with reason EXPLORE",
        )
    if with_production:
        produced = np.flatnonzero(log.produced)
        wanted = min(len(produced), PRODUCTION_PER_EXPLORED * len(rows))
        chosen = produced[np.linspace(0, len(produced) - 1, wanted).astype(np.int64)] if wanted else produced
        rows = Log.concat([replace(rows, candidates=None), replace(log, candidates=None).take(chosen)])
    if not np.isfinite(rows.rewards).all():
        raise DataError("rewards hold NaN or infinity", hint="quarantine such rows with `paretune check --quarantine`")
    return rows


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
