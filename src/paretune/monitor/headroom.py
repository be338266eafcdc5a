"""Head-room before anybody explores: how wrong the heads are by segment, read off production rows alone.

Personal weights repair errors of the ranker that differ between segments of requests. The ranker's scores of the list it served predict the
list's reward H_j (list-replay); a curve that holds for everybody turns H_j into odds, so what is off for all alike, which retuned static
weights repair, is gone. What is left in a segment g is a shift of log odds d_gj:

    sum_(i in g) r_ij = sum_(i in g) sigma( logit f_j(H_ij) + d_gj )

A shift that all heads share scales a segment's utility and moves no list, so `between heads` is d_gj less its mean over the heads, times
sqrt(M / (M - 1)): the error per head that weights can repair. The spread over segments has sampling noise in it, which is taken out:

    s^2 = sum_g w_g (d_g - d)^2 - sum_g w_g (1 - w_g) v_g,   w_g the share of rows, v_g clustered by user

and a segment is shown shrunk towards the whole, by s^2 / (s^2 + v_g) (empirical Bayes; Efron and Morris, 1975).
The rule: segments are what the log names (categorical features, their pairs, all of them together, cohorts); errors inside a segment
are not seen, so "little to gain" speaks of visible segments only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from typing import Literal

import numpy as np
from scipy.special import ndtri

from paretune.errors import DataError
from paretune.ope.clusters import BUCKETS, check_rows, user_buckets
from paretune.records import Categorical, Floats, Ints

BINS = 20  # of the curve from predictions to odds
FEWEST_EVENTS = 20.0  # expected in a segment; smaller ones are left out
MOST_SEGMENTS = 3_000  # of one grouping; finer ones are left out
STEEPEST = 3.0  # times the slope over all requests
FARTHEST = 3.0  # log odds; a segment farther off is a fault of the log
BETWEEN = "between heads"

Answer = Literal["worth exploring", "little to gain", "not enough rows"]


@dataclass(frozen=True, slots=True)
class Segment:
    """How wrong one objective's head is in one segment, in log odds of observed against predicted."""

    name: str  # "country DE, device web"
    objective: str
    rows: int
    estimate: float
    std_error: float  # clustered by user
    shrunk: float  # with the noise taken out as far as can be
    low: float  # of the shrunk error
    high: float


@dataclass(frozen=True, slots=True)
class Spread:
    """How much the error of a head differs between the segments of a grouping, noise removed."""

    grouping: str
    objective: str  # or "between heads"
    sd: float  # log odds, 0 where there is no more than noise
    low: float
    high: float
    segments: int
    rows: int


