"""Which action an explored request is shown, and with which exact probability.

Stage 1, nothing known yet: every grid action once per block of K requests, in an order of the block's own, blocks within a stratum (cohort
and hour). The order of a block is the order of salted hashes, so nothing is stored but how many requests a stratum has had.

    mu_1(a|s) = 1 / K       over the orders of blocks, for every place in a block

Stage 2, a family of P policies to tell apart: most traffic goes where they go.

    mu_2(a|s) = (1 - f) sqrt(n_a(s)) / sum_a' sqrt(n_a'(s)) + f / K,    n_a(s) = sum_p 1[pi_p(s) = a]

For f = 0 this minimises sum_p E[1 / mu(pi_p(s)|s)], the sum of the policies' variances up to reward variance (Neyman's allocation); the
floor f keeps every action possible, so that later policies can be evaluated too.

The rules: the propensity of a row is that of the design that drew it; which design draws a request may depend on when it comes and whose it
is, not on rewards. Rows of several designs are then evaluated together, each with its logged propensity: SNIPS and the anchored lift stay
consistent; the paper's Reward@HIT, which weighs every hit alike, does not. Production (action 0) is never drawn. Source: Neyman (1934).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from paretune.errors import ConfigError, DataError
from paretune.logs.hashing import hash_texts, mixed, salted
from paretune.records import PRODUCTION, Categorical, Floats, Ints

FLOOR = 0.2  # share of exploration that stays uniform
BLOCKS_PER_CHUNK = 16_384


def strata(cohort: Categorical, hour: Ints) -> Ints:
    """Return the stratum (n,) uint64 of each request: its cohort and hour.

    Args:
        cohort: of n requests; all without one share a stratum per hour.
        hour: (n,) whole hours since 1970-01-01.
    """
    words = hash_texts([*(word.encode() for word in cohort.vocabulary), b""])
    return mixed(words[cohort.codes] ^ mixed(np.asarray(hour)))


def numbered(stratum: Ints, seen: Mapping[int, int]) -> tuple[Ints, dict[int, int]]:
    """Return each request's number within its stratum (n,) int64, counted on from what was seen, and the new counts.

    Args:
        stratum: (n,) uint64, in the order of arrival.
        seen: stratum -> requests so far; strata that are over may be dropped from it.
    """
    known, inverse = np.unique(stratum, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    sizes = np.bincount(inverse, minlength=len(known))
    place = np.empty(len(stratum), dtype=np.int64)
    place[order] = np.arange(len(stratum)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    before = np.array([seen.get(int(one), 0) for one in known], dtype=np.int64)
    after = dict(seen) | {int(one): int(count) for one, count in zip(known, before + sizes, strict=True)}
    return place + before[inverse], after


def block_actions(stratum: Ints, number: Ints, *, actions: int, salt: str) -> Ints:
    """Return the grid action (n,) int32 in 1..actions of each request: its place in its block's own order of all actions.

    Every run of `actions` requests of a stratum, from its first on, holds each action once; over salts each action is equally likely at
    every place, so the propensity of every row is 1 / actions.

    Args:
        stratum: (n,) uint64, see `strata`.
        number: (n,) >= 0, see `numbered`; machines that count apart need salts of their own.
        actions: of the grid, without production.
        salt: of this exploration, not to be guessed by those who are explored.

    Raises:
        ConfigError: there is no action.
    """
    if actions < 1:
        raise ConfigError(f"a grid of {actions} actions", hint="explore at least one action")
    block, place = np.divmod(np.asarray(number), actions)
    keys, inverse = np.unique(salted(mixed(stratum ^ mixed(block)), salt), return_inverse=True)
    coins = mixed(np.arange(actions))
    shown = np.empty(len(inverse), dtype=np.int32)
    for start in range(0, len(keys), BLOCKS_PER_CHUNK):
        chunk = keys[start : start + BLOCKS_PER_CHUNK]
        orders = np.argsort(mixed(chunk[:, None] ^ coins), axis=1, kind="stable")
        rows = (inverse >= start) & (inverse < start + len(chunk))
        shown[rows] = 1 + orders[inverse[rows] - start, place[rows]]
    return shown


def mixture(choices: Ints, *, actions: int, floor: float = FLOOR) -> Floats:
    """Return the propensities of stage 2 (n, K), K = actions + 1, production's column zero, rows summing to one.

    Args:
        choices: (n, P) action of each policy of the family on each request, in 0..actions. A policy that keeps production there needs
            no exploration of the request; where all do, the request is explored uniformly.
        actions: of the grid, without production.
        floor: share that stays uniform, in [0, 1].

    Raises:
        ConfigError: the floor is outside [0, 1].
        DataError: a choice is off the grid.
    """
    if not 0 <= floor <= 1:
        raise ConfigError(f"a uniform floor of {floor}", hint="keep a share from 0 to 1 uniform, e.g. 0.2")
    if choices.ndim != 2 or (choices.size and not (choices.min() >= PRODUCTION and choices.max() <= actions)):
        raise DataError(f"choices of shape {choices.shape} are not actions 0 to {actions}", hint="give (n, P) actions of the surface")
    n = len(choices)
    cell = np.arange(n)[:, None] * (actions + 1) + choices
    votes = np.bincount(cell.ravel(), minlength=n * (actions + 1)).reshape(n, actions + 1)[:, 1:]
    preferred = np.sqrt(votes)
    preferred[votes.sum(axis=1) == 0] = 1.0
    preferred /= preferred.sum(axis=1, keepdims=True)
    result = np.zeros((n, actions + 1))
    result[:, 1:] = (1 - floor) * preferred + floor / actions
    return result


def draw_actions(propensities: Floats, uniforms: Floats) -> tuple[Ints, Floats]:
    """Return the drawn action (n,) int32 and its exact probability (n,).

    Args:
        propensities: (n, K) rows that sum to one.
        uniforms: (n,) in [0, 1), from a generator or from `assign.uniforms`.

    Raises:
        DataError: a row is no distribution.
    """
    if not ((propensities >= 0).all() and np.allclose(propensities.sum(axis=1), 1, rtol=0, atol=1e-9)):
        raise DataError("propensities do not sum to one", hint="draw from the rows of `mixture`")
    cumulative = np.cumsum(propensities, axis=1)
    total = cumulative[:, -1]
    level = np.minimum(uniforms * total, np.nextafter(total, 0))
    action = (cumulative > level[:, None]).argmax(axis=1).astype(np.int32)
    return action, propensities[np.arange(len(action)), action]


@dataclass(frozen=True, slots=True)
class Factors:
    """How much variance a design leaves per exploration row; sums with `+` over batches of requests."""

    inverse: Floats  # (P,) sum of 1 / mu(pi_p(s)|s) over requests on which the policy takes a grid action
    rows: Ints  # (P,) such requests

    def __add__(self, other: Factors) -> Factors:
        """Return the sums over both batches."""
        return Factors(self.inverse + other.inverse, self.rows + other.rows)

    @property
    def mean(self) -> Floats:
        """(P,) E[1 / mu(pi_p(s)|s)], K under uniform exploration; NaN for a policy that never takes a grid action."""
        return np.where(self.rows > 0, self.inverse / np.maximum(self.rows, 1), np.nan)


def variance_factors(propensities: Floats, choices: Ints) -> Factors:
    """Return by how much each policy's variance per row exceeds that of always seeing its own action.

    Args:
        propensities: (n, K) of the design, positive where a policy goes.
        choices: (n, P) action of each policy on each request.

    Raises:
        DataError: the design never shows an action that a policy takes.
    """
    mu = np.take_along_axis(propensities, choices.astype(np.int64), axis=1)
    on_grid = choices > PRODUCTION
    if (mu[on_grid] <= 0).any():
        raise DataError("the design never shows an action that a policy takes", hint="mix over the same policies, or keep a uniform floor")
    inverse = np.where(on_grid, 1 / np.where(on_grid, mu, 1.0), 0.0)
    return Factors(inverse.sum(axis=0), on_grid.sum(axis=0))
