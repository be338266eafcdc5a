"""How much each head matters under given weights, and how rare events are: App. A.1 to A.3 of the paper.

The rule: shares are averaged over candidates, so sums over chunks of a log add up with `+` to those of the whole log. A candidate whose
utility terms are all zero has no shares and is left out of the average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError
from paretune.records import Floats, Ints

_CHUNK = 65_536  # candidates per pass; bounds memory at a few MB per 50 swept weights


@dataclass(frozen=True, slots=True)
class ShareSum:
    """Shares of utility summed over candidates; chunks of a log add up with `+`."""

    total: Floats  # (m,) per head, or (W,) per swept weight
    weight: float  # candidates counted, or the sum of their weights

    def __add__(self, other: ShareSum) -> ShareSum:
        return ShareSum(self.total + other.total, self.weight + other.weight)

    @property
    def mean(self) -> Floats:
        """Average share, in [0, 1].

        Raises:
            DataError: no candidate had any utility.
        """
        if self.weight <= 0:
            raise DataError("no candidate has a utility other than zero", hint="check the logged head scores and the static weights")
        return self.total / self.weight


@dataclass(frozen=True, slots=True)
class EngagementBins:
    """How the events of an objective spread over requests (App. A.3); the tail that justifies clipping at one event."""

    mean_count: Floats  # (bins,) events per request, in bin order
    n_requests: Ints  # (bins,)
    at_most_one: float  # share of requests with zero or one event


def contribution_sum(scores: Floats, static: Floats, *, weights: Floats | None = None) -> ShareSum:
    """Return summed head shares c_i = |w_i h_i| / sum_i |w_i h_i| (Eq. 11) of one chunk.

    Args:
        scores: (T, m) head scores of candidates.
        static: (m,) weights to judge the heads under.
        weights: (T,) non-negative weight of each candidate; all one when left out.

    Raises:
        DataError: shapes disagree, or a score or weight is not finite.
    """
    scores, static = _checked(scores, static)
    importance = _importance(weights, len(scores))
    total, weight = np.zeros(len(static)), 0.0
    for start in range(0, len(scores), _CHUNK):
        terms = np.abs(scores[start : start + _CHUNK].astype(np.float64) * static)
        utility = terms.sum(axis=1)
        counted = np.where(utility > 0, importance[start : start + _CHUNK], 0.0)
        total += (counted / np.where(utility > 0, utility, 1.0)) @ terms
        weight += float(counted.sum())
    return ShareSum(total, weight)


def head_contribution(scores: Floats, static: Floats, *, weights: Floats | None = None) -> Floats:
    """Return each head's average share of utility (Eq. 11).

    Args:
        scores: (T, m) head scores of candidates.
        static: (m,) weights to judge the heads under.
        weights: (T,) non-negative weight of each candidate; all one when left out.

    Returns:
        (m,) in [0, 1], summing to one.

    Raises:
        DataError: shapes disagree, a score or weight is not finite, or every utility is zero.
    """
    return contribution_sum(scores, static, weights=weights).mean


def weight_range_sum(scores: Floats, static: Floats, head: int, weights: Floats) -> ShareSum:
    """Return one head's summed share of utility at each swept weight, the other heads staying static (App. A.2).

    Args:
        scores: (T, m) head scores of candidates.
        static: (m,) static weights.
        head: index of the swept head.
        weights: (W,) weights the head takes in turn.

    Raises:
        DataError: shapes disagree, the head does not exist, or a number is not finite.
    """
    scores, static = _checked(scores, static)
    weights = np.abs(np.asarray(weights, dtype=np.float64))
    if not 0 <= head < len(static) or weights.ndim != 1 or not np.isfinite(weights).all():
        raise DataError(
            f"cannot sweep head {head} of {len(static)} over weights of shape {weights.shape}",
            hint="name a head by its index, and give a one-dimensional array of finite weights",
        )
    total, weight = np.zeros(len(weights)), 0.0
    for start in range(0, len(scores), _CHUNK):
        terms = np.abs(scores[start : start + _CHUNK].astype(np.float64) * np.where(np.arange(len(static)) == head, 1.0, static))
        own, others = terms[:, head], np.delete(terms, head, axis=1).sum(axis=1)
        alive = (own > 0) | (others > 0)
        swept = own[alive, None] * weights
        utility = swept + others[alive, None]
        total += np.divide(swept, utility, out=np.zeros_like(swept), where=utility > 0).sum(axis=0)
        weight += float(alive.sum())
    return ShareSum(total, weight)


def weight_range_curve(scores: Floats, static: Floats, head: int, weights: Floats) -> Floats:
    """Return the head's average share of utility at each swept weight, the other heads staying static (App. A.2).

    Args:
        scores: (T, m) head scores of candidates.
        static: (m,) static weights.
        head: index of the swept head.
        weights: (W,) weights the head takes in turn.

    Returns:
        (W,) in [0, 1], rising with |weight|.

    Raises:
        DataError: shapes disagree, the head does not exist, a number is not finite, or every utility is zero.
    """
    return weight_range_sum(scores, static, head, weights).mean


def engagement_bins(counts: Ints, bins: int, *, order: Floats | None = None) -> EngagementBins:
    """Return mean event counts over equal-frequency bins of requests (App. A.3).

    Args:
        counts: (n,) events per request, >= 0.
        bins: number of bins, 1..n; sizes differ by at most one.
        order: (n,) requests are binned in increasing order of this; their own counts when left out.

    Raises:
        DataError: shapes disagree, a number is negative or not finite, or there are more bins than requests.
    """
    counts = np.asarray(counts)
    key = counts if order is None else np.asarray(order)
    if counts.ndim != 1 or key.shape != counts.shape or not 1 <= bins <= len(counts):
        raise DataError(
            f"cannot put counts of shape {counts.shape}, ordered by shape {key.shape}, into {bins} bins",
            hint="give one count and one ordering number per request, and at most as many bins as requests",
        )
    if not (np.isfinite(counts).all() and np.isfinite(key).all() and (counts >= 0).all()):
        raise DataError("event counts are negative or not finite", hint="quarantine such rows with `paretune check --quarantine`")
    edges = np.arange(bins + 1) * len(counts) // bins
    ranked = counts[np.argsort(key, kind="stable")].astype(np.float64)
    sizes = np.diff(edges)
    return EngagementBins(np.add.reduceat(ranked, edges[:-1]) / sizes, sizes, float(np.mean(counts <= 1)))


def _checked(scores: Floats, static: Floats) -> tuple[Floats, Floats]:
    scores, static = np.asarray(scores), np.asarray(static, dtype=np.float64)
    if scores.ndim != 2 or static.shape != (scores.shape[1],):
        raise DataError(
            f"scores have shape {scores.shape}, weights {static.shape}", hint="give one weight per score column, in the order of the heads"
        )
    if not (np.isfinite(scores).all() and np.isfinite(static).all()):
        raise DataError("head scores or weights hold NaN or infinity", hint="quarantine such rows with `paretune check --quarantine`")
    return scores, static


def _importance(weights: Floats | None, n: int) -> Floats:
    if weights is None:
        return np.ones(n)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (n,) or not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError(
            f"candidate weights have shape {weights.shape} for {n} candidates, or are negative", hint="give one weight >= 0 each"
        )
    return weights
