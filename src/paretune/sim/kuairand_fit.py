"""Response models in factor form, fitted on KuaiRand impressions: logit P(head) = theta[request, head] . phi[item].

theta[h] = A[h] z (+ a shrunk intercept per user and head), phi = [1, x P + E]: z request features, x video features, E free video factors.
The rule: A, P, E and the intercepts are the maximum a posteriori under Gaussian priors; the same data and seed give the same factors.
An edge: torch is imported when a fit is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from paretune.extras import missing
from paretune.ports import Progress, silent
from paretune.records import Floats, Ints
from paretune.seeds import stream

_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Recipe:
    """Size and priors of one response model; all sds are on the logit scale, per sd of the feature."""

    rank: int  # video factors
    epochs: int
    intercept_sd: float = 0.3  # effect of a request feature on the level of a head
    interaction_sd: float = 0.05  # effect of a request feature on the loading of a video factor
    item_sd: float = 0.3  # free video factors
    user_sd: float = 0.0  # intercept per user and head; 0 = none


@dataclass(frozen=True, slots=True)
class Factors:
    """A fitted response model."""

    request: Floats  # (Z, H, 1 + rank) float32, the A of every head
    item: Floats  # (V, 1 + rank) float32, column 0 is the constant 1
    user: Floats  # (U, H) float32 intercepts

    def theta(self, z: Floats, user: Ints) -> Floats:
        """Return (n, H, 1 + rank) float32 of requests with features z (n, Z)."""
        theta = np.tensordot(z.astype(np.float32), self.request, axes=1)
        theta[:, :, 0] += self.user[user]
        return theta

    def logits(self, z: Floats, user: Ints, item: Ints) -> Floats:
        """Return (n, H) logits of one video per request."""
        return np.einsum("nhd,nd->nh", self.theta(z, user), self.item[item])


def fit_factors(
    z: Floats, x: Floats, user: Ints, item: Ints, labels: Floats, *, n_users: int, recipe: Recipe, seed: int, progress: Progress = silent
) -> Factors:
    """Return the fitted response model.

    Args:
        z: (N, Z) request features of the impressions, column 0 the constant 1.
        x: (V, F) standardised video features.
        user: (N,) row of the user.
        item: (N,) row of the video.
        labels: (N, H) 0/1.
        n_users: U.
        recipe: size and priors.
        seed: of the start and the order of the batches.
        progress: told the share done.

    Raises:
        MissingExtraError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise missing("train", "fitting the kuairand world", error) from error
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums then have one order, on every machine with any number of cores
    try:
        return _fit(torch, z, x, user, item, labels, n_users=n_users, recipe=recipe, rng=stream(seed, "factors"), progress=progress)
    finally:
        torch.set_num_threads(threads)


def _fit(
    torch: Any,
    z: Floats,
    x: Floats,
    user: Ints,
    item: Ints,
    labels: Floats,
    *,
    n_users: int,
    recipe: Recipe,
    rng: np.random.Generator,
    progress: Progress,
) -> Factors:
    n, heads, rank = len(z), labels.shape[1], recipe.rank

    def parameter(*shape: int, sd: float = 0.0) -> Any:
        start = rng.normal(scale=sd, size=shape) if sd else np.zeros(shape)
        return torch.tensor(start, dtype=torch.float32, requires_grad=True)

    request, projection = parameter(z.shape[1], heads, 1 + rank), parameter(x.shape[1], rank, sd=0.5 / np.sqrt(x.shape[1]))
    free, intercept = parameter(len(x), rank), parameter(n_users, heads)
    with torch.no_grad():
        rate = labels.mean(axis=0).clip(1e-4, 1 - 1e-4)
        request[0, :, 0] = torch.tensor(np.log(rate / (1 - rate)), dtype=torch.float32)
        request[0, :, 1:] = torch.tensor(rng.normal(scale=0.3, size=(heads, rank)), dtype=torch.float32)
    spread = torch.full((z.shape[1], 1, 1 + rank), recipe.interaction_sd)
    spread[:, :, 0] = recipe.intercept_sd
    spread[0] = 1.0
    spread[0, :, 0] = 10.0
    data = [torch.from_numpy(np.ascontiguousarray(a)) for a in (z.astype(np.float32), user.astype(np.int64), item.astype(np.int64), labels)]
    features = torch.from_numpy(x)
    parameters = [request, projection, free] + ([intercept] if recipe.user_sd else [])
    optimiser = torch.optim.Adam(parameters, lr=0.02)
    steps = recipe.epochs * -(-n // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.02, total_steps=steps, pct_start=0.1)
    for epoch in range(recipe.epochs):
        order = torch.from_numpy(rng.permutation(n))
        for rows in order.split(_BATCH):
            z_rows, user_rows, item_rows, label_rows = (a[rows] for a in data)
            phi = features[item_rows] @ projection + free.index_select(0, item_rows)
            theta = (z_rows @ request.reshape(z.shape[1], -1)).reshape(len(rows), heads, 1 + rank)
            logits = theta[:, :, 0] + intercept.index_select(0, user_rows) + (theta[:, :, 1:] @ phi[:, :, None])[:, :, 0]
            likelihood = torch.nn.functional.binary_cross_entropy_with_logits(logits, label_rows, reduction="sum") / len(rows)
            prior = (request / spread).square().sum() + (free / recipe.item_sd).square().sum() + (projection / 0.5).square().sum()
            if recipe.user_sd:
                prior = prior + (intercept / recipe.user_sd).square().sum()
            optimiser.zero_grad()
            (likelihood + prior / (2 * n)).backward()
            optimiser.step()
            schedule.step()
        progress((epoch + 1) / recipe.epochs, "fitting the response model")
    with torch.no_grad():
        phi = torch.cat([torch.ones(len(x), 1), features @ projection + free], dim=1)
    return Factors(request.detach().numpy(), phi.numpy(), intercept.detach().numpy())
