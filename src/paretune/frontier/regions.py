"""Three objectives: where in the simplex of trade-offs the logged action is the best one, and what every lattice point then earns.

An action beats a rival where c . (v(rival) - v(action)) <= 0, a half-plane of the simplex; the best one lives in their intersection, a
convex polygon, mostly empty. Cutting the triangle rival by rival costs what a handful of grid points cost, whatever the grid. A Das-Dennis
lattice is then read off by rows: in each row the polygon is an interval, and sums over intervals are two updates of a difference array.

The rule: equal actions belong to the lowest index, as argmax has it; points on an edge, where two actions tie, may go to either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError, NoOverlapError
from paretune.frontier.hull import check_actions, check_values, contenders
from paretune.ope.lift import ProducedSums
from paretune.records import Bools, Floats, Ints

try:
    from paretune.frontier import compiled
except ImportError:  # numba is optional: numpy alone gives the same sums, slower
    compiled = None  # type: ignore[assignment]

ROWS_PER_BLOCK = 8_192
ON_EDGE = 1e-9  # in units of the simplex; what rounding may move a corner by


@dataclass(frozen=True, slots=True)
class Regions:
    """The polygons of the rows that have one, as (c_1, c_2); c_3 = 1 - c_1 - c_2."""

    row: Ints  # (h,) of the values
    corners: Floats  # (h, V, 2) counter-clockwise, the last one repeated where a polygon has fewer

    def contains(self, scalarisations: Floats) -> Bools:
        """Mark the scalarisations (P, 3), positive and not all zero, at which a row's action is the best one (h, P)."""
        point = scalarisations[:, :2] / scalarisations.sum(axis=1, keepdims=True)
        side = np.roll(self.corners, -1, axis=1) - self.corners
        inside = np.ones((len(self.row), len(point)), dtype=np.bool_)
        for v in range(self.corners.shape[1]):
            away = point - self.corners[:, v, None]
            inside &= side[:, v, None, 0] * away[..., 1] - side[:, v, None, 1] * away[..., 0] >= -ON_EDGE
        return inside


def optimal_regions(values: Floats, action: Ints) -> Regions:
    """Return the part of the simplex in which an action is the best one of its request.

    Args:
        values: (n, K, 3) finite, relative-lift units.
        action: (n,) index in [0, K).

    Raises:
        DataError: values are not (n, K, 3) or not finite, or an action is outside [0, K).
    """
    check_values(values, 3)
    check_actions(values, action)
    order = contenders(values) if len(values) else np.arange(values.shape[1])
    parts = [
        _cut(values[start : start + ROWS_PER_BLOCK], action[start : start + ROWS_PER_BLOCK], order, first=start)
        for start in range(0, max(1, len(values)), ROWS_PER_BLOCK)
    ]
    width = max(part.corners.shape[1] for part in parts)
    corners = [np.pad(part.corners, ((0, 0), (0, width - part.corners.shape[1]), (0, 0)), mode="edge") for part in parts]
    return Regions(np.concatenate([part.row for part in parts]), np.concatenate(corners))


def _cut(values: Floats, action: Ints, order: Ints, *, first: int) -> Regions:
    """Cut the triangle by one rival after the other (Sutherland and Hodgman, 1974), all rows at once; rows left with nothing drop out."""
    n = len(values)
    row = np.arange(n)
    own = values[row, action].astype(np.float64)
    corners = np.tile(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), (n, 1, 1))
    for rival in order:
        lead = values[row, rival] - own[row]  # (n', 3)
        at = corners @ (lead[:, :2] - lead[:, 2:])[:, :, None]
        at = at[:, :, 0] + lead[:, 2:]  # the rival's lead at every corner
        beaten = ((lead == 0).all(axis=1) & (rival < action[row])) | (at > 0).all(axis=1)
        split = (at > 0).any(axis=1) & ~beaten
        if split.any():
            pieces = _half(corners[split], at[split])
            width = max(corners.shape[1], pieces.shape[1])
            corners, pieces = (np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), mode="edge") for p in (corners, pieces))
            corners[split] = pieces
        if beaten.any():
            row, corners = row[~beaten], corners[~beaten]
    return Regions(first + row, corners)


def _half(corners: Floats, at: Floats) -> Floats:
    """Return the part of each polygon where `at` <= 0; every polygon has some."""
    n, width = at.shape
    after, at_after = np.roll(corners, -1, axis=1), np.roll(at, -1, axis=1)
    crosses = (at > 0) != (at_after > 0)
    gap = np.where(crosses, at - at_after, 1.0)
    between = corners + (at / gap)[:, :, None] * (after - corners)
    kept = np.stack([at <= 0, crosses], axis=2).reshape(n, 2 * width)
    points = np.stack([corners, between], axis=2).reshape(n, 2 * width, 2)
    count = kept.sum(axis=1)
    place = np.argsort(~kept, axis=1, kind="stable")[:, : count.max()]
    place = np.take_along_axis(place, np.minimum(np.arange(place.shape[1]), count[:, None] - 1), axis=1)
    return np.take_along_axis(points, place[:, :, None], axis=1)


