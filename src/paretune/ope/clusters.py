"""Users in buckets: the clusters by which every estimator keeps its sums.

The rule: a sum is kept per bucket of users, never per row, so that batches merge by `+`, memory does not grow with the log, and influence
can be clustered. All rows of a user fall into one bucket on every machine; different users are independent, so buckets of users are valid
clusters too, at a relative error of the standard error of about 1 / sqrt(2 x buckets) (1.6 % at 2,048).
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix

from paretune.errors import DataError
from paretune.logs.hashing import mixed
from paretune.records import Bools, Floats, Ints

BUCKETS = 2048


def user_buckets(user: Ints, *, buckets: int = BUCKETS) -> Ints:
    """Return the bucket of each user, by splitmix64 of the user's number.

    Args:
        user: (n,) integers, any values.
        buckets: number of buckets.

    Returns:
        (n,) int64 in [0, buckets).
    """
    return (mixed(np.asarray(user)) % np.uint64(buckets)).astype(np.int64)


def bucket_sums(columns: Floats, cluster: Ints, *, clusters: int) -> Floats:
    """Return the sum of each column over the rows of each cluster.

    Args:
        columns: (n, ...) finite.
        cluster: (n,) in [0, clusters).
        clusters: C.

    Returns:
        (C, ...) float64.
    """
    flat = columns.reshape(len(columns), int(np.prod(columns.shape[1:], dtype=np.int64)))
    total = np.empty((clusters, flat.shape[1]))
    for j in range(flat.shape[1]):
        total[:, j] = np.bincount(cluster, weights=flat[:, j], minlength=clusters)
    return total.reshape(clusters, *columns.shape[1:])


class Bag:
    """Sums whose first axis is the cluster (C, ...); two bags of the same clusters add up to the bag of both logs.

    What is neither sums nor a bag (a kernel, None) says what the sums are of: it stays, and must agree where bags are added.
    """

    __slots__ = ()

    def __add__(self, other: Self) -> Self:
        """Return the sums over both logs."""
        return self._each(lambda mine, theirs: mine + theirs, other)

    def of_clusters(self, rows: Ints | Bools | slice) -> Self:
        """Return the sums of some clusters only: a half of the users, a cohort's slice."""
        return self._each(lambda mine: mine.of_clusters(rows) if isinstance(mine, Bag) else mine[rows])

    def groups(self, count: int) -> list[Self]:
        """Split the first axis into equal contiguous groups, e.g. one per cohort, each a bag over all buckets."""
        size = self.n_clusters // count
        return [self.of_clusters(slice(g * size, (g + 1) * size)) for g in range(count)]

    @property
    def n_clusters(self) -> int:
        """C, empty clusters included."""
        first = getattr(self, fields(self)[0].name)  # type: ignore[arg-type]
        return first.n_clusters if isinstance(first, Bag) else len(first)

    def _each(self, function: Any, *others: Self) -> Self:
        values = []
        for field in fields(self):  # type: ignore[arg-type]
            mine, theirs = getattr(self, field.name), [getattr(other, field.name) for other in others]
            if any(isinstance(value, np.ndarray | Bag) != isinstance(mine, np.ndarray | Bag) for value in theirs):
                raise DataError(f"only one of two sums has {field.name}", hint="sum every part of the log in the same way")
            if isinstance(mine, np.ndarray | Bag):
                values.append(function(mine, *theirs))
            elif all(value == mine for value in theirs):
                values.append(mine)
            else:
                raise DataError(
                    f"sums of {field.name} {mine} and {theirs[0]} do not add up", hint="sum every part of the log in the same way"
                )
        return type(self)(*values)


class Clustering:
    """The rows of one batch, gathered by cluster: the rows of cluster c are order[start[c]:start[c + 1]], in their own order."""

    def __init__(self, cluster: Ints, *, clusters: int) -> None:
        """Gather.

        Args:
            cluster: (n,) in [0, clusters).
            clusters: C.
        """
        self.order = np.argsort(cluster, kind="stable")
        self.start = np.concatenate([[0], np.cumsum(np.bincount(cluster, minlength=clusters))])
        self._shape = (clusters, len(cluster))

    def sums(self, columns: Floats, *, times: Floats | None = None) -> Floats:
        """Return (C, P) sums over the rows of each cluster.

        Args:
            columns: (n, P).
            times: (n,) a factor per row.
        """
        factor = np.ones(len(self.order)) if times is None else times.astype(np.float64)[self.order]
        return np.asarray(csr_matrix((factor, self.order, self.start), shape=self._shape) @ np.ascontiguousarray(columns, dtype=np.float64))


def check_rows(rewards: Floats, *columns: Floats) -> None:
    """Refuse rewards that are not a finite (n, M) matrix, or columns of another length.

    Raises:
        DataError: naming the first row that is wrong.
    """
    if rewards.ndim != 2:
        raise DataError(f"rewards have shape {rewards.shape}", hint="give one column per objective: (n, M)")
    if any(len(column) != len(rewards) for column in columns):
        raise DataError(
            f"{len(rewards)} rows of rewards beside columns of {[len(c) for c in columns]}", hint="give columns of equal length"
        )
    if not np.isfinite(rewards).all():
        row = int(np.argwhere(~np.isfinite(rewards))[0, 0])
        raise DataError(f"rewards hold NaN or infinity (first in row {row})", hint="quarantine the row with `paretune check --quarantine`")
