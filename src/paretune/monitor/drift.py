"""What moved between a reference window and the current one, aspect by aspect, with chance taken out.

| aspect | what is compared | moved when, beside a discovery |
|---|---|---|
| state | PSI of every feature | PSI less noise >= 0.1 |
| scale | factor c_j of a head's scores on lists that undo it (recalibration.py) | c outside 1/1.2 ... 1.2 |
| segments | how differently a head's scores moved between segments: sd of ln h, noise out | >= 0.1 |
| shape | PSI of a head's scores once its scale is undone | PSI less noise >= 0.1 |
| contribution | a head's share of utility under the static weights | >= 5 points |
| reward | mean reward of production rows | >= 5 % |
| calibration | observed over predicted reward of production's lists | factor outside 1/1.1 ... 1.1 |
| agreement | slope of reward on prediction, each in units of its mean: no thinning or rescaling changes it | a quarter lost or won |
| actions | PSI of what the policy's arm serves | PSI less noise >= 0.1 |
| exploration | rows per action over what the propensities say | >= 5 % off |
| gain | slope of measured on predicted gain of the policy | below half |

The rule: all p-values of a comparison are judged together (Benjamini-Hochberg at 1 %), so that where nothing moved, some alarm sounds once
in a hundred windows at most; and what is certain but small is no alarm. A head with less than 2 % of the utility before and after is shown
and alarms nobody. That the policy's lift fell is no aspect: production suffers from a stale ranker as much, and the lift stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt
from typing import Literal

import numpy as np
from scipy.stats import chi2, norm
from scipy.stats import t as student

from paretune.errors import DataError
from paretune.monitor.bins import Bins
from paretune.monitor.psi import MODERATE, chance_of_square, discoveries, shift_between
from paretune.monitor.recalibration import Recalibration
from paretune.monitor.window import HeadSums, Window
from paretune.records import Floats

LEVEL = 0.01
SCALED = 1.2
SEGMENTS_SD = 0.1
SHARE_POINTS = 0.05
REWARD_CHANGE = 0.05
CALIBRATION = 1.1
AGREEMENT = 0.25
OFF_PROPENSITY = 0.05
SLOPE = 0.5
SMALLEST_SHARE = 0.02  # of utility; smaller heads alarm nobody
FEWEST_ROWS = 100.0  # of a policy's arm, of a segment, of production rows; fewer are not compared

Aspect = Literal[
    "state", "scale", "segments", "shape", "contribution", "reward", "calibration", "agreement", "actions", "exploration", "gain"
]


@dataclass(frozen=True, slots=True)
class Slope:
    """How measured gains follow predicted ones."""

    slope: float
    std_error: float


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison: what was, what is, how large a difference that makes, and whether it counts."""

    aspect: Aspect
    name: str  # a feature, head, objective
    reference: float  # in the aspect's own unit; of PSI its noise
    current: float  # of PSI the index
    size: float  # of the difference, noise out where the aspect says so
    threshold: float  # from which it counts
    p_value: float
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Shares:
    """Contribution shares of the heads under the reference's static weights."""

    reference: Floats  # (m,)
    current: Floats  # (m,)
    reanchored: Floats  # (m,) with the weights divided by the factors


@dataclass(frozen=True, slots=True)
class Drift:
    """What moved between two windows."""

    reference: Window
    current: Window
    findings: tuple[Finding, ...]  # in the order of the aspects, the largest first
    recalibration: Recalibration | None  # None where no lists could be compared
    shares: Shares | None
    notes: tuple[str, ...]  # what could not be compared, and why

    def moved(self, *aspects: Aspect) -> tuple[Finding, ...]:
        """Return what moved, of some aspects, or of all."""
        return tuple(each for each in self.findings if each.moved and (not aspects or each.aspect in aspects))

    @property
    def factors(self) -> dict[str, float]:
        """Head -> current over reference scale, of heads whose scale moved."""
        if self.recalibration is None:
            return {}
        scale = dict(zip(self.reference.heads, self.recalibration.factor.tolist(), strict=True))
        return {each.name: scale[each.name] for each in self.moved("scale")}


