"""Are the arms as large as they should be? If not, whatever split or logged the users also bent what is compared.

    chi^2 = sum_a (n_a - n p_a)^2 / (n p_a),    alarm at p < 10^-3        (Pearson, A - 1 degrees of freedom)

The rule: counted in what was assigned (users; sessions or requests where those were drawn); a failed test is no verdict on any arm.
Source: Fabijan et al. (2019), *Diagnosing sample ratio mismatch in online controlled experiments*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from paretune.errors import ConfigError
from paretune.policy.plan import Plan
from paretune.records import Floats

ALARM = 1e-3
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Units seen and expected by arm."""

    arms: tuple[str, ...]  # (A,)
    unit: str
    seen: Floats  # (A,)
    share: Floats  # (A,) planned, summing to 1
    p_value: float  # NaN where there is nothing to compare

    @property
    def failed(self) -> bool:
        """Whether the split is not the planned one."""
        return bool(self.p_value < ALARM)

    @property
    def expected(self) -> Floats:
        """(A,) units by the plan."""
        return self.share * self.seen.sum()


def plan_shares(plan: Plan) -> dict[str, float]:
    """Return the share of users that each arm of a plan has, its default's among them.

    Raises:
        ConfigError: the plan is killed, so that nobody is in an arm.
    """
    if plan.killed:
        raise ConfigError(f"plan {plan.version} is killed: nobody is in an arm", hint="name the plan of the test's days, or --shares")
    shares = {arm.name: arm.share for arm in plan.arms}
    rest = 1 - sum(shares.values())
    return shares | {plan.default: shares.get(plan.default, 0.0) + (rest if rest > _ROUNDING else 0.0)}


def sample_ratio(seen: Mapping[str, float], shares: Mapping[str, float], *, unit: str = "users") -> SampleRatio:
    """Return the test that units fell into arms as planned.

    Args:
        seen: units by arm.
        shares: planned, by arm; of the same arms, to any total.
        unit: what was assigned, in words.

    Raises:
        ConfigError: shares are negative, all zero, or leave out an arm that was seen.
    """
    missing = sorted(set(seen) - set(shares))
    if missing:
        raise ConfigError(
            f"no share is known of {missing}; shares are of {sorted(shares)}", hint="name every arm's share: --shares a=0.5,b=0.5"
        )
    arms = tuple(shares)
    planned = np.array([shares[arm] for arm in arms], dtype=np.float64)
    if not (np.isfinite(planned).all() and (planned >= 0).all() and planned.sum() > 0):
        raise ConfigError(f"shares {dict(shares)} are not parts of a whole", hint="give shares of 0 or more")
    counts = np.array([seen.get(arm, 0) for arm in arms], dtype=np.float64)
    planned = planned / planned.sum()
    possible = planned > 0
    if counts[~possible].any():
        return SampleRatio(arms, unit, counts, planned, 0.0)
    expected = planned[possible] * counts.sum()
    if counts.sum() == 0 or possible.sum() < 2:
        return SampleRatio(arms, unit, counts, planned, float("nan"))
    statistic = float((np.square(counts[possible] - expected) / expected).sum())
    return SampleRatio(arms, unit, counts, planned, float(chdtrc(possible.sum() - 1, statistic)))
