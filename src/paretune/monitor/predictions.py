"""What the ranker predicts of the lists it served, where a log says it in another way than by served scores.

The rule: H_j = 1 - prod_l (1 - e_l h_j(x_l)) of the list that the static weights make of the logged candidates; a row without candidates
has no prediction.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from paretune.records import Log
from paretune.surface.heads import Surface
from paretune.surface.lists import list_values, top_lists


def with_predictions(log: Log, surface: Surface, heads: tuple[int, ...] | None) -> Log:
    """Return production rows with what the ranker predicts of their lists (NaN where nothing says), without candidates.

    Args:
        log: production rows; predictions that are there stay.
        surface: whose static weights were served.
        heads: (M,) the head of each objective; None where one has none.
    """
    if log.predicted is not None or log.candidates is None or heads is None:
        return replace(log, candidates=None)
    listed = np.flatnonzero(np.diff(log.candidates.offsets) > 0)
    items = log.candidates.take(listed)
    predicted = np.full((len(log), len(heads)), np.nan, dtype=np.float32)
    predicted[listed] = list_values(items, top_lists(items, surface.static[None], surface.k), heads)[:, 0]
    return replace(log, predicted=predicted, candidates=None)
