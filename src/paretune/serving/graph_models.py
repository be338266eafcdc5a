"""Nodes of the value models: from a state's first layer to (n, K, M) values in the model's own units.

The rules: whatever does not depend on the request is multiplied out when the graph is made; actions cost one product over the state's few
outputs, or for the paper's network, its two narrow layers after the split first one. That product is taken in float64: its inputs' errors
move all actions alike, while rounding of each action's value on its own would decide between neighbours on the grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paretune.records import Floats
from paretune.serving.graph_state import first_layer, token_rows
from paretune.serving.parts import Member
from paretune.surface.grid import linear_coordinates, log_coordinates, polynomial_basis
from paretune.value.replay import grid_weights
from paretune.value.ridge import DEGREE
from paretune.value.smooth import steps_basis

_DOUBLE = 11  # float64, as onnx numbers types
_EPSILON = 1e-5  # of torch's layer and batch norms


def member_nodes(graph: Any, member: Member) -> str:
    """Return the name of the (n, K, M) float64 values of one model."""
    if member.kind == "paper":
        return _clipped(graph, member, graph.node("Cast", _paper(graph, member), to=_DOUBLE))
    actions, m = member.origin.surface.actions, len(member.origin.objectives)
    shape = graph.constant([-1, len(actions), m], np.int64)
    if member.kind == "ridge":
        return graph.node("Reshape", _ridge(graph, member, actions), shape)
    mix, constant = _smooth_mix(member, actions) if member.kind == "smooth" else _replay_mix(member, actions)
    values = graph.node("Reshape", _trunk(graph, member, mix, constant), shape)
    return _clipped(graph, member, values) if member.kind == "smooth" else values


def _clipped(graph: Any, member: Member, values: str) -> str:
    """Return the values, through the logistic function where rewards lie in [0, 1]; such columns come with their sign turned.

    The operator Sigmoid computes one half plus something, so that small probabilities tie in float32; 1 / (1 + exp(-x)) keeps seven digits.
    """
    clipped = member.origin.clipped
    if not any(clipped):
        return values
    held = graph.node("Reciprocal", graph.node("Add", graph.node("Exp", values), graph.constant(1.0, np.float64)))
    return held if all(clipped) else graph.node("Where", graph.constant(clipped, np.bool_), held, values)


def _turned(member: Member) -> Floats:
    """Return (M,) -1 for the columns that `_clipped` takes with their sign turned, else 1."""
    return np.where(member.origin.clipped, -1.0, 1.0)


def _trunk(graph: Any, member: Member, mix: Floats, constant: Floats) -> str:
    """Return the name of (n, K M) float64: the trunk's outputs times `mix`, plus a constant."""
    arrays = {name: array.astype(np.float64) for name, array in member.arrays.items()}
    weight = np.concatenate([arrays["first.weight"].T, arrays["linear.weight"].T], axis=1)
    both = first_layer(graph, member.encoder, weight, np.concatenate([arrays["first.bias"], arrays["linear.bias"]]))
    sizes = graph.constant([len(arrays["first.bias"]), len(mix)], np.int64)
    x, linear = graph.nodes_of("Split", both, sizes, outputs=2, axis=1)
    x = _silu(graph, x)
    x = _silu(graph, graph.node("Gemm", x, graph.constant(arrays["second.weight"].T), graph.constant(arrays["second.bias"])))
    return _mixed(graph, graph.node("Gemm", x, graph.constant(arrays["last.weight"].T), linear), mix, constant)


def _mixed(graph: Any, x: str, mix: Floats, constant: Floats) -> str:
    x = graph.node("Cast", x, to=_DOUBLE)
    return graph.node("Gemm", x, graph.constant(mix, np.float64), graph.constant(constant, np.float64))


def _silu(graph: Any, x: str) -> str:
    return graph.node("Mul", x, graph.node("Sigmoid", x))


def _smooth_mix(member: Member, actions: Floats) -> tuple[Floats, Floats]:
    """Return (2 M, K M) what b and c count for each action and objective, and (K M,) the common part."""
    surface, m = member.origin.surface, len(member.origin.objectives)
    basis = steps_basis(surface, log_coordinates(surface, actions))
    common, own = (basis @ member.arrays[name].astype(np.float64).T for name in ("shared", "personal"))  # (K, M)
    mix = np.zeros((2 * m, len(actions), m))
    for j in range(m):
        mix[j, :, j], mix[m + j, :, j] = 1, own[:, j]
    return (mix * _turned(member)).reshape(2 * m, -1), (common * _turned(member)).ravel()