@dataclass(frozen=True, slots=True)
class LatticeSums:
    """What exploration rows say of every point of a Das-Dennis lattice, in the order of `simplex_grid(3, divisions)`; adds up."""

    divisions: int
    sums: Floats  # (points, 2 + 2 M): hits, weights, weight x reward per objective, weight x (reward - m) per objective

    def __add__(self, other: LatticeSums) -> LatticeSums:
        """Return the sums over both batches.

        Raises:
            DataError: the lattices differ.
        """
        if self.divisions != other.divisions:
            raise DataError(f"lattices of {self.divisions} and {other.divisions} divisions do not add up", hint="use one lattice")
        return LatticeSums(self.divisions, self.sums + other.sums)

    @property
    def hits(self) -> Ints:
        """(points,) rows whose logged action is the one that the point's policy takes."""
        return np.rint(self.sums[:, 0]).astype(np.int64)

    def rewards(self) -> Floats:
        """Return the self-normalised mean reward (points, M): Reward@HIT under uniform logging; NaN without a hit.

        Raises:
            NoOverlapError: no point has a hit.
        """
        return self._ratio(2)

    def lifts(self, produced: ProducedSums) -> Floats:
        """Return the production-anchored relative lift (points, M); NaN without a hit.

        Raises:
            NoOverlapError: no point has a hit.
        """
        rows = produced.rows.sum()
        moved = self._ratio(2 + (self.sums.shape[1] - 2) // 2) + produced.correction.sum(axis=0) / rows
        return moved / (produced.reward.sum(axis=0) / rows)

    def _ratio(self, column: int) -> Floats:
        if not self.hits.any():
            raise NoOverlapError("no logged action is the best one at any point of the lattice", hint="widen the exploration slice")
        weight = np.where(self.hits > 0, self.sums[:, 1], np.nan)
        return self.sums[:, column : column + (self.sums.shape[1] - 2) // 2] / weight[:, None]


def lattice_sums(
    values: Floats, action: Ints, *, divisions: int, propensity: Floats, rewards: Floats, expected: Floats | None = None
) -> LatticeSums:
    """Return the sums of one batch of exploration rows for every point of a lattice.

    Args:
        values: (n, K, 3) finite, relative-lift units.
        action: (n,) logged action in [0, K).
        divisions: of each side of the simplex; 24 gives 325 points.
        propensity: (n,) in (0, 1].
        rewards: (n, M).
        expected: m(s) (n, M); zero where not given.

    Raises:
        DataError: see `optimal_regions`.
    """
    weight = 1.0 / propensity
    residual = rewards if expected is None else rewards - expected
    columns = np.column_stack([np.ones(len(weight)), weight, weight[:, None] * rewards, weight[:, None] * residual])
    if compiled is not None and len(values):
        check_values(values, 3)
        check_actions(values, action)
        order = contenders(values)
        steps = compiled.lattice(np.ascontiguousarray(values), action.astype(np.int64), order, columns, divisions, ON_EDGE)
    else:
        regions = optimal_regions(values, action)
        steps = np.zeros((divisions + 1, divisions + 2, columns.shape[1]))
        for i, low, high in _rows_of(regions.corners, divisions):
            some = np.flatnonzero(low <= high)
            for j, column in enumerate(columns[regions.row[some]].T):
                steps[i, :, j] += np.bincount(low[some], column, divisions + 2) - np.bincount(high[some] + 1, column, divisions + 2)
    total = np.cumsum(steps, axis=1)
    return LatticeSums(divisions, np.concatenate([total[i, : divisions + 1 - i] for i in range(divisions + 1)]))


def _rows_of(corners: Floats, divisions: int) -> Iterator[tuple[int, Ints, Ints]]:
    """Yield each lattice row i and the first and last point of it in every polygon; first > last where there is none."""
    x, y = divisions * corners[:, :, 0], divisions * corners[:, :, 1]
    x1, y1 = np.roll(x, -1, axis=1), np.roll(y, -1, axis=1)
    left, right = np.minimum(x, x1), np.maximum(x, x1)
    edge = divisions * ON_EDGE
    run = np.where(x == x1, 1.0, x1 - x)
    for i in range(divisions + 1):
        met = (left <= i + edge) & (i - edge <= right)
        height = y + np.clip((i - x) / run, 0, 1) * (y1 - y)
        upright = met & (x == x1)
        low = np.where(met, np.where(upright, np.minimum(y, y1), height), np.inf).min(axis=1, initial=np.inf)
        high = np.where(met, np.where(upright, np.maximum(y, y1), height), -np.inf).max(axis=1, initial=-np.inf)
        some = np.isfinite(low)
        first = np.where(some, np.ceil(np.where(some, low, 0) - edge), 1).astype(np.int64)
        last = np.where(some, np.floor(np.where(some, high, 0) + edge), 0).astype(np.int64)
        yield i, np.maximum(first, 0), np.minimum(last, divisions - i)
