"""The dial: which policy of a front is looked at, by its place along alpha or by the floors that it must keep. Pure.

The rule: a place that no policy has is said, never rounded to another policy without a word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from paretune.console.fronts import Shown
from paretune.console.pictures import mark_of
from paretune.console.reading import Reading, directions_of, expected_of, family_of, highest_with_floors, read_policy
from paretune.frontier.front import Front
from paretune.records import Floats, Ints

FLOOR = "floor-"  # of a query parameter, before the number of an objective


@dataclass(frozen=True, slots=True)
class Asked:
    """Where the dial was put; None and NaN where nothing was asked."""

    policy: int | None  # index into Front.policies
    compared: int | None  # index of a policy to compare with
    maximise: int  # index of the objective
    floors: Floats  # (M,) lifts, turned so that larger is better; NaN = none


@dataclass(frozen=True, slots=True)
class Floor:
    """A slider of one objective's floor, in per cents, turned so that larger is better."""

    index: int
    objective: str
    low: float
    high: float
    value: float


@dataclass(frozen=True, slots=True)
class Dial:
    """Where the dial stands and what it shows."""

    step: int | None  # place along alpha; None where the policy is none of the family
    steps: int  # members of the family
    along: bool  # whether the family lies along one alpha
    reading: Reading | None  # None where no policy keeps the floors
    compared: Reading | None
    marks: tuple[dict[str, object], ...]  # rows for the picture
    floors: tuple[Floor, ...]
    maximise: int


def asked_of(query: Mapping[str, str], front: Front) -> Asked:
    """Return where a query puts the dial; what is no number, or of nothing on the front, was not asked.

    Args:
        query: `policy`, or `step` along alpha, `compared`, `maximise`, and `floor-0` ... in per cents.
        front: swept.
    """
    family, objectives = family_of(front), len(front.lifts.objectives)
    step, policy = _index(query.get("step"), len(family)), _index(query.get("policy"), len(front.policies))
    if policy is None and step is not None:
        policy = int(family[step])
    maximise = _index(query.get("maximise"), objectives) or 0
    floors = np.array([_number(query.get(f"{FLOOR}{j}", "")) / 100 for j in range(objectives)])
    floors[maximise] = math.nan
    return Asked(policy, _index(query.get("compared"), len(front.policies)), maximise, floors)


def dial_of(shown: Shown, asked: Asked) -> Dial:
    """Return the dial where it was put; by default at the policy that keeps the floors, at the constrained pick, or at the knee.

    Args:
        shown: front.
        asked: see `asked_of`.
    """
    front, family, policy = shown.front, family_of(shown.front), asked.policy
    if policy is None:
        no_floors = bool(np.isnan(asked.floors).all())
        policy = _default(front, family) if no_floors else highest_with_floors(front, asked.maximise, asked.floors)
    places = {int(p): step for step, p in enumerate(family)}
    reading = None if policy is None else read_policy(front, policy, heads=shown.heads, static=shown.static)
    other = None if asked.compared is None else read_policy(front, asked.compared, heads=shown.heads, static=shown.static)
    marks: list[dict[str, object]] = []
    if len(front.lifts.objectives) > 1:
        wanted = ((policy, "1 dial"), (asked.compared, "2 compared"))
        marks = [row for p, what in wanted if p is not None and (row := mark_of(front, p, what=what))]
    along = len(front.lifts.objectives) == 2
    sliders = () if along else _sliders(front, family, asked)
    return Dial(None if policy is None else places.get(policy), len(family), along, reading, other, tuple(marks), sliders, asked.maximise)


def _default(front: Front, family: Ints) -> int:
    labels = {pick.label: pick.policy for pick in front.picks}
    return next(
        (labels[label] for label in ("constrained", "knee") if label in labels), int(family[len(family) // 2]) if len(family) else 0
    )


def _sliders(front: Front, family: Ints, asked: Asked) -> tuple[Floor, ...]:
    """Return one slider per objective over what the family is expected to reach; production's zero is always on it."""
    turned = 100 * expected_of(front)[family] * directions_of(front)
    low, high = np.nanmin(turned, axis=0, initial=0.0), np.nanmax(turned, axis=0, initial=0.0)
    found = []
    for j, name in enumerate(front.lifts.objectives):
        value = 100 * float(asked.floors[j]) if math.isfinite(asked.floors[j]) else 0.0
        found.append(Floor(j, name, math.floor(low[j]) - 0.0, math.ceil(high[j]) + 0.0, value))
    return tuple(found)


def _index(text: str | None, count: int) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 8 and int(text) < count else None


def _number(text: str) -> float:
    try:
        value = float(text) if len(text) < 30 else math.nan
    except ValueError:
        return math.nan
    return value if abs(value) < 1e6 else math.nan
