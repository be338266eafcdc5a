"""The plan: what is in force for every request until another version is; immutable, versioned, one JSON document.

The rules: users fall into arms by a salted hash, requests into exploration by another; users whom no share takes are served the default
arm; a killed plan serves the static weights to all and explores nobody. What a plan may hold is checked when it is read, so that the
decision path never meets a plan it cannot follow.
"""

from __future__ import annotations

import hashlib
from math import isfinite
from typing import Literal

import msgspec

from paretune.errors import ConfigError

FORMAT = 1
_ROUNDING = 1e-9


class Arm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a share of the users is served: an operating policy, or one fixed weight vector."""

    name: str
    share: float  # of users, in [0, 1]
    bundle: str = ""  # fingerprint of the serving bundle (sha256 of its checksums); empty = fixed weights
    scalarisation: tuple[float, ...] = ()  # (M,) weight of each objective in relative-lift units; of a policy
    cohorts: dict[str, tuple[float, ...]] = {}  # cohort -> (M,) scalarisation of its own
    weights: tuple[float, ...] = ()  # (m,) fixed weights of an arm without bundle; empty = the static weights
    policy: str = ""  # name or id of the operating policy, for people

    @property
    def is_policy(self) -> bool:
        """Whether the arm chooses per request."""
        return bool(self.bundle)


class Exploration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which requests are explored, and how their action is drawn."""

    share: float = 0.0  # of requests, in [0, 1]
    design: Literal["uniform", "blocked", "stage2"] = "uniform"
    salt: str = "exploration"
    levels: tuple[tuple[float, ...], ...] = ()  # (K, m) the actions, production first; needed where share > 0
    most_per_s: float = 0.0  # explored requests per second and process at most; 0 = no cap
    bundle: str = ""  # stage2: whose values choose
    family: tuple[tuple[float, ...], ...] = ()  # stage2: (P, M) scalarisations to tell apart
    floor: float = 0.2  # stage2: share that stays uniform


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One version of what is in force."""

    version: int  # >= 1; a later one is in force
    heads: tuple[str, ...]  # (m,) in the order of all weights
    static: tuple[float, ...]  # (m,) production weights: default and fallback
    arms: tuple[Arm, ...] = ()
    default: str = "static"  # arm of users whom no share takes: "static", or an arm's name
    exploration: Exploration = Exploration()
    salt: str = "arms"  # of the split of users into arms
    killed: bool = False
    note: str = ""
    format: int = FORMAT

    @property
    def bundles(self) -> tuple[str, ...]:
        """Fingerprints of all bundles that the plan needs, each once."""
        named = [arm.bundle for arm in self.arms] + [self.exploration.bundle]
        return tuple(dict.fromkeys(fingerprint for fingerprint in named if fingerprint))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the plan's canonical JSON."""
        return hashlib.sha256(encode_plan(self)).hexdigest()


def encode_plan(plan: Plan) -> bytes:
    """Return the plan as canonical JSON; `decode_plan` reads it back to an equal record."""
    return msgspec.json.format(msgspec.json.encode(plan, order="deterministic"), indent=1)


def decode_plan(document: bytes, *, source: str = "plan") -> Plan:
    """Return the plan in a JSON document, checked.

    Args:
        document: as `encode_plan` writes it.
        source: named in errors.

    Raises:
        ConfigError: it is torn, of another format, has unknown keys, or breaks a rule of the plan; the message names what.
    """
    try:
        plan = msgspec.json.decode(document, type=Plan)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{source} is not a plan: {error}", hint="write it with `paretune plan`; a half-written file is not used"
        ) from None
    problem = _problem(plan)
    if problem:
        raise ConfigError(f"{source}: {problem}", hint="mend the plan, or go back to the previous version")
    return plan


def checked(plan: Plan, *, source: str = "plan") -> Plan:
    """Return the plan where it keeps every rule.

    Raises:
        ConfigError: naming the rule that it breaks.
    """
    return decode_plan(encode_plan(plan), source=source)


def _problem(plan: Plan) -> str:
    """Return the first rule that the plan breaks, or nothing."""
    m, names = len(plan.heads), [arm.name for arm in plan.arms]
    if plan.format != FORMAT:
        return f"format {plan.format}, this release reads format {FORMAT}"
    if plan.version < 1:
        return f"version {plan.version}; versions count from 1"
    if m == 0 or len(plan.static) != m or len(set(plan.heads)) != m:
        return f"{len(plan.static)} static weights for heads {list(plan.heads)}"
    if len(set(names)) != len(names) or "static" in names or "" in names:
        return f"arms {names}; give each a name of its own, other than 'static'"
    if plan.default != "static" and plan.default not in names:
        return f"default arm {plan.default!r} is none of {['static', *names]}"
    if not all(isfinite(weight) for weight in plan.static):
        return f"static weights {list(plan.static)} are not all finite"
    if any(not 0 <= arm.share <= 1 for arm in plan.arms) or sum(arm.share for arm in plan.arms) > 1 + _ROUNDING:
        return f"shares {[arm.share for arm in plan.arms]} of the arms are not parts of one whole"
    return next((found for arm in plan.arms if (found := _arm_problem(arm, m))), "") or _exploration_problem(plan.exploration, plan)


def _arm_problem(arm: Arm, m: int) -> str:
    vectors = [arm.scalarisation, *arm.cohorts.values()]
    sizes = {len(vector) for vector in vectors}
    if not all(isfinite(number) for vector in (*vectors, arm.weights) for number in vector):
        return f"arm {arm.name!r} holds a number that is not finite"
    if arm.is_policy and (arm.weights or len(sizes) != 1 or 0 in sizes):
        return f"arm {arm.name!r} needs a scalarisation over all objectives, also per cohort, and no weights of its own"
    if not arm.is_policy and (arm.scalarisation or arm.cohorts):
        return f"arm {arm.name!r} has a scalarisation but no bundle"
    if not arm.is_policy and len(arm.weights) not in {0, m}:
        return f"arm {arm.name!r} has {len(arm.weights)} weights for {m} heads"
    return ""


def _exploration_problem(exploration: Exploration, plan: Plan) -> str:
    if not 0 <= exploration.share <= 1 or not 0 <= exploration.floor <= 1:
        return f"exploration share {exploration.share} and floor {exploration.floor} must lie in [0, 1]"
    if not (isfinite(exploration.most_per_s) and exploration.most_per_s >= 0):
        return f"exploration of at most {exploration.most_per_s} per second"
    if exploration.share == 0:
        return ""
    rows = exploration.levels
    if len(rows) < 2 or any(len(row) != len(plan.heads) or not all(isfinite(weight) for weight in row) for row in rows):
        return f"exploration needs `levels`: at least two actions of {len(plan.heads)} finite weights each, production first"
    if exploration.design == "stage2" and (not exploration.bundle or not exploration.family):
        return "exploration design stage2 needs a bundle and a family of scalarisations"
    if len({len(member) for member in exploration.family}) > 1 or not all(isfinite(c) for member in exploration.family for c in member):
        return "the family of stage 2 holds scalarisations of several lengths, or numbers that are not finite"
    return ""
