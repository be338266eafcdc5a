"""What to believe of a family's true lifts once the best-looking of its policies has been picked: gains shrunk to each other and to none.

The rule: a lift that was picked for being large overstates, and no interval around it repairs that. Under a prior the posterior does not
care which policy is picked, so claims and probabilities are read off it. A policy that serves the scalarisation c moves in two ways: along
the front, trading one objective for another, and away from it. Along the front nothing is known beforehand. Away from it stands the gain

    G(c) = c'L(c),    L(c) = G(c) c / |c|^2 + (I - c c' / |c|^2) T(c)

since the front of policies that maximise c'V has the normal c. With k(c, c') = exp(-|c - c'|^2 / 2 l^2), because neighbours are alike,

    G ~ N(0, a^2 (1 + k) / 2 + (rise |T|)^2 k),    T ~ N(0, 1 + c'c + t^2 k)

so the gain is doubted where the front passes production: pulled towards the neighbours' and the family's, and these towards zero, so that
the lift of a single objective may end up nearer to production or further from it; far along the front it grows with the distance, whoever
is served. The scales a (half-Cauchy around the usual gain), t and rise (any) are weighted by how well they explain the sweep's own
estimates (empirical Bayes). The errors have the clustered covariance of the estimates. Policies that are clearly below a floor stay as they
were estimated: nothing about them is open. Sources: Efron, *Large-Scale Inference* (2010), ch. 1; Gelman (2006) for the half-Cauchy;
Andrews, Kitagawa, McCloskey (2024), *Inference on winners*, for what goes wrong without.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from paretune.ope.estimators import Estimate
from paretune.ope.intervals import clustered_covariance, multiplier_draws
from paretune.records import Bools, Floats

GAINS = (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)  # a
USUAL = 0.01  # published gains of personal weights lie between a tenth of a per cent and some
BENDS = (0.01, 0.04, 0.16, 0.64)  # t
RISES = (0.0, 0.03, 0.06, 0.12, 0.24)  # gain per distance along the front
REACH = 0.35  # l, where a scalarisation runs from 0 to 1
SETTLED = 3.0  # standard errors below a floor at which nothing is open
_OWN = 2e-4  # what no smooth curve explains; keeps the matrices regular where two policies are the same


@dataclass(frozen=True, slots=True)
class Belief:
    """The posterior of P policies' true lifts; NaN where a policy has no estimate."""

    mean: Floats  # (P, M)
    draws: Floats  # (B, P, M) float32


def believe(
    estimate: Estimate,
    scalarisations: Floats,
    *,
    floors: Floats,
    apart: Bools | None = None,
    replicates: int = 1000,
    rng: np.random.Generator,
) -> Belief:
    """Return what to believe of the policies that an estimate is of; everything is turned so that larger is better.

    Args:
        estimate: relative lifts of P policies.
        scalarisations: (P, M) weight of each objective, >= 0; of a policy outside the family, what it weighs on average; NaN where that has
            no meaning, and nothing is believed of it.
        floors: (M,) lowest acceptable lifts.
        apart: (P,) policies outside the family, whose gains and places are their own.
        replicates: B draws.
        rng: source of the draws.

    Raises:
        DataError: fewer than two clusters of users hold rows.
    """
    size, objectives = estimate.value.shape
    has = np.logical_and.reduce(np.isfinite(estimate.value), axis=1) & np.logical_and.reduce(np.isfinite(scalarisations), axis=1)
    mean, draws = np.full((size, objectives), np.nan), np.full((replicates, size, objectives), np.nan, dtype=np.float32)
    if not has.any():
        return Belief(mean, draws)
    mean[has] = estimate.value[has]
    draws[:, has] = multiplier_draws(estimate.influence[:, has], replicates=replicates, rng=rng) + mean[has]
    error = draws.std(axis=0)
    uncertain = np.logical_or.reduce(error > 0, axis=1)  # one that serves what production does has a lift of exactly zero
    open_ = has & uncertain & np.logical_and.reduce(np.where(has[:, None], estimate.value + SETTLED * error, -np.inf) >= floors, axis=1)
    if open_.any():
        alone = np.zeros(size, np.bool_) if apart is None else apart
        kept = estimate.of_policies(np.flatnonzero(open_))
        spread = _posterior(kept, scalarisations[open_], alone[open_])
        counts = rng.multinomial(replicates, [weight for weight, _, _ in spread])
        parts = [_drawn(middle, cov, int(n), rng) for (_, middle, cov), n in zip(spread, counts, strict=True) if n]
        mean[open_] = np.sum([weight * middle for weight, middle, _ in spread], axis=0).reshape(-1, objectives)
        draws[:, open_] = rng.permutation(np.concatenate(parts)).reshape(replicates, -1, objectives)
    return Belief(mean, draws)


