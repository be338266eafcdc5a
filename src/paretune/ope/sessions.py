"""Sessions: what is earned from a request until its session's end, whether that ranks policies alike, and whether a decision carries over.

Weights are drawn afresh for each request, so the same off-policy estimate with the reward-to-go

    G_t = r_t + gamma r_(t+1) + gamma^2 r_(t+2) + ... until the session ends

in place of r_t is the effect of one decision on the whole session, without a model. Carry-over is read off the draw too: the next request's
reward is regressed on the *previous* explored action, y_(t+1) = a + b'phi(a_t), with weights 1 / mu(a_t); b = 0 where nothing carries over.

The rule: the previous draw is random whatever the user did before, so the test needs no model of users; but a next request exists only
where the session went on, hence whether it goes on is tested beside it, on all explored requests. Errors are clustered by user.
Source: Kendall's tau-b; Wald test with the sandwich covariance of clusters (Liang and Zeger, 1986) and an F reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

from paretune.errors import DataError
from paretune.ope.clusters import bucket_sums, user_buckets
from paretune.records import Floats, Ints

NOBODY = -1  # no such request
FEWEST_ROWS_PER_COEFFICIENT = 20


@dataclass(frozen=True, slots=True)
class SessionOrder:
    """The requests of each session in time."""

    following: Ints  # (n,) row of the session's next request, NOBODY at its end
    left: Ints  # (n,) requests of the session that come after this one
    sessions: int


@dataclass(frozen=True, slots=True)
class Wald:
    """A test that all coefficients of a regression but the constant are zero."""

    outcome: str
    rows: int
    statistic: float  # F
    degrees: tuple[int, int]
    p_value: float
    largest: float  # spread of the fitted outcome over the actions, relative to its mean: a size beside the p-value


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike two rewards rank the same policies, on one objective."""

    tau: float  # Kendall's tau-b of the estimates
    low: float
    high: float
    best: tuple[int, int]  # the policy that each reward puts first
    same_best: float  # share of the draws in which both put the same policy first


def session_order(session: Ints, time_us: Ints) -> SessionOrder:
    """Return who follows whom within a session; requests at the same time keep the order of the log.

    Args:
        session: (n,) session of each request.
        time_us: (n,) time of each request, any unit.

    Raises:
        DataError: no session has a second request.
    """
    n = len(session)
    order = np.lexsort((np.arange(n), time_us, session))
    last = np.ones(n, dtype=np.bool_)
    last[:-1] = session[order[1:]] != session[order[:-1]]
    if last.all():
        raise DataError(
            f"none of {n:,} sessions has a second request", hint="name the session column in paretune.toml under logs.columns.session"
        )
    following = np.full(n, NOBODY, dtype=np.int64)
    following[order[:-1]] = np.where(last[:-1], NOBODY, order[1:])
    ends = np.flatnonzero(last)
    left = np.empty(n, dtype=np.int64)
    left[order] = ends[np.searchsorted(ends, np.arange(n))] - np.arange(n)
    return SessionOrder(following, left, len(ends))


def reward_to_go(rewards: Floats, order: SessionOrder, *, discount: float = 1.0) -> Floats:
    """Return (n, M) float32 what is earned from each request until its session's end.

    Args:
        rewards: (n, M) finite.
        order: of the n requests.
        discount: gamma, in [0, 1]; 0 gives the reward of the request itself.

    Raises:
        DataError: the discount is outside [0, 1].
    """
    if not 0 <= discount <= 1:
        raise DataError(f"a discount of {discount:g}", hint="give a number from 0 (this request only) to 1 (all of the session)")
    total = rewards.astype(np.float64)
    by_left = np.argsort(order.left, kind="stable")
    edges = np.searchsorted(order.left[by_left], np.arange(1, int(order.left.max(initial=0)) + 2))
    for start, stop in pairwise(edges):
        rows = by_left[start:stop]
        total[rows] += discount * total[order.following[rows]]
    return total.astype(np.float32)


