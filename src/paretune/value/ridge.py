"""Linear personalisation of a smooth surface over the log weights; numpy alone, minutes on ten million rows.

    r_j ~ b_j'x + gamma_j'Phi(a) + (C_j x)'phi(a)

with phi the log coordinates (zero at production), Phi their monomials up to degree 4. Rows enter through sums per action only, so logs of
any size pass once in chunks; the two penalties (of b and of C) are chosen per objective by cross-validation over users.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from paretune.config import Config
from paretune.errors import DataError
from paretune.logs.hashing import salted
from paretune.logs.paged import Scratch
from paretune.ports import ALONE, Progress, Team, ValueModel, silent
from paretune.records import Floats, Ints, Log, State
from paretune.surface.grid import log_coordinates, polynomial_basis
from paretune.value.features import Encoder
from paretune.value.lessons import training_lessons
from paretune.value.origin import Origin, checked_coordinates

DEGREE = 4
FOLDS = 5
PENALTIES_STATE = (1e-4, 1e-3, 1e-2, 1e-1)  # per row, for standardised features
PENALTIES_PERSONAL = (1e-3, 1e-2, 1e-1, 1.0, 100.0)  # the last is as good as no personal effect
_PENALTY_SHARED = 1e-7  # keeps the solution unique where the grid has fewer levels than the basis has degrees
_CHUNK = 131_072


@dataclass(frozen=True, slots=True)
class Moments:
    """Second moments of (design, rewards); chunks, folds and machines add up with `+`."""

    gram: Floats  # (P, P)
    cross: Floats  # (P, M)
    square: Floats  # (M,)
    n: int

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.gram + other.gram, self.cross + other.cross, self.square + other.square, self.n + other.n)

    def __sub__(self, other: Moments) -> Moments:
        return Moments(self.gram - other.gram, self.cross - other.cross, self.square - other.square, self.n - other.n)

    def over(self, team: Team) -> Moments:
        """Return the moments over the rows of all members."""
        n = int(team.total(np.array([self.n]))[0])
        return Moments(team.total(self.gram), team.total(self.cross), team.total(self.square), n)

    def solve(self, penalty: Floats) -> Floats:
        """Return (P, M) ridge coefficients; penalty (P,) is per row."""
        return np.linalg.solve(self.gram + np.diag(penalty * self.n), self.cross)

    def loss(self, coefficients: Floats) -> Floats:
        """Return (M,) summed squared errors of coefficients (P, M) on these rows."""
        fit = np.einsum("pm,pm->m", coefficients, self.gram @ coefficients)
        return self.square - 2 * np.einsum("pm,pm->m", coefficients, self.cross) + fit


@dataclass(frozen=True, slots=True)
class Ridge:
    """A fitted model: a state pass gives an offset and a slope per tuned head, actions cost one small product."""

    origin: Origin
    encoder: Encoder
    by_state: Floats  # (1 + D, 1 + t, M) float32; [:, 0] is b, [:, 1:] is C, row 0 the constants
    shared: Floats  # (B - t, M) float32, of the monomials of degree 2 and more

    @property
    def name(self) -> str:
        """The kind."""
        return "ridge"

    @property
    def objectives(self) -> tuple[str, ...]:
        """(M,) names."""
        return self.origin.objectives

    def values(self, state: State, actions: Floats) -> Floats:
        """Return (n, K, M) float32 expected rewards; linear, so not held to [0, 1].

        Raises:
            DataError: a feature is absent or infinite, or a weight vector is not one of this surface.
        """
        personal, curved = _bases(checked_coordinates(self.origin.surface, actions))
        common = (curved @ self.shared).astype(np.float32)
        result = np.empty((len(state), len(actions), len(self.objectives)), dtype=np.float32)
        for start in range(0, len(state), _CHUNK):
            x = self.encoder.wide(state.take(slice(start, start + _CHUNK)))
            own = np.tensordot(x, self.by_state[1:], axes=1) + self.by_state[0]  # (r, 1 + t, M)
            np.einsum("ku,rum->rkm", personal.astype(np.float32), own, out=result[start : start + _CHUNK])
        result += common
        return result

    def arrays(self) -> dict[str, Floats]:
        """Return the coefficients."""
        return {"by_state": self.by_state, "shared": self.shared}

    def manifest(self) -> dict[str, Any]:
        """Return origin and encoder."""
        return {"origin": self.origin.manifest(), "encoder": self.encoder.manifest()}

    def save(self, folder: Path) -> None:
        """Write the artefact."""
        from paretune.value.bundle import save_model

        save_model(self, folder)


def from_arrays(arrays: dict[str, Floats], manifest: dict[str, Any]) -> ValueModel:
    """Return the model that `Ridge.arrays` and `Ridge.manifest` took apart."""
    model = Ridge(
        Origin.from_manifest(manifest["origin"]), Encoder.from_manifest(manifest["encoder"]), arrays["by_state"], arrays["shared"]
    )
    tuned, objectives = len(model.origin.surface.tuned), len(model.objectives)
    if model.by_state.shape != (1 + len(model.encoder.groups), 1 + tuned, objectives) or model.shared.shape[1:] != (objectives,):
        raise DataError(f"coefficients of shape {model.by_state.shape} do not fit the encoder", hint="train and save the model again")
    return model


def fit_ridge(
    log: Log,
    config: Config,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,  # noqa: ARG001
    progress: Progress = silent,
    scratch: Scratch | None = None,  # noqa: ARG001
    team: Team = ALONE,
) -> Ridge:
    """Return the ridge model of the log's exploration and production rows; nothing in it is random, and of rows it keeps sums alone.

    Raises:
        DataError: no exploration rows, fewer than two users, or a feature that is absent or infinite.
    """
    rows = training_lessons(log, with_production=True, team=team)
    encoder = Encoder.fit(rows, config.features, team=team)
    surface = config.surface.build()
    personal, curved = _bases(log_coordinates(surface, surface.actions))
    fold = (salted(rows.user, "ridge") % np.uint64(FOLDS)).astype(np.int64)
    folds = []
    for i in range(FOLDS):
        folds.append(_moments(log, encoder, rows.index[fold == i], personal, curved).over(team))
        progress((i + 1) / (FOLDS + 1), f"summed fold {i + 1} of {FOLDS}")
    total = sum(folds[1:], start=folds[0])
    judged = [part for part in folds if 0 < part.n < total.n]
    if not judged:
        raise DataError(f"{total.n} rows of too few users to hold some out", hint="read more of the log")
    width, slopes, objectives = 1 + len(encoder.groups), personal.shape[1], len(config.objectives)
    penalties = [_penalty(width, slopes, curved.shape[1], *pair) for pair in product(PENALTIES_STATE, PENALTIES_PERSONAL)]
    losses = np.array([sum(part.loss((total - part).solve(penalty)) for part in judged) for penalty in penalties]) / total.n  # (choices, M)
    best = losses.argmin(axis=0)
    coefficients = np.stack([total.solve(penalties[best[j]])[:, j] for j in range(objectives)], axis=1)
    by_state = coefficients[: width * slopes].reshape(slopes, width, objectives).transpose(1, 0, 2)
    origin = Origin.of(rows, config, seed=seed, losses={"validation": float(losses.min(axis=0).sum())}, team=team)
    return Ridge(origin, encoder, np.ascontiguousarray(by_state, dtype=np.float32), coefficients[width * slopes :].astype(np.float32))


def _bases(coordinates: Floats) -> tuple[Floats, Floats]:
    """Return (K, 1 + t) what a state's coefficients multiply, and (K, B - t) the monomials that are the same for everyone."""
    t = coordinates.shape[1]
    return np.column_stack([np.ones(len(coordinates)), coordinates]), polynomial_basis(coordinates, DEGREE)[:, t:]


