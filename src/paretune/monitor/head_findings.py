"""How the heads of a ranker moved: their scales, their scores by segment and in shape, their shares of utility.

The rule: scores are compared on lists that undo a rescaling (recalibration.py); only the shares are those of the lists as they are, for
they say what the static weights do now.
"""

from __future__ import annotations

from math import log, sqrt

import numpy as np

from paretune.monitor.finding import FEWEST_ROWS, SCALED, SEGMENTS_SD, SHARE_POINTS, Change, Finding, mean_influence
from paretune.monitor.psi import chance_of_square, shift_between
from paretune.monitor.recalibration import Recalibration
from paretune.monitor.window import HeadSums, Window
from paretune.records import Ints

BY = " by "  # between a head and the column of its segments


def head_findings(reference: Window, recalibration: Recalibration, *, psi: float) -> list[Finding]:
    """Return scale, segments and shape of every head.

    Args:
        reference: window before.
        recalibration: of the window after.
        psi: from which a shape counts as moved.
    """
    before, now = reference.sums.heads, recalibration.heads
    influence = mean_influence(now.size, now.rows) - mean_influence(before.size, before.rows)
    influence = influence @ np.linalg.pinv(recalibration.answer).T  # of ln c: listed means answer a factor more than one for one
    found = []
    for j, head in enumerate(reference.heads):
        factor = float(recalibration.factor[j])
        change = Change(log(factor), influence[:, j])
        found.append(Finding("scale", head, 1.0, factor, abs(log(factor)), log(SCALED), change.p_value, change.std_error))
    for column in dict.fromkeys(column for column, _ in reference.bins.segments):
        segments = np.array([g for g, (name, _) in enumerate(reference.bins.segments) if name == column])
        rows = np.minimum(before.segment_rows[:, segments].sum(axis=0), now.segment_rows[:, segments].sum(axis=0))
        if (rows >= FEWEST_ROWS).sum() >= 2:
            found += [_between_segments(reference, now, segments[rows >= FEWEST_ROWS], j, column) for j in range(len(reference.heads))]
    for j, head in enumerate(reference.heads):
        shift = shift_between(before.shape[:, j], now.shape[:, j])
        found.append(Finding("shape", head, shift.noise, shift.psi, shift.excess, psi, shift.p_value))
    return found


def _between_segments(reference: Window, now: HeadSums, segments: Ints, j: int, column: str) -> Finding:
    """Return how differently a head's scores moved between the segments of a column: sd of ln h, noise taken out."""
    before = reference.sums.heads
    rows = now.segment_rows[:, segments].sum(axis=0)
    share = rows / rows.sum()
    moved, influence = np.zeros(len(segments)), np.zeros((len(before.rows), len(segments)))
    for sums, sign in ((now, 1.0), (before, -1.0)):
        size, count = sums.segment_size[:, segments, j], sums.segment_rows[:, segments]
        moved += sign * size.sum(axis=0) / count.sum(axis=0)
        influence += sign * mean_influence(size, count)
    away = (moved - share @ moved) * np.sqrt(share)
    seen = float(away @ away)
    noise, p_value = chance_of_square(seen, (influence - (influence @ share)[:, None]) * np.sqrt(share))
    return Finding(
        "segments", f"{reference.heads[j]}{BY}{column}", sqrt(noise), sqrt(seen), sqrt(max(0.0, seen - noise)), SEGMENTS_SD, p_value
    )


def contribution_findings(reference: Window, current: Window) -> list[Finding]:
    """Return how the heads' shares of utility under the static weights moved."""
    before, now = reference.sums.heads, current.sums.heads
    if not now.rows.sum() or not before.rows.sum():
        return []
    old, new = (each.share.sum(axis=0) / each.rows.sum() for each in (before, now))
    influence = mean_influence(now.share, now.rows) - mean_influence(before.share, before.rows)
    found = []
    for j, head in enumerate(reference.heads):
        change = Change(float(new[j] - old[j]), influence[:, j])
        found.append(
            Finding(
                "contribution", head, float(old[j]), float(new[j]), abs(change.difference), SHARE_POINTS, change.p_value, change.std_error
            )
        )
    return found
