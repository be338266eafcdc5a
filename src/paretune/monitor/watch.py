"""Windows taken from batches of a log, and compared: the stages of watching in their order.

    reference = take_reference(batches, config)              # once, of the days that trained; may be kept as JSON
    current, listed = take_window(batches, reference)        # as often as you like
    drift = watched(reference, current, listed)
    verdict = judge(drift)

The rule: batches pass once for bins and once for sums; nothing of them is kept but the sums, and some thousand rows with candidates of the
current window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from paretune.config import Config
from paretune.errors import DataError
from paretune.monitor.bins import Bins, fit_bins
from paretune.monitor.drift import LEVEL, Drift, compare
from paretune.monitor.finding import Slope
from paretune.monitor.psi import MODERATE
from paretune.monitor.recalibration import MOST_REQUESTS, Listed, listed_rows, recalibrated
from paretune.monitor.window import Window, WindowSums, observe
from paretune.records import Candidates, Log

ROWS_FOR_BINS = 4_000  # of each batch


def take_reference(batches: Callable[[], Iterable[Log]], config: Config) -> Window:
    """Return a window to compare later ones with.

    Args:
        batches: gives the window's rows in batches, each time it is called; with candidates and predictions where the log has them.
        config: surface, objectives, features.

    Raises:
        DataError: the window has no rows.
    """
    surface = config.surface.build()
    samples = [_some(batch) for batch in batches() if len(batch)]
    if not samples:
        raise DataError("the reference window has no rows", hint="name days that the log has")
    bins = fit_bins(Log.concat(samples), static=surface.static, k=surface.k)
    objectives = tuple(objective.name for objective in config.objectives)
    heads = tuple(objective.head or "" for objective in config.objectives)
    days, sums = _observed(batches(), bins, static=surface.static, k=surface.k, actions=len(surface))
    ranges = np.stack([surface.actions.min(axis=0), surface.actions.max(axis=0)], axis=1)
    return Window(days, surface.names, objectives, heads, surface.static, ranges, surface.k, bins, sums)


def take_window(batches: Iterable[Log], reference: Window) -> tuple[Window, Listed]:
    """Return a window counted like the reference, and its rows with candidates (none where none are logged).

    Args:
        batches: of the window, as of the reference.
        reference: whose bins and weights it is counted in.

    Raises:
        DataError: the window has no rows, or lacks features of the reference.
    """
    parts: list[Listed] = []

    def passing() -> Iterable[Log]:
        for batch in batches:
            if batch.candidates is not None:
                parts.append(listed_rows(batch, reference, at_most=MOST_REQUESTS))
            yield batch

    actions = reference.sums.policy.shape[1] - 1
    days, sums = _observed(passing(), reference.bins, static=reference.static, k=reference.k, actions=actions)
    window = replace(reference, days=days, sums=sums)
    return window, _joined(parts, reference)


def watched(
    reference: Window,
    current: Window,
    listed: Listed,
    *,
    slopes: tuple[Slope | None, Slope | None] = (None, None),
    psi: float = MODERATE,
    level: float = LEVEL,
) -> Drift:
    """Return what moved between two windows; arguments as of `compare`."""
    comparable = len(listed.candidates) and reference.sums.heads.rows.sum()
    recalibration = recalibrated(reference, listed) if comparable else None
    return compare(reference, current, recalibration=recalibration, slopes=slopes, psi=psi, level=level)


def _observed(batches: Iterable[Log], bins: Bins, *, static: object, k: int, actions: int) -> tuple[tuple[int, ...], WindowSums]:
    total: WindowSums | None = None
    days: set[int] = set()
    for batch in batches:
        if not len(batch):
            continue
        sums = observe(batch, bins, static=np.asarray(static), k=k, actions=actions)
        total = sums if total is None else total + sums
        days |= set(np.unique(batch.day).tolist())
    if total is None:
        raise DataError("the window has no rows", hint="name days that the log has")
    return tuple(sorted(days)), total


def _some(batch: Log) -> Log:
    """Return rows of a batch, evenly spaced."""
    if len(batch) <= ROWS_FOR_BINS:
        return batch
    return batch.take(np.linspace(0, len(batch) - 1, ROWS_FOR_BINS).astype(np.int64))


def _joined(parts: list[Listed], reference: Window) -> Listed:
    """Return the parts together, thinned evenly to what is kept."""
    if not parts:
        nothing = Candidates(np.zeros(1, np.int64), np.empty(0, np.int64), np.empty((0, len(reference.heads)), np.float32))
        return Listed(nothing, np.empty(0, np.int64), np.empty((0, len(reference.bins.segments))))
    user, members = np.concatenate([part.user for part in parts]), np.concatenate([part.members for part in parts])
    candidates = Candidates.concat(part.candidates for part in parts)
    if len(user) <= MOST_REQUESTS:
        return Listed(candidates, user, members)
    rows = np.linspace(0, len(user) - 1, MOST_REQUESTS).astype(np.int64)
    return Listed(candidates.take(rows), user[rows], members[rows])
