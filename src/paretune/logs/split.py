"""Which rows train, which judge, and which half of the users chooses while the other reports.

The rule: judgement is later than training, in whole days; the halves are a hash of the user, so that no user is on both sides and
every machine agrees.
"""

from __future__ import annotations

import numpy as np

from paretune.errors import DataError
from paretune.logs.hashing import salted
from paretune.records import Bools, Ints


def time_split(days: Ints, *, train_days: int, hold_out_days: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the days that train and the later days that evaluate (§6.2 of the paper: 14 and 7).

    Args:
        days: (n,) days since 1970-01-01, in any order, repeats allowed. A day without rows is not a day of the split.
        train_days: >= 1.
        hold_out_days: >= 1.

    Returns:
        The `train_days` days before the hold-out, and the last `hold_out_days` days; both increasing.

    Raises:
        DataError: the log has fewer days than asked for.
    """
    if train_days < 1 or hold_out_days < 1:
        raise DataError(f"a split of {train_days} and {hold_out_days} days is none", hint="give each side at least one day")
    known = np.unique(np.asarray(days)).tolist()
    if len(known) < train_days + hold_out_days:
        raise DataError(
            f"the log has {len(known)} days, the split needs {train_days} to train and {hold_out_days} to hold out",
            hint="lower evaluation.train_days or evaluation.hold_out_days, or read more days",
        )
    return tuple(known[-train_days - hold_out_days : -hold_out_days]), tuple(known[-hold_out_days:])


def user_half(user: Ints, salt: str) -> Bools:
    """Return (n,) mask of the users who are on the choosing side; about half, the same rows for the same salt on every machine.

    Args:
        user: (n,) uint64 hashes as in `Log.user`.
        salt: any text; another salt gives an independent half.
    """
    return salted(user, salt) >> np.uint64(63) == 1
