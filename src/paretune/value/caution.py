"""Acting by a lower confidence bound: production is left only for what several models agree on.

    change_k(s, a) = mean over members of [Q(s, a) - Q(s, pi0)] - k sd over members of the same

The rule: production changes nothing, so its change is zero and needs no doubt; an objective to minimise is doubted upwards. k counts
standard deviations between members: of one fit's error where members are bootstraps of the users, of the seed's alone where they are seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paretune.errors import ConfigError
from paretune.ports import ValueModel
from paretune.records import Floats, State
from paretune.value import ensemble
from paretune.value.bundle import save_model
from paretune.value.ensemble import Averaged
from paretune.value.origin import checked_coordinates


def doubted(changes: Floats, *, caution: float) -> Floats:
    """Return mean - caution x standard deviation over the members.

    Args:
        changes: (S, ...) of S >= 2 members, larger is better.
        caution: k >= 0.
    """
    return changes.mean(axis=0) - caution * changes.std(axis=0, ddof=1)


@dataclass(frozen=True, slots=True)
class Cautious:
    """An ensemble whose values are production's value plus a doubted change; a sweep of it prefers what all members agree on."""

    averaged: Averaged
    caution: float  # k
    signs: tuple[float, ...]  # (M,) +1 to maximise, -1 to minimise

    def __post_init__(self) -> None:
        if len(self.averaged.members) < 2 or not (np.isfinite(self.caution) and self.caution >= 0):
            raise ConfigError(
                f"caution {self.caution} over {len(self.averaged.members)} model(s)", hint="set training.seeds to 2 or more, caution >= 0"
            )

    @property
    def name(self) -> str:
        """The kind."""
        return "cautious"

    @property
    def objectives(self) -> tuple[str, ...]:
        """(M,) names."""
        return self.averaged.objectives

    @property
    def members(self) -> tuple[Any, ...]:
        """The models of the ensemble."""
        return self.averaged.members

    def changes(self, state: State, actions: Floats) -> tuple[Floats, Floats]:
        """Return each member's change over production (S, n, K, M) and value of production (S, n, 1, M), in float64.

        Raises:
            DataError: a feature is absent or infinite, or a weight vector is not one of this surface.
        """
        surface = self.members[0].origin.surface
        checked_coordinates(surface, actions)
        values = np.stack([member.values(state, np.vstack([surface.static, actions])).astype(np.float64) for member in self.members])
        return values[:, :, 1:] - values[:, :, :1], values[:, :, :1]

    def values(self, state: State, actions: Floats) -> Floats:
        """Return (n, K, M) float32 doubted values; production's are the members' mean."""
        changes, production = self.changes(state, actions)
        signs = np.array(self.signs)
        return (production.mean(axis=0) + signs * doubted(signs * changes, caution=self.caution)).astype(np.float32)

    def arrays(self) -> dict[str, Floats]:
        """Return the members' arrays."""
        return self.averaged.arrays()

    def manifest(self) -> dict[str, Any]:
        """Return the members' kinds and manifests, and how cautious to be."""
        return {**self.averaged.manifest(), "caution": self.caution, "signs": list(self.signs)}

    def save(self, folder: Path) -> None:
        """Write the artefact."""
        save_model(self, folder)


def from_arrays(arrays: dict[str, Floats], manifest: dict[str, Any]) -> ValueModel:
    """Return the model that `Cautious.arrays` and `Cautious.manifest` took apart."""
    averaged = ensemble.from_arrays(arrays, manifest)
    return Cautious(averaged, float(manifest["caution"]), tuple(float(sign) for sign in manifest["signs"]))  # type: ignore[arg-type]
