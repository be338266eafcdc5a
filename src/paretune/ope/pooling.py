"""Pooling over similar actions: how much a logged row says of each target action, by a kernel instead of a hit.

With kappa(a, t) the likeness of logged action a to target t, and mu the logging propensity, a row's weight towards t is

    w = kappa(a, t) / sum_a' mu(a'|s) kappa(a', t)

whose mean given the request is one. Where only the logged action's propensity is known, w = kappa(a, t) / (mu(a|s) sum_a' kappa(a', t)),
with the sum over the grid, has the same mean, and is the same under uniform logging. Two kernels:

- action kernel, from the weights alone: kappa = exp(-|phi(a) - phi(t)|^2 / 2), phi = (log weight ratios, log scale) in bandwidths;
- list overlap, from logged candidates: kappa = ov^p, ov(a, t) = sum_{x in both} min(e_rank_a(x), e_rank_t(x)) / sum_l e_l, with
  examination e_l = 0.85^(l-1).

The rule: bandwidths are fixed before any row is seen; choosing them on the data that they then judge destroys the coverage of intervals.
Production is never logged by exploration, but may be a target. With numba installed the overlap runs compiled; a test holds both to the
same numbers. Source: kernel-smoothed off-policy evaluation, Kallus and Zhou (2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError
from paretune.ope.estimators import check_propensity
from paretune.records import PRODUCTION, Floats, Ints
from paretune.surface.heads import Surface
from paretune.surface.lists import examination

try:
    from paretune.ope import compiled
except ImportError:  # numba is optional: numpy alone gives the same weights, slower
    compiled = None  # type: ignore[assignment]

RATIO_BANDWIDTH = 0.25  # of log weight ratios; at both, likeness falls as the mean ov^16 of lists does in the simulated feed
SCALE_BANDWIDTH = 0.9  # of the common log scale, which moves a list only against the heads that are not tuned
LEAST_OVERLAP = 0.1  # below it, lists have nothing in common: 0.1^8 is nothing beside the target's own 1
LEAST_LIKENESS = 1e-4  # a target without a grid action within some four bandwidths has no overlap
ROWS_PER_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel and its ladder of bandwidths, widest first; one of them, fixed beforehand, is the estimate."""

    name: str
    rungs: tuple[float, ...]  # powers of an overlap, or multiples of the action kernel's bandwidths
    speaks: int  # the rung that is the estimate

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the rungs."""
        letter = "p =" if self.name == "list-overlap" else "bandwidth x"
        return tuple(f"{letter} {rung:g}" for rung in self.rungs)

    def describe(self) -> str:
        """Return the kernel with the rung that speaks."""
        return f"{self.name} {self.labels[self.speaks]}" if self.name == "list-overlap" else self.name


OVERLAP = Kernel("list-overlap", (8, 16, 32), 1)
ACTION = Kernel("action kernel", (1.4, 1.0, 0.7), 1)


@dataclass(frozen=True, slots=True)
class Likeness:
    """What n logged rows say of each of K targets."""

    weight: Floats  # (n, K, R) float32, mean one over the logged actions
    deviation: Floats  # (n, K) float32 distance of the logged action to the target, less its mean under the rung that speaks
    distance: Floats  # (n, K) float32 that mean, in [0, 1] for overlaps

    def __len__(self) -> int:
        return len(self.weight)

    @staticmethod
    def concat(parts: list[Likeness]) -> Likeness:
        """Join batches."""
        return Likeness(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("weight", "deviation", "distance")))


def kernel_coordinates(surface: Surface) -> Floats:
    """Return phi of every action in units of the fixed bandwidths: log weight ratios among the tuned heads, then their log scale.

    Args:
        surface: with t tuned heads.

    Returns:
        (K, t + 1); a single tuned head has no ratio but to the heads that are not tuned, so its own log weight is one.
    """
    return weight_coordinates(surface, surface.actions)


def weight_coordinates(surface: Surface, weights: Floats) -> Floats:
    """Return phi (n, t + 1) of any full weight vectors (n, m), see `kernel_coordinates`."""
    logs = np.log(weights[:, list(surface.tuned)])
    scale = logs.mean(axis=1, keepdims=True)
    ratios = np.sqrt(2.0) * (logs - scale) if logs.shape[1] > 1 else logs  # sqrt(2): two heads differ by their log ratio
    return np.concatenate([ratios / RATIO_BANDWIDTH, scale / SCALE_BANDWIDTH], axis=1)


def action_likeness(
    coordinates: Floats, action: Ints, propensity: Floats, *, kernel: Kernel = ACTION, design: Floats | None = None
) -> Likeness:
    """Return the action kernel's weights of logged rows towards all actions.

    Args:
        coordinates: (K, d) of `kernel_coordinates`, production first.
        action: (n,) logged actions, on the grid.
        propensity: (n,) of the logged action, in (0, 1].
        kernel: whose rungs multiply the bandwidths.
        design: mu(a|s) of all actions (K,) or (n, K), production 0; by default only the logged action's propensity is used.

    Raises:
        DataError: an action is not on the grid, or a propensity is outside (0, 1].
    """
    own, others = _designed(action, propensity, design, n_actions=len(coordinates))
    gap = np.square(coordinates[:, None] - coordinates).sum(axis=2)  # (K, K)
    distance, shape = np.sqrt(gap), (len(action), len(coordinates))
    weight = np.empty((*shape, len(kernel.rungs)), dtype=np.float32)
    mean = np.zeros((1, len(coordinates)))
    for rung, multiple in enumerate(kernel.rungs):
        likeness = np.exp(-gap / (2 * multiple**2))
        total = others @ likeness  # (1 or n, K)
        known = total > LEAST_LIKENESS * others.max()
        weight[:, :, rung] = np.where(known, likeness[action] * own[:, None] / np.where(known, total, 1), 0)
        if rung == kernel.speaks:
            mean = np.where(known, others @ (likeness * distance) / np.where(known, total, 1), 0)
            deviation = np.where(known, distance[action] - mean, 0)
    return Likeness(weight, deviation.astype(np.float32), np.broadcast_to(mean.astype(np.float32), shape))


def weights_likeness(coordinates: Floats, targets: Floats, action: Ints, propensity: Floats, *, kernel: Kernel = ACTION) -> Likeness:
    """Return the action kernel's weights of logged rows towards targets of their own, which may lie between the levels.

    Args:
        coordinates: (K, d) of `kernel_coordinates`, production first.
        targets: (n, T, d) of `weight_coordinates`, what each of T policies would serve each request.
        action: (n,) logged actions, on the grid.
        propensity: (n,) of the logged action, in (0, 1].
        kernel: whose rungs multiply the bandwidths.

    Returns:
        The likeness of n rows towards T targets.

    Raises:
        DataError: an action is not on the grid, or a propensity is outside (0, 1].
    """
    own, _ = _designed(action, propensity, None, n_actions=len(coordinates))
    grid = coordinates[PRODUCTION + 1 :]
    gap = np.stack([np.square(targets[:, t, None] - grid).sum(axis=2) for t in range(targets.shape[1])], axis=1)  # (n, T, K - 1)
    near = np.take_along_axis(gap, (action - 1).astype(np.int64)[:, None, None], axis=2)[:, :, 0]
    weight = np.empty((*near.shape, len(kernel.rungs)), dtype=np.float32)
    for rung, multiple in enumerate(kernel.rungs):
        likeness = np.exp(-gap / (2 * multiple**2))
        total = likeness.sum(axis=2)
        known = total > LEAST_LIKENESS
        safe = np.where(known, total, 1)
        weight[:, :, rung] = np.where(known, np.exp(-near / (2 * multiple**2)) * own[:, None] / safe, 0)
        if rung == kernel.speaks:
            mean = np.where(known, (likeness * np.sqrt(gap)).sum(axis=2) / safe, 0)
            deviation = np.where(known, np.sqrt(near) - mean, 0)
    return Likeness(weight, deviation.astype(np.float32), mean.astype(np.float32))


def overlap_likeness(lists: Ints, action: Ints, propensity: Floats, *, kernel: Kernel = OVERLAP, design: Floats | None = None) -> Likeness:
    """Return the list-overlap kernel's weights of logged rows towards all actions; a row without candidates speaks for its own action only.

    Args:
        lists: (n, K, k) of `surface.lists.top_lists`, production first.
        action: (n,) logged actions, on the grid.
        propensity: (n,) of the logged action, in (0, 1].
        kernel: whose rungs are powers, each twice the one before, the first a power of two.
        design: mu(a|s) of all actions (K,) or (n, K), production 0; by default only the logged action's propensity is used.

    Raises:
        DataError: an action is not on the grid, a propensity is outside (0, 1], or the powers are no doubling ladder.
    """
    own, others = _designed(action, propensity, design, n_actions=lists.shape[1])
    squarings = int(np.log2(kernel.rungs[0]))
    if kernel.rungs != tuple(2.0 ** (squarings + step) for step in range(len(kernel.rungs))):
        raise DataError(f"powers {kernel.rungs} are no doubling ladder", hint="give powers such as 8, 16, 32")
    examined, width = examination(lists.shape[2]).astype(np.float32), int(lists.max(initial=-1)) + 1
    if compiled is not None:
        return Likeness(
            *compiled.overlap_likeness(
                lists, examined, action.astype(np.int64), own, others, width, squarings, len(kernel.rungs), kernel.speaks, LEAST_OVERLAP
            )
        )
    parts = []
    for start in range(0, max(1, len(lists)), ROWS_PER_CHUNK):
        rows = slice(start, start + ROWS_PER_CHUNK)
        share = others if len(others) == 1 else others[rows]
        parts.append(_overlap_likeness(overlaps(lists[rows], width=width), action[rows], own[rows], share, kernel=kernel))
    return Likeness(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def overlaps(lists: Ints, *, width: int) -> Floats:
    """Return (n, K, K) float32 overlap of every two actions' lists, 1 for equal ones, 0 below LEAST_OVERLAP.

    Args:
        lists: (n, K, k) positions, -1 beyond the row's candidates; all lists of a row are equally long.
        width: more than the largest position.
    """
    n, n_actions, k = lists.shape
    examined = examination(k).astype(np.float32)
    seen = np.zeros((n, n_actions, width + 1), dtype=np.float32)  # position -1 is the spare last column
    np.put_along_axis(seen, lists.astype(np.int64), np.broadcast_to(examined, lists.shape), axis=2)
    seen = np.ascontiguousarray(seen[:, :, :width])
    most = ((lists[:, 0] >= 0) * examined).sum(axis=1)
    result = np.empty((n, n_actions, n_actions), dtype=np.float32)
    for action in range(n_actions):
        result[:, action] = np.minimum(seen[:, action, None], seen).sum(axis=2)
    result /= np.where(most > 0, most, 1)[:, None, None]
    result[result < LEAST_OVERLAP] = 0
    result[most == 0] = np.eye(n_actions)
    return result


def _overlap_likeness(shared: Floats, action: Ints, own: Floats, others: Floats, *, kernel: Kernel) -> tuple[Floats, Floats, Floats]:
    row = np.arange(len(shared))
    weight = np.zeros((len(shared), shared.shape[2], len(kernel.rungs)), dtype=np.float32)
    distance = np.zeros((len(shared), shared.shape[2]), dtype=np.float32)
    for rung, power in enumerate(kernel.rungs):
        likeness = shared ** np.float32(power)
        total = np.einsum("na,nat->nt", np.broadcast_to(others, shared.shape[:2]), likeness)
        known = total > 0
        weight[:, :, rung] = np.where(known, likeness[row, action] * own[:, None] / np.where(known, total, 1), 0)
        if rung == kernel.speaks:
            mean = np.einsum("na,nat->nt", np.broadcast_to(others, shared.shape[:2]), likeness * (1 - shared))
            distance = np.where(known, mean / np.where(known, total, 1), 0).astype(np.float32)
            deviation = np.where(known, 1 - shared[row, action] - distance, 0).astype(np.float32)
    return weight, deviation, distance


def _designed(action: Ints, propensity: Floats, design: Floats | None, *, n_actions: int) -> tuple[Floats, Floats]:
    """Return the factor of each row (n,) and of each action in the sum below the weight (1 or n, K), float32."""
    check_propensity(propensity)
    if len(action) and (action.min() <= PRODUCTION or action.max() >= n_actions):
        raise DataError("exploration rows hold actions that are not on the grid", hint="feed `log.exploration()`")
    if design is None:
        grid = np.ones((1, n_actions), dtype=np.float32)
        grid[0, PRODUCTION] = 0
        return (1 / propensity).astype(np.float32), grid
    shares = np.atleast_2d(design).astype(np.float32)
    if shares.shape[1] != n_actions or len(shares) not in {1, len(action)} or not (shares >= 0).all():
        raise DataError(
            f"the design has shape {np.shape(design)} for {n_actions} actions", hint="give mu(a|s) of all actions, (K,) or (n, K)"
        )
    return np.ones(len(action), dtype=np.float32), shares