def clustered_wald(outcome: Floats, regressors: Floats, weight: Floats, user: Ints, *, name: str) -> Wald:
    """Return the test that an outcome does not depend on the regressors, with errors clustered by user.

    Args:
        outcome: (n,) finite.
        regressors: (n, q) without a constant column.
        weight: (n,) positive.
        user: (n,) integers.
        name: of the outcome.

    Raises:
        DataError: too few rows, or the regressors do not vary.
    """
    n, q = regressors.shape
    if n < FEWEST_ROWS_PER_COEFFICIENT * (q + 1):
        raise DataError(f"{n} explored requests to test {name!r} on {q} coefficients", hint="collect more exploration rows with sessions")
    x = np.column_stack([np.ones(n), regressors]).astype(np.float64)
    weighted = x * weight[:, None]
    gram = x.T @ weighted
    if np.linalg.cond(gram) > 1e12:
        raise DataError(f"the previous actions of {n} requests do not span the grid", hint="explore all actions, or drop unused levels")
    bread = np.linalg.inv(gram)
    beta = bread @ (weighted.T @ outcome)
    known, cluster = np.unique(user_buckets(user), return_inverse=True)
    score = bucket_sums(weighted * (outcome - x @ beta)[:, None], cluster, clusters=len(known))
    if len(known) <= q + 1:
        raise DataError(f"{len(known)} users to test {name!r} on {q} coefficients", hint="collect exploration rows of more users")
    covariance = bread @ (score.T @ score) @ bread * len(known) / (len(known) - 1)
    slope = beta[1:]
    statistic = float(slope @ np.linalg.solve(covariance[1:, 1:], slope)) / q
    degrees = (q, len(known) - q)
    fitted = x @ beta
    average = float(np.average(outcome, weights=weight))
    largest = float(fitted.max() - fitted.min()) / abs(average) if average else float("nan")
    return Wald(name, n, statistic, degrees, float(stats.f.sf(statistic, *degrees)), largest)


def carry_over(
    rewards: Floats, order: SessionOrder, basis: Floats, *, explored: Ints, propensity: Floats, user: Ints, objectives: tuple[str, ...]
) -> tuple[Wald, ...]:
    """Return the tests of what the previous explored action does to the next request: does it come, and what does it earn.

    Args:
        rewards: (n, M) of each request itself.
        order: of the n requests.
        basis: (n, q) coordinates of each request's own action.
        explored: (e,) rows that were explored on the grid.
        propensity: (n,) of the logged action.
        user: (n,) integers.
        objectives: names (M,).

    Returns:
        "another request" on all explored rows, then "next NAME" on those that were followed.

    Raises:
        DataError: too few rows.
    """
    goes_on = (order.left[explored] > 0).astype(np.float64)
    weight = 1 / propensity[explored]
    tests = [clustered_wald(goes_on, basis[explored], weight, user[explored], name="another request")]
    followed = explored[order.following[explored] != NOBODY]
    after = rewards[order.following[followed]]
    for j, name in enumerate(objectives):
        test = clustered_wald(after[:, j], basis[followed], 1 / propensity[followed], user[followed], name=f"next {name}")
        tests.append(test)
    return tuple(tests)


def rank_agreement(first: Floats, second: Floats, first_draws: Floats, second_draws: Floats, *, confidence: float) -> Agreement:
    """Return how alike two estimates rank P policies, with the interval of joint draws.

    Args:
        first: (P,) estimates on one reward; larger is better.
        second: (P,) on the other.
        first_draws: (B, P) draws around the first.
        second_draws: (B, P) draws around the second, from the same multipliers.
        confidence: of the interval.

    Raises:
        DataError: fewer than two policies have an estimate on both.
    """
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < 2:
        raise DataError("fewer than two policies have an estimate on both rewards", hint="collect more exploration rows")
    rows = np.flatnonzero(known)
    tau = _tau(first[rows], second[rows])
    pairs = list(zip(first_draws[:, rows], second_draws[:, rows], strict=True))
    taus = np.array([_tau(mine, theirs) for mine, theirs in pairs])
    low, high = np.quantile(taus, [0.5 - confidence / 2, 0.5 + confidence / 2])
    same = np.mean([mine.argmax() == theirs.argmax() for mine, theirs in pairs])
    best = (int(rows[first[rows].argmax()]), int(rows[second[rows].argmax()]))
    return Agreement(tau, float(min(low, tau)), float(max(high, tau)), best, float(same))


def _tau(first: Floats, second: Floats) -> float:
    """Return Kendall's tau-b; 1 where nothing is ranked, since nothing disagrees."""
    statistic = float(stats.kendalltau(first, second).statistic)
    return statistic if np.isfinite(statistic) else 1.0