def compare(
    reference: Window,
    current: Window,
    *,
    recalibration: Recalibration | None = None,
    slopes: tuple[Slope | None, Slope | None] = (None, None),
    psi: float = MODERATE,
    level: float = LEVEL,
) -> Drift:
    """Return what moved.

    Args:
        reference: window before.
        current: window after, counted in the reference's bins.
        recalibration: of the current window's lists; None where candidates are not logged.
        slopes: of gains in the reference (on days that did not train the model) and in the current window.
        psi: from which a distribution counts as moved.
        level: of false discoveries among all comparisons.

    Raises:
        DataError: the windows are of other heads, objectives or bins, or one is empty.
    """
    _refuse_unlike(reference, current)
    notes: list[str] = []
    findings = [*_state(reference, current, psi=psi)]
    shares = None
    if recalibration is None:
        notes.append("heads were not compared: exploration rows of both windows need candidates")
    else:
        shares = _shares(reference, current, recalibration)
        findings += _heads(reference, recalibration, psi=psi)
        findings += _contributions(reference, current)
        if not recalibration.settled:
            notes.append("the factors of the heads did not settle: no lists within the grid's ranges bring the earlier scales back")
    findings += _rewards(reference, current, notes)
    findings += _predictions(reference, current, notes)
    findings += _actions(reference, current, notes, psi=psi)
    findings += _exploration(current)
    findings += _gain(*slopes, notes=notes)
    return Drift(reference, current, _judged(findings, shares, reference, level=level), recalibration, shares, tuple(notes))


def _refuse_unlike(reference: Window, current: Window) -> None:
    for what in ("heads", "objectives", "bins", "k"):
        if getattr(reference, what) != getattr(current, what):
            raise DataError(f"the windows differ in their {what}", hint="watch with the configuration of the reference, or take a new one")
    for name, window in (("reference", reference), ("current", current)):
        if not window.rows:
            raise DataError(f"the {name} window has no rows", hint="name days that the log has")


def _judged(findings: Sequence[Finding], shares: Shares | None, reference: Window, *, level: float) -> tuple[Finding, ...]:
    """Return the findings with what moved marked: discoveries that are large, of heads that matter."""
    certain = discoveries(np.array([each.p_value for each in findings]), level=level)
    small = set()
    if shares is not None:
        most = np.maximum.reduce([shares.reference, shares.current, shares.reanchored])
        small = {name for name, share in zip(reference.heads, most, strict=True) if share < SMALLEST_SHARE}
    marked = [
        replace(each, moved=bool(sure and each.size >= each.threshold and not (each.aspect in _OF_HEADS and _head_of(each.name) in small)))
        for each, sure in zip(findings, certain, strict=True)
    ]
    order = list(dict.fromkeys(each.aspect for each in findings))
    return tuple(sorted(marked, key=lambda each: (order.index(each.aspect), -each.size)))


_OF_HEADS = ("scale", "segments", "shape")
BY = " by "  # between a head and the column of its segments


def _head_of(name: str) -> str:
    return name.partition(BY)[0]


def _state(reference: Window, current: Window, *, psi: float) -> list[Finding]:
    return _shifts("state", reference.bins, reference.sums.state, current.sums.state, psi=psi)


def _shifts(aspect: Aspect, bins: Bins, before: Floats, now: Floats, *, psi: float) -> list[Finding]:
    found, start = [], 0
    for name, size in bins.state:
        columns = slice(start, start + size)
        shift = shift_between(before[:, columns], now[:, columns])
        found.append(Finding(aspect, name, shift.noise, shift.psi, shift.excess, psi, shift.p_value))
        start += size
    return found


def _heads(reference: Window, recalibration: Recalibration, *, psi: float) -> list[Finding]:
    before, now = reference.sums.heads, recalibration.heads
    found = []
    error = _clustered(_mean_influence(now.size, now.rows) - _mean_influence(before.size, before.rows))
    for j, head in enumerate(reference.heads):
        factor = float(recalibration.factor[j])
        found.append(
            Finding("scale", head, 1.0, factor, abs(log(factor)), log(SCALED), _two_sided(log(factor), float(error[j]), before, now))
        )
    columns = dict.fromkeys(column for column, _ in reference.bins.segments)
    for column in columns:
        segments = np.array([g for g, (name, _) in enumerate(reference.bins.segments) if name == column])
        known = (before.segment_rows[:, segments].sum(axis=0) >= FEWEST_ROWS) & (now.segment_rows[:, segments].sum(axis=0) >= FEWEST_ROWS)
        if known.sum() >= 2:
            found += [_between_segments(reference, now, segments[known], j, column) for j in range(len(reference.heads))]
    for j, head in enumerate(reference.heads):
        shift = shift_between(before.shape[:, j], now.shape[:, j])
        found.append(Finding("shape", head, shift.noise, shift.psi, shift.excess, psi, shift.p_value))
    return found


