"""How fast is a sweep evaluated? Exact curves against grids, and the whole engine against a plain loop, in one process.

    python benchmarks/evaluation.py [--quick] --json OUT

1,000,000 exploration rows (--quick: 200,000) x 49 actions; predicted values have the form of the `smooth` model. Each ratio is between
times of the same run; ours are medians of five rounds, the grids' the best of their rounds. A quick run times the same things.

[curve_speedup] SNIPS and the production-anchored residual for every alpha (the exact curve) against 25 alphas by BLAS: scores = values @
scalarisations, argmax, compare, sums; numpy alone, blocks of the size that was quickest. [curve_speedup_fast] the same with numba.
[curve_speedup_best_grid], [curve_speedup_fast_best_grid] against a grid whose scores are laid out so that argmax runs over neighbours in
memory, the quickest we know. [curve3_speedup] three objectives, all 325 points of a simplex lattice, numba, against that best layout at 325
points; [curve3_speedup_numpy] numpy alone. [eval_speedup_numpy] 25 policies x 2 objectives with 1,000 user-level replicates, from predicted
values to intervals and bands, against a plain numpy loop over policies (scores, argmax, compare, two ratios) that has no interval.
[eval_extra_mb] memory above the data while ours ran.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paretune.frontier import hull, regions
from paretune.frontier.alphas import alpha_sums
from paretune.frontier.curve import hit_intervals, residual_curve, reward_curve
from paretune.frontier.regions import lattice_sums
from paretune.frontier.sweep import alpha_grid, scalarise, simplex_grid
from paretune.ope.clusters import user_buckets
from paretune.ope.intervals import intervals
from paretune.ope.lift import AnchoredSums, anchored_lift, produced_sums
from paretune.records import Floats, Ints
from paretune.sim.homefeed import Homefeed
from paretune.surface.grid import log_coordinates
from paretune.value.smooth import steps_basis

ACTIONS, ALPHAS, DIVISIONS = 49, 25, 24
ROWS_PER_CHUNK = 131_072
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Rows:
    """Exploration rows with predicted values."""

    values: Floats  # (n, K, M) float32 relative-lift units
    action: Ints  # (n,) in [0, K)
    propensity: Floats  # (n,)
    rewards: Floats  # (n, M) float32
    expected: Floats  # (n, M) float32
    user: Ints  # (n,) uint64

    def columns(self, part: slice) -> Floats:
        """Return (rows, 2 + 2 M): one, weight, weight x reward, weight x residual; what every side adds up."""
        weight = 1.0 / self.propensity[part, None]
        reward = self.rewards[part]
        return np.concatenate([np.ones_like(weight), weight, weight * reward, weight * (reward - self.expected[part])], axis=1)


def drawn(n: int, objectives: int, rng: np.random.Generator) -> Rows:
    """Return rows whose values are sigmoid(b(s) + gamma . Phi(a) + c(s) eta . Phi(a)) / V_0, made piece by piece."""
    surface = Homefeed("demo").surface
    basis = steps_basis(surface, log_coordinates(surface, surface.actions))[1:]
    ratio = basis[:, 1:6].mean(axis=1)  # of the two tuned weights, saturating
    tilt, bend = np.array([0.12, -0.12, -0.04])[:objectives, None], np.array([0.03, 0.03, 0.015])[:objectives, None]
    shared = tilt * ratio - bend * ratio**2 + 0.01 * rng.normal(size=(objectives, ACTIONS))
    shared += np.array([0.01, -0.01, 0.02])[:objectives, None] * basis[:, 0]
    personal = 0.1 * ratio + np.array([0.03, -0.03, 0.015])[:objectives, None] * basis[:, -1]
    base = np.array([-1.4, -0.3, -2.5])[:objectives]
    values = np.empty((n, ACTIONS, objectives), np.float32)
    expected = np.empty((n, objectives), np.float32)
    for start in range(0, n, 50_000):
        size = min(50_000, n - start)
        level, slope = base + 0.6 * rng.normal(size=(size, objectives)), 0.8 * rng.normal(size=(size, objectives))
        logit = level[:, None] + shared.T + slope[:, None] * personal.T
        values[start : start + size] = (1 + np.exp(-base)) / (1 + np.exp(-logit))
        expected[start : start + size] = 1 / (1 + np.exp(-level))
    rewards = (rng.random((n, objectives)) < expected).astype(np.float32)
    return Rows(
        values, rng.integers(0, ACTIONS, n), np.full(n, 1 / ACTIONS), rewards, expected, rng.integers(0, 60_000, n).astype(np.uint64)
    )


def plain_grid(rows: Rows, scalarisations: Floats, *, block: int) -> Floats:
    """Return the sums (P, 2 + 2 M) by scores = values @ scalarisations, argmax, compare, and one matrix product."""
    weights, points = scalarisations.T.astype(np.float32), len(scalarisations)
    total = np.zeros((points, 2 + 2 * rows.rewards.shape[1]))
    for start in range(0, len(rows.action), block):
        part = slice(start, start + block)
        score = rows.values[part].reshape(-1, len(weights)) @ weights
        chosen = score.reshape(-1, ACTIONS, points).argmax(axis=1)
        total += (chosen == rows.action[part, None]).T.astype(np.float64) @ rows.columns(part)
    return total


def best_grid(rows: Rows, scalarisations: Floats, *, block: int) -> Floats:
    """Return the same sums with the actions of a request side by side, so that argmax runs over neighbours."""
    weights, points = scalarisations.astype(np.float32), len(scalarisations)
    total = np.zeros((points, 2 + 2 * rows.rewards.shape[1]))
    for start in range(0, len(rows.action), block):
        part = slice(start, start + block)
        turned = np.ascontiguousarray(rows.values[part].transpose(2, 0, 1)).reshape(weights.shape[1], -1)
        chosen = (weights @ turned).reshape(points, -1, ACTIONS).argmax(axis=2)
        total += (chosen == rows.action[part]).astype(np.float64) @ rows.columns(part)
    return total


def exact_curve(rows: Rows) -> Any:
    """Return the curve over all alphas: the part that depends on alpha, of SNIPS and of the anchored lift."""
    hits = hit_intervals(rows.values, rows.action, propensity=rows.propensity, rewards=rows.rewards, expected=rows.expected)
    return reward_curve(hits), residual_curve(hits)


def exact_lattice(rows: Rows) -> Floats:
    """Return the sums of all points of the lattice."""
    return lattice_sums(
        rows.values, rows.action, divisions=DIVISIONS, propensity=rows.propensity, rewards=rows.rewards, expected=rows.expected
    ).sums


def plain_loop(rows: Rows, scalarisations: Floats) -> Floats:
    """Return SNIPS (P, M), one policy after the other, all rows at once; no interval."""
    weight = 1.0 / rows.propensity
    found = []
    for scalarisation in scalarisations.astype(np.float32):
        hit = (rows.values @ scalarisation).argmax(axis=1) == rows.action
        weighted = weight * hit
        found.append([(weighted * reward).sum() / weighted.sum() for reward in rows.rewards.T])
    return np.array(found)


def engine(rows: Rows, produced: Any, rng: np.random.Generator) -> Any:
    """Return the anchored lift of 25 policies with clustered errors, intervals, bands and 1,000 user-level replicates."""
    total = None
    for start in range(0, len(rows.action), ROWS_PER_CHUNK):
        part = slice(start, start + ROWS_PER_CHUNK)
        sums = alpha_sums(
            rows.values[part],
            rows.action[part],
            alphas=alpha_grid(ALPHAS),
            propensity=rows.propensity[part],
            rewards=rows.rewards[part],
            cluster=user_buckets(rows.user[part]),
            expected=rows.expected[part],
        )
        total = sums if total is None else total + sums
    return intervals(anchored_lift(AnchoredSums(total, produced)), confidence=0.95, replicates=1000, rng=rng)


def seconds(run: Callable[[], Any], rounds: int, *, pick: Callable[[list[float]], float]) -> float:
    """Return the wall time of a call over some rounds."""
    spent = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        spent.append(time.perf_counter() - started)
    return pick(spent)


def extra_mb(run: Callable[[], Any]) -> float:
    """Return how far resident memory rose above what the process held before the call."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10

    def kib(name: str) -> int:
        return int(next(line for line in status.read_text().splitlines() if line.startswith(name)).split()[1])

    reset.write_text("5")  # forget the peak so far
    before = kib("VmRSS")
    run()
    return (kib("VmHWM") - before) / 2**10