def _replay_mix(member: Member, actions: Floats) -> tuple[Floats, Floats]:
    """Return (R + M, K M) what scores and production values count for each action and objective, and (K M,) the common part."""
    m, grid = len(member.origin.objectives), grid_weights(member.origin.surface, actions)
    scale, centre, components = (member.arrays[name].astype(np.float64) for name in ("scale", "centre", "components"))
    changes = np.einsum("ak,rkm->ram", grid, components.reshape(len(components), -1, m)).reshape(len(components), -1)
    level = np.tile(np.eye(m), (1, len(actions)))
    constant = grid @ centre[:-m].reshape(-1, m) + centre[-m:]
    return np.concatenate([changes, level]) * scale[:, None], constant.ravel()


def _ridge(graph: Any, member: Member, actions: Floats) -> str:
    by_state, shared = (member.arrays[name].astype(np.float64) for name in ("by_state", "shared"))
    coordinates, m = log_coordinates(member.origin.surface, actions), by_state.shape[2]
    personal = np.column_stack([np.ones(len(actions)), coordinates])  # (K, 1 + t)
    curved = polynomial_basis(coordinates, DEGREE)[:, coordinates.shape[1] :] @ shared
    own = first_layer(graph, member.encoder, by_state[1:].reshape(len(by_state) - 1, -1), by_state[0].ravel())  # (n, (1 + t) M)
    mix = np.einsum("ku,ij->uikj", personal, np.eye(m)).reshape(personal.shape[1] * m, -1)
    return _mixed(graph, own, mix, curved.ravel())


def paper_state(graph: Any, member: Member, arrays: dict[str, Floats]) -> str:
    """Return the name of (n, state): what the paper's network makes of a request."""
    encoder = member.encoder
    weight, bias, dense = arrays["state.0.weight"].T, arrays["state.0.bias"], encoder.dense_width
    rows, at = [weight[:dense]], dense
    for i in range(len(encoder.categorical)):
        table = arrays[f"words.{i}.weight"]
        rows.append(table @ weight[at : at + table.shape[1]])
        at += table.shape[1]
    pooled = _pooled_tokens(graph, member, arrays) if encoder.sequence else ""
    state = first_layer(graph, encoder, np.concatenate(rows), bias, pooled=False, also=pooled, more=weight[at:])
    return graph.node("Relu", _linear(graph, arrays, "state.2", graph.node("Relu", state), operator="Gemm"))


def _paper(graph: Any, member: Member) -> str:
    arrays = {name: array.astype(np.float64) for name, array in member.arrays.items()}
    surface, state = member.origin.surface, paper_state(graph, member, arrays)
    folded = [_folded(arrays, i) for i in range(3)]
    width = arrays["state.2.bias"].shape[0]
    coordinates = linear_coordinates(surface, surface.actions)
    action = np.maximum(coordinates @ arrays["action.0.weight"].T + arrays["action.0.bias"], 0)
    of_actions = action @ folded[0][0][width:] + folded[0][1]  # (K, backbone)
    of_state = graph.node("MatMul", state, graph.constant(folded[0][0][:width]))
    x = graph.node("Add", graph.node("Unsqueeze", of_state, graph.constant([1], np.int64)), graph.constant(of_actions))
    x = graph.node("Relu", x)
    for later_weight, later_bias in folded[1:]:
        x = graph.node("Relu", graph.node("Add", graph.node("MatMul", x, graph.constant(later_weight)), graph.constant(later_bias)))
    turned = {"heads.weight": arrays["heads.weight"] * _turned(member)[:, None], "heads.bias": arrays["heads.bias"] * _turned(member)}
    return _linear(graph, turned, "heads", x)


