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

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from paretune.config import Config
from paretune.errors import ArtefactError, DataError
from paretune.logs.paged import Scratch
from paretune.ports import ALONE, Progress, Team, ValueModel, silent
from paretune.records import PRODUCTION, Candidates, Floats, Log, State
from paretune.surface.grid import log_coordinates
from paretune.surface.heads import Surface
from paretune.surface.lists import list_values, top_lists
from paretune.value.features import Encoder
from paretune.value.lessons import Lessons, listed_lessons
from paretune.value.origin import Origin, checked_coordinates
from paretune.value.smooth import steps_basis
from paretune.value.trunk import TRUNK_ARRAYS, check_trunk, combined, trunk_output

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
    starts = range(0, len(candidates), _ROWS_PER_CHUNK)
    return np.concatenate([_logits(candidates.take(slice(start, start + _ROWS_PER_CHUNK)), surface, heads) for start in starts])


def _logits(candidates: Candidates, surface: Surface, heads: tuple[int, ...]) -> Floats:
    values = list_values(candidates, top_lists(candidates, surface.actions, surface.k), heads).clip(_SMALL, 1 - _SMALL)
    return np.log(values / (1 - values)).astype(np.float16)


def grid_weights(surface: Surface, actions: Floats) -> Floats:
    """Return (K', K) how each weight vector mixes the surface's actions: multilinear in log weights, flat beyond the levels.

    Production is its own action, whatever the grid; other weights never borrow from it.

    Raises:
        DataError: a weight vector is not one of this surface.
    """
    return grid_mixed(surface, actions, np.eye(len(surface)))


def grid_mixed(surface: Surface, actions: Floats, columns: Floats) -> Floats:
    """Return (K', C) columns of the surface's actions (K, C), mixed as `grid_weights` says, at a cost that is linear in K'.

    Raises:
        DataError: a weight vector is not one of this surface.
    """
    if np.array_equal(actions, surface.actions):
        return columns
    points = checked_coordinates(surface, actions)
    static = np.isclose(points, 0, atol=1e-6).all(axis=1)
    every = log_coordinates(surface, surface.actions)
    levels = [np.unique(every[1:, i]) for i in range(points.shape[1])]
    mixed = np.zeros((len(points), columns.shape[1]))
    low = [np.clip(np.searchsorted(level, points[:, i], side="right") - 1, 0, len(level) - 2) for i, level in enumerate(levels)]
    share = [
        np.clip((points[:, i] - level[at]) / (level[at + 1] - level[at]), 0, 1)
        for i, (level, at) in enumerate(zip(levels, low, strict=True))
    ]
    for corner in product((0, 1), repeat=len(levels)):
        index = np.ravel_multi_index([at + side for at, side in zip(low, corner, strict=True)], [len(level) for level in levels])
        weight = np.prod([part if side else 1 - part for part, side in zip(share, corner, strict=True)], axis=0)
        mixed += weight[:, None] * columns[1 + index]
    mixed[static] = columns[PRODUCTION]
    return mixed


def smooth_weights(surface: Surface, actions: Floats) -> Floats:
    """Return (K', K) how the smooth basis carries changes over production from the surface's actions to other weights, by least squares.

    For the surface's own actions it is the projection onto the changes that the basis can tell. A grid too small to tell all of the basis
    apart gets the smallest coefficients.

    Raises:
        DataError: a weight vector is not one of this surface.
    """
    return smooth_mixed(surface, actions, np.eye(len(surface)))