def _penalty(width: int, slopes: int, curved: int, of_state: float, of_personal: float) -> Floats:
    block = np.full((slopes, width), of_personal)
    block[0] = of_state
    block[:, 0] = _PENALTY_SHARED
    return np.concatenate([block.ravel(), np.full(curved, _PENALTY_SHARED)])


def _moments(rows: Log, encoder: Encoder, index: Ints, personal: Floats, curved: Floats) -> Moments:
    """Return the moments of the design (personal(a) kron (1, x), curved(a)) without ever building it: sums per action suffice."""
    K, width, M = len(personal), 1 + len(encoder.groups), rows.rewards.shape[1]
    gram, cross = np.zeros((K, width, width)), np.zeros((K, width, M))
    square = np.zeros(M)
    for start in range(0, len(index), _CHUNK):
        part = index[start : start + _CHUNK]
        part = part[np.argsort(rows.action[part], kind="stable")]
        x = encoder.wide(rows.state.take(part))
        x = np.column_stack([np.ones(len(part), np.float32), x])
        rewards = rows.rewards[part]
        edges = np.searchsorted(rows.action[part], np.arange(K + 1))
        for action in range(K):
            own = slice(edges[action], edges[action + 1])
            gram[action] += x[own].T @ x[own]
            cross[action] += x[own].T @ rewards[own]
        square += np.square(rewards, dtype=np.float64).sum(axis=0)
    slopes = personal.shape[1]
    block = np.einsum("ku,kv,kij->uivj", personal, personal, gram, optimize=True).reshape(slopes * width, slopes * width)
    side = np.einsum("ku,ki,kc->uic", personal, gram[:, 0], curved, optimize=True).reshape(slopes * width, -1)
    corner = np.einsum("k,kc,kd->cd", gram[:, 0, 0], curved, curved, optimize=True)
    towards = np.concatenate(
        [np.einsum("ku,kim->uim", personal, cross, optimize=True).reshape(slopes * width, M), np.einsum("kc,km->cm", curved, cross[:, 0])]
    )
    return Moments(np.block([[block, side], [side.T, corner]]), towards, square, len(index))
