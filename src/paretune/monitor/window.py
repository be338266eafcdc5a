"""A window of a log as sums per cluster of users: what is kept of a reference, and what a current window is compared by.

The rule: sums of parts of a window add up with `+` to those of the whole, and everything that is compared later is one of them; they hold
no row and no user, so the reference of a training window can be kept as JSON for as long as its policy serves.

Heads are watched on the lists that the reference's static weights make of logged candidates: per item ln |h|, averaged over the list, by
segment; the contribution shares |w_i h_i| / sum |w_i h_i| (Eq. 11 of the paper). Rewards are watched on production rows, and against H, the
reward that the ranker's scores of the served list predict: sums of 1, r, H, rH, H^2 say level and slope.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paretune.errors import ArtefactError
from paretune.monitor.bins import Bins, bins_from, listed_scores, segment_members, state_codes
from paretune.monitor.psi import CLUSTERS
from paretune.ope.clusters import Bag, bucket_sums, user_buckets
from paretune.records import Candidates, Floats, Ints, Log

FORMAT = 1
MOMENTS = 5  # of rewards and predictions: 1, r, H, rH, H^2


@dataclass(frozen=True, slots=True)
class HeadSums(Bag):
    """Scores of the items that some weights list, per cluster of users."""

    rows: Floats  # (C,) requests with a whole list
    size: Floats  # (C, m) sums of the list's mean ln |h|
    segment_rows: Floats  # (C, G)
    segment_size: Floats  # (C, G, m)
    shape: Floats  # (C, m, S) items per bin of ln |h|
    share: Floats  # (C, m) sums of the list's mean contribution share


@dataclass(frozen=True, slots=True)
class WindowSums(Bag):
    """Everything a window is compared by, per cluster of users."""

    rows: Floats  # (C,)
    state: Floats  # (C, T) counts in the bins of all watched features, one after the other
    heads: HeadSums
    produced: Floats  # (C,) production rows
    reward: Floats  # (C, M) their rewards
    predicted: Floats  # (C, M, 5) moments, of production rows that say what the ranker predicted
    policy: Floats  # (C, K + 1) rows of a policy's arm by action, off the grid last
    explored: Floats  # (C,) exploration rows on the grid
    drawn: Floats  # (3, K - 1) of these per grid action: count, sum 1/p, sum 1/p^2; not per cluster, they come from a random draw


@dataclass(frozen=True, slots=True)
class Window:
    """A window's sums, and what they are of."""

    days: tuple[int, ...]  # since 1970-01-01, increasing
    heads: tuple[str, ...]  # (m,)
    objectives: tuple[str, ...]  # (M,)
    predicted_by: tuple[str, ...]  # (M,) the head that predicts each, "" = none
    static: Floats  # (m,) weights whose lists are watched
    ranges: Floats  # (m, 2) least and largest weight of the grid, whose lists are logged
    k: int
    bins: Bins
    sums: WindowSums

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.sums.rows.sum())

    @property
    def exploration_rows(self) -> int:
        """Number of exploration rows on the grid."""
        return int(self.sums.explored.sum())


def head_sums(candidates: Candidates, user: Ints, members: Floats, *, bins: Bins, weights: Floats, k: int, divisor: Floats) -> HeadSums:
    """Return the scores of the items that weights list.

    Args:
        candidates: of n rows.
        user: (n,) integers.
        members: (n, G) from `segment_members`.
        bins: of ln |score|.
        weights: (m,) static weights of the reference.
        k: list length.
        divisor: (m,) the scores are divided by; ones to take them as they are. Weights act on what is left.
    """
    rows, sizes = listed_scores(candidates, weights / divisor, k)  # (n', k, m)
    sizes = sizes - np.log(divisor)
    m, s = sizes.shape[2], 1 + max((len(edges) for edges in bins.scores), default=0)
    cluster, inside = user_buckets(user[rows], buckets=CLUSTERS), members[rows]
    mean = sizes.mean(axis=1)
    shape = np.zeros((CLUSTERS, m, s))
    for j, edges in enumerate(bins.scores):
        cell = cluster[:, None] * s + np.searchsorted(np.array(edges), sizes[:, :, j], side="right")
        shape[:, j] = np.bincount(cell.ravel(), minlength=CLUSTERS * s).reshape(CLUSTERS, s)
    terms = np.exp(sizes) * np.abs(weights)
    total = terms.sum(axis=2, keepdims=True)
    share = (terms / np.where(total > 0, total, 1.0)).mean(axis=1)
    return HeadSums(
        rows=np.bincount(cluster, minlength=CLUSTERS).astype(np.float64),
        size=bucket_sums(mean, cluster, clusters=CLUSTERS),
        segment_rows=bucket_sums(inside, cluster, clusters=CLUSTERS),
        segment_size=bucket_sums(inside[:, :, None] * mean[:, None, :], cluster, clusters=CLUSTERS),
        shape=shape,
        share=bucket_sums(share, cluster, clusters=CLUSTERS),
    )