def smooth_mixed(surface: Surface, actions: Floats, columns: Floats) -> Floats:
    """Return (K', C) columns of the surface's actions (K, C), carried as `smooth_weights` says, at a cost that is linear in K and K'.

    Raises:
        DataError: a weight vector is not one of this surface.
    """
    basis = steps_basis(surface, log_coordinates(surface, surface.actions))
    return steps_basis(surface, checked_coordinates(surface, actions)) @ (np.linalg.pinv(basis, rcond=1e-6) @ columns)


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
        rows = self._worth_of(actions).astype(np.float32)
        result = np.empty((len(state), len(actions), len(self.objectives)), dtype=np.float32)
        for start in range(0, len(state), _CHUNK):
            out = trunk_output(self.encoder.wide(state.take(slice(start, start + _CHUNK))), self.trunk) * self.scale.astype(np.float32)
            for _ in combined(out, rows, result[start : start + _CHUNK]):
                pass
        return result

    def _worth_of(self, actions: Floats) -> Floats:
        """Return (R + M + 1, K' M) what each score and each level of production is worth for each action, then what all have in common."""
        surface, m, r = self.origin.surface, len(self.objectives), len(self.components)
        between = smooth_mixed if self.origin.config.training.student == "smooth" else grid_mixed
        columns = np.concatenate([self.components, self.centre[None, :-m]]).reshape(r + 1, -1, m)
        mixed = between(surface, actions, columns.transpose(1, 0, 2).reshape(len(surface), -1))
        worth = mixed.reshape(len(actions), r + 1, m).transpose(1, 0, 2).reshape(r + 1, -1)
        level = np.tile(np.eye(m), len(actions))
        return np.concatenate([worth[:r], level, worth[r:] + np.tile(self.centre[-m:], len(actions))])

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
    log: Log,
    config: Config,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress = silent,
    scratch: Scratch | None = None,
    team: Team = ALONE,
) -> Replay:
    """Return the replay model of the log's exploration rows that carry candidates, distilled on all rows that do.

    Rows that did not explore need no reward, and are at most four for each that did.

    Args:
        log: in memory or on disk.
        config: features, surface, heads of the objectives, how long to train.
        seed: of initial weights and row order.
        checkpoint: folder.
        progress: told of each epoch.
        scratch: where encoded rows, replayed lists and targets are kept; by default in memory. The model is the same to the bit.
        team: whose members each have a part of the log.

    Raises:
        DataError: no exploration rows or no candidates, an objective without a head or not clipped, fewer than two users.
        MissingExtraError: torch is not installed.
    """
    from paretune.value.replay_net import fit_student, fit_teacher

    scratch, heads = scratch or Scratch(), config.objective_heads()
    pupils, taught = listed_lessons(log, team=team)
    if log.candidates is None or heads is None or any(objective.transform != "clip" for objective in config.objectives):
        raise DataError(
            "replay needs logged candidates, and a head and the clip transform for every objective",
            hint="log candidate_ids and candidate_scores on exploration rows, or train `smooth`",
        )
    surface, rows = config.surface.build(), Lessons(log, pupils.index[:taught])
    progress(0.0, "replaying the lists of all actions")
    logits = scratch.stacked("logits", len(pupils), _replayed(pupils, taught, surface, heads))
    encoder = Encoder.fit(pupils, config.features, team=team)
    x = encoder.stacked(pupils, scratch)
    teacher = fit_teacher(
        rows, config, x, logits, seed=seed, checkpoint=checkpoint, progress=lambda s, d: progress(0.1 + 0.45 * s, d), team=team
    )
    told = smooth_weights(surface, surface.actions) if config.training.student == "smooth" else None
    targets, centre, components = component_scores(
        lambda part: teacher.values(x[part], logits[part]),
        len(pupils),
        production=teacher.production,
        told=told,
        scratch=scratch,
        team=team,
    )
    scale = np.maximum(spread_of(targets, team=team), 1e-9)
    scale[: len(components)] = scale[: len(components)].max(initial=1e-9)  # scores keep their relative importance
    scale[len(components) :] *= LEVEL_DOUBT
    wanted = scratch.stacked("wanted", len(pupils), ((targets[part] / scale).astype(np.float32) for part in _parts(len(pupils))))
    trunk, loss = fit_student(
        pupils, config, x, wanted, seed=seed, checkpoint=checkpoint, progress=lambda s, d: progress(0.55 + 0.45 * s, d), team=team
    )
    origin = Origin.of(rows, config, seed=seed, losses={"validation": teacher.loss, "student": loss}, team=team)
    return Replay(origin, encoder, trunk, scale, centre, components)


def _replayed(pupils: Lessons, taught: int, surface: Surface, heads: tuple[int, ...]) -> Iterator[Floats]:
    """Yield the replayed logits of rows chunk by chunk, those that teach and the others apart."""
    for part in (*_parts(taught), *_parts(len(pupils), taught)):
        candidates = pupils.rows(part).candidates
        if candidates is not None:
            yield replayed_logits(candidates, surface, heads)


def _parts(n: int, start: int = 0) -> Iterator[slice]:
    return (slice(at, min(n, at + _ROWS_PER_CHUNK)) for at in range(start, n, _ROWS_PER_CHUNK))


def spread_of(columns: Floats, *, team: Team = ALONE) -> Floats:
    """Return (C,) standard deviations of columns (n, C) that may lie on disk, as `numpy.std` has them, over the rows of all members."""
    n, every = len(columns), int(team.total(np.array([len(columns)]))[0])

    def total(of: Callable[[Floats], Floats]) -> Floats:
        chunks = (of(columns[part]) for part in _parts(n))
        summed = np.add.reduce(next(chunks), axis=0)
        for chunk in chunks:
            summed = np.add.reduce(np.concatenate([summed[None], chunk]), axis=0)
        return team.total(summed) / every

    mean = total(lambda chunk: chunk)
    return np.sqrt(total(lambda chunk: np.square(chunk - mean)))


def component_scores(
    values: Any, n: int, *, production: Floats, told: Floats | None = None, scratch: Scratch | None = None, team: Team = ALONE
) -> tuple[Floats, Floats, Floats]:
    """Return what the student predicts: scores (n, R + M) of changes and production values, their centre, and the components (R, K * M).

    Changes over production enter in relative units (divided by the mean value of production), so that no objective is drowned.

    Args:
        values: called with a slice of rows, returns (rows, K, M) teacher values.
        n: number of rows.
        production: (M,) mean value of production.
        told: (K, K) projection onto the changes that are kept; all where not given.
        scratch: where the scores are kept; by default in memory.
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
    mean, usual = (team.each(block.mean(axis=0))[0] for block in (sample, at_production))
    _, _, right = np.linalg.svd(sample - mean, full_matrices=False)
    components = team.each(right[: min(COMPONENTS, len(right))])[0]

    def scores(part: slice) -> Floats:
        relative, at_production = change(part)
        return np.concatenate([(relative - mean) @ components.T, at_production - usual], axis=1)

    targets = (scratch or Scratch()).stacked("targets", n, (scores(part) for part in _parts(n)))
    unit = np.tile(production, len(mean) // m)
    return targets, np.concatenate([mean * unit, usual]), components * unit
