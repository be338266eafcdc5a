"""Simulated A/B tests of policies against production: what users of a world do when weights are really served.

The rule: users are split by a salted hash, so no user is in two arms; an arm is judged like a live one, from its own requests alone, with
standard errors clustered by user.

    L = V_arm / V_production - 1,    var(L) = (var(V_arm) + (V_arm / V_production)^2 var(V_production)) / V_production^2   (delta method)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from paretune.errors import DataError
from paretune.logs.hashing import hash_integers, salted
from paretune.ope.estimators import ratio_of_sums
from paretune.ope.intervals import clustered_std_error
from paretune.ports import Progress, silent
from paretune.records import PRODUCTION, Floats, Ints
from paretune.seeds import stream
from paretune.sim.traffic import Choice, Chooser, sessions
from paretune.sim.world import Arrivals, World

SESSIONS_AT_A_TIME = 8_192
REQUESTS_PER_SESSION = 1.8  # about; only sets how many sessions are drawn
SUCCESSFUL = "successful sessions"


@dataclass(frozen=True, slots=True)
class Readout:
    """What an A/B test saw; lifts are relative to the production arm, in fractions."""

    arms: tuple[str, ...]  # (A,), without production
    metrics: tuple[str, ...]  # objectives (mean clipped reward per request), then "successful sessions" (share of sessions)
    value: Floats  # (A + 1, metrics), production first
    std_error: Floats  # (A + 1, metrics), clustered by user
    lift: Floats  # (A, metrics)
    low: Floats  # (A, metrics)
    high: Floats  # (A, metrics)
    requests: Ints  # (A + 1,)
    sessions: Ints  # (A + 1,)
    users: Ints  # (A + 1,)
    confidence: float


def arm_of(user: Ints, arms: int, *, salt: str) -> Ints:
    """Return the arm of each user (n,) in [0, arms); all requests of a user fall into one.

    Args:
        user: (n,) integers.
        arms: number of arms, production included.
        salt: of this test; another salt gives an independent split.
    """
    return (salted(hash_integers(user), salt) % np.uint64(arms)).astype(np.int64)


def run_abtest(
    world: World,
    arms: Sequence[tuple[str, Chooser]],
    *,
    days: range,
    requests_per_arm: int,
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress = silent,
) -> Readout:
    """Return what users do when each arm's weights are really served to its share of them.

    Args:
        world: whose users answer.
        arms: name and chooser of each arm; production is always there and is not among them.
        days: of the test.
        requests_per_arm: about how many each arm gets.
        seed: of split and traffic.
        confidence: of each interval.
        progress: told the share done.

    Raises:
        DataError: an arm has fewer than two users.
    """
    n_arms, static, salt = len(arms) + 1, world.surface.static, f"abtest {seed}"

    def everyone(arrivals: Arrivals, rng: np.random.Generator) -> Choice:
        arm, n = arm_of(arrivals.user, n_arms, salt=salt), len(arrivals)
        action, weights = np.full(n, PRODUCTION, dtype=np.int32), np.tile(static, (n, 1))
        for index, (_, choose_weights) in enumerate(arms, start=1):
            rows = np.flatnonzero(arm == index)
            if len(rows):
                choice = choose_weights(arrivals.take(rows), rng)
                action[rows], weights[rows] = choice.action, choice.weights
        return Choice(action, weights, np.ones(n), np.zeros(n, dtype=np.bool_))

    total = max(1, round(requests_per_arm * n_arms / REQUESTS_PER_SESSION / len(days)))
    user, numbers = [], []
    for done, day in enumerate(days):
        rng = stream(seed, "abtest", world.name, day)
        for start in range(0, total, SESSIONS_AT_A_TIME):
            n_sessions = min(SESSIONS_AT_A_TIME, total - start)
            of_session, counted = _play(world, n_sessions, day=day, choose_weights=everyone, rng=rng)
            user.append(of_session)
            numbers.append(counted)
            progress((done + (start + n_sessions) / total) / len(days), f"A/B test, day {done + 1} of {len(days)}")
    return _read(
        np.concatenate(user), np.concatenate(numbers), world=world, names=tuple(name for name, _ in arms), salt=salt, confidence=confidence
    )


def _play(world: World, n: int, *, day: int, choose_weights: Chooser, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Return the user of each of n sessions, and (n, M + 3): clipped rewards, requests, sessions, successful sessions."""
    objectives = len(world.objectives)
    wanted = [j for j, objective in enumerate(world.config().objectives) if objective.direction == "maximise"]
    user, numbers = np.zeros(n, dtype=np.int64), np.zeros((n, objectives + 3))
    for served in sessions(world, n, day=day, choose=choose_weights, rng=rng):
        user[served.session] = served.arrivals.user
        numbers[served.session, :objectives] += served.counts > 0  # a session is in a wave at most once
        numbers[served.session, objectives] += 1
    numbers[:, objectives + 1] = 1
    numbers[:, objectives + 2] = (numbers[:, wanted] > 0).any(axis=1)
    return user, numbers


def _read(user: Ints, numbers: Floats, *, world: World, names: tuple[str, ...], salt: str, confidence: float) -> Readout:
    known, cluster = np.unique(user, return_inverse=True)
    per_user = np.stack([np.bincount(cluster, column, minlength=len(known)) for column in numbers.T], axis=1)
    arm, objectives = arm_of(known, len(names) + 1, salt=salt), len(world.objectives)
    value, error, requests, n_sessions, users = [], [], [], [], []
    for index in range(len(names) + 1):
        mine = per_user[arm == index]
        above = np.concatenate([mine[:, :objectives], mine[:, [-1]]], axis=1)
        below = np.concatenate([np.repeat(mine[:, [objectives]], objectives, axis=1), mine[:, [-2]]], axis=1)
        if len(mine) < 2 or not (above.sum(axis=0) > 0).all():
            name = ("production", *names)[index]
            raise DataError(f"arm {name!r} has {len(mine)} users and too few events to judge", hint="give the arms more requests")
        ratio, influence = ratio_of_sums(above, below)
        value.append(ratio)
        error.append(clustered_std_error(influence))
        requests.append(int(mine[:, objectives].sum()))
        n_sessions.append(int(mine[:, -2].sum()))
        users.append(len(mine))
    v, e = np.stack(value), np.stack(error)
    ratio = v[1:] / v[0]
    half = ndtri(0.5 + confidence / 2) * np.sqrt(e[1:] ** 2 + (ratio * e[0]) ** 2) / v[0]
    metrics = (*world.objectives, SUCCESSFUL)
    sizes = (np.array(requests), np.array(n_sessions), np.array(users))
    return Readout(names, metrics, v, e, ratio - 1, ratio - 1 - half, ratio - 1 + half, *sizes, confidence)
