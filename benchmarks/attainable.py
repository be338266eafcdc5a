"""How much of a world's gain its visible features can give; evaluation code, the only kind that may ask a world for its truth.

Hypervolume is the area of lift pairs (in per cent of production, squared) that some point of the alpha sweep dominates, above
production itself.
"""

from __future__ import annotations

import numpy as np
import torch

from paretune.ports import ValueModel
from paretune.records import Floats, State
from paretune.seeds import stream
from paretune.sim.response import exact_values
from paretune.sim.world import World
from paretune.value.features import Encoder
from paretune.value.fitting import Recipe, fit_network, seeded
from paretune.value.trunk_net import TrunkNet

ALPHAS = np.concatenate([np.linspace(0, 0.4, 9)[:-1], np.linspace(0.4, 1, 121)])
COMPONENTS = 12


def requests_with_truth(world: World, n: int, *, seed: int, purpose: str, actions: Floats | None = None) -> tuple[State, Floats]:
    """Return the visible state of n fresh requests and the exact values (n, K, M) of the actions given, the surface's by default."""
    actions = world.surface.actions if actions is None else actions
    states, values = [], []
    for i, start in enumerate(range(0, n, 20_000)):
        arrivals = world.arrive(min(20_000, n - start), day=i % 7, rng=stream(seed, purpose, i))
        states.append(arrivals.state)
        values.append(exact_values(world, arrivals, actions))
    return State.concat(states), np.concatenate(values)


def true_front(believed: Floats, truth: Floats) -> Floats:
    """Return (len(ALPHAS), M) true relative lifts of the policies argmax_a alpha Q_0 / V_0 + (1 - alpha) Q_1 / V_1 over grid actions."""
    production, rows = truth[:, 0].mean(axis=0), np.arange(len(truth))
    relative = (believed / production)[:, 1:].astype(np.float32)
    points = []
    for alpha in ALPHAS:
        action = 1 + (relative @ np.array([alpha, 1 - alpha], np.float32)).argmax(axis=1)
        points.append(truth[rows, action].mean(axis=0) / production - 1)
    return np.array(points)


def static_front(truth: Floats) -> Floats:
    """Return (K, M) true relative lifts of every fixed weight vector."""
    return truth.mean(axis=0) / truth[:, 0].mean(axis=0) - 1


def hypervolume(points: Floats) -> float:
    """Return the area above (0, 0) that the points dominate, in per cent squared; points (P, 2) are fractions."""
    better = points[(points > 0).all(axis=1)]
    area = reached = 0.0
    for first, second in better[np.argsort(-better[:, 0])]:
        if second > reached:
            area += first * (second - reached)
            reached = second
    return float(area) * 1e4


def best_at_no_loss(points: Floats) -> tuple[float, float]:
    """Return the largest lift of each objective among points where the other is not lost; -inf where there is none."""
    return tuple(float(points[points[:, 1 - j] >= 0, j].max(initial=-np.inf)) for j in (0, 1))  # type: ignore[return-value]


def attainable_front(world: World, *, n: int, seed: int, state: State, truth: Floats, epochs: int = 9) -> Floats:
    """Return the true front of a network fitted on noise-free truths of n other requests: what features can give at most, nearly.

    Args:
        world: whose truth it is.
        n: requests to fit on.
        seed: of those requests.
        state: visible state of the requests to judge by.
        truth: their exact values (m, K, M).
        epochs: of the fit.
    """
    fitted_state, values = requests_with_truth(world, n, seed=seed, purpose="attainable")
    encoder = Encoder.fit(fitted_state, world.config().features)
    x = torch.from_numpy(encoder.wide(fitted_state))
    production = values[:, 0].mean(axis=0)
    change = ((values - values[:, :1]) / production).reshape(n, -1)
    centre = change.mean(axis=0)
    components = np.linalg.svd((change - centre)[:20_000], full_matrices=False)[2][:COMPONENTS]
    scores = (change - centre) @ components.T
    scale = scores.std()
    net = seeded(lambda: TrunkNet(x.shape[1], COMPONENTS, hidden=128, dropout=0.1), 0)
    fit_network(
        net,
        (x,),
        torch.from_numpy((scores / scale).astype(np.float32)),
        lambda out, wanted: ((out - wanted) ** 2).sum(dim=1).mean(),
        validation=np.arange(n) % 10 == 0,
        seed=0,
        recipe=Recipe(2e-3, 1024, epochs, epochs, 1e-3, "cosine"),
    )
    with torch.no_grad():
        judged = net(torch.from_numpy(encoder.wide(state))).numpy() * scale
    believed = (judged @ components + centre).reshape(truth.shape) * production
    return true_front(believed, truth)


def model_front(model: ValueModel, world: World, *, state: State, truth: Floats) -> Floats:
    """Return the true front of a model's sweep."""
    return true_front(model.values(state, world.surface.actions), truth)
