"""Rewards from event counts (Eq. 3 of the paper): r_j = min(count_j, 1), or the transform the config names.

    two-level: r_j = ( min(count_j, 1) + min(count_j, 2) ) / 2, that is 1 for any event and 1.5 for several; clipping hides the several

The rule: a reward keeps the direction of its count. "minimise" is applied where objectives are compared, never here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from paretune.config import Objective
from paretune.errors import DataError
from paretune.records import Floats


def rewards(counts: Floats, objectives: Sequence[Objective]) -> Floats:
    """Return the rewards of raw event counts.

    Args:
        counts: (n, M), finite; >= 0 except under `identity`.
        objectives: (M,) whose transform is `clip` (min(count, 1), the paper's), `two-level` (0, 1 or 1.5), `log1p` or `identity`.

    Returns:
        (n, M) float32.

    Raises:
        DataError: another number of columns than objectives.
    """
    if counts.ndim != 2 or counts.shape[1] != len(objectives):
        raise DataError(f"counts have shape {counts.shape}, there are {len(objectives)} objectives", hint="give one column per objective")
    columns = [_TRANSFORMS[objective.transform](counts[:, column]) for column, objective in enumerate(objectives)]
    return np.stack(columns, axis=1).astype(np.float32)


_TRANSFORMS: dict[str, Callable[[Floats], Floats]] = {
    "clip": lambda c: np.minimum(c, 1),
    "two-level": lambda c: (np.minimum(c, 1) + np.minimum(c, 2)) / 2,
    "log1p": np.log1p,
    "identity": lambda c: c,
}
