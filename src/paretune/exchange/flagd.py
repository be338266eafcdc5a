"""A plan as an OpenFeature flag for flagd: which arm a user is in, and that arm's weights, for callers that have a flag system already.

    {"flags": {"utility-weights": {"state": "ENABLED", "defaultVariant": "static", "variants": {...}, "targeting": {"fractional": [...]}}}}

The rule: shares are the plan's, in whole parts of a million; who has no targeting key is served `static`; a killed plan is DISABLED, so
that everybody gets the default in the caller's code, which must be the static weights. flagd hashes with MurmurHash3, we with our own hash:
a user's arm here is not the arm that `paretune serve` gives the same user, so one of the two must decide. An arm that chooses per request
has no weights to put into a flag: its variant names the bundle and the trade-off. What a flag cannot say (exploration, and with it
propensities) is listed by `lost`.

Reference: flagd, fractional operation (integer weights, their total at most 2^31 - 1) and flag definitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any

from paretune.errors import ConfigError
from paretune.policy.plan import Arm, Plan

KEY = "utility-weights"
SCHEMA = "https://flagd.dev/schema/v0/flags.json"
PARTS = 1_000_000  # of all users; shares are whole parts
STATIC = "static"


def flag_document(plan: Plan, *, key: str = KEY) -> dict[str, Any]:
    """Return a plan as a flag definition.

    Args:
        plan: what is in force.
        key: of the flag.

    Raises:
        ConfigError: a share is smaller than a millionth of the users.
    """
    variants = {STATIC: _variant(plan, None), **{arm.name: _variant(plan, arm) for arm in plan.arms}}
    flag: dict[str, Any] = {"state": "DISABLED" if plan.killed else "ENABLED", "variants": variants, "defaultVariant": STATIC}
    if plan.arms or plan.default != STATIC:
        bucket = {"cat": [{"var": "$flagd.flagKey"}, {"var": "targetingKey"}]}
        flag["targeting"] = {"if": [{"var": "targetingKey"}, {"fractional": [bucket, *_fractions(plan)]}, STATIC]}
    flag["metadata"] = {"planVersion": plan.version, "planFingerprint": plan.fingerprint}
    return {"$schema": SCHEMA, "flags": {key: flag}}


def lost(plan: Plan) -> list[str]:
    """Return what of a plan its flag does not say, a sentence each."""
    chosen = [arm.name for arm in plan.arms if arm.is_policy]
    said = ["arms differ from those of `paretune serve`: flagd hashes users otherwise, so let one of the two decide"]
    if plan.exploration.share > 0:
        said.append(f"nobody is explored ({plan.exploration.share:.2%} of requests in the plan): a flag knows no propensities")
    if chosen:
        said.append(f"{', '.join(chosen)} choose per request: their variants hold a bundle and a trade-off, no weights")
    if plan.killed:
        said.append("the plan is killed and the flag DISABLED: the default in the caller's code must be the static weights")
    return said


def shares_of(document: Mapping[str, Any], *, key: str = KEY) -> dict[str, float]:
    """Return the share of users of each variant, as a flag of ours declares it; those without a targeting key are not counted.

    Raises:
        ConfigError: it is no flag of `flag_document`.
    """
    try:
        flag = document["flags"][key]
        if "targeting" not in flag:
            return {flag["defaultVariant"]: 1.0}
        _, (_, fractional, _) = "if", flag["targeting"]["if"]
        parts = fractional["fractional"][1:]
        total = sum(count for _, count in parts)
        found: dict[str, float] = {}
        for variant, count in parts:
            found[variant] = found.get(variant, 0.0) + count / total
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"no flag of paretune: {type(error).__name__} {error}", hint="write it with `paretune convert`") from None
    return found


def _variant(plan: Plan, arm: Arm | None) -> dict[str, Any]:
    """Return what a variant's users are served: weights by head, or the policy that chooses them."""
    name = STATIC if arm is None else arm.name
    if arm is not None and arm.is_policy:
        cohorts = {cohort: list(vector) for cohort, vector in arm.cohorts.items()}
        return {"arm": name, "bundle": arm.bundle, "scalarisation": list(arm.scalarisation), "cohorts": cohorts}
    weights = arm.weights if arm is not None and arm.weights else plan.static
    return {"arm": name, "weights": dict(zip(plan.heads, weights, strict=True))}


def _fractions(plan: Plan) -> list[list[Any]]:
    """Return the variants with their parts, the plan's arms in their order and then who is left, in lowest terms."""
    parts = [round(arm.share * PARTS) for arm in plan.arms]
    small = [arm.name for arm, part in zip(plan.arms, parts, strict=True) if arm.share > 0 and part == 0]
    if small:
        raise ConfigError(f"arms {small} have less than a millionth of the users", hint="give them a larger share, or none")
    rest = max(0, PARTS - sum(parts))
    counted = [(arm.name, part) for arm, part in zip(plan.arms, parts, strict=True) if part] + ([(plan.default, rest)] if rest else [])
    whole = gcd(*(part for _, part in counted))
    return [[name, part // whole] for name, part in counted]