@dataclass(frozen=True, slots=True)
class Headroom:
    """Whether exploring promises anything."""

    answer: Answer
    sentence: str
    headline: Spread
    spreads: tuple[Spread, ...]
    segments: tuple[Segment, ...]  # of single features and pairs, the largest shrunk errors first
    rows: int
    rows_needed: float  # at which the interval of the headline's sd is half the smallest error wide; NaN where an answer was given


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of G segments, and the covariance of their noise between heads."""

    names: tuple[str, ...]  # (G,)
    rows: Ints  # (G,)
    estimate: Floats  # (G, M) log odds
    covariance: Floats  # (G, M, M)


def calibration_curve(rewards: Floats, predicted: Floats) -> Floats:
    """Return (n,) the mean reward of requests that the ranker predicts alike: quantile bins, linear in between.

    Args:
        rewards: (n,) 0 or 1.
        predicted: (n,) H of the served list.
    """
    order = np.argsort(predicted, kind="stable")
    groups = np.array_split(order, min(BINS, len(order)))
    at = np.array([predicted[group].mean() for group in groups])
    mean = np.maximum.accumulate([rewards[group].mean() for group in groups])  # a higher prediction never means less
    known, first = np.unique(at, return_index=True)
    return np.interp(predicted, known, mean[first]).clip(1e-4, 1 - 1e-4)


def steepened(rewards: Floats, expected: Floats, codes: Ints) -> Floats:
    """Return the expectations (n,) with the slope that holds inside segments, and the same total.

    Where the ranker is off by segment, its predictions spread for a wrong reason, and a curve over all requests is too flat by just that:
    errors of segments would look smaller than they are.

    Args:
        rewards: (n,) 0 or 1.
        expected: (n,) from `calibration_curve`.
        codes: (n,) segment of each row; -1 = none.
    """
    x = np.log(expected / (1 - expected))
    rows = codes >= 0
    groups = codes[rows]
    count = np.maximum(1, np.bincount(groups))

    def slope(within: bool) -> float:
        r, at = rewards[rows], x[rows]
        if within:
            r, at = (column - (np.bincount(groups, column) / count)[groups] for column in (r, at))
        else:
            r, at = r - r.mean(), at - at.mean()
        return float(r @ at / max(float(at @ at), 1e-12))

    overall = slope(within=False)
    ratio = min(max(slope(within=True) / overall, 1 / STEEPEST), STEEPEST) if overall > 0 else 1.0
    centred, constant = ratio * (x - x.mean()), float(x.mean())
    for _ in range(10):
        p = 1 / (1 + np.exp(-(constant + centred)))
        constant += float((rewards - p).sum() / (p * (1 - p)).sum())
    return 1 / (1 + np.exp(-(constant + centred)))


def segment_errors(rewards: Floats, expected: Floats, codes: Ints, names: tuple[str, ...], *, user: Ints) -> Errors:
    """Return the error of every segment that has enough events.

    Args:
        rewards: (n, M) 0 or 1.
        expected: (n, M) from `calibration_curve`.
        codes: (n,) segment of each row, into names; -1 = none.
        names: (G,).
        user: (n,) integers; noise is clustered by them.
    """
    known = codes >= 0
    codes, rewards, expected = codes[known], rewards[known], expected[known]
    m, count = rewards.shape[1], np.bincount(codes, minlength=len(names))
    events = np.stack([np.bincount(codes, column, minlength=len(names)) for column in expected.T], axis=1)
    kept = np.flatnonzero((events >= FEWEST_EVENTS).all(axis=1) & (count[:, None] - events >= FEWEST_EVENTS).all(axis=1))
    place = np.full(len(names), -1)
    place[kept] = np.arange(len(kept))
    inside = place[codes] >= 0
    at, cluster = place[codes[inside]], user_buckets(user[known][inside])
    shift, influence = np.zeros((len(kept), m)), np.empty((len(kept), BUCKETS, m))
    for j in range(m):
        r, logit = rewards[inside, j], np.log(expected[inside, j] / (1 - expected[inside, j]))
        for _ in range(6):  # Newton; the sums are monotone in the shift
            p = 1 / (1 + np.exp(-(logit + shift[at, j])))
            slope = np.bincount(at, p * (1 - p), minlength=len(kept))
            step = np.bincount(at, r - p, minlength=len(kept)) / slope
            shift[:, j] = (shift[:, j] + step.clip(-1, 1)).clip(-FARTHEST, FARTHEST)
        p = 1 / (1 + np.exp(-(logit + shift[at, j])))
        slope = np.bincount(at, p * (1 - p), minlength=len(kept))
        summed = np.bincount(at * BUCKETS + cluster, r - p, minlength=len(kept) * BUCKETS).reshape(len(kept), BUCKETS)
        influence[:, :, j] = summed / slope[:, None]
    covariance = np.einsum("gbi,gbj->gij", influence, influence)
    return Errors(tuple(names[i] for i in kept), count[kept], shift, covariance)


def spread(estimate: Floats, variance: Floats, rows: Ints, *, confidence: float) -> tuple[float, float, float]:
    """Return the spread of segment errors beyond their noise, weighted by rows, with its interval, in the unit of the estimates.

    Args:
        estimate: (G,).
        variance: (G,) of its noise.
        rows: (G,).
        confidence: of the interval.
    """
    share = rows / rows.sum()
    away = estimate - share @ estimate
    excess = share @ away**2 - (share * (1 - share)) @ variance
    signal = np.maximum(away**2 - variance, 0)
    error = sqrt(float((share**2) @ (2 * variance**2 + 4 * variance * signal)))
    width = float(ndtri(0.5 + confidence / 2)) * error
    return tuple(sqrt(max(0.0, float(end))) for end in (excess, excess - width, excess + width))  # type: ignore[return-value]


def between_heads(errors: Errors) -> tuple[Floats, Floats]:
    """Return per head what of each segment's error is not shared by the heads (G, M), and the variance of its noise (G, M)."""
    m = errors.estimate.shape[1]
    contrast = (np.eye(m) - 1 / m) * sqrt(m / (m - 1))
    turned = np.einsum("ij,gjk,lk->gil", contrast, errors.covariance, contrast)
    return errors.estimate @ contrast.T, np.diagonal(turned, axis1=1, axis2=2)


def groupings(columns: Mapping[str, Categorical]) -> dict[str, tuple[Ints, tuple[str, ...]]]:
    """Return segments by every column, every pair, and all columns together: codes (n,) and the segments' names.

    Args:
        columns: categorical columns of n rows; a row without a value in one of them is in no segment of it.
    """
    wanted = [combination for size in (1, 2) for combination in combinations(columns, size)]
    if len(columns) > 2:
        wanted.append(tuple(columns))
    found = {}
    for names in wanted:
        codes, total = np.zeros(len(next(iter(columns.values()))), dtype=np.int64), 1
        missing = np.zeros(len(codes), dtype=np.bool_)
        for name in names:
            column = columns[name]
            codes = codes * len(column.vocabulary) + np.maximum(column.codes, 0)
            missing |= column.codes < 0
            total *= len(column.vocabulary)
        met, codes = np.unique(codes, return_inverse=True)
        if len(met) > MOST_SEGMENTS or len(met) < 2:
            continue
        shape = [len(columns[name].vocabulary) for name in names]
        labels = [
            ", ".join(f"{name} {columns[name].vocabulary[place]}" for name, place in zip(names, np.unravel_index(code, shape), strict=True))
            for code in met
        ]
        found["all together" if len(names) > 2 else " × ".join(names)] = (np.where(missing, -1, codes), tuple(labels))
    return found


