"""How answers, choices and the trust in them moved: rewards, rewards against predictions, actions, exploration, gains.

The rule: rewards are those of production rows, the same lists for everybody; a difference that cannot be computed is a note, never a zero.
"""

from __future__ import annotations

from math import exp, log, sqrt

import numpy as np
from scipy.stats import chi2, norm

from paretune.monitor.finding import (
    AGREEMENT,
    CALIBRATION,
    FEWEST_ROWS,
    OFF_PROPENSITY,
    REWARD_CHANGE,
    SLOPE,
    Change,
    Finding,
    Slope,
    function_of_means,
    mean_influence,
)
from paretune.monitor.psi import shift_between
from paretune.monitor.window import Window
from paretune.records import Floats

FEWEST_PER_ACTION = 5.0  # expected exploration rows; below, chi-square does not hold


def reward_findings(reference: Window, current: Window, notes: list[str]) -> list[Finding]:
    """Return how the mean rewards of production rows moved; a note where there are too few."""
    before, now = reference.sums, current.sums
    if min(before.produced.sum(), now.produced.sum()) < FEWEST_ROWS:
        notes.append(f"rewards were not compared: each window needs {FEWEST_ROWS:g} production rows")
        return []
    influence = mean_influence(now.reward, now.produced) - mean_influence(before.reward, before.produced)
    found = []
    for j, objective in enumerate(reference.objectives):
        old, new = (float(each.reward[:, j].sum() / each.produced.sum()) for each in (before, now))
        change = Change(new - old, influence[:, j])
        size = abs(new - old) / abs(old) if old else float(new != old)
        found.append(Finding("reward", objective, old, new, size, REWARD_CHANGE, change.p_value, change.std_error))
    return found


def prediction_findings(reference: Window, current: Window, notes: list[str]) -> list[Finding]:
    """Return how rewards stand to what the ranker predicted of production's lists: as a ratio, and as a slope."""
    before, now = reference.sums.predicted, current.sums.predicted
    if min(before[:, 0, 0].sum(), now[:, 0, 0].sum()) < FEWEST_ROWS:
        notes.append("heads were not compared with rewards: production rows need served_scores, and objectives a head")
        return []
    found = []
    for j, objective in enumerate(reference.objectives):
        (old, left), (new, right) = (function_of_means(sums[:, j], _log_ratio) for sums in (before, now))
        change = Change(new - old, right - left)
        mark = log(CALIBRATION)
        found.append(Finding("calibration", objective, exp(old), exp(new), abs(new - old), mark, change.p_value, change.std_error))
        (old, left), (new, right) = (function_of_means(sums[:, j], _agreement) for sums in (before, now))
        change = Change(new - old, right - left)
        size = abs(new - old) / abs(old) if old else 0.0
        found.append(Finding("agreement", objective, old, new, size, AGREEMENT, change.p_value, change.std_error))
    return found


def action_findings(reference: Window, current: Window, notes: list[str], *, psi: float) -> list[Finding]:
    """Return how the actions that policies serve moved; a note where there are too few rows of their arms."""
    before, now = reference.sums.policy, current.sums.policy
    if min(before.sum(), now.sum()) < FEWEST_ROWS:
        notes.append(f"the action mix was not compared: each window needs {FEWEST_ROWS:g} rows of a policy's arm")
        return []
    shift = shift_between(before, now)
    return [Finding("actions", "policy's arm", shift.noise, shift.psi, shift.excess, psi, shift.p_value)]


def exploration_findings(current: Window, notes: list[str]) -> list[Finding]:
    """Return whether exploration draws what its propensities say: n sum_a (T_a - 1)^2 / d_a, as `paretune check` tests it."""
    count, inverse, squared = current.sums.drawn
    n, served = float(count.sum()), count > 0
    spread = np.full(len(count), np.inf)
    spread[served] = squared[served] / inverse[served]
    spread[~served] = np.median(spread[served]) if served.any() else np.inf
    if len(count) < 2 or n / spread.max() < FEWEST_PER_ACTION:
        notes.append(f"exploration was not tested: {n:,.0f} rows on {len(count)} actions")
        return []
    ratio = inverse / n
    freedom = len(count) - int(np.isclose(np.sum(1 / spread), 1))
    p_value = float(chi2.sf(float(n * np.sum((ratio - 1) ** 2 / spread)), freedom))
    farthest = float(ratio[np.abs(ratio - 1).argmax()])
    return [Finding("exploration", "propensities", 1.0, farthest, abs(farthest - 1), OFF_PROPENSITY, p_value)]


def gain_findings(reference: Slope | None, current: Slope | None, notes: list[str]) -> list[Finding]:
    """Return whether predicted gains still come true: the slope against half of what it was, or against a half where that is unknown."""
    if current is None:
        notes.append("gains were not calibrated: name a model that predicts them with --model")
        return []
    was = 1.0 if reference is None else reference.slope
    error = sqrt(current.std_error**2 + (0.0 if reference is None else (SLOPE * reference.std_error) ** 2))
    lost = SLOPE * was - current.slope
    p_value = float(norm.sf(lost / error)) if error > 0 else float(lost <= 0)
    known = float("nan") if reference is None else was
    return [Finding("gain", "slope", known, current.slope, 1 - current.slope / was if was > 0 else 0.0, SLOPE, p_value, error)]


def _log_ratio(mean: Floats) -> float:
    return log(max(float(mean[1]), 1e-12) / max(float(mean[2]), 1e-12))


def _agreement(mean: Floats) -> float:
    _, r, h, rh, hh = mean.tolist()
    spread = hh - h * h
    return (rh - r * h) / spread * h / r if spread > 0 and r > 0 else 0.0
