"""The paper's network in numpy, as `value.paper_net` defines it in torch: embeddings, Transformer, state MLP, backbone, heads."""

from __future__ import annotations

from typing import Any

import numpy as np

from paretune.records import Bools, Floats, Ints
from paretune.surface.grid import linear_coordinates
from paretune.surface.heads import Surface

EPSILON = 1e-5  # of torch's layer and batch norms


def paper_values(
    arrays: dict[str, Floats],
    dense: Floats,
    slots: Ints,
    tokens: Ints,
    actions: Floats,
    *,
    surface: Surface,
    sizes: dict[str, Any],
    clipped: tuple[bool, ...],
) -> Floats:
    """Return (n, K, M) values, in the precision of the arrays.

    Args:
        arrays: of the network, by torch's names.
        dense: (n, Dd).
        slots: (n, C).
        tokens: (n, S, L), 0 = padding.
        actions: (K, m) full weight vectors.
        surface: scales them.
        sizes: of the network.
        clipped: (M,) whether the reward lies in [0, 1].
    """
    state = state_vector(arrays, dense, slots, tokens, sizes)
    coordinates = linear_coordinates(surface, actions).astype(state.dtype)
    action = _relu(_linear(arrays, "action.0", coordinates))
    n, k = len(state), len(actions)
    x = np.concatenate([np.repeat(state[:, None], k, axis=1), np.repeat(action[None], n, axis=0)], axis=2)
    for i in range(3):
        spread = np.sqrt(arrays[f"norms.{i}.running_var"] + np.asarray(EPSILON, x.dtype))
        x = (x - arrays[f"norms.{i}.running_mean"]) / spread * arrays[f"norms.{i}.weight"] + arrays[f"norms.{i}.bias"]
        x = _relu(_linear(arrays, f"linears.{i}", x))
    out = _linear(arrays, "heads", x)
    return np.where(np.array(clipped), probability(out), out)


def state_vector(arrays: dict[str, Floats], dense: Floats, slots: Ints, tokens: Ints, sizes: dict[str, Any]) -> Floats:
    """Return (n, state) what the network makes of a request."""
    parts = [dense, *(arrays[f"words.{i}.weight"][slots[:, i]] for i in range(slots.shape[1]))]
    if tokens.shape[2]:
        x = arrays["positions"] + sum(arrays[f"tokens.{i}.weight"][tokens[:, i]] for i in range(tokens.shape[1]))
        present: Bools = tokens.max(axis=1) > 0  # (n, L)
        visible = present | (present.sum(axis=1, keepdims=True) == 0)
        for layer in range(sizes["layers"] if sizes["encoder"] == "transformer" else 0):
            x = _attended(arrays, f"attention.{layer}", x, visible, sizes["attention_heads"])
        share = present.astype(x.dtype) / np.maximum(present.sum(axis=1, keepdims=True), 1).astype(x.dtype)
        parts.append(np.einsum("nl,nld->nd", share, x))
    hidden = _relu(_linear(arrays, "state.0", np.concatenate(parts, axis=1)))
    return _relu(_linear(arrays, "state.2", hidden))


def _attended(arrays: dict[str, Floats], name: str, x: Floats, visible: Any, heads: int) -> Floats:
    n, length, d = x.shape
    mixed = _linear(arrays, f"{name}.mixed", _normed(arrays, f"{name}.norm", x)).reshape(n, length, 3, heads, d // heads)
    query, key, value = (mixed[:, :, i].transpose(0, 2, 1, 3) for i in range(3))  # (n, heads, L, d / heads)
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(np.asarray(d // heads, x.dtype))
    scores = np.where(visible[:, None, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=3, keepdims=True))
    weights /= weights.sum(axis=3, keepdims=True)
    x = x + _linear(arrays, f"{name}.out", (weights @ value).transpose(0, 2, 1, 3).reshape(n, length, d))
    wide = _relu(_linear(arrays, f"{name}.wide.0", _normed(arrays, f"{name}.norm_wide", x)))
    return x + _linear(arrays, f"{name}.wide.2", wide)


def _normed(arrays: dict[str, Floats], name: str, x: Floats) -> Floats:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + np.asarray(EPSILON, x.dtype)) * arrays[f"{name}.weight"] + arrays[f"{name}.bias"]


def _linear(arrays: dict[str, Floats], name: str, x: Floats) -> Floats:
    return x @ arrays[f"{name}.weight"].T + arrays[f"{name}.bias"]


def _relu(x: Floats) -> Floats:
    return np.maximum(x, 0)


def probability(z: Floats) -> Floats:
    """Return 1 / (1 + exp(-z)), with all digits also where it is small."""
    return 1 / (1 + np.exp(np.minimum(-z, 80.0)))