def _between_segments(reference: Window, now: HeadSums, segments: Floats, j: int, column: str) -> Finding:
    """Return how differently a head's scores moved between the segments of a column: sd of ln h, noise taken out."""
    before = reference.sums.heads
    rows = now.segment_rows[:, segments].sum(axis=0)
    share = rows / rows.sum()
    moved, influence = np.zeros(len(segments)), np.zeros((len(before.rows), len(segments)))
    for sums, sign in ((now, 1.0), (before, -1.0)):
        size, count = sums.segment_size[:, segments, j], sums.segment_rows[:, segments]
        moved += sign * size.sum(axis=0) / count.sum(axis=0)
        influence += sign * _mean_influence(size, count)
    away = (moved - share @ moved) * np.sqrt(share)
    noise, p_value = chance_of_square(float(away @ away), (influence - (influence @ share)[:, None]) * np.sqrt(share))
    sd = sqrt(max(0.0, float(away @ away) - noise))
    return Finding("segments", f"{reference.heads[j]}{BY}{column}", sqrt(noise), sqrt(float(away @ away)), sd, SEGMENTS_SD, p_value)


def _shares(reference: Window, current: Window, recalibration: Recalibration) -> Shares:
    sums = (reference.sums.heads, current.sums.heads, recalibration.heads)
    return Shares(*(each.share.sum(axis=0) / max(1.0, float(each.rows.sum())) for each in sums))


def _contributions(reference: Window, current: Window) -> list[Finding]:
    before, now = reference.sums.heads, current.sums.heads
    if not now.rows.sum() or not before.rows.sum():
        return []
    old, new = (each.share.sum(axis=0) / each.rows.sum() for each in (before, now))
    error = _clustered(_mean_influence(now.share, now.rows) - _mean_influence(before.share, before.rows))
    return [
        Finding(
            "contribution",
            head,
            float(old[j]),
            float(new[j]),
            abs(float(new[j] - old[j])),
            SHARE_POINTS,
            _two_sided(new[j] - old[j], float(error[j]), before, now),
        )
        for j, head in enumerate(reference.heads)
    ]


def _rewards(reference: Window, current: Window, notes: list[str]) -> list[Finding]:
    before, now = reference.sums, current.sums
    if min(before.produced.sum(), now.produced.sum()) < FEWEST_ROWS:
        notes.append(f"rewards were not compared: each window needs {FEWEST_ROWS:g} production rows")
        return []
    found = []
    for j, objective in enumerate(reference.objectives):
        old, new = (float(each.reward[:, j].sum() / each.produced.sum()) for each in (before, now))
        influence = _mean_influence(now.reward[:, [j]], now.produced) - _mean_influence(before.reward[:, [j]], before.produced)
        size = abs(new - old) / abs(old) if old else float(new != old)
        p_value = _two_sided(new - old, float(_clustered(influence)[0]), before.heads, now.heads)
        found.append(Finding("reward", objective, old, new, size, REWARD_CHANGE, p_value))
    return found


def _predictions(reference: Window, current: Window, notes: list[str]) -> list[Finding]:
    """Return how rewards stand to what the ranker predicted of production's lists: as a ratio, and as a slope."""
    before, now = reference.sums.predicted, current.sums.predicted
    if min(before[:, 0, 0].sum(), now[:, 0, 0].sum()) < FEWEST_ROWS:
        notes.append("heads were not compared with rewards: production rows need served_scores, and objectives a head")
        return []
    found = []
    for j, objective in enumerate(reference.objectives):
        for aspect, function in (("calibration", _log_ratio), ("agreement", _agreement)):
            (old, left), (new, right) = (_of_moments(sums[:, j], function) for sums in (before, now))
            p_value = _two_sided(new - old, float(_clustered((right - left)[:, None])[0]), reference.sums.heads, current.sums.heads)
            if aspect == "calibration":
                found.append(Finding("calibration", objective, exp(old), exp(new), abs(new - old), log(CALIBRATION), p_value))
            else:
                size = abs(new - old) / abs(old) if old else 0.0
                found.append(Finding("agreement", objective, old, new, size, AGREEMENT, p_value))
    return found


