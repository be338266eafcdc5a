"""The operating policy: what is put into force, and the evidence it was chosen on.

The rule: it names its bundle by fingerprint and is itself named by the hash of all it says, so that evidence cannot drift from what serves.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from paretune.config import Config
from paretune.errors import ConfigError
from paretune.frontier.front import Front, Policy
from paretune.frontier.sweep import scalarise
from paretune.records import Floats

FORMAT = 1


def served_as(policy: Policy, *, front: Front) -> dict[str, Any]:
    """Return how a policy of a front is served: `scalarisation` and `cohorts` of one that chooses by a model, or fixed `weights`.

    Cohorts have a trade-off of their own; requests of other cohorts get the knee's, as in the sweep.

    Raises:
        ConfigError: it is a table of weights by cohort, which needs no model and which no arm of a plan holds.
    """
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
        hint="look the weights up in the ranker, or export a pick",
    )


def evidence_of(front: Front, policy: int, *, hold_out: tuple[str, ...]) -> dict[str, Any]:
    """Return what speaks for a policy: hold-out window, estimator, lifts with intervals and bands.

    Args:
        front: in which it was judged.
        policy: its index.
        hold_out: first and last day, or nothing where the run does not say.
    """
    lifts = front.lifts

    def numbers(row: Floats) -> list[float | None]:
        return [float(value) if np.isfinite(value) else None for value in row]

    fields = ("estimate", "std_error", "low", "high", "band_low", "band_high")
    return {
        "hold_out": list(hold_out),
        "estimator": lifts.estimator,
        "confidence": lifts.confidence,
        "objectives": list(lifts.objectives),
        "lifts": {name: numbers(getattr(lifts, name)[policy]) for name in fields},
        "hits": int(lifts.hits[policy]),
        "requests": lifts.n_rows,
        "users": lifts.n_users,
        "picks": [
            {"label": pick.label, "verdict": pick.verdict, "probability_degrading": numbers(np.array([pick.probability_degrading]))[0]}
            for pick in front.picks
            if pick.policy == policy
        ],
    }


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
    return {**written, "sha256": hashlib.sha256(json.dumps(written, sort_keys=True, allow_nan=False).encode()).hexdigest()}
