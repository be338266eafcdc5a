"""Which days train and which judge. The rule: judgement is later than training, in whole days."""

from __future__ import annotations

import numpy as np

from paretune.errors import DataError
from paretune.records import Ints


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