def _folded(arrays: dict[str, Floats], i: int) -> tuple[Floats, Floats]:
    """Return (in, out) weight and (out,) bias of a backbone layer with its batch norm."""
    scale = arrays[f"norms.{i}.weight"] / np.sqrt(arrays[f"norms.{i}.running_var"] + _EPSILON)
    shift = arrays[f"norms.{i}.bias"] - arrays[f"norms.{i}.running_mean"] * scale
    weight = arrays[f"linears.{i}.weight"]
    return (weight * scale).T, arrays[f"linears.{i}.bias"] + weight @ shift


def _pooled_tokens(graph: Any, member: Member, arrays: dict[str, Floats]) -> str:
    """Return the name of (n, d): the sequences through the Transformer, averaged over the positions that hold a token."""
    rows, present = token_rows(graph, member.encoder)
    count = len(member.encoder.sequence)
    tables = np.concatenate([arrays[f"tokens.{i}.weight"] for i in range(count)])
    x = graph.node("ReduceSum", graph.node("Gather", graph.constant(tables), rows, axis=0), graph.constant([1], np.int64), keepdims=0)
    x = graph.node("Add", x, graph.constant(arrays["positions"]))  # (n, L, d)
    held = graph.node("Cast", present, to=1)
    total = graph.node("ReduceSum", held, graph.constant([1], np.int64), keepdims=1)
    layers = member.sizes["layers"] if member.sizes["encoder"] == "transformer" else 0
    if layers:
        nothing = graph.node("Less", total, graph.constant(0.5))
        seen = graph.node("Or", present, nothing)
        hidden = graph.node("Where", seen, graph.constant(0.0), graph.constant(-np.inf))
        mask = graph.node("Unsqueeze", hidden, graph.constant([1, 2], np.int64))  # (n, 1, 1, L)
        for layer in range(layers):
            x = _attention(graph, arrays, f"attention.{layer}", x, mask, heads=member.sizes["attention_heads"])
    share = graph.node("Div", held, graph.node("Max", total, graph.constant(1.0)))
    one = graph.constant([1], np.int64)
    return graph.node("Squeeze", graph.node("MatMul", graph.node("Unsqueeze", share, one), x), one)


def _attention(graph: Any, arrays: dict[str, Floats], name: str, x: str, mask: str, *, heads: int) -> str:
    length, d = arrays["positions"].shape
    part = d // heads
    weight, bias = arrays[f"{name}.mixed.weight"].T.copy(), arrays[f"{name}.mixed.bias"].copy()
    weight[:, :d] /= np.sqrt(part)  # the scale of the scores, in the queries
    bias[:d] /= np.sqrt(part)
    normed = _normed(graph, arrays, f"{name}.norm", x)
    mixed = graph.node("Add", graph.node("MatMul", normed, graph.constant(weight)), graph.constant(bias))
    split = graph.node("Reshape", mixed, graph.constant([-1, length, 3, heads, part], np.int64))
    turned = graph.node("Transpose", split, perm=[2, 0, 3, 1, 4])  # (3, n, heads, L, part)
    query, key, value = (graph.node("Gather", turned, graph.constant(i, np.int64), axis=0) for i in range(3))
    scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 1, 3, 2]))
    seen = graph.node("MatMul", graph.node("Softmax", graph.node("Add", scores, mask), axis=-1), value)
    joined = graph.node("Reshape", graph.node("Transpose", seen, perm=[0, 2, 1, 3]), graph.constant([-1, length, d], np.int64))
    x = graph.node("Add", x, _linear(graph, arrays, f"{name}.out", joined))
    wide = graph.node("Relu", _linear(graph, arrays, f"{name}.wide.0", _normed(graph, arrays, f"{name}.norm_wide", x)))
    return graph.node("Add", x, _linear(graph, arrays, f"{name}.wide.2", wide))


def _normed(graph: Any, arrays: dict[str, Floats], name: str, x: str) -> str:
    weight, bias = graph.constant(arrays[f"{name}.weight"]), graph.constant(arrays[f"{name}.bias"])
    return graph.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=_EPSILON)


def _linear(graph: Any, arrays: dict[str, Floats], name: str, x: str, *, operator: str = "MatMul") -> str:
    weight, bias = graph.constant(arrays[f"{name}.weight"].T), graph.constant(arrays[f"{name}.bias"])
    if operator == "Gemm":
        return graph.node("Gemm", x, weight, bias)
    return graph.node("Add", graph.node("MatMul", x, weight), bias)
