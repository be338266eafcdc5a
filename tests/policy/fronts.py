"""A small front over the heads of `registries`, complete as a sweep leaves it, and policies published from it."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from registries import ACTIONS, ANNA, HEADS, STATIC, bundle, fingerprint

from paretune.frontier.archive import FRONT, save_front
from paretune.frontier.front import CohortLifts, CohortSweep, Expectation, Front, Lifts, Pick, Policy
from paretune.policy.operating import evidence_of, identity_of, served_as
from paretune.policy.registry import Registry

ALPHAS = np.linspace(0, 1, 5)
KNEE, CONSTRAINED, STATIC_BEST = 3, 4, 6  # indices into the policies
COHORTS = ("CORE", "NEW")
SAVE = np.array([0, -0.010, 0.005, 0.012, 0.020, 0.030, 0.004])
P2P = np.array([0, 0.050, 0.040, 0.030, 0.010, -0.020, 0.002])


def small_front() -> Front:
    """Production, five trade-offs, best static weights; the knee confirmed, the ends not."""
    estimate, error = np.stack([SAVE, P2P], axis=1), np.full((7, 2), 0.002)
    error[0] = 0
    policies = (
        Policy("production", "static", weights=np.array(STATIC)),
        *(Policy(f"alpha {a:.3g}", "alpha", float(a), scalarisation=(float(a), float(1 - a))) for a in ALPHAS),
        Policy("best static (save 120, p2p 9.1)", "best static", weights=np.array(ACTIONS[2])),
    )
    lifts = Lifts(
        policies=tuple(policy.name for policy in policies),
        objectives=("save", "p2p"),
        estimate=estimate,
        std_error=error,
        low=estimate - 1.96 * error,
        high=estimate + 1.96 * error,
        band_low=estimate - 2.8 * error,
        band_high=estimate + 2.8 * error,
        replicates=estimate + np.random.default_rng(1).normal(size=(20, 7, 2)) * error,
        production=np.array([0.2, 0.4]),
        hits=np.full(7, 4_000),
        estimator="production-anchored, list-overlap p = 16",
        confidence=0.95,
        n_rows=50_000,
        n_users=9_000,
    )
    risk = np.array([0, 0.99, 0.2, 0.01, 0.02, 1.0, 0.1])
    verdicts = ("", "cannot tell", "promising: test it", "confirmed", "confirmed", "cannot tell", "cannot tell")
    shares = np.array([[1, 0, 0], *([0.0, 1 - a, a] for a in ALPHAS), [0, 0, 1]])
    picked = np.array([KNEE, CONSTRAINED])
    inside = np.stack([estimate[picked] + 0.004, estimate[picked] - 0.016])
    swept = np.stack([estimate[1:6] + 0.004, estimate[1:6] - 0.016])
    return Front(
        policies,
        lifts,
        np.array([False, True, True, True, True, True, False]),
        (Pick("knee", KNEE, 0.01, verdict=verdicts[KNEE]), Pick("constrained", CONSTRAINED, 0.02, verdict=verdicts[CONSTRAINED])),
        shares @ np.array(ACTIONS),
        shares,
        expectation=Expectation(0.9 * estimate, estimate - 0.004, estimate + 0.004, risk, np.full(7, 0.5)),
        by_cohort=CohortLifts(COHORTS, picked, inside, inside - 0.006, inside + 0.006, np.full((2, 2), 2_000)),
        changed=np.array([0, 0.31, 0.34, 0.36, 0.41, 0.55, 0.22]),
        cohort_sweep=CohortSweep(COHORTS, swept, np.full(swept.shape, 0.003)),
        verdicts=verdicts,
    )


def with_hides() -> Front:
    """The small front with a third objective of which less is better; trade-offs that lie on no line."""
    front, hide = small_front(), np.array([0, 0.004, -0.010, -0.002, 0.006, 0.030, 0.001])

    def wider(numbers: np.ndarray, column: np.ndarray) -> np.ndarray:
        return np.concatenate([numbers, np.broadcast_to(column, numbers.shape[:-1])[..., None]], axis=-1)

    lifts, expected, inside, swept = front.lifts, front.expectation, front.by_cohort, front.cohort_sweep
    assert expected is not None
    assert inside is not None
    assert swept is not None
    half = 2.8 * lifts.std_error[:, 0]
    moved = {name: wider(getattr(lifts, name), hide + at * half) for name, at in (("estimate", 0), ("band_low", -1), ("band_high", 1))}
    moved |= {"low": wider(lifts.low, hide - half), "high": wider(lifts.high, hide + half), "std_error": wider(lifts.std_error, half / 2.8)}
    moved |= {"replicates": wider(lifts.replicates, hide), "production": np.array([0.2, 0.4, 0.1])}
    policies = tuple(
        policy
        if policy.alpha is None
        else replace(policy, name=f"weights {policy.name[6:]}", alpha=None, scalarisation=(*policy.scalarisation, 0.1))
        for policy in front.policies
    )
    picked, bands = hide[[KNEE, CONSTRAINED]], ("estimate", "band_low", "band_high")
    return replace(
        front,
        policies=policies,
        lifts=replace(lifts, objectives=("save", "p2p", "hide"), policies=tuple(policy.name for policy in policies), **moved),
        expectation=replace(expected, **{name: wider(getattr(expected, name), 0.9 * hide) for name in ("mean", "low", "high")}),
        by_cohort=replace(inside, **{name: wider(getattr(inside, name), picked) for name in bands}),
        cohort_sweep=replace(swept, estimate=wider(swept.estimate, hide[1:6]), std_error=wider(swept.std_error, np.full(5, 0.003))),
        minimised=("hide",),
    )


def front_json(front: Front) -> bytes:
    """The front as it is stored."""
    with tempfile.TemporaryDirectory() as folder:
        save_front(front, Path(folder), heads=tuple(HEADS))
        return (Path(folder) / FRONT).read_bytes()


def operating_json(front: Front, policy: int) -> bytes:
    """operating.json of a policy of the front, over the bundle of `registries`."""
    chosen = front.policies[policy]
    written = {
        "format": 1,
        "policy": chosen.name,
        "kind": chosen.kind,
        "bundle": fingerprint(bundle()) if chosen.weights is None else "",
        "heads": HEADS,
        "static": STATIC,
        "objectives": list(front.lifts.objectives),
        "scale": [5.0, 2.5, -10.0][: len(front.lifts.objectives)] if chosen.weights is None else None,
        **served_as(chosen, front=front),
        "evidence": evidence_of(front, policy, hold_out=("2026-03-05", "2026-03-06")),
    }
    written = msgspec.to_builtins(written)
    return json.dumps({**written, "sha256": identity_of(written)}).encode()


def publish_front(
    registry: Registry,
    front: Front | None = None,
    *,
    policy: int = KNEE,
    by: str = ANNA,
    report: bytes | None = b"<html>the report</html>",
) -> str:
    """Publish a policy of a front, by default the knee of the small one, and return the front's fingerprint."""
    front = front or small_front()
    files = bundle() if front.policies[policy].weights is None else None
    return registry.publish(operating_json(front, policy), files, by=by, front=front_json(front), report=report).front