def without_numba(run: Callable[[], Any]) -> Callable[[], Any]:
    """Return the call with compiled kernels switched off."""

    def plain() -> Any:
        kept = hull.compiled, regions.compiled
        hull.compiled = regions.compiled = None
        try:
            return run()
        finally:
            hull.compiled, regions.compiled = kept

    return plain


def median(spent: list[float]) -> float:
    return float(np.median(spent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    n = 200_000 if arguments.quick else 1_000_000
    rows = drawn(n, 2, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    produced_rewards = rng.random((n // 4, 2)).astype(np.float32)
    produced = produced_sums(produced_rewards, rng.integers(0, 2048, n // 4))
    compiled = hull.compiled is not None
    result: dict[str, float] = {}

    def show(name: str, value: float) -> None:
        result[name] = value
        print(f"{name:32} {value:10.3g}", flush=True)

    few = Rows(*(getattr(rows, name)[:20_000] for name in Rows.__slots__))
    engine(few, produced, rng)  # compiles what is compiled, warms what is lazy
    show("eval_extra_mb", extra_mb(lambda: engine(rows, produced, rng)))
    ours = seconds(lambda: engine(rows, produced, rng), ROUNDS, pick=median)
    show("eval_s", ours)
    ours_plain = seconds(without_numba(lambda: engine(rows, produced, rng)), ROUNDS, pick=median)
    show("eval_s_numpy_only", ours_plain)
    grid = scalarise(alpha_grid(ALPHAS))
    loop = seconds(lambda: plain_loop(rows, grid), 1 if n > 500_000 else 2, pick=min)
    show("loop_s", loop)
    show("eval_speedup_numpy", loop / ours)
    show("eval_speedup_numpy_only", loop / ours_plain)

    plain = min(seconds(lambda b=block: plain_grid(rows, grid, block=b), 2, pick=min) for block in (256, 512))
    best = min(seconds(lambda b=block: best_grid(rows, grid, block=b), 2, pick=min) for block in (256, 512))
    numpy_s = seconds(without_numba(lambda: exact_curve(rows)), ROUNDS, pick=median)
    show("grid_s", plain)
    show("best_grid_s", best)
    show("curve_s", numpy_s)
    show("curve_speedup", plain / numpy_s)
    show("curve_speedup_best_grid", best / numpy_s)
    if compiled:
        fast_s = seconds(lambda: exact_curve(rows), ROUNDS, pick=median)
        show("curve_fast_s", fast_s)
        show("curve_speedup_fast", plain / fast_s)
        show("curve_speedup_fast_best_grid", best / fast_s)

    del rows, few
    rows = drawn(n, 3, np.random.default_rng(3))
    points = simplex_grid(3, DIVISIONS)
    few = Rows(*(getattr(rows, name)[:20_000] for name in Rows.__slots__))
    agreed = np.mean(exact_lattice(few)[:, 0] == best_grid(few, points, block=32)[:, 0])
    block = min((16, 32, 64), key=lambda b: seconds(lambda: best_grid(few, points, block=b), 1, pick=min))
    grid3 = seconds(lambda: best_grid(rows, points, block=block), 1, pick=min)
    show("grid3_s", grid3)
    show("points_with_equal_hits", float(agreed))
    plain3 = seconds(without_numba(lambda: exact_lattice(rows)), 1 if n > 500_000 else 3, pick=median)
    show("curve3_speedup_numpy", grid3 / plain3)
    if compiled:
        fast3 = seconds(lambda: exact_lattice(rows), ROUNDS, pick=median)
        show("curve3_fast_s", fast3)
        show("curve3_speedup", grid3 / fast3)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
