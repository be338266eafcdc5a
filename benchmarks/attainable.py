"""What request features can attain in a simulated world, were the true value of every action known on the training requests.

A network of features is fitted, by squared error, to exact values: the leading 12 principal components of (V(s, a) - V(s, production)) / V0 over
all actions. Swept over alpha on fresh requests, it gives the attainable hypervolume, the yardstick of `learners.py`. Only evaluation code may
call this: it reads the world's truth.

    python benchmarks/attainable.py [--quick] --json OUT

[hv_paper, hv_demo, hv_perfect_ranker] hypervolume in %^2; [save_paper, p2p_paper, save_demo, p2p_demo] best lift of one objective in % while
the other does not fall; [perfect_over_paper] ratio of the hypervolumes, which must stay under 0.05.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from paretune.frontier.pareto import hypervolume
from paretune.frontier.sweep import choose, scalarise
from paretune.records import PRODUCTION, Floats, State
from paretune.seeds import stream
from paretune.sim.response import exact_values
from paretune.sim.world import World, open_world
from paretune.value.features import Encoder

COMPONENTS = 12
HIDDEN = 128
ROWS_PER_DRAW = 20_000
# Points are dense where the front bends: the useful alphas lie between one half and one.
ALPHAS = np.unique(np.concatenate([np.linspace(0, 0.5, 26), np.linspace(0.5, 1, 126)]))


@dataclass(frozen=True, slots=True)
class Attainable:
    """The best front that a policy of request features can have."""

    lifts: Floats  # (points, M) true relative lifts on fresh requests
    production: Floats  # (M,) true value of the static weights

    @property
    def hypervolume(self) -> float:
        """Of the points that improve both objectives, above production, in %^2."""
        return improvement(self.lifts)

    def best(self, objective: int) -> float:
        """Return the largest lift of one objective, as a fraction, among points that lose nothing of the others."""
        kept = (np.delete(self.lifts, objective, axis=1) >= 0).all(axis=1)
        return float(self.lifts[kept, objective].max()) if kept.any() else float("-inf")


def improvement(lifts: Floats) -> float:
    """Return the hypervolume above production, in %^2, of the points (P, 2) with both lifts positive."""
    good = lifts[(lifts > 0).all(axis=1)]
    return float(hypervolume(100 * good, np.zeros(2))) if len(good) else 0.0


def truth_of(world: World, n: int, *, seed: int, purpose: str) -> tuple[State, Floats]:
    """Return the states of n first requests, spread over a week, and their exact values (n, K, M)."""
    rng, days = stream(seed, purpose), max(7, -(-n // ROWS_PER_DRAW))
    edges = np.linspace(0, n, days + 1).astype(int)
    parts = [world.arrive(int(stop - start), day=day % 7, rng=rng) for day, (start, stop) in enumerate(zip(edges, edges[1:], strict=False))]
    return State.concat(part.state for part in parts), np.concatenate([exact_values(world, part, world.surface.actions) for part in parts])


def sweep_lifts(predicted: Floats, exact: Floats, *, scale: Floats, alphas: Floats = ALPHAS) -> Floats:
    """Return the true lifts (points, 2) of choosing by predicted values (n, K, 2), both in the world's units."""
    chosen = choose(predicted / scale.astype(predicted.dtype), scalarise(alphas))
    base = exact[:, PRODUCTION].mean(axis=0, dtype=np.float64)
    rows = np.arange(len(exact))
    return np.stack([exact[rows, chosen[:, p]].mean(axis=0, dtype=np.float64) for p in range(len(alphas))]) / base - 1


def attainable(world: World, *, n_fit: int = 100_000, n_eval: int = 40_000, seed: int = 0, epochs: int = 12) -> Attainable:
    """Return what a two-layer network of request features attains when it is fitted on exact values.

    Args:
        world: whose truth.
        n_fit: requests to fit on.
        n_eval: fresh requests to sweep on.
        seed: of requests and fit.
        epochs: passes at most; the best one on held-out requests is kept.
    """
    state, exact = truth_of(world, n_fit, seed=seed, purpose="attainable fit")
    scale = exact[:, PRODUCTION].mean(axis=0)
    encoder = Encoder.fit(state, world.config().features)
    change = ((exact - exact[:, :1]) / scale).reshape(n_fit, -1)
    centre = change.mean(axis=0)
    _, _, right = np.linalg.svd(change[:20_000] - centre, full_matrices=False)
    basis = right[:COMPONENTS]
    targets = (change - centre) @ basis.T
    unit = targets.std()
    net = fit_network(encoder.wide(state), targets / unit, seed=seed, epochs=epochs)
    fresh, exact = truth_of(world, n_eval, seed=seed, purpose="attainable eval")
    with torch.no_grad():
        scores = net(torch.from_numpy(encoder.wide(fresh))).numpy() * unit
    predicted = (scores @ basis + centre).reshape(n_eval, *exact.shape[1:]) * scale
    return Attainable(sweep_lifts(predicted, exact, scale=scale), exact[:, PRODUCTION].mean(axis=0))


def fit_network(x: Floats, y: Floats, *, seed: int, epochs: int, batch: int = 1024) -> nn.Module:
    """Return features -> scores, fitted by squared error; the epoch of the least error on a tenth held out is kept."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, y.shape[1]))
    inputs, outputs = torch.from_numpy(x), torch.from_numpy(y.astype(np.float32))
    held = torch.arange(len(x)) % 10 == 0
    learn, judge = torch.nonzero(~held)[:, 0], torch.nonzero(held)[:, 0]
    shuffle = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-3)
    best, kept = float("inf"), net.state_dict()
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * 0.5 * (1 + np.cos(np.pi * epoch / epochs))
        for rows in learn[torch.randperm(len(learn), generator=shuffle)].split(batch):
            loss = nn.functional.mse_loss(net(inputs[rows]), outputs[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            error = float(nn.functional.mse_loss(net(inputs[judge]), outputs[judge]))
        if error < best:
            best, kept = error, {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(kept)
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    seeds, n_fit, n_eval = (range(1), 30_000, 15_000) if arguments.quick else (range(3), 100_000, 40_000)
    figures: dict[str, float] = {}
    for setting in ("paper", "demo", "perfect-ranker"):
        found = [attainable(open_world("homefeed", setting=setting, seed=seed), n_fit=n_fit, n_eval=n_eval, seed=seed) for seed in seeds]
        name = setting.replace("-", "_")
        figures[f"hv_{name}"] = float(np.mean([each.hypervolume for each in found]))
        for j, objective in enumerate(("save", "p2p")):
            figures[f"{objective}_{name}"] = 100 * float(np.mean([each.best(j) for each in found]))
        sys.stdout.write(
            f"{setting}: hypervolume {figures[f'hv_{name}']:.3f} %^2, save {figures[f'save_{name}']:+.2f} % at p2p >= 0, "
            f"p2p {figures[f'p2p_{name}']:+.2f} % at save >= 0 (mean of {len(found)} seeds)\n"
        )
    figures["perfect_over_paper"] = figures["hv_perfect_ranker"] / figures["hv_paper"]
    sys.stdout.write(f"perfect ranker over paper: {figures['perfect_over_paper']:.4f}\n")
    arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
