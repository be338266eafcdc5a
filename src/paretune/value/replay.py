"""The `replay` value model, the default where the log carries candidates: the ranker says how weights change a list, data how far to
believe it.

Teacher, on requests with candidates, with H_j(s, a) the ranker's own prediction of the list's reward (`surface.lists.list_values`):

    P(r_j = 1 | s, a) = sigmoid( b_j(s) + k_j logit H_j(s, pi0) + (1 + c_j(s)) [logit H_j(s, a) - logit H_j(s, pi0)] )

It starts at the ranker's word (b = c = 0, k = 1) and learns only the ranker's error. The level term k_j is ours: without it, requests
differ in ways b(s) cannot see, and the slope is biased towards zero. Student, the model that serves, since serving never sees candidates:
features alone predict the teacher's values of all actions, which carry no Bernoulli noise, through their leading principal components. It
learns from every request with candidates, whatever was served and whether or not its reward is known; the teacher from exploration alone.
With `training.student = "smooth"` the components lie in the span of the basis of `smooth`, so weights between the levels have values of
their own; else they are mixed from their neighbours on the grid. An edge: fitting needs torch; values are numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from paretune.config import Config
from paretune.errors import ArtefactError, DataError
from paretune.ports import ALONE, Progress, Team, ValueModel, silent
from paretune.records import PRODUCTION, Candidates, Floats, Log, State
from paretune.surface.grid import log_coordinates
from paretune.surface.heads import Surface
from paretune.surface.lists import list_values, top_lists
from paretune.value.features import Encoder
from paretune.value.origin import PRODUCTION_PER_EXPLORED, Origin, checked_coordinates, training_rows
from paretune.value.smooth import steps_basis
from paretune.value.trunk import TRUNK_ARRAYS, check_trunk, trunk_output

COMPONENTS = 12  # of the values' variation over actions; 98 % of it in the simulated feed
LEVEL_DOUBT = 5.0  # the student's loss on production values counts 1/25: choosing needs the changes
_SMALL = 1e-4  # list values are held within [_SMALL, 1 - _SMALL] before the logit
_ROWS_PER_CHUNK = 20_000
_CHUNK = 65_536


def replayed_logits(candidates: Candidates, surface: Surface, heads: tuple[int, ...]) -> Floats:
    """Return (n, K, M) float16 logit H_j(s, a) of every action, from logged candidates.

    Raises:
        DataError: a score is NaN, or a row has no candidates.
    """
    if (np.diff(candidates.offsets) == 0).any():
        raise DataError(
            f"{int((np.diff(candidates.offsets) == 0).sum())} exploration rows have no candidates", hint="train `smooth` instead"
        )
    parts = []
    for start in range(0, len(candidates), _ROWS_PER_CHUNK):
        part = candidates.take(slice(start, start + _ROWS_PER_CHUNK))
        values = list_values(part, top_lists(part, surface.actions, surface.k), heads).clip(_SMALL, 1 - _SMALL)
        parts.append(np.log(values / (1 - values)).astype(np.float16))
    return np.concatenate(parts)


def grid_weights(surface: Surface, actions: Floats) -> Floats:
    """Return (K', K) how each weight vector mixes the surface's actions: multilinear in log weights, flat beyond the levels.

    Production is its own action, whatever the grid; other weights never borrow from it.

    Raises:
        DataError: a weight vector is not one of this surface.
    """
    points = checked_coordinates(surface, actions)
    static = np.isclose(points, 0, atol=1e-6).all(axis=1)
    every = log_coordinates(surface, surface.actions)
    levels = [np.unique(every[1:, i]) for i in range(points.shape[1])]
    mix = np.zeros((len(points), len(every)))
    low = [np.clip(np.searchsorted(level, points[:, i], side="right") - 1, 0, len(level) - 2) for i, level in enumerate(levels)]
    share = [
        np.clip((points[:, i] - level[at]) / (level[at + 1] - level[at]), 0, 1)
        for i, (level, at) in enumerate(zip(levels, low, strict=True))
    ]
    for corner in product((0, 1), repeat=len(levels)):
        index = np.ravel_multi_index([at + side for at, side in zip(low, corner, strict=True)], [len(level) for level in levels])
        weight = np.prod([part if side else 1 - part for part, side in zip(share, corner, strict=True)], axis=0)
        mix[np.arange(len(points)), 1 + index] += weight
    mix[static] = np.eye(len(every))[PRODUCTION]
    return mix


def smooth_weights(surface: Surface, actions: Floats) -> Floats:
    """Return (K', K) how the smooth basis carries changes over production from the surface's actions to other weights, by least squares.

    For the surface's own actions it is the projection onto the changes that the basis can tell. A grid too small to tell all of the basis
    apart gets the smallest coefficients.

    Raises:
        DataError: a weight vector is not one of this surface.
    """
    basis = steps_basis(surface, log_coordinates(surface, surface.actions))
    return steps_basis(surface, checked_coordinates(surface, actions)) @ np.linalg.pinv(basis, rcond=1e-6)


@dataclass(frozen=True, slots=True)
class Replay:
    """The fitted student: one state pass gives the scores of the components and the value under production."""

    origin: Origin
    encoder: Encoder
    trunk: dict[str, Floats]  # by TRUNK_ARRAYS; out = R scores, then M values of production, both in units of `scale`
    scale: Floats  # (R + M,)
    centre: Floats  # (K * M + M,) mean of what is predicted: changes over production, then values of production
    components: Floats  # (R, K * M)

    @property
    def name(self) -> str:
        """The kind."""
        return "replay"

    @property
    def objectives(self) -> tuple[str, ...]:
        """(M,) names."""
        return self.origin.objectives

    def values(self, state: State, actions: Floats) -> Floats:
        """Return (n, K, M) float32 expected rewards; between the levels, values are interpolated, or smooth where distilled so.

        Raises:
            DataError: a feature is absent or infinite, or a weight vector is not one of this surface.
        """
        m, r = len(self.objectives), len(self.components)
        between = smooth_weights if self.origin.config.training.student == "smooth" else grid_weights
        mix = between(self.origin.surface, actions)  # (K', K)
        components = np.einsum("ak,rkm->ram", mix, self.components.reshape(r, -1, m)).reshape(r, -1).astype(np.float32)
        centre = np.einsum("ak,km->am", mix, self.centre[:-m].reshape(-1, m)).ravel().astype(np.float32)
        result = np.empty((len(state), len(actions), m), dtype=np.float32)
        for start in range(0, len(state), _CHUNK):
            out = trunk_output(self.encoder.wide(state.take(slice(start, start + _CHUNK))), self.trunk) * self.scale.astype(np.float32)
            change = (out[:, :r] @ components + centre).reshape(len(out), -1, m)
            result[start : start + _CHUNK] = change + (out[:, None, r:] + self.centre[-m:].astype(np.float32))
        return result

    def arrays(self) -> dict[str, Floats]:
        """Return the coefficients."""
        return self.trunk | {"scale": self.scale, "centre": self.centre, "components": self.components}

    def manifest(self) -> dict[str, Any]:
        """Return origin and encoder."""
        return {"origin": self.origin.manifest(), "encoder": self.encoder.manifest()}

    def save(self, folder: Path) -> None:
        """Write the artefact."""
        from paretune.value.bundle import save_model

        save_model(self, folder)


def from_arrays(arrays: dict[str, Floats], manifest: dict[str, Any]) -> ValueModel:
    """Return the model that `Replay.arrays` and `Replay.manifest` took apart."""
    origin, encoder = Origin.from_manifest(manifest["origin"]), Encoder.from_manifest(manifest["encoder"])
    check_trunk(arrays, len(encoder.groups))
    m, k = len(origin.objectives), len(origin.surface)
    r = len(arrays["components"])
    shapes = (arrays["components"].shape, arrays["centre"].shape, arrays["scale"].shape, arrays["linear.bias"].shape)
    if shapes != ((r, k * m), (k * m + m,), (r + m,), (r + m,)):
        raise ArtefactError(
            f"coefficients of shapes {shapes} do not fit {k} actions and {m} objectives", hint="train and save the model again"
        )
    return Replay(origin, encoder, {name: arrays[name] for name in TRUNK_ARRAYS}, arrays["scale"], arrays["centre"], arrays["components"])


def fit_replay(
    log: Log, config: Config, *, seed: int = 0, checkpoint: Path | None = None, progress: Progress = silent, team: Team = ALONE
) -> Replay:
    """Return the replay model of the log's exploration rows that carry candidates, distilled on all rows that do.

    Rows that did not explore need no reward, and are at most four for each that did.

    Raises:
        DataError: no exploration rows or no candidates, an objective without a head or not clipped, fewer than two users.
        MissingExtraError: torch is not installed.
    """
    from paretune.value.replay_net import fit_student, fit_teacher

    rows = training_rows(log, team=team)
    heads = config.objective_heads()
    if rows.candidates is None or heads is None or any(objective.transform != "clip" for objective in config.objectives):
        raise DataError(
            "replay needs logged candidates, and a head and the clip transform for every objective",
            hint="log candidate_ids and candidate_scores on exploration rows, or train `smooth`",
        )
    listed = np.diff(rows.candidates.offsets) > 0
    rows = rows if listed.all() or not listed.any() else rows.take(listed)  # where no row has candidates, replayed_logits says so
    surface = config.surface.build()
    progress(0.0, "replaying the lists of all actions")
    logits = replayed_logits(rows.candidates, surface, heads)  # type: ignore[arg-type]
    pupils, taught = rows, len(rows)
    if len(others := _other_listed(log, at_most=PRODUCTION_PER_EXPLORED * taught)):
        pupils = Log.concat([rows, others])
        logits = np.concatenate([logits, replayed_logits(others.candidates, surface, heads)])  # type: ignore[arg-type]
    encoder = Encoder.fit(pupils.state, config.features, team=team)
    x = encoder.wide(pupils.state)
    teacher = fit_teacher(
        rows,
        config,
        x[:taught],
        logits[:taught],
        seed=seed,
        checkpoint=checkpoint,
        progress=lambda s, d: progress(0.1 + 0.45 * s, d),
        team=team,
    )
    told = smooth_weights(surface, surface.actions) if config.training.student == "smooth" else None
    targets, centre, components = component_scores(
        lambda part: teacher.values(x[part], logits[part]), len(pupils), production=teacher.production, told=told, team=team
    )
    scale = np.maximum(_spread(targets, team), 1e-9)
    scale[: len(components)] = scale[: len(components)].max(initial=1e-9)  # scores keep their relative importance
    scale[len(components) :] *= LEVEL_DOUBT
    trunk, loss = fit_student(
        pupils,
        config,
        x,
        (targets / scale).astype(np.float32),
        seed=seed,
        checkpoint=checkpoint,
        progress=lambda s, d: progress(0.55 + 0.45 * s, d),
        team=team,
    )
    origin = Origin.of(rows, config, seed=seed, losses={"validation": teacher.loss, "student": loss}, team=team)
    return Replay(origin, encoder, trunk, scale, centre, components)


def _other_listed(log: Log, *, at_most: int) -> Log:
    """Return rows with candidates that did not explore the grid, spread evenly over the log."""
    listed = np.diff(log.candidates.offsets) > 0 if log.candidates is not None else np.zeros(len(log), np.bool_)
    found = np.flatnonzero(listed & ~(log.explored & (log.action > PRODUCTION)))
    return log.take(found if len(found) <= at_most else found[np.linspace(0, len(found) - 1, at_most).astype(np.int64)])


def _spread(columns: Floats, team: Team) -> Floats:
    """Return the standard deviation of each column over the rows of all members."""
    n = team.total(np.array([len(columns)]))
    mean = team.total(columns.sum(axis=0)) / n
    return np.sqrt(team.total(np.square(columns - mean).sum(axis=0)) / n)


def component_scores(
    values: Any, n: int, *, production: Floats, told: Floats | None = None, team: Team = ALONE
) -> tuple[Floats, Floats, Floats]:
    """Return what the student predicts: scores (n, R + M) of changes and production values, their centre, and the components (R, K * M).

    Changes over production enter in relative units (divided by the mean value of production), so that no objective is drowned.

    Args:
        values: called with a slice of rows, returns (rows, K, M) teacher values.
        n: number of rows.
        production: (M,) mean value of production.
        told: (K, K) projection onto the changes that are kept; all where not given.
        team: of which rank 0's first rows say what the components are.
    """
    m = len(production)

    def change(part: slice) -> tuple[Floats, Floats]:
        block = values(part)
        relative = (block - block[:, :1]) / production
        if told is not None:
            relative = np.einsum("ab,nbm->nam", told, relative)
        return relative.reshape(len(block), -1), block[:, PRODUCTION]

    sample, at_production = change(slice(0, _ROWS_PER_CHUNK))
    mean, level = (team.each(block.mean(axis=0))[0] for block in (sample, at_production))
    _, _, right = np.linalg.svd(sample - mean, full_matrices=False)
    components = team.each(right[: min(COMPONENTS, len(right))])[0]
    blocks = []
    for start in range(0, n, _ROWS_PER_CHUNK):
        relative, at_production = change(slice(start, start + _ROWS_PER_CHUNK))
        blocks.append(np.concatenate([(relative - mean) @ components.T, at_production - level], axis=1))
    unit = np.tile(production, len(mean) // m)
    return np.concatenate(blocks), np.concatenate([mean * unit, level]), components * unit