def find_headroom(
    rewards: Floats,
    predicted: Floats,
    columns: Mapping[str, Categorical],
    *,
    user: Ints,
    objectives: tuple[str, ...],
    smallest_error: float = 0.1,
    confidence: float = 0.95,
) -> Headroom:
    """Return whether the heads are wrong by segment in a way that personal weights could repair.

    Args:
        rewards: (n, M) of production rows; above 0 counts as 1.
        predicted: (n, M) what the ranker's scores of the served list predict, finite.
        columns: categorical columns of the rows, cohort included.
        user: (n,) integers.
        objectives: names (M,).
        smallest_error: sd over segments worth exploring for, in log odds.
        confidence: of the intervals.

    Raises:
        DataError: no rows, no columns, or no segment with enough events.
    """
    check_rows(predicted, rewards, user)
    if not len(rewards) or not columns:
        raise DataError(f"{len(rewards)} rows and {len(columns)} categorical columns", hint="name categorical features, or log cohorts")
    happened = (rewards > 0).astype(np.float64)
    expected = np.column_stack([calibration_curve(happened[:, j], predicted[:, j]) for j in range(len(objectives))])
    partitions = groupings(columns)
    finest = list(partitions.values())[-1][0] if partitions else np.zeros(len(rewards), np.int64)
    expected = np.column_stack([steepened(happened[:, j], expected[:, j], finest) for j in range(len(objectives))])
    spreads: list[Spread] = []
    segments: list[Segment] = []
    for grouping, (codes, names) in partitions.items():
        errors = segment_errors(happened, expected, codes, names, user=user)
        if len(errors.names) < 2:
            continue
        covered = int(errors.rows.sum())
        for j, objective in enumerate(objectives):
            variance = errors.covariance[:, j, j]
            ends = spread(errors.estimate[:, j], variance, errors.rows, confidence=confidence)
            spreads.append(Spread(grouping, objective, *ends, len(errors.names), covered))
            if grouping != "all together":
                segments += _shrunk(errors, j, objective, sd=ends[0], confidence=confidence)
        if len(objectives) > 1:
            estimate, variance = between_heads(errors)
            squares = np.mean(
                [np.square(spread(estimate[:, j], variance[:, j], errors.rows, confidence=confidence)) for j in range(len(objectives))],
                axis=0,
            )
            sd, low, high = np.sqrt(squares).tolist()
            spreads.append(Spread(grouping, BETWEEN, sd, low, high, len(errors.names), covered))
    if not spreads:
        raise DataError(
            f"no two segments of {len(rewards):,} rows have {FEWEST_EVENTS:g} events of every objective", hint="log production rows longer"
        )
    headline = [each for each in spreads if each.objective == BETWEEN or len(objectives) == 1][-1]
    segments.sort(key=lambda segment: -abs(segment.shrunk))
    answer, sentence, needed = _judged(headline, rows=len(rewards), smallest_error=smallest_error)
    return Headroom(answer, sentence, headline, tuple(spreads), tuple(segments), len(rewards), needed)


def _shrunk(errors: Errors, j: int, objective: str, *, sd: float, confidence: float) -> list[Segment]:
    """Return the segments of a grouping, each error shrunk towards the mean of all rows."""
    variance = errors.covariance[:, j, j]
    mean = float(errors.rows @ errors.estimate[:, j] / errors.rows.sum())
    trust = sd**2 / (sd**2 + variance)
    shrunk = mean + trust * (errors.estimate[:, j] - mean)
    half = float(ndtri(0.5 + confidence / 2)) * np.sqrt(trust * variance)
    found = zip(errors.names, errors.rows, errors.estimate[:, j], np.sqrt(variance), shrunk, half, strict=True)
    return [
        Segment(name, objective, int(rows), float(estimate), float(error), float(centre), float(centre - width), float(centre + width))
        for name, rows, estimate, error, centre, width in found
    ]


def _judged(headline: Spread, *, rows: int, smallest_error: float) -> tuple[Answer, str, float]:
    """Return the answer, its sentence and the rows needed."""
    where = headline.grouping if headline.grouping == "all together" else f"by {headline.grouping}"
    segments = f"segments ({where})"
    size = f"{headline.sd:.2f} in log odds ({headline.low:.2f} … {headline.high:.2f})"
    if headline.low > smallest_error:
        return (
            "worth exploring",
            f"Worth exploring: the heads are off by {size} between {segments}, which personal weights can repair.",
            np.nan,
        )
    if headline.high < smallest_error:
        return "little to gain", f"Little to gain from segments that are visible: the heads are off by {size} between {segments}.", np.nan
    width = headline.high**2 - headline.low**2
    needed = rows * max(1.0, width / smallest_error**2)
    more = f"about {needed:,.0f} rows would tell" if needed > rows else "it is close to the smallest error worth exploring for"
    return "not enough rows", f"Not enough rows: {rows:,} leave the error between {segments} at {size}; {more}.", needed
