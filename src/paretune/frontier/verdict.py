"""What may be said of a policy, and when nothing may: confirmed, promising, or that the data cannot tell.

The rule: *confirmed* rests on the simultaneous bands alone; *promising* on a probability that holds for the policy that was picked, not for
one named beforehand (`shrinkage`). Where not even one policy is promising there is no front to choose from, and the answer is how many
exploration rows would resolve the best candidate: n (2.8 se / L)^2, for a two-sided test at 5 % with 80 % power.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from paretune.errors import GateError
from paretune.records import Bools, Floats

CONFIRMED, PROMISING, CANNOT_TELL = "confirmed", "promising: test it", "cannot tell"
POWER = 2.8  # 1.96 + 0.84: standard errors from zero at which 80 % of tests at 5 % see a difference


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no front."""

    policy: int  # index into Front.policies: the candidate least likely to degrade anything
    objective: str  # that takes the most rows to resolve
    rows: int  # exploration rows that were judged
    needed: int  # exploration rows that would resolve the candidate at 80 % power
    lift: float  # that these rows would resolve, as a fraction

    @property
    def short(self) -> bool:
        """Whether more rows would help; else the data are enough to say that no policy is worth a test."""
        return self.needed > self.rows

    @property
    def reason(self) -> str:
        """Why, in a sentence."""
        judged = f"no policy is even promising on {self.rows:,} held-out exploration rows"
        if self.short:
            show = f"for the safest policy alone to show a lift of {_short(self.lift)} in {self.objective} (80 % power)"
            return f"not enough data: {judged}; {show} takes about {self.needed:,} held-out exploration rows in all"
        return f"{judged}, which would have shown a lift of {_short(self.lift)} in {self.objective}"

    @property
    def remedy(self) -> str:
        """What to do about it."""
        if self.short:
            return (
                f"explore about {self.needed / self.rows:.1f} times as many requests, or a smaller grid; keep the static weights until then"
            )
        return "keep the static weights, or train on more rows: more rows to judge by would not change this"


def two_digits(rows: float) -> int:
    """Return a number of rows rounded up to two digits."""
    step = 10 ** max(0, len(str(ceil(rows))) - 2)
    return ceil(rows / step) * step


def _short(lift: float) -> str:
    """Return a lift as a per cent of two digits, or more where it is above a hundred."""
    return f"{100 * lift:.0f} %" if 100 * lift >= 10 else f"{100 * lift:.2g} %"


def verdicts(points: Floats, *, lower: Floats, risk: Floats, floors: Floats, tolerated: float) -> tuple[str, ...]:
    """Return the verdict of each policy.

    Args:
        points: (P, M) estimated lifts, larger is better.
        lower: (P, M) simultaneous lower bounds, larger is better.
        risk: (P,) probability that a policy is truly below a floor.
        floors: (M,) lowest acceptable lifts.
        tolerated: largest risk that is still worth a test.

    Returns:
        (P,) one of CONFIRMED, PROMISING, CANNOT_TELL; a policy without an estimate gets the last.
    """
    clears = np.logical_and.reduce(points >= floors, axis=1)
    proven = clears & np.logical_and.reduce(lower >= floors, axis=1)
    probable = clears & (risk <= tolerated)
    return tuple(CONFIRMED if sure else PROMISING if likely else CANNOT_TELL for sure, likely in zip(proven, probable, strict=True))


def balanced(draws: Floats, *, floors: Floats, tolerated: float, among: Bools) -> int:
    """Return the policy that does best on its worst objective, in all but the tolerated share of cases.

    Args:
        draws: (B, P, M) draws of the true lifts, larger is better; NaN without an estimate.
        floors: (M,) lowest acceptable lifts.
        tolerated: share of cases that may turn out worse.
        among: (P,) policies to choose from, each with an estimate.
    """
    slack = np.quantile((draws[:, among] - floors).min(axis=2), tolerated, axis=0)
    return int(np.flatnonzero(among)[slack.argmax()])


def refusal(
    policy: int, *, expected: Floats, std_error: Floats, floors: Floats, objectives: tuple[str, ...], rows: int, smallest: float
) -> Refusal:
    """Return how many exploration rows would resolve a candidate.

    Args:
        policy: its index.
        expected: (M,) lifts to expect of it, larger is better.
        std_error: (M,) of its estimated lifts.
        floors: (M,) lowest acceptable lifts.
        objectives: names (M,).
        rows: exploration rows behind the standard errors.
        smallest: smallest lift of interest, a fraction; a candidate that promises less is asked to show this much.

    Raises:
        GateError: the candidate has no estimate, so that not even the rows needed can be said.
    """
    if not (np.isfinite(expected).all() and np.isfinite(std_error).all()):
        raise GateError(
            f"not enough data: the safest policy has too few of {rows:,} held-out exploration rows to be judged",
            hint="sweep without --halves, or explore more requests; keep the static weights until then",
        )
    lift = np.maximum(expected - floors, smallest)
    needed = rows * np.square(POWER * std_error / lift)
    hardest = int(needed.argmax())
    return Refusal(policy, objectives[hardest], rows, int(np.ceil(needed[hardest])), float(lift[hardest]))
