"""The operating policy: what is put into force, and the evidence it was chosen on.

The rule: it names its bundle by fingerprint and is itself named by the hash of all it says, so that evidence cannot drift from what serves.
"""

from __future__ import annotations

import hashlib
import json
import math
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from paretune.errors import ArtefactError, ConfigError

if TYPE_CHECKING:  # a front brings numba and scipy, which reading a record does not need
    from paretune.config import Config
    from paretune.frontier.front import Front, Policy
    from paretune.records import Floats

FORMAT = 1
LIFTS = ("estimate", "std_error", "low", "high", "band_low", "band_high")  # what evidence says of each objective
_AGAIN = "export the policy again with `paretune export`"


class PickedAs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As which pick a policy was put forward."""

    label: str
    verdict: str
    probability_degrading: float | None  # None = unknown


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What speaks for a policy; of one that is no pick, `picks` holds what the front says of it, under its own name."""

    hold_out: tuple[str, ...]  # first and last day; empty where the run does not say
    estimator: str
    confidence: float
    objectives: tuple[str, ...]  # (M,)
    lifts: dict[str, tuple[float | None, ...]]  # estimate, std_error, low, high, band_low, band_high -> (M,) fractions; None = unknown
    hits: int
    requests: int
    users: int
    picks: tuple[PickedAs, ...] = ()

    @property
    def verdict(self) -> str:
        """The verdict of the first pick; empty where the policy is none."""
        return self.picks[0].verdict if self.picks else ""

    @property
    def probability_degrading(self) -> float | None:
        """Probability that an objective is truly below its floor; None where it is unknown."""
        return self.picks[0].probability_degrading if self.picks else None


class OperatingPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What operating.json holds: a bundle, a trade-off, and the evidence for both together."""

    format: int
    policy: str  # name on the front
    kind: str
    bundle: str  # fingerprint; empty = fixed weights
    heads: tuple[str, ...]  # (m,)
    static: tuple[float, ...]  # (m,)
    objectives: tuple[str, ...]  # (M,)
    scale: tuple[float, ...] | None  # (M,) of the bundle
    evidence: Evidence
    sha256: str  # of all the rest, as canonical JSON
    scalarisation: tuple[float, ...] = ()  # (M,)
    cohorts: dict[str, tuple[float, ...]] = {}  # cohort -> (M,)
    weights: tuple[float, ...] = ()  # (m,) of fixed weights

    @property
    def fingerprint(self) -> str:
        """What an approval binds: the hash of bundle, trade-off and evidence."""
        return self.sha256

    @property
    def label(self) -> str:
        """Its name for people: the first pick it is, or the policy's own."""
        return self.evidence.picks[0].label if self.evidence.picks else self.policy


