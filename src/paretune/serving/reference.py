"""What a served model must answer, in numpy and in any precision: the oracle of an exported graph, and a host where there is no other.

Each kind is evaluated as its module in `value` defines it, from the same inputs as the graph; nothing is shared with the graph's builder.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paretune.records import PRODUCTION, Floats, Ints
from paretune.serving.parts import Member, Parts
from paretune.serving.reference_paper import paper_values, probability
from paretune.serving.scoring import Inputs
from paretune.surface.grid import log_coordinates, polynomial_basis
from paretune.value.features import BUCKETS, LARGEST, Encoder, windows
from paretune.value.replay import grid_mixed
from paretune.value.ridge import DEGREE
from paretune.value.smooth import steps_basis
from paretune.value.trunk import TRUNK_ARRAYS, trunk_output


def reference_values(parts: Parts, inputs: Inputs, *, scale: Floats, dtype: Any = np.float64) -> Floats:
    """Return (n, K, M) values of all actions in relative-lift units, larger is better.

    Args:
        parts: of the model.
        inputs: n rows, as `serving.inputs` makes them.
        scale: (M,) direction / production's value.
        dtype: in which to compute.
    """
    actions = parts.surface.actions
    values = np.stack([member_values(member, inputs, actions, dtype=dtype) for member in parts.members])
    if parts.combined == "mean":
        return values.mean(axis=0) * scale.astype(dtype)
    signs = np.array(parts.signs, dtype=dtype)
    changes = signs * (values - values[:, :, :1])
    doubted = changes.mean(axis=0) - dtype(parts.caution) * changes.std(axis=0, ddof=1)
    return (values[:, :, :1].mean(axis=0) + signs * doubted) * scale.astype(dtype)


def best_actions(values: Floats, scalarisation: Floats) -> Ints:
    """Return (n,) the first of the best actions of the grid; values (n, K, M), scalarisation (n, M)."""
    scores = np.einsum("nkm,nm->nk", values, scalarisation.astype(values.dtype))
    return 1 + scores[:, PRODUCTION + 1 :].argmax(axis=1)


def member_values(member: Member, inputs: Inputs, actions: Floats, *, dtype: Any) -> Floats:
    """Return (n, K, M) values in the model's own units."""
    arrays = {name: array.astype(dtype) for name, array in member.arrays.items()}
    surface, m = member.origin.surface, len(member.origin.objectives)
    if member.kind == "paper":
        dense, slots, tokens = (
            dense_columns(inputs, member.encoder, dtype),
            word_slots(inputs, member.encoder),
            padded_tokens(inputs, member),
        )
        return paper_values(arrays, dense, slots, tokens, actions, surface=surface, sizes=member.sizes, clipped=member.origin.clipped)
    x = wide_columns(inputs, member.encoder, dtype)
    if member.kind == "ridge":
        coordinates = log_coordinates(surface, actions)
        personal = np.column_stack([np.ones(len(actions)), coordinates]).astype(dtype)
        curved = polynomial_basis(coordinates, DEGREE)[:, coordinates.shape[1] :].astype(dtype)
        own = np.tensordot(x, arrays["by_state"][1:], axes=1) + arrays["by_state"][0]
        return np.einsum("ku,num->nkm", personal, own) + curved @ arrays["shared"]
    out = trunk_output(x, {name: arrays[name] for name in TRUNK_ARRAYS})
    if member.kind == "smooth":
        basis = steps_basis(surface, log_coordinates(surface, actions)).astype(dtype)
        values = out[:, None, :m] + basis @ arrays["shared"].T + out[:, None, m:] * (basis @ arrays["personal"].T)
        clipped = np.array(member.origin.clipped)
        values[:, :, clipped] = probability(values[:, :, clipped])
        return values
    out, components = out * arrays["scale"], arrays["components"]
    r = len(components)
    change = np.einsum("nr,rkm->nkm", out[:, :r], components.reshape(r, -1, m)) + arrays["centre"][:-m].reshape(-1, m)
    mixed = grid_mixed(surface, actions, change.transpose(1, 0, 2).reshape(len(surface), -1)).astype(dtype)
    return mixed.reshape(len(actions), -1, m).transpose(1, 0, 2) + (out[:, r:] + arrays["centre"][-m:])[:, None]


