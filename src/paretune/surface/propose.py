"""Which heads are worth tuning, and over which weights, read off logged candidate scores (App. A.1, A.2 of the paper).

The rule: a proposal says why. Heads are taken by contribution (Eq. 11) until together they reach a share of utility; each range runs
from near-negligible to dominant and always holds the production weight with room on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from paretune.errors import SurfaceError
from paretune.records import Floats
from paretune.surface.contribution import head_contribution, weight_range_curve

ROOM = 2.0  # a range reaches at least production / ROOM and production * ROOM; the paper's 91.6 in [10, 200] and 9.1 in [1, 30]
FARTHEST = 1e4  # searched from production over this to production times this
LEVELS = {1: 15, 2: 7, 3: 4}  # tuned heads -> levels each: 15, 49 (the paper) and 64 actions
LOG_SPACED_FROM = 50.0  # a range wider than this factor would leave linear levels with one point below production


@dataclass(frozen=True, slots=True)
class HeadProposal:
    """What a head contributes, and whether and how to tune it; fields are named as in `paretune.toml`."""

    name: str
    weight: float  # production
    contribution: float  # share of utility under production weights
    tune: bool
    low: float  # NaN when not tuned
    high: float
    low_share: float  # share of utility at low, the other heads staying
    high_share: float
    levels: int  # 0 when not tuned
    spacing: Literal["linear", "log"]
    why: str


def propose_heads(
    scores: Floats,
    names: tuple[str, ...],
    static: Floats,
    *,
    enough: float = 0.9,
    at_most: int = 3,
    low_share: float = 0.01,
    high_share: float = 0.5,
) -> tuple[HeadProposal, ...]:
    """Return a proposal per head, largest contribution first.

    Args:
        scores: (T, m) logged head scores of candidates; a sample of some 100,000 is plenty.
        names: (m,) head names, in score order.
        static: (m,) production weights.
        enough: in (0, 1]; stop taking heads once they make up this share of utility.
        at_most: tune no more heads than this, 1..3; actions are a product over heads.
        low_share: the head's share of utility where its range starts.
        high_share: the head's share of utility where its range ends.

    Raises:
        DataError: scores are not finite, or shapes disagree.
        SurfaceError: no head has a positive weight and a share of utility, or an option is out of range.
    """
    if not (0 < enough <= 1 and 1 <= at_most <= max(LEVELS) and 0 < low_share < high_share < 1):
        raise SurfaceError(
            f"options out of range: enough={enough}, at_most={at_most}, low_share={low_share}, high_share={high_share}",
            hint=f"0 < enough <= 1, 1 <= at_most <= {max(LEVELS)}, 0 < low_share < high_share < 1",
        )
    shares = head_contribution(scores, static)
    order = np.argsort(-shares, kind="stable")
    chosen: list[int] = []
    for head in order:
        if len(chosen) < at_most and shares[chosen].sum() < enough and static[head] > 0 and shares[head] > 0:
            chosen.append(int(head))
    if not chosen:
        raise SurfaceError("no head has a positive weight and a share of utility", hint="for a negative head, negate its score")
    levels = LEVELS[len(chosen)]
    return tuple(
        _tuned(scores, names, static, int(head), float(shares[head]), levels, (low_share, high_share))
        if head in chosen
        else _kept(names[head], float(static[head]), float(shares[head]), full=bool(shares[chosen].sum() < enough))
        for head in order
    )


def _tuned(
    scores: Floats, names: tuple[str, ...], static: Floats, head: int, share: float, levels: int, ends: tuple[float, float]
) -> HeadProposal:
    weight = float(static[head])
    low = min(_weight_at(scores, static, head, ends[0]), weight / ROOM)
    high = max(_weight_at(scores, static, head, ends[1]), weight * ROOM)
    low, high = _rounded(low, down=True), _rounded(high, down=False)
    reached = weight_range_curve(scores, static, head, np.array([low, high]))
    spacing: Literal["linear", "log"] = "log" if high / low > LOG_SPACED_FROM else "linear"
    why = f"{share:.0%} of utility; from {reached[0]:.1%} of it at weight {low:g} to {reached[1]:.0%} at {high:g}"
    return HeadProposal(names[head], weight, share, True, low, high, float(reached[0]), float(reached[1]), levels, spacing, why)


def _kept(name: str, weight: float, share: float, *, full: bool) -> HeadProposal:
    if weight < 0:
        why = "weight is negative; negate the score to tune it"
    elif weight == 0 or share == 0:
        why = "adds nothing to utility in production"
    elif full:
        why = f"{share:.0%} of utility, but more tuned heads would mean too many actions"
    else:
        why = f"only {share:.1%} of utility; the tuned heads make up enough"
    return HeadProposal(name, weight, share, False, np.nan, np.nan, np.nan, np.nan, 0, "linear", why)


def _weight_at(scores: Floats, static: Floats, head: int, share: float) -> float:
    """Return the weight at which the head has that share of utility; the production weight where none has."""
    exponents = np.linspace(-np.log(FARTHEST), np.log(FARTHEST), 81)
    curve = weight_range_curve(scores, static, head, float(static[head]) * np.exp(exponents))
    if not curve[0] < share < curve[-1]:
        return float(static[head])
    return float(static[head] * np.exp(np.interp(share, curve, exponents)))


def _rounded(value: float, *, down: bool) -> float:
    """Return two significant digits, so that a person can read the file."""
    step = 10.0 ** (np.floor(np.log10(value)) - 1)
    steps = (np.floor if down else np.ceil)(np.round(value / step, 9))
    return float(f"{steps * step:.2g}")
