"""Sums over users, by arm: all that a readout needs of a test, however large its log.

    n_a,  S_ak = sum_i x_iak,  P_akbl = sum_i x_iak x_ibl        (arms a, b; columns k, l; x_iak what user i did in arm a)

The rule: a user is one piece of evidence, so sums are of users, never of requests; moments of different users add up with `+`, those of the
same user do not. The products across arms are zero where each user is in one arm, and carry the covariance of the arms where users are in
several. Sources: Deng, Knoblich and Lu (2018), *Applying the delta method in metric analytics*; GrowthBook's gbstats for `(n, Σx, Σx²)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError
from paretune.records import Floats, Ints


@dataclass(frozen=True, slots=True)
class Moments:
    """Users, sums and sums of products of A arms and K columns; leading axes (cohorts, looks) are kept by every function."""

    users: Floats  # (..., A) seen in each arm
    crossed: Floats  # (...) seen in more than one
    total: Floats  # (..., A, K)
    product: Floats  # (..., A, K, A, K)

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of users, which share nobody.

        Raises:
            DataError: they are of other arms or columns.
        """
        if self.total.shape != other.total.shape:
            raise DataError(
                f"moments of shape {self.total.shape} and {other.total.shape} do not add up", hint="sum the same arms and columns"
            )
        return Moments(self.users + other.users, self.crossed + other.crossed, self.total + other.total, self.product + other.product)

    def __getitem__(self, place: int) -> Moments:
        """Return one of the leading axis: a cohort, a look."""
        return Moments(self.users[place], self.crossed[place], self.total[place], self.product[place])

    def of_arms(self, arms: Ints) -> Moments:
        """Return the moments of some arms, in the order asked for; `crossed` stays that of all arms."""
        arms = np.asarray(arms)
        product = np.take(np.take(self.product, arms, axis=-4), arms, axis=-2)
        return Moments(self.users[..., arms], self.crossed, self.total[..., arms, :], product)

    def over(self) -> Moments:
        """Return the sum over the leading axis: all cohorts together."""
        return Moments(self.users.sum(axis=0), self.crossed.sum(axis=0), self.total.sum(axis=0), self.product.sum(axis=0))

    @property
    def arms(self) -> int:
        """A."""
        return int(self.total.shape[-2])


def user_moments(user: Ints, arm: Ints, columns: Floats, *, arms: int) -> Moments:
    """Return the moments of a table of users.

    Args:
        user: (n,) any integers; a user has one row per arm.
        arm: (n,) in [0, arms).
        columns: (n, K) finite, what the user did in this arm.
        arms: A.

    Raises:
        DataError: lengths disagree, a number is not finite, or a user has two rows in an arm.
    """
    if columns.ndim != 2 or not len(user) == len(arm) == len(columns):
        raise DataError(
            f"{len(user)} users, {len(arm)} arms and columns of shape {columns.shape}", hint="give one row per user and arm: (n, K)"
        )
    if not np.isfinite(columns).all():
        raise DataError("columns of users hold NaN or infinity", hint="leave users out, or mend the log with `paretune check`")
    known, row = np.unique(user, return_inverse=True)
    n, size = len(known), columns.shape[1]
    seen = np.bincount(row * arms + arm, minlength=n * arms).reshape(n, arms).astype(np.float64)
    if (seen > 1).any():
        raise DataError("a user has two rows in one arm", hint="sum the rows of a user first")
    if n == len(columns):  # each user in one arm: nothing across arms, and no matrix of all arms side by side
        parts = [columns[arm == a] for a in range(arms)]
        product = np.zeros((arms, size, arms, size))
        for a, part in enumerate(parts):
            product[a, :, a] = part.T @ part
        return Moments(seen.sum(axis=0), np.zeros(()), np.stack([part.sum(axis=0) for part in parts]), product)
    wide = np.zeros((n, arms, size))
    wide[row, arm] = columns
    flat = wide.reshape(n, arms * size)
    product = (flat.T @ flat).reshape(arms, size, arms, size)
    return Moments(seen.sum(axis=0), np.asarray((seen.sum(axis=1) > 1).sum(), dtype=np.float64), wide.sum(axis=0), product)
