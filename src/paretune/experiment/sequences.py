"""Confidence sequences: intervals that hold at every look at once, so that a test may be watched and stopped whenever one likes.

    l_t +- s_t sqrt( (1 + 1 / v_t) (log(1 + v_t) - 2 log alpha) ),        v_t = v* I_t / I*,    I_t = 1 / s_t^2

which is `mean +- s sqrt( 2 (n rho^2 + 1) / (n^2 rho^2) log( sqrt(n rho^2 + 1) / alpha ) )` with the estimate's error s_t = s / sqrt(n) and
v = n rho^2. Time is counted in information I, not in users, since users who return add information too. rho is chosen before anything is
seen of the effect, so that the sequence is narrowest at a planned information I*: v* = log(1 + v*) - 2 log alpha, where it is
s sqrt(1 + v*), 1.55 times as wide as the interval of a single look at alpha = 0.05.

The rule: nothing is said before every arm has users and events enough for sums to be about normal, and of several numbers each
gets its part of alpha. Sources: Robbins (1970), normal mixtures; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021), *Time-uniform
central limit theory and asymptotic confidence sequences*, for estimated errors.
"""

from __future__ import annotations

import numpy as np
from scipy.special import lambertw

from paretune.errors import DataError
from paretune.records import Bools, Floats

FEWEST_USERS = 100  # of each arm, before anything is said
LARGEST_ERROR = 0.25  # of a log ratio: about 30 events in each arm


def tightest(alpha: float) -> float:
    """Return v*, at which the sequence is narrowest relative to the error of the estimate: v = log(1 + v) - 2 log alpha.

    Args:
        alpha: of one sequence, in (0, 1).

    Raises:
        DataError: alpha is outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise DataError(f"a sequence at level {alpha:g}", hint="give a number between 0 and 1, such as 0.05")
    return float(-lambertw(-(alpha**2) / np.e, k=-1).real - 1)


def critical(std_error: Floats, *, planned: Floats | float, alpha: float) -> Floats:
    """Return how many standard errors the sequence is wide to each side.

    Args:
        std_error: (...) of the estimate at each look, > 0; NaN where there is none.
        planned: error at which the sequence is to be narrowest, broadcasts.
        alpha: of one sequence.

    Returns:
        (...) >= sqrt(1 + v*), infinite where there is no error.

    Raises:
        DataError: alpha is outside (0, 1).
    """
    best = tightest(alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        v = best * np.square(planned / np.asarray(std_error, dtype=np.float64))
        found = np.sqrt((1 + 1 / v) * (np.log1p(v) - 2 * np.log(alpha)))
    return np.where(np.isfinite(found), found, np.inf)


def planned_error(std_error: Floats, users: Floats, elapsed: Floats, *, planned: float) -> Floats:
    """Return the error to expect at the planned end, as the first look that says anything has it: information grows with time.

    Args:
        std_error: (T, ...) of log ratios at the looks so far.
        users: (T,) of the smallest arm.
        elapsed: (T,) how long the test had run.
        planned: how long it is to run, in the same unit.

    Returns:
        (...), NaN where no look says anything.
    """
    found = np.full(std_error.shape[1:], np.nan)
    for error, telling, time in zip(std_error, tells(std_error, users), elapsed, strict=True):
        found = np.where(np.isnan(found) & telling, error * np.sqrt(time / planned), found)
    return found


def tells(std_error: Floats, users: Floats) -> Bools:
    """Return at which looks (T, ...) sums are about normal: users enough in every arm, and events enough for an error this small.

    Args:
        std_error: (T, ...) of log ratios.
        users: (T,) of the smallest arm.
    """
    many = (users >= FEWEST_USERS).reshape(-1, *[1] * (std_error.ndim - 1))
    return np.isfinite(std_error) & (std_error <= LARGEST_ERROR) & many
