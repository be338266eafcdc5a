"""What a weight vector does to a list: utility (Eq. 1), top-k, list-replay values, unions.

The rules: ties go to the earlier candidate; NaN scores are refused; rows are independent. Candidates are ragged: row i holds items
offsets[i]:offsets[i + 1]. With numba installed (`paretune[fast]`) the same functions run compiled; a test holds both to the same lists.
"""

from __future__ import annotations

import numpy as np

from paretune.errors import DataError
from paretune.records import Bools, Candidates, Floats, Ints

try:
    from paretune.surface import compiled
except ImportError:  # numba is optional: numpy alone gives the same lists, slower
    compiled = None  # type: ignore[assignment]

EXAMINATION_DECAY = 0.85  # e_l = 0.85^(l - 1), section 3 of the design's beyond-the-paper notes


def utility(scores: Floats, weights: Floats) -> Floats:
    """Return u = sum_i w_i h_i (Eq. 1).

    Args:
        scores: (..., m) head scores.
        weights: (m,) or (K, m).

    Returns:
        (...,) or (..., K).

    Raises:
        DataError: a score is NaN.
    """
    if np.isnan(scores).any():
        raise DataError("head scores hold NaN", hint="drop the candidate, or score it with the head's mean, before blending")
    return np.asarray(scores, dtype=np.float32) @ np.asarray(weights, dtype=np.float32).T


def examination(k: int) -> Floats:
    """Return (k,) e_l = 0.85^(l-1), the chance that position l is looked at."""
    return EXAMINATION_DECAY ** np.arange(k)


def top_lists(candidates: Candidates, actions: Floats, k: int) -> Ints:
    """Return the list each action would serve.

    Args:
        candidates: of n rows.
        actions: (K, m) weight vectors.
        k: list length.

    Returns:
        (n, K, k) int16 positions within the row's candidates, best first; -1 where the row has fewer than k.

    Raises:
        DataError: a score is NaN.
    """
    if np.isnan(candidates.scores).any():
        row = int(np.searchsorted(candidates.offsets, np.argwhere(np.isnan(candidates.scores))[0, 0], side="right") - 1)
        raise DataError(f"candidate scores hold NaN (first in row {row})", hint="quarantine the row with `paretune check --quarantine`")
    scores = np.ascontiguousarray(candidates.scores, dtype=np.float32)
    weights = np.ascontiguousarray(actions, dtype=np.float32)
    if compiled is not None:
        return compiled.top_lists(candidates.offsets.astype(np.int64), scores, weights, k)
    return _top_lists(candidates.offsets, scores, weights, k)


def _top_lists(offsets: Ints, scores: Floats, weights: Floats, k: int) -> Ints:
    n, width = len(offsets) - 1, int(np.diff(offsets).max(initial=0))
    lists = np.full((n, len(weights), k), -1, dtype=np.int16)
    rows_per_chunk = max(1, 4_000_000 // max(1, width * len(weights)))
    for start in range(0, n, rows_per_chunk):
        stop = min(n, start + rows_per_chunk)
        lengths = np.diff(offsets[start : stop + 1])
        present = np.arange(width) < lengths[:, None]
        values = np.full((stop - start, width, len(weights)), -np.inf, dtype=np.float32)
        values[present] = scores[offsets[start] : offsets[stop]] @ weights.T
        order = np.argsort(-values.transpose(0, 2, 1), axis=2, kind="stable")[:, :, :k].astype(np.int16)
        order[order >= lengths[:, None, None]] = -1
        lists[start:stop, :, : order.shape[2]] = order
    return lists


def list_values(candidates: Candidates, lists: Ints, heads: tuple[int, ...]) -> Floats:
    """Return the ranker's own prediction of each list's clipped reward: H_j = 1 - prod_l (1 - e_l h_j(x_l)).

    Args:
        candidates: of n rows.
        lists: (n, K, k) from `top_lists`.
        heads: the head of each objective, (M,).

    Returns:
        (n, K, M) float32 in [0, 1].
    """
    scores = np.ascontiguousarray(candidates.scores[:, list(heads)], dtype=np.float32)
    examined = examination(lists.shape[2]).astype(np.float32)
    if compiled is not None:
        return compiled.list_values(candidates.offsets.astype(np.int64), scores, lists, examined)
    result = np.empty((*lists.shape[:2], len(heads)), dtype=np.float32)
    padded = np.concatenate([scores, np.zeros((1, len(heads)), np.float32)])
    for start in range(0, len(lists), 4096):
        part = lists[start : start + 4096]
        item = np.where(part >= 0, part + candidates.offsets[start : start + len(part), None, None], len(scores))
        result[start : start + len(part)] = 1 - np.prod(1 - examined[:, None] * padded[item], axis=2)
    return result


def list_union(lists: Ints, width: int) -> Bools:
    """Return (n, width) mask of the items that are in any of the row's lists; width >= the longest row."""
    n = len(lists)
    mask = np.zeros((n, width + 1), dtype=np.bool_)
    mask[np.arange(n)[:, None], lists.reshape(n, lists.shape[1] * lists.shape[2])] = True  # -1 marks the spare last column
    return mask[:, :width]
