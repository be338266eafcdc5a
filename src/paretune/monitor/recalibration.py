"""By what factor each head's scores grew between two windows, as far as chance and selection leave it open.

What is logged is the top of a list, and a head that grew pulls the list towards what it scores high: the mean score of listed items moves
by far more than the head (scores doubled, the mean was 3.7 times as high), and the other heads' means fall though nothing happened to them.
So lists are compared that undo the change: with factors c, the static weights of the reference become w / c, and the lists that they make
of today's candidates are those of the reference where a rescaling is all that happened. The factors solve

    ln c_j = mean ln |h_j| over today's lists under w / c  -  mean ln |h_j| over the reference's lists under w

by damped steps. The rule: candidates are the union of the grid's lists, so factors can be believed as long as w / c, or a multiple of it,
lies within the grid's ranges; what lies beyond, or does not settle, is said. A shift in log odds is a factor for small probabilities, and
near enough for the heads of a feed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretune.errors import DataError
from paretune.monitor.bins import segment_members
from paretune.monitor.window import HeadSums, Window, head_sums
from paretune.records import Candidates, Floats, Ints, Log

STEP = 0.4  # listed means answer a factor about twice over, so whole steps would swing
MOST_STEPS = 60
SETTLED = 1e-3  # in ln c
NUDGE = 0.1  # of ln c, to see how lists answer
MOST_REQUESTS = 20_000


@dataclass(frozen=True, slots=True)
class Listed:
    """Exploration rows of the current window with their candidates."""

    candidates: Candidates  # of n rows
    user: Ints  # (n,)
    members: Floats  # (n, G) segments of the reference


@dataclass(frozen=True, slots=True)
class Recalibration:
    """How the scales of the heads moved."""

    factor: Floats  # (m,) current over reference; 1 = as it was
    settled: bool  # False: no lists within the grid's ranges bring the reference's scales back
    answer: Floats  # (m, m) -d miss_i / d ln c_j at the factors: an error of a mean is one of ln c by its inverse
    heads: HeadSums  # of the current window with scores divided by the factors


def listed_rows(log: Log, window: Window, *, at_most: int = MOST_REQUESTS) -> Listed:
    """Return exploration rows with candidates, spread evenly over the log.

    Args:
        log: of the current window, with candidates.
        window: the reference.
        at_most: rows kept.

    Raises:
        DataError: the log was read without candidates.
    """
    if log.candidates is None:
        raise DataError("the rows carry no candidates", hint="read the log with candidates")
    rows = np.flatnonzero(log.explored & (np.diff(log.candidates.offsets) >= window.k))
    if len(rows) > at_most:
        rows = rows[np.linspace(0, len(rows) - 1, at_most).astype(np.int64)]
    some = log.take(rows)
    members = segment_members(some, window.bins.segments)
    return Listed(log.candidates.take(rows), some.user, members)


def recalibrated(reference: Window, listed: Listed) -> Recalibration:
    """Return by what factors the heads were rescaled.

    Args:
        reference: window before.
        listed: rows of the window after.

    Raises:
        DataError: a window has no lists.
    """
    before = reference.sums.heads
    if before.rows.sum() <= 0 or not len(listed.candidates):
        raise DataError("no exploration row has candidates enough for a list", hint="log the candidates of exploration rows")
    wanted = before.size.sum(axis=0) / before.rows.sum()
    log_factor = np.zeros(len(reference.heads))
    for _ in range(MOST_STEPS):
        now = _sums(reference, listed, np.exp(log_factor))
        miss = now.size.sum(axis=0) / now.rows.sum() - wanted
        if np.abs(miss).max() < SETTLED:
            return _solved(reference, listed, log_factor, settled=_within_reach(reference, np.exp(log_factor)))
        log_factor = log_factor + STEP * miss
    return _solved(reference, listed, log_factor, settled=False)


def _solved(reference: Window, listed: Listed, log_factor: Floats, *, settled: bool) -> Recalibration:
    """Return the factors with how the listed means answer them, by differences to both sides."""
    answer = np.empty((len(log_factor), len(log_factor)))
    for j in range(len(log_factor)):
        up, down = (_sums(reference, listed, np.exp(log_factor + sign * NUDGE * (np.arange(len(log_factor)) == j))) for sign in (1, -1))
        answer[:, j] = (down.size.sum(axis=0) / down.rows.sum() - up.size.sum(axis=0) / up.rows.sum()) / (2 * NUDGE)
    return Recalibration(np.exp(log_factor), settled, answer, _sums(reference, listed, np.exp(log_factor)))


def _within_reach(reference: Window, factor: Floats) -> bool:
    """Say whether some multiple of w / c lies within the ranges of all tuned heads; a multiple makes the same lists."""
    low, high = reference.ranges.T
    tuned = high > low
    wanted = (reference.static / factor)[tuned]
    return bool((low[tuned] / wanted).max() <= (high[tuned] / wanted).min())


def _sums(reference: Window, listed: Listed, factor: Floats) -> HeadSums:
    return head_sums(
        listed.candidates,
        listed.user,
        listed.members,
        bins=reference.bins,
        weights=reference.static,
        k=reference.k,
        divisor=factor,
    )