def _actions(reference: Window, current: Window, notes: list[str], *, psi: float) -> list[Finding]:
    before, now = reference.sums.policy, current.sums.policy
    if min(before.sum(), now.sum()) < FEWEST_ROWS:
        notes.append(f"the action mix was not compared: each window needs {FEWEST_ROWS:g} rows of a policy's arm")
        return []
    shift = shift_between(before, now)
    return [Finding("actions", "policy's arm", shift.noise, shift.psi, shift.excess, psi, shift.p_value)]


def _exploration(current: Window) -> list[Finding]:
    """Return whether exploration draws what its propensities say: n sum_a (T_a - 1)^2 / d_a, as `paretune check` tests it."""
    count, inverse, squared = current.sums.drawn
    n = count.sum()
    known = count > 0
    if n < FEWEST_ROWS or known.sum() < 2:
        return []
    spread = squared[known] / inverse[known]
    ratio = inverse[known] / n
    statistic = float(n * np.sum((ratio - 1) ** 2 / spread))
    freedom = int(known.sum()) - int(np.isclose(np.sum(1 / spread), 1))
    return [
        Finding(
            "exploration",
            "propensities",
            1.0,
            float(ratio[np.abs(ratio - 1).argmax()]),
            float(np.abs(ratio - 1).max()),
            OFF_PROPENSITY,
            float(chi2.sf(statistic, freedom)),
        )
    ]


def _gain(reference: Slope | None, current: Slope | None, *, notes: list[str]) -> list[Finding]:
    """Return whether predicted gains still come true: the slope against half of what it was, or against a half where that is unknown."""
    if current is None:
        notes.append("gains were not calibrated: name a model that predicts them with --model")
        return []
    was = 1.0 if reference is None else reference.slope
    error = sqrt(current.std_error**2 + (0.0 if reference is None else (SLOPE * reference.std_error) ** 2))
    lost = SLOPE * was - current.slope
    p_value = float(norm.sf(lost / error)) if error > 0 else float(lost <= 0)
    return [Finding("gain", "slope", was, current.slope, 1 - current.slope / was if was > 0 else 0.0, SLOPE, p_value)]


def _mean_influence(sums: Floats, count: Floats) -> Floats:
    """Return what each cluster adds to the error of sums over counts (C, d); counts are (C,) or (C, d)."""
    count = count[:, None] if count.ndim < sums.ndim else count
    total = np.maximum(count.sum(axis=0), 1.0)
    return (sums - count * (sums.sum(axis=0) / total)) / total


def _clustered(influence: Floats) -> Floats:
    """Return the standard errors (d,)."""
    occupied = int((influence != 0).any(axis=1).sum())
    return np.sqrt(np.square(influence).sum(axis=0) * occupied / max(1, occupied - 1))


def _two_sided(difference: float, error: float, *sums: HeadSums) -> float:
    """Return the p-value of a difference by Student's law, its freedom the clusters less one."""
    if error <= 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * student.sf(abs(difference) / error, max(1, len(sums[0].rows) - 1)))


def _log_ratio(mean: Floats) -> float:
    return log(max(float(mean[1]), 1e-12) / max(float(mean[2]), 1e-12))


def _agreement(mean: Floats) -> float:
    _, r, h, rh, hh = mean.tolist()
    spread = hh - h * h
    return (rh - r * h) / spread * h / r if spread > 0 and r > 0 else 0.0


def _of_moments(sums: Floats, function: Callable[[Floats], float]) -> tuple[float, Floats]:
    """Return a function of mean moments (5,), and what each cluster adds to its error (C,), by the delta method."""
    total = float(sums[:, 0].sum())
    mean = sums.sum(axis=0) / total
    gradient = np.zeros(len(mean))
    for place in range(1, len(mean)):
        step = 1e-4 * max(abs(float(mean[place])), 1e-9)
        up, down = mean.copy(), mean.copy()
        up[place] += step
        down[place] -= step
        gradient[place] = (function(up) - function(down)) / (2 * step)
    return function(mean), ((sums - sums[:, [0]] * mean) / total) @ gradient