def wide_columns(inputs: Inputs, encoder: Encoder, dtype: Any) -> Floats:
    """Return (n, D) what `Encoder.wide` returns, in another precision."""
    blocks = [dense_columns(inputs, encoder, dtype)]
    for words, slots in zip(encoder.categorical, word_slots(inputs, encoder).T, strict=True):
        hot = np.eye(1 + len(words.words), dtype=dtype)[slots]
        if not words.unknown:
            hot[:, 0] = 0
        blocks.append(hot)
    for tokens in encoder.sequence:
        raw = np.asarray(inputs[tokens.name], dtype=np.int64)
        bins = min(tokens.vocabulary, BUCKETS)
        bucket = np.where(raw < 0, -1, raw % tokens.vocabulary % bins)
        hot = (bucket[:, :, None] == np.arange(bins)).astype(dtype)  # (n, L, bins)
        shares = []
        for window in windows(tokens.length):
            counts = hot[:, -window:].sum(axis=1)
            shares.append(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
        length = np.log1p(hot.sum(axis=(1, 2)))[:, None]
        blocks.append(_standardised(np.concatenate([*shares, length], axis=1), tokens.pooled.mean, tokens.pooled.scale, dtype))
    return np.concatenate(blocks, axis=1)


def dense_columns(inputs: Inputs, encoder: Encoder, dtype: Any) -> Floats:
    """Return the columns of numbers and vectors, then whether each was missing."""
    values, absent = [], []
    for scaled in (*encoder.numeric, *encoder.embedding):
        raw = np.asarray(inputs[scaled.name]).astype(dtype)
        raw = raw[:, None] if raw.ndim == 1 else raw
        values.append(_standardised(raw, scaled.mean, scaled.scale, dtype))
        absent.append((np.isnan(raw).any(axis=1, keepdims=True) & scaled.missing).astype(dtype))
    rows = len(next(iter(inputs.values())))
    return np.concatenate([*values, *absent], axis=1) if values else np.zeros((rows, 0), dtype)


def word_slots(inputs: Inputs, encoder: Encoder) -> Ints:
    """Return (n, C) slots of the categorical features; 0 is unknown."""
    rows = len(next(iter(inputs.values())))
    slots = np.zeros((rows, len(encoder.categorical)), dtype=np.int64)
    for i, words in enumerate(encoder.categorical):
        known = {word: slot for slot, word in enumerate(words.words, start=1)}
        slots[:, i] = [known.get(word, 0) for word in inputs[words.name]]
    return slots


def padded_tokens(inputs: Inputs, member: Member) -> Ints:
    """Return (n, S, L) tokens of the sequences, shorter ones padded in front: 0 = padding, token + 1 otherwise."""
    rows, length = len(next(iter(inputs.values()))), max((tokens.length for tokens in member.encoder.sequence), default=0)
    stacked = np.zeros((rows, len(member.encoder.sequence), length), dtype=np.int64)
    for i, tokens in enumerate(member.encoder.sequence):
        raw = np.asarray(inputs[tokens.name], dtype=np.int64)
        stacked[:, i, length - tokens.length :] = np.where(raw < 0, 0, raw % tokens.vocabulary + 1)
    return stacked


def _standardised(raw: Floats, mean: Any, scale: Any, dtype: Any) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):
        values = ((raw.astype(np.float64) - np.array(mean)) * np.array(scale)).astype(dtype)
    return np.where(np.isnan(values), 0, values.clip(-LARGEST, LARGEST)).astype(dtype)