def identity_of(written: dict[str, Any]) -> str:
    """Return the SHA-256 of canonical JSON: keys sorted, `sha256` left out."""
    rest = {key: value for key, value in written.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def decode_operating(document: bytes, *, source: str = "operating policy") -> OperatingPolicy:
    """Return the operating policy in a JSON document, checked.

    Args:
        document: as `paretune export` writes it.
        source: named in errors.

    Raises:
        ArtefactError: it is torn, of another format, was altered after it was written, or cannot be served.
    """
    try:
        written = json.loads(document, parse_constant=_refuse_constant)
        found = msgspec.convert(written, OperatingPolicy)
        true = identity_of(written)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # msgspec's and json's errors are ValueErrors
        raise ArtefactError(f"{source} is no operating policy: {error}", hint=_AGAIN) from None
    if found.sha256 != true:
        raise ArtefactError(f"{source} was altered after it was written: its hash differs", hint=_AGAIN)
    problem = _problem(found)
    if problem:
        raise ArtefactError(f"{source} cannot be served: {problem}", hint=_AGAIN)
    return found


def _problem(policy: OperatingPolicy) -> str:
    m, objectives = len(policy.heads), len(policy.objectives)
    vectors = [vector for vector in (policy.scalarisation, *policy.cohorts.values()) if vector]
    if policy.format != FORMAT:
        return f"format {policy.format}, this release reads format {FORMAT}"
    if m == 0 or len(policy.static) != m:
        return f"{len(policy.static)} static weights for heads {list(policy.heads)}"
    if bool(policy.bundle) == bool(policy.weights) or bool(policy.bundle) != bool(policy.scalarisation):
        return "it needs a bundle with a scalarisation, or fixed weights"
    if policy.weights and len(policy.weights) != m:
        return f"{len(policy.weights)} weights for {m} heads"
    if any(len(vector) != objectives for vector in vectors):
        return f"its scalarisations are not over the {objectives} objectives"
    if not all(isfinite(number) for vector in (*vectors, policy.weights, policy.static) for number in vector):
        return "it holds a number that is not finite"
    told = policy.evidence
    if any(len(told.lifts.get(name, ())) != len(told.objectives) for name in LIFTS):
        return f"its evidence does not hold {', '.join(LIFTS)} of {len(told.objectives)} objectives"
    return ""


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def served_as(policy: Policy, *, front: Front) -> dict[str, Any]:
    """Return how a policy of a front is served: `scalarisation` and `cohorts` of one that chooses by a model, or fixed `weights`.

    Cohorts have a trade-off of their own; requests of other cohorts get the knee's, as in the sweep.

    Raises:
        ConfigError: it is a table of weights by cohort, which needs no model and which no arm of a plan holds.
    """
    from paretune.frontier.sweep import scalarise

    if policy.weights is not None:
        return {"weights": np.asarray(policy.weights).tolist()}
    if policy.scalarisation:
        return {"scalarisation": list(policy.scalarisation), "cohorts": {}}
    if policy.cohort_alphas:
        names, alphas = zip(*policy.cohort_alphas, strict=True)
        vectors = scalarise(np.array(alphas))
        knee = next((front.policies[pick.policy].scalarisation for pick in front.picks if pick.label == "knee"), ())
        return {"scalarisation": list(knee or (0.5, 0.5)), "cohorts": dict(zip(names, vectors.tolist(), strict=True))}
    raise ConfigError(
        f"{policy.name!r} is a table of weights by cohort; it chooses nothing per request",
        hint="make a table of it with `paretune convert RUN --policy NAME --to weights-table`, or export a pick",
    )


def evidence_of(front: Front, policy: int, *, hold_out: tuple[str, ...]) -> dict[str, Any]:
    """Return what speaks for a policy: hold-out window, estimator, lifts with intervals and bands.

    Args:
        front: in which it was judged.
        policy: its index.
        hold_out: first and last day, or nothing where the run does not say.
    """
    lifts = front.lifts
    picks = [
        PickedAs(pick.label, pick.verdict, _number(pick.probability_degrading)) for pick in front.picks if pick.policy == policy
    ] or _unpicked(front, policy)

    def numbers(row: Floats) -> list[float | None]:
        return [_number(float(value)) for value in row]

    return {
        "hold_out": list(hold_out),
        "estimator": lifts.estimator,
        "confidence": lifts.confidence,
        "objectives": list(lifts.objectives),
        "lifts": {name: numbers(getattr(lifts, name)[policy]) for name in LIFTS},
        "hits": int(lifts.hits[policy]),
        "requests": lifts.n_rows,
        "users": lifts.n_users,
        "picks": [msgspec.to_builtins(pick) for pick in picks],
    }


def _unpicked(front: Front, policy: int) -> list[PickedAs]:
    """Return what the front says of a policy that is no pick; nothing where it says nothing."""
    verdict = front.verdicts[policy] if front.verdicts else ""
    risk = math.nan if front.expectation is None else float(front.expectation.degrading[policy])
    return [PickedAs(front.policies[policy].name, verdict, _number(risk))] if verdict else []


def _number(value: float) -> float | None:
    return value if isfinite(value) else None


def operating_policy(
    front: Front, policy: int, config: Config, *, bundle: str, scale: Floats | None, hold_out: tuple[str, ...]
) -> dict[str, Any]:
    """Return the operating policy as JSON-able values, the hash of the rest among them.

    Args:
        front: in which it was judged.
        policy: its index.
        config: of the run.
        bundle: fingerprint; empty for fixed weights.
        scale: (M,) of the bundle.
        hold_out: see `evidence_of`.

    Raises:
        ConfigError: it cannot be served as an arm of a plan.
    """
    chosen = front.policies[policy]
    surface = config.surface.build()
    written: dict[str, Any] = {
        "format": FORMAT,
        "policy": chosen.name,
        "kind": chosen.kind,
        "bundle": bundle,
        "heads": list(surface.names),
        "static": surface.static.tolist(),
        "objectives": [objective.name for objective in config.objectives],
        "scale": None if scale is None else scale.tolist(),
        **served_as(chosen, front=front),
        "evidence": evidence_of(front, policy, hold_out=hold_out),
    }
    return {**written, "sha256": identity_of(written)}


def sibling(of: OperatingPolicy, front: Front, policy: int) -> dict[str, Any]:
    """Return another policy of the same front, over the same model, as JSON-able values.

    Args:
        of: a policy of the front that was exported with its bundle.
        front: of both.
        policy: index of the other one.

    Raises:
        ConfigError: there is no such policy, or it cannot be served as an arm of a plan.
    """
    if not 0 <= policy < len(front.policies):
        raise ConfigError(f"the front has no policy {policy}", hint=f"choose one of 0 to {len(front.policies) - 1}")
    chosen = front.policies[policy]
    by_model = chosen.weights is None
    written = {
        **{name: getattr(of, name) for name in ("format", "heads", "static", "objectives")},
        "policy": chosen.name,
        "kind": chosen.kind,
        "bundle": of.bundle if by_model else "",
        "scale": of.scale if by_model else None,
        **served_as(chosen, front=front),
        "evidence": evidence_of(front, policy, hold_out=of.evidence.hold_out),
    }
    written = msgspec.to_builtins(written)
    return {**written, "sha256": identity_of(written)}
