"""What moved between a reference window and the current one, aspect by aspect, with chance taken out.

| aspect | what is compared | moved when, beside a discovery |
|---|---|---|
| state | PSI of every feature | PSI less noise >= 0.1 |
| scale | factor c_j of a head's scores on lists that undo it (recalibration.py) | c outside 1/1.2 ... 1.2, 1.1 where its share moved |
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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np

from paretune.errors import DataError
from paretune.monitor.bins import Bins
from paretune.monitor.finding import Aspect, Finding, Slope
from paretune.monitor.head_findings import BY, contribution_findings, head_findings
from paretune.monitor.psi import MODERATE, discoveries, shift_between
from paretune.monitor.recalibration import Recalibration
from paretune.monitor.reward_findings import (
    action_findings,
    exploration_findings,
    gain_findings,
    prediction_findings,
    reward_findings,
)
from paretune.monitor.window import Window
from paretune.records import Floats

LEVEL = 0.01
SMALLEST_SHARE = 0.02  # of utility; smaller heads alarm nobody
BARELY_SCALED = 1.1  # counts where the head's share of utility moved
OF_HEADS = ("scale", "segments", "shape")


@dataclass(frozen=True, slots=True)
class Shares:
    """Contribution shares of the heads under the reference's static weights."""

    reference: Floats  # (m,)
    current: Floats  # (m,)
    reanchored: Floats  # (m,) with the weights divided by the factors of all heads


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
    findings = state_findings(reference.bins, reference.sums.state, current.sums.state, psi=psi)
    shares = None
    if recalibration is None:
        notes.append("heads were not compared: exploration rows of both windows need candidates")
    else:
        shares = _shares(reference, current, recalibration)
        findings += head_findings(reference, recalibration, psi=psi)
        findings += contribution_findings(reference, current)
        if not recalibration.settled:
            notes.append("the factors of the heads did not settle: no lists within the grid's ranges bring the earlier scales back")
    findings += reward_findings(reference, current, notes)
    findings += prediction_findings(reference, current, notes)
    findings += action_findings(reference, current, notes, psi=psi)
    findings += exploration_findings(current, notes)
    findings += gain_findings(*slopes, notes=notes)
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
    moved = {
        (each.aspect, each.name)
        for each, sure in zip(findings, certain, strict=True)
        if sure and each.size >= each.threshold and not (each.aspect in OF_HEADS and each.name.partition(BY)[0] in small)
    }
    for each, sure in zip(findings, certain, strict=True):  # what made a share move is named, though it be below its own mark
        if each.aspect == "scale" and sure and each.size >= log(BARELY_SCALED) and ("contribution", each.name) in moved:
            moved.add(("scale", each.name))
    marked = [replace(each, moved=(each.aspect, each.name) in moved) for each in findings]
    order = list(dict.fromkeys(each.aspect for each in findings))
    return tuple(sorted(marked, key=lambda each: (order.index(each.aspect), -each.size)))


def state_findings(bins: Bins, before: Floats, now: Floats, *, psi: float) -> list[Finding]:
    """Return how far every watched feature moved.

    Args:
        bins: of both windows.
        before: (C, T) counts of the reference in the bins of all features, one after the other.
        now: (C, T) of the current window.
        psi: from which a feature counts as moved.
    """
    found, start = [], 0
    for name, size in bins.state:
        columns = slice(start, start + size)
        shift = shift_between(before[:, columns], now[:, columns])
        found.append(Finding("state", name, shift.noise, shift.psi, shift.excess, psi, shift.p_value))
        start += size
    return found


def _shares(reference: Window, current: Window, recalibration: Recalibration) -> Shares:
    sums = (reference.sums.heads, current.sums.heads, recalibration.heads)
    return Shares(*(each.share.sum(axis=0) / max(1.0, float(each.rows.sum())) for each in sums))