def observe(log: Log, bins: Bins, *, static: Floats, k: int, actions: int) -> WindowSums:
    """Return the sums of some rows.

    Args:
        log: rows of a window; `predicted` says what the ranker predicted of production's lists, `candidates` carry head scores.
        bins: of the reference window.
        static: (m,) static weights of the reference.
        k: list length.
        actions: K, production included.

    Raises:
        DataError: the log lacks a watched feature.
    """
    cluster = user_buckets(log.user, buckets=CLUSTERS)
    produced = log.produced
    arm = np.zeros(len(log), dtype=np.bool_) if log.elected is None else log.elected
    explored = log.explored & (log.action > 0)
    action = np.where(log.action < 0, actions, log.action)
    return WindowSums(
        rows=np.bincount(cluster, minlength=CLUSTERS).astype(np.float64),
        state=_state_counts(log, bins, cluster),
        heads=_explored_heads(log, bins, static=static, k=k),
        produced=np.bincount(cluster[produced], minlength=CLUSTERS).astype(np.float64),
        reward=bucket_sums(log.rewards[produced].astype(np.float64), cluster[produced], clusters=CLUSTERS),
        predicted=_moments(log, produced, cluster),
        policy=_counts(cluster[arm], action[arm], actions + 1),
        explored=np.bincount(cluster[explored], minlength=CLUSTERS).astype(np.float64),
        drawn=np.stack(
            [np.bincount(log.action[explored] - 1, log.propensity[explored] ** -power, actions - 1) for power in (0.0, 1.0, 2.0)]
        ),
    )


def window_from(plain: Mapping[str, Any]) -> Window:
    """Return the window that `window_plain` wrote.

    Raises:
        ArtefactError: it is none, or of another format.
    """
    try:
        if plain["format"] != FORMAT:
            raise ArtefactError(f"the reference has format {plain['format']}", hint=f"this version reads format {FORMAT}; take it anew")
        bins, sums = bins_from(plain["bins"]), plain["sums"]
        arrays = {name: _array(sums[name]) for name in WindowSums.__slots__ if name != "heads"}
        heads = HeadSums(**{name: _array(sums["heads"][name]) for name in HeadSums.__slots__})
        return Window(
            tuple(map(int, plain["days"])),
            tuple(map(str, plain["heads"])),
            tuple(map(str, plain["objectives"])),
            tuple(map(str, plain["predicted_by"])),
            np.array(plain["static"], dtype=np.float64),
            np.array(plain["ranges"], dtype=np.float64),
            int(plain["k"]),
            bins,
            WindowSums(heads=heads, **arrays),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"the reference cannot be read: {error!r}", hint="take the reference window anew") from error


def window_plain(window: Window) -> dict[str, Any]:
    """Return what JSON holds of a window; arrays as shape and the places and values that are not zero."""
    sums = {name: getattr(window.sums, name) for name in WindowSums.__slots__}
    heads = sums.pop("heads")
    return {
        "format": FORMAT,
        "days": list(window.days),
        "heads": list(window.heads),
        "objectives": list(window.objectives),
        "predicted_by": list(window.predicted_by),
        "static": window.static.tolist(),
        "ranges": window.ranges.tolist(),
        "k": window.k,
        "bins": window.bins.plain(),
        "sums": {name: _sparse(array) for name, array in sums.items()}
        | {"heads": {name: _sparse(getattr(heads, name)) for name in HeadSums.__slots__}},
    }


def _explored_heads(log: Log, bins: Bins, *, static: Floats, k: int) -> HeadSums:
    rows = np.flatnonzero(log.explored)
    candidates = log.candidates
    if candidates is None or not bins.scores:
        rows, candidates = rows[:0], Candidates(np.zeros(1, np.int64), np.empty(0, np.int64), np.empty((0, len(static)), np.float32))
    else:
        candidates = candidates.take(rows)
    some = log.take(rows)
    members = segment_members(some, bins.segments)
    return head_sums(candidates, some.user, members, bins=bins, weights=static, k=k, divisor=np.ones(len(static)))


def _state_counts(log: Log, bins: Bins, cluster: Ints) -> Floats:
    parts = []
    for codes, (_, size) in zip(state_codes(log.state, bins), bins.state, strict=True):
        where = cluster if codes.ndim == 1 else np.repeat(cluster, codes.shape[1])
        parts.append(_counts(where, codes.ravel(), size))
    return np.concatenate(parts, axis=1) if parts else np.zeros((CLUSTERS, 0))


def _counts(cluster: Ints, code: Ints, size: int) -> Floats:
    return np.bincount(cluster * size + code, minlength=CLUSTERS * size).reshape(CLUSTERS, size).astype(np.float64)


def _moments(log: Log, produced: Floats, cluster: Ints) -> Floats:
    m = log.rewards.shape[1]
    if log.predicted is None:
        return np.zeros((CLUSTERS, m, MOMENTS))
    rows = produced & np.isfinite(log.predicted).all(axis=1)
    r, h = log.rewards[rows].astype(np.float64), log.predicted[rows].astype(np.float64)
    return bucket_sums(np.stack([np.ones_like(r), r, h, r * h, h * h], axis=2), cluster[rows], clusters=CLUSTERS)


def _sparse(array: Floats) -> dict[str, Any]:
    flat = array.ravel()
    place = np.flatnonzero(flat)
    values = [int(value) if value == int(value) else float(f"{value:.12g}") for value in flat[place].tolist()]
    return {"shape": list(array.shape), "at": np.diff(place, prepend=0).tolist(), "value": values}


def _array(sparse: Mapping[str, Any]) -> Floats:
    array = np.zeros(int(np.prod(sparse["shape"])))
    array[np.cumsum(np.array(sparse["at"], dtype=np.int64))] = sparse["value"]
    return array.reshape(sparse["shape"])
