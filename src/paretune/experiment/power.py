"""How many users a lift takes, and which lift so many users show.

    SE needed = log(1 + L) / (c + z_power),        users needed = users (SE / SE needed)^2,        power = P(|Z + log(1 + L) / SE| > c)

with c how many standard errors an interval is wide: 1.96 alone, more for many numbers at once or for a sequence.
The rule: what a metric's users vary by is read off data, never assumed; a lift is relative, and power is on the log scale as intervals are.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from paretune.errors import ConfigError
from paretune.records import Floats

POWER = 0.8


def error_needed(lift: Floats | float, *, critical: Floats | float, power: float = POWER) -> Floats:
    """Return the standard error of the log ratio at which a lift is seen with some probability.

    Args:
        lift: relative, > -1 and not 0.
        critical: standard errors that an interval is wide to each side.
        power: probability to see it, in (0, 1).

    Raises:
        ConfigError: the lift is 0 or a fall of 100 % and more, or the power is outside (0, 1).
    """
    lift = np.asarray(lift, dtype=np.float64)
    if not ((lift > -1) & (lift != 0)).all() or not 0 < power < 1:
        raise ConfigError(f"no test sees a lift of {lift.tolist()} with power {power:g}", hint="give a lift other than 0, power below 1")
    return np.abs(np.log1p(lift)) / (critical + ndtri(power))


def users_needed(
    users: Floats | float, std_error: Floats | float, *, lift: Floats | float, critical: Floats | float, power: float = POWER
) -> Floats:
    """Return how many users a test needs, when so many leave such an error and the shares of its arms stay.

    Args:
        users: that left the error.
        std_error: of the log ratio.
        lift: to see.
        critical: standard errors that an interval is wide to each side.
        power: probability to see it.

    Raises:
        ConfigError: as of `error_needed`.
    """
    return np.ceil(users * np.square(std_error / error_needed(lift, critical=critical, power=power)))


def detectable_lift(std_error: Floats, *, critical: Floats | float, power: float = POWER) -> Floats:
    """Return the smallest lift that is seen with some probability at this error."""
    return np.expm1(std_error * (critical + ndtri(power)))
