"""Several value models of the same objectives, averaged: less seed noise from the same rows, and a spread that says how sure they are.

The rule of a bootstrap: users are drawn, with all their rows, since rows of one user are not independent; the draw is a hash of the user.
Source of the Poisson bootstrap: Chamandy et al. (2012), "Estimating uncertainty for massive data streams".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paretune.errors import DataError
from paretune.logs.hashing import poisson_draws, salted
from paretune.ports import ValueModel
from paretune.records import Floats, Ints, State
from paretune.value.bundle import build, save_model


def bootstrap_rows(user: Ints, *, seed: int, member: int) -> Ints:
    """Return the rows of a bootstrap of the users, those of a user drawn twice standing twice.

    Args:
        user: (n,) uint64 hashes as in `Log.user`.
        seed: of the fit.
        member: of the ensemble.

    Returns:
        Indices in row order; each user is drawn Poisson(1) times, the same on every machine.
    """
    return np.repeat(np.arange(len(user)), poisson_draws(salted(user, f"bootstrap {seed} {member}")))


@dataclass(frozen=True, slots=True)
class Averaged:
    """The mean of its members' values."""

    members: tuple[Any, ...]  # of ValueModel that are also bundle.Storable

    def __post_init__(self) -> None:
        if not self.members or len({member.objectives for member in self.members}) != 1:
            raise DataError(
                f"cannot average models of objectives {[member.objectives for member in self.members]}",
                hint="train all members with the same configuration",
            )

    @property
    def name(self) -> str:
        """The kind."""
        return "averaged"

    @property
    def objectives(self) -> tuple[str, ...]:
        """(M,) names."""
        return self.members[0].objectives

    def values(self, state: State, actions: Floats) -> Floats:
        """Return (n, K, M) float32 mean of the members' values."""
        total = self.members[0].values(state, actions).astype(np.float64)
        for member in self.members[1:]:
            total += member.values(state, actions)
        return (total / len(self.members)).astype(np.float32)

    def spread(self, state: State, actions: Floats) -> Floats:
        """Return (n, K, M) float32 standard deviation between members; 0 for a single one."""
        values = np.stack([member.values(state, actions) for member in self.members])
        return values.std(axis=0, ddof=1) if len(self.members) > 1 else np.zeros_like(values[0])

    def arrays(self) -> dict[str, Floats]:
        """Return the members' arrays, each name led by the member's number."""
        return {f"{i}/{name}": array for i, member in enumerate(self.members) for name, array in member.arrays().items()}

    def manifest(self) -> dict[str, Any]:
        """Return the members' kinds and manifests."""
        return {"members": [{"kind": member.name, **member.manifest()} for member in self.members]}

    def save(self, folder: Path) -> None:
        """Write the artefact."""
        save_model(self, folder)


def from_arrays(arrays: dict[str, Floats], manifest: dict[str, Any]) -> ValueModel:
    """Return the model that `Averaged.arrays` and `Averaged.manifest` took apart."""

    def part(i: int) -> dict[str, Floats]:
        return {name.removeprefix(f"{i}/"): array for name, array in arrays.items() if name.startswith(f"{i}/")}

    return Averaged(tuple(build(member["kind"], part(i), member) for i, member in enumerate(manifest["members"])))