def _posterior(kept: Estimate, scalarisations: Floats, apart: Bools) -> list[tuple[float, Floats, Floats]]:
    """Return weight, mean (P x M,) and covariance under each scale of the prior that counts."""
    noise = clustered_covariance(kept.influence.reshape(len(kept.influence), -1))
    seen = kept.value.ravel()
    gain, place, bend, rise = _shapes(scalarisations, kept.value, apart)
    own = _OWN**2 * np.eye(len(seen))
    found, likelihoods = [], []
    for a, t, slope in product(GAINS, BENDS, RISES):
        prior = a**2 * gain + slope**2 * rise + place + t**2 * bend + own
        factor = cho_factor(prior + noise, lower=True)
        explained = cho_solve(factor, seen)
        likelihoods.append(np.log(_plausible(a)) - 0.5 * seen @ explained - np.log(np.diag(factor[0])).sum())
        found.append((prior, factor, explained))
    weights = np.exp(np.array(likelihoods) - max(likelihoods))
    weights[weights < 1e-3 * weights.max()] = 0
    weights /= weights.sum()
    return [
        (float(weight), prior @ explained, prior - prior @ cho_solve(factor, prior))
        for weight, (prior, factor, explained) in zip(weights, found, strict=True)
        if weight > 0
    ]


def _plausible(gain: float) -> float:
    return gain / (1 + (gain / USUAL) ** 2)  # half-Cauchy, on a grid of even steps of the logarithm


def _shapes(scalarisations: Floats, seen: Floats, apart: Bools) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the covariances (P x M, P x M) of gain, place, bend and rise at unit scale."""
    size, objectives = scalarisations.shape
    distance = np.square(scalarisations[:, None] - scalarisations).sum(axis=2) / 2  # alpha against 1 - alpha counts once
    alike = np.where(apart[:, None] | apart, np.eye(size), np.exp(-distance / (2 * REACH**2)))
    level = np.where(apart[:, None] | apart, np.eye(size), 1.0)
    square = np.square(scalarisations).sum(axis=1)
    normal = scalarisations / square[:, None]  # (P, M)
    along = np.eye(objectives) - normal[:, :, None] * scalarisations[:, None]  # (P, M, M)

    def of_gain(kernel: Floats) -> Floats:
        return np.einsum("pq,pi,qj->piqj", kernel, normal, normal).reshape(size * objectives, -1)

    def of_place(kernel: Floats) -> Floats:
        return np.einsum("pq,pik,qjk->piqj", kernel, along, along).reshape(size * objectives, -1)

    slope = np.where(apart[:, None] | apart, 0.0, scalarisations @ scalarisations.T)
    away = np.linalg.norm(np.einsum("pij,pj->pi", along, seen), axis=1)
    return of_gain((level + alike) / 2), of_place(level + slope), of_place(alike), of_gain(np.outer(away, away) * alike)


def _drawn(middle: Floats, covariance: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Return draws by the symmetric root, the only one that changes little where the covariance does: in what order numbers were added, and
    with it the order and the signs of eigenvectors, must not decide a draw.
    """
    values, vectors = np.linalg.eigh(covariance)
    return middle + rng.standard_normal((count, len(middle))) @ (vectors * np.sqrt(values.clip(0))) @ vectors.T
