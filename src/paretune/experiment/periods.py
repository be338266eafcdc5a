"""A lift over several periods of one test, of users who return. Pure.

    l = sum_p w_p l_p        l_p = log V_arm,p - log V_control,p        V = sum y / sum x        w_p ~ 1 / var(l_p),  sum_p w_p = 1
    var(l) = sum_i (sum_p w_p psi_ip)^2
    psi_ip = +- (y_ip / sum y - x_ip / sum x) sqrt(n / (n - 1))        + in the arm, - in the control

The rule: within a period shares are constant, so that arms are compared over the same time; a user is one piece of evidence however many
periods they were seen in, so that what a user did in all of them is added before it is squared. Periods taken for independent would make
the error too small, by as much as users are alike from one to the next. Source: `lifts` for one period, of which this is the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError
from paretune.records import Floats, Ints


@dataclass(frozen=True, slots=True)
class Side:
    """What the users of one arm did in a period."""

    user: Ints  # (n,) each once, the same number for the same user in every period
    above: Floats  # (n, M) of each metric's numerator
    below: Floats  # (n, M) of its denominator


@dataclass(frozen=True, slots=True)
class Pooled:
    """Lifts over all periods, on the log scale."""

    log_ratio: Floats  # (M,)
    std_error: Floats  # (M,)
    users: int  # of both arms, each once
    periods: int  # that told something of every metric


def pooled_lifts(periods: Sequence[tuple[Side, Side]]) -> Pooled:
    """Return the lift of an arm over its control in each metric, from all periods in which both earned something.

    Args:
        periods: (control, arm) of each.

    Raises:
        DataError: in no period both arms had two users and earned something of every metric.
    """
    ratios, variances, parts = [], [], []
    for control, arm in periods:
        if min(len(control.user), len(arm.user)) < 2 or any((side.above.sum(axis=0) <= 0).any() for side in (control, arm)):
            continue
        psi = [_influence(arm), -_influence(control)]
        ratios.append(_log_value(arm) - _log_value(control))
        variances.append(sum(np.square(part).sum(axis=0) for part in psi))
        parts.append((np.concatenate([arm.user, control.user]), np.concatenate(psi)))
    if not parts:
        raise DataError("the arm and its control were never seen to earn something together", hint="serve both, and log their arms")
    weight = 1 / np.stack(variances)
    weight /= weight.sum(axis=0)  # (P, M)
    everybody, place = np.unique(np.concatenate([user for user, _ in parts]), return_inverse=True)
    influence = np.concatenate([w * psi for w, (_, psi) in zip(weight, parts, strict=True)])
    summed = np.stack([np.bincount(place, column) for column in influence.T], axis=1)  # (users, M)
    error = np.sqrt(np.square(summed).sum(axis=0))
    return Pooled((weight * np.stack(ratios)).sum(axis=0), error, len(everybody), len(parts))


def _log_value(side: Side) -> Floats:
    return np.log(side.above.sum(axis=0)) - np.log(side.below.sum(axis=0))


def _influence(side: Side) -> Floats:
    """Return by how much each user moves the logarithm of the arm's value, (n, M)."""
    n = len(side.user)
    return (side.above / side.above.sum(axis=0) - side.below / side.below.sum(axis=0)) * np.sqrt(n / (n - 1))
