"""The ladder of a pooled estimator: the same lifts by wider and narrower kernels and by exact hits, and a test for what bias is left.

The rule: one rung is the estimate, fixed beforehand; the others are there so that anyone can audit the pooled number against the plain one,
never to be chosen from. Under pooling that is right, the rungs differ by noise alone, and residuals do not depend on how far the logged
action was from the target.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.special import ndtr

from paretune.errors import NoOverlapError
from paretune.ope.intervals import clustered_std_error
from paretune.ope.lift import AnchoredSums, anchored_lift, pooled_lift
from paretune.records import Bools, Floats

EXACT = "exact hit"
SUSPICIOUS = 0.05  # of a false alarm over all policies and objectives that are looked at together


@dataclass(frozen=True, slots=True)
class Ladder:
    """Lifts of P policies, production first, by R rungs, widest first and the exact hit last."""

    rungs: tuple[str, ...]  # (R,)
    speaks: int  # the rung that is the estimate
    estimate: Floats  # (R, P, M), NaN without overlap
    std_error: Floats  # (R, P, M), clustered by user
    effective: Floats  # (R, P) rows that speak
    bias_z: Floats  # (P, M) of the pooled residuals' dependence on the distance between logged and target action; NaN where untestable
    bias_p: Floats  # (P, M) two-sided
    shift: Floats  # (P, M) how much that dependence would add to the lift, if it went on to distance zero

    def suspicious(self, policies: list[int]) -> Bools:
        """Return (L, M) whose residuals depend on the distance, by Bonferroni over those policies and all objectives."""
        p = self.bias_p[policies]
        return np.where(np.isnan(p), 1.0, p) * max(1, np.isfinite(p).sum()) < SUSPICIOUS

    def plain(self) -> dict[str, Any]:
        """Return what JSON holds; NaN becomes null."""
        written: dict[str, Any] = {"rungs": list(self.rungs), "speaks": self.speaks}
        for field in fields(self)[2:]:
            numbers = getattr(self, field.name)
            plain = numbers.astype(object)
            plain[~np.isfinite(numbers)] = None
            written[field.name] = plain.tolist()
        return written

    @staticmethod
    def of_plain(written: dict[str, Any]) -> Ladder:
        """Return the ladder that `plain` took apart."""
        arrays = {field.name: np.array(written[field.name], dtype=np.float64) for field in fields(Ladder)[2:]}
        return Ladder(rungs=tuple(written["rungs"]), speaks=int(written["speaks"]), **arrays)


def ladder_of(sums: AnchoredSums) -> Ladder | None:
    """Return the ladder of P policies, with production in front; None where the sums are not pooled or hold no production rows."""
    if sums.pooled is None or not sums.has_production:
        return None
    kernel, policies = sums.pooled.kernel, sums.explored.raw.hits.shape[1]
    values, errors, effective = [], [], []
    for rung in (*range(len(kernel.rungs)), None):
        try:
            estimate = anchored_lift(sums) if rung is None else pooled_lift(sums, rung)
            values.append(estimate.value)
            errors.append(clustered_std_error(estimate.influence))
        except NoOverlapError:
            values.append(np.full((policies, sums.produced.reward.shape[1]), np.nan))
            errors.append(values[-1])
        effective.append(sums.explored.raw.hits.sum(axis=0) if rung is None else sums.pooled.effective(rung))
    z, p, shift = bias_test(sums)
    zero = np.zeros((1, z.shape[1]))
    nothing = np.full_like(zero, np.nan)

    def over_production(numbers: list[Floats]) -> Floats:
        return np.stack([np.concatenate([zero, each]) for each in numbers])

    return Ladder(
        (*kernel.labels, EXACT),
        kernel.speaks,
        over_production(values),
        over_production(errors),
        np.stack([np.concatenate([[sums.produced.rows.sum()], each]) for each in effective]),
        np.concatenate([nothing, z]),
        np.concatenate([nothing, p]),
        np.concatenate([nothing, shift]),
    )


def bias_test(sums: AnchoredSums) -> tuple[Floats, Floats, Floats]:
    """Return z, two-sided p and the implied shift of the relative lift, each (P, M): do pooled residuals depend on the distance?

    The statistic sum w (d - E[w d | s]) e has mean zero where actions pooled together are worth the same but for g; its standard error is
    clustered by user. The shift extrapolates the slope of e on d to the target's own distance, zero.

    Args:
        sums: with pooled ones.
    """
    pooled = sums.pooled
    if pooled is None:
        raise NoOverlapError("these sums were not pooled: there is nothing to test", hint="sweep with a kernel")
    tilt, square = pooled.tilt.sum(axis=0), pooled.tilt_square.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = tilt / np.sqrt(np.square(pooled.tilt).sum(axis=0))
        slope = tilt / square[:, None]
        distance = pooled.distance.sum(axis=0) / sums.explored.raw.rows.sum()
        shift = -slope * distance[:, None] / sums.produced.value()[0]
    untestable = ~np.isfinite(z) | (square[:, None] == 0)
    z, shift = np.where(untestable, np.nan, z), np.where(untestable, np.nan, shift)
    return z, 2 * ndtr(-np.abs(z)), shift
