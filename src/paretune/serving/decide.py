"""What a decision is, and how a plan divides requests: pure, the same answer on every machine.

    killed -> STATIC;   coin(request) < share -> EXPLORE;   arm(user) -> POLICY or STATIC

The rules: the propensity is that of what was really served; everything that goes wrong ends in the static weights with a reason that begins
with FALLBACK, and such a row is never exploration. Probability 1 is that of a deterministic choice given arm and "not explored".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Id = str | int


class Reason(StrEnum):
    """Why these weights; logs store the value."""

    POLICY = "POLICY"
    EXPLORE = "EXPLORE"
    STATIC = "STATIC"  # arm, default arm, or kill switch
    TIMEOUT = "FALLBACK:timeout"
    MISSING_FEATURES = "FALLBACK:missing features"
    BAD_INPUT = "FALLBACK:bad input"  # malformed, NaN or infinite features
    UNKNOWN_COHORT = "FALLBACK:unknown cohort"
    MODEL_ERROR = "FALLBACK:model error"  # raised, or answered NaN
    NO_MODEL = "FALLBACK:no model"  # the plan's bundle is absent or corrupt
    NO_PLAN = "FALLBACK:no plan"
    OVERLOAD = "FALLBACK:overload"  # admission control or open breaker
    CLIENT = "FALLBACK:client"  # the caller's side: no answer in time


@dataclass(frozen=True, slots=True)
class Request:
    """What a ranker sends: who asks, and what is known before any candidate is scored."""

    request_id: Id
    user: Id
    features: Mapping[str, Any] = field(default_factory=dict)  # name -> number, text, list of numbers, or little-endian bytes
    cohort: str | None = None
    session: Id | None = None
    time_us: int | None = None  # of the request, microseconds since 1970; None = now


@dataclass(frozen=True, slots=True)
class Decision:
    """What the ranker is told, and all that a log line needs to explain it."""

    request_id: Id
    weights: tuple[float, ...]  # (m,) in the order of the plan's heads
    action: int | None  # index into the surface's actions, 0 = production; None = weights off the grid
    arm: str  # "" where no arm was looked up
    plan: int  # version; 0 = none
    propensity: float  # of what was really served, in (0, 1]
    reason: Reason
    detail: str = ""  # e.g. the feature that was wrong
    elapsed_s: float = 0.0
    heads: tuple[str, ...] = ()  # (m,) whose weights these are, by the plan that decided; empty where nobody asked a runtime
