"""How a world answers a list: ranker scores, served lists, true probabilities, drawn events, and the exact value of every action.

The user scans positions 1..k; at each, every head's event is Bernoulli(p_true); the user goes on with probability
sigmoid(c0 + c1 p_long_view - c2 p_hide). First events of one head given the scan are independent, so E[min(count, 1)] is an exact recursion
over positions: E += A p, A *= (1 - p) continue; repeats of a head are thinned, which leaves it as it is. With numba the same functions run
compiled; a test holds both to the same numbers.
"""

from __future__ import annotations

import numpy as np

from paretune.records import Candidates, Floats, Ints
from paretune.sim.world import Arrivals, Catalogue, Continuation, World
from paretune.surface.lists import top_lists

try:
    from paretune.sim import compiled
except ImportError:  # numba is optional
    compiled = None  # type: ignore[assignment]


REPEAT = 0.5  # with it, more than 80 % of requests have at most one event of an objective, as in the paper


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), safe for large |x|."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def ranker_scores(arrivals: Arrivals, catalogue: Catalogue) -> Floats:
    """Return (n, C, H) float32 head scores of the request's pool, as the ranker predicts them."""
    scores = _scores(arrivals, catalogue)
    return scores if arrivals.ranker_scale is None else np.minimum(scores * arrivals.ranker_scale.astype(np.float32), np.float32(1))


def _scores(arrivals: Arrivals, catalogue: Catalogue) -> Floats:
    if compiled is not None:
        return compiled.scores(arrivals.theta_ranker, catalogue.ranker, arrivals.pool)
    n, heads, _ = arrivals.theta_ranker.shape
    result = np.empty((n, catalogue.ids.shape[1], heads), dtype=np.float32)
    for pool in np.unique(arrivals.pool):
        rows = np.flatnonzero(arrivals.pool == pool)
        result[rows] = sigmoid(np.einsum("nhd,cd->nch", arrivals.theta_ranker[rows], catalogue.ranker[pool], optimize=True))
    return result


def served_lists(scores: Floats, weights: Floats, k: int) -> Ints:
    """Return (n, k) int16 positions of the top-k under each request's own weights (n, H); ties go to the earlier candidate."""
    if compiled is not None:
        return compiled.served_lists(scores, np.ascontiguousarray(weights, dtype=np.float32), k)
    values = np.einsum("nch,nh->nc", scores, weights.astype(np.float32))
    return np.argsort(-values, axis=1, kind="stable")[:, :k].astype(np.int16)


def true_probabilities(arrivals: Arrivals, catalogue: Catalogue, items: Ints) -> Floats:
    """Return (n, k, H) float32 true event probabilities of the items at positions `items` (n, k) of the pool."""
    phi = catalogue.true[arrivals.pool[:, None], items]
    return sigmoid(phi @ arrivals.theta_true.transpose(0, 2, 1))


def continuation_probability(probabilities: Floats, continuation: Continuation) -> Floats:
    """Return (..., ) chance of going on after an item, from its true probabilities (..., H)."""
    c = continuation
    return sigmoid(c.base + c.long_view * probabilities[..., c.long_view_head] - c.hide * probabilities[..., c.hide_head])


def draw_events(probabilities: Floats, continuation: Continuation, rng: np.random.Generator) -> Ints:
    """Return (n, k, H) uint8 events of one scan of each list.

    Args:
        probabilities: (n, k, H) true ones, in list order.
        continuation: of the world.
        rng: source of the draws.
    """
    n, k, _ = probabilities.shape
    going_on = rng.random((n, k), dtype=np.float32) < continuation_probability(probabilities, continuation)
    seen = np.concatenate([np.ones((n, 1), bool), np.logical_and.accumulate(going_on, axis=1)[:, :-1]], axis=1)
    events = rng.random(probabilities.shape, dtype=np.float32) < probabilities
    return (events & seen[:, :, None]).astype(np.uint8)


def satiated(events: Ints, rng: np.random.Generator) -> Ints:
    """Return the events (n, k, H) that remain: of a head that already had one in this list, each further one is kept with chance REPEAT.

    The first event of a head always stays, so min(count, 1) and its exact value are as without; most requests then have at most one.
    """
    before = np.cumsum(events, axis=1, dtype=np.uint8) - events
    repeats = np.flatnonzero((before > 0) & (events > 0))
    remaining = events.copy()
    remaining.ravel()[repeats] = rng.random(len(repeats)) < REPEAT
    return remaining


def exact_values(world: World, arrivals: Arrivals, actions: Floats, *, rows_per_chunk: int = 4096) -> Floats:
    """Return (n, K, M) float32 exact E[min(count_j, 1) | s, a]: the truth, for evaluation code only.

    Args:
        world: whose users answer.
        arrivals: n requests.
        actions: (K, m) weight vectors.
        rows_per_chunk: bounds the memory.
    """
    k, heads = world.surface.k, np.array(world.objective_heads)
    parts = []
    for start in range(0, len(arrivals), rows_per_chunk):
        part = arrivals.take(slice(start, start + rows_per_chunk))
        scores = ranker_scores(part, world.catalogue)
        lists = top_lists(pool_candidates(part, world.catalogue, scores), actions, k)
        if compiled is not None:
            c = world.continuation
            parameters = np.array([c.base, c.long_view, c.hide], dtype=np.float32)
            parts.append(
                compiled.exact_values(
                    part.theta_true, world.catalogue.true, part.pool, lists, heads, parameters, c.long_view_head, c.hide_head
                )
            )
        else:
            parts.append(_exact_values(part, world, lists, heads))
    return np.concatenate(parts)


def _exact_values(arrivals: Arrivals, world: World, lists: Ints, heads: Ints) -> Floats:
    n, n_actions, k = lists.shape
    every = np.broadcast_to(np.arange(world.catalogue.ids.shape[1]), (n, world.catalogue.ids.shape[1]))
    pool = true_probabilities(arrivals, world.catalogue, every)
    goes_on = continuation_probability(pool, world.continuation)
    row = np.arange(n)[:, None]
    value = np.zeros((n, n_actions, len(heads)), dtype=np.float32)
    alive = np.ones_like(value)
    for position in range(k):
        item = lists[:, :, position]
        p = pool[row, item][:, :, heads]
        value += alive * p
        alive *= (1 - p) * goes_on[row, item][:, :, None]
    return value


def pool_candidates(arrivals: Arrivals, catalogue: Catalogue, scores: Floats) -> Candidates:
    """Return the whole pools as candidates, in pool order."""
    n, width, heads = scores.shape
    return Candidates(np.arange(n + 1, dtype=np.int64) * width, catalogue.ids[arrivals.pool].ravel(), scores.reshape(-1, heads))
