"""A small made-up front with known numbers, for tests of pictures, tables and pages."""

import numpy as np

from paretune.frontier.front import Front, Lifts, Pick, Policy
from paretune.records import Floats
from paretune.surface.grid import spaced
from paretune.surface.heads import Head, Surface

SURFACE = Surface(
    (Head("save", 91.6, spaced(10, 200, 7)), Head("p2p", 9.1, spaced(1, 30, 7)), Head("click", 1.1), Head("hide", -4.0)), k=15
)
OBJECTIVES = ("save", "p2p")


def fake_truth(n_alphas: int = 25, objectives: int = 2) -> Floats:
    """(P, M) true relative lifts: an arc from p2p-leaning to save-leaning, then best static and matched static."""
    t = np.linspace(0, 1, n_alphas)
    arc = np.stack([0.032 * np.sqrt(t) - 0.010 * (1 - t), 0.055 * np.sqrt(1 - t) - 0.016 * t, 0.01 - 0.02 * t], axis=1)
    return np.concatenate([arc, [[0.0035, 0.0005, 0.0], [-0.001, 0.0007, 0.0]]])[:, :objectives]


def fake_front(n_alphas: int = 25, *, noise: float = 0.004, objectives: int = 2, seed: int = 3) -> Front:
    """A sweep with correlated errors around `fake_truth`, best and matched static weights, four picks."""
    rng = np.random.default_rng(seed)
    truth = fake_truth(n_alphas, objectives)
    names = (*OBJECTIVES, "long view")[:objectives]
    policies = [Policy(f"α={a:.2f}", "alpha", alpha=float(a)) for a in np.linspace(0, 1, n_alphas)]
    policies += [Policy(kind, kind, weights=SURFACE.actions[9]) for kind in ("best static", "matched static")]
    n = len(policies)
    shared = rng.normal(size=(1, objectives)) * noise * 0.8
    estimate = truth + shared + np.cumsum(rng.normal(size=(n, objectives)), axis=0) * noise * 0.08
    error = np.full((n, objectives), noise)
    swept = estimate[:n_alphas]
    dominated = np.array([((swept >= p).all(axis=1) & (swept > p).any(axis=1)).any() for p in swept])
    knee, near = n_alphas // 2, (3 * n_alphas) // 5
    picks = (
        Pick("p2p-leaning", n_alphas // 4, 0.31),
        Pick("knee", knee, 0.04),
        Pick("constrained", near, 0.004),
        Pick("save-leaning", n_alphas - 3, 0.62),
    )
    logits = rng.normal(size=(n, len(SURFACE))) + 0.12 * np.arange(len(SURFACE)) * np.linspace(-1, 1, n)[:, None]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean_weights = shares @ SURFACE.actions
    shares[n_alphas:] = np.nan
    lifts = Lifts(
        policies=tuple(p.name for p in policies),
        objectives=names,
        estimate=estimate,
        std_error=error,
        low=estimate - 1.96 * error,
        high=estimate + 1.96 * error,
        band_low=estimate - 2.7 * error,
        band_high=estimate + 2.7 * error,
        replicates=estimate + rng.normal(size=(50, n, objectives)) * error,
        production=np.full(objectives, 0.2),
        hits=rng.integers(18_000, 22_000, size=n),
        estimator="production-anchored, pooled p = 16",
        confidence=0.95,
        n_rows=1_000_000,
        n_users=60_000,
    )
    return Front(tuple(policies), lifts, np.concatenate([~dominated, [False, False]]), picks, mean_weights, shares)
