"""Nodes that read a state: from named features to the first layer of a network, as `value.features.Encoder` encodes.

The rule: few nodes, since at one request each costs more than its arithmetic: numbers and vectors are standardised as one row, words of all
categoricals are looked up at once, and a word's column of the first layer is a row of a table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paretune.records import Floats, Ints
from paretune.value.features import BUCKETS, LARGEST, Encoder, windows

_VISIBLE = 1e-6  # standard deviations; a smaller error of the mean in float32 is not corrected


def first_layer(
    graph: Any, encoder: Encoder, weight: Floats, bias: Floats, *, pooled: bool = True, also: str = "", more: Floats | None = None
) -> str:
    """Return the name of (n, out): a linear layer over the encoding.

    Args:
        graph: to which nodes are added.
        encoder: of the state.
        weight: (D, out) by the columns of `Encoder.wide`; without pooled sequences, their rows are left out.
        bias: (out,).
        pooled: read sequences as histograms; False leaves them out.
        also: name of further columns (n, d) beside the encoding, if any.
        more: (d, out) their weights.
    """
    values, absent = _dense(graph, encoder, pooled=pooled)
    n_values, n_dense = sum(len(scaled.mean) for scaled in (*encoder.numeric, *encoder.embedding)), encoder.dense_width
    n_words = sum(1 + len(words.words) for words in encoder.categorical)
    rows = [weight[:n_values], weight[n_dense + n_words :][_histogram_order(encoder)] if pooled else weight[:0]]
    columns = [values] if values else []
    if absent:
        rows.append(_absent_rows(encoder, weight[n_values:n_dense], pooled=pooled))
        columns.append(absent)
    if also and more is not None:
        rows.append(more)
        columns.append(also)
    known = ""
    if encoder.categorical:
        tables, at = [], n_dense
        for words in encoder.categorical:
            table = weight[at : at + 1 + len(words.words)].copy()
            if not words.unknown and pooled:  # in `wide` that column is never set
                table[0] = 0
            tables.append(table)
            at += len(table)
        tables[0] = tables[0] + bias  # every request has one word of it
        looked_up = graph.node("Gather", graph.constant(np.concatenate(tables)), _word_rows(graph, encoder), axis=0)  # (C, n, out)
        known = graph.node("ReduceSum", looked_up, graph.constant([0], np.int64), keepdims=0)
    if not columns:
        return known
    x = columns[0] if len(columns) == 1 else graph.node("Concat", *columns, axis=1)
    return graph.node("Gemm", x, graph.constant(np.concatenate(rows)), known or graph.constant(bias))


def token_rows(graph: Any, encoder: Encoder) -> tuple[str, str]:
    """Return names of (n, S, L) rows in the stacked token tables, 0 = padding in each, and of (n, L) whether a position holds any token."""
    length, tokens = max(tokens.length for tokens in encoder.sequence), []
    for sequence in encoder.sequence:
        name, short = sequence.name, length - sequence.length
        if short:
            name = graph.node("Pad", name, graph.constant([0, short, 0, 0], np.int64), graph.constant(-1, np.int32))
        tokens.append(graph.node("Unsqueeze", name, graph.constant([1], np.int64)))
    stacked = tokens[0] if len(tokens) == 1 else graph.node("Concat", *tokens, axis=1)
    sizes = np.array([sequence.vocabulary for sequence in encoder.sequence])
    starts = np.concatenate([[0], np.cumsum(1 + sizes)[:-1]])[:, None]
    padding = graph.node("Less", stacked, graph.constant(0, np.int32))
    row = graph.node("Add", graph.node("Mod", stacked, graph.constant(sizes[:, None], np.int32)), graph.constant(1 + starts, np.int32))
    rows = graph.node("Where", padding, graph.constant(starts, np.int32), row)
    newest = graph.node("ReduceMax", stacked, graph.constant([1], np.int64), keepdims=0)
    return rows, graph.node("GreaterOrEqual", newest, graph.constant(0, np.int32))


def _dense(graph: Any, encoder: Encoder, *, pooled: bool) -> tuple[str, str]:
    """Return names of (n, d) standardised values, then histograms, and of (n, f) whether features that may be absent are; or ''."""
    raw, scaled = [], [*encoder.numeric, *encoder.embedding]
    if encoder.numeric:
        names = [number.name for number in encoder.numeric]
        beside = names[0] if len(names) == 1 else graph.node("Concat", *names, axis=0)  # one after the other: (f n,)
        shape = graph.constant([-1, 1] if len(names) == 1 else [len(names), -1], np.int64)
        rows = graph.node("Reshape", beside, shape)
        raw.append(rows if len(names) == 1 else graph.node("Transpose", rows, perm=[1, 0]))
    raw += [vector.name for vector in encoder.embedding]
    mean = [value for each in scaled for value in each.mean]
    scale = [value for each in scaled for value in each.scale]
    if pooled and encoder.sequence:
        raw += _histograms(graph, encoder)
        order = _histogram_order(encoder)
        mean += np.array([value for tokens in encoder.sequence for value in tokens.pooled.mean])[order].tolist()
        scale += np.array([value for tokens in encoder.sequence for value in tokens.pooled.scale])[order].tolist()
    if not raw:
        return "", ""
    row = raw[0] if len(raw) == 1 else graph.node("Concat", *raw, axis=1)
    coarse = np.array(mean, dtype=np.float32)
    left = (coarse - np.array(mean)) * np.array(scale)
    z = graph.node("Mul", graph.node("Sub", row, graph.constant(coarse)), graph.constant(scale))
    if np.abs(left).max() > _VISIBLE:
        z = graph.node("Add", z, graph.constant(left))
    held = graph.node("Clip", z, graph.constant(-LARGEST), graph.constant(LARGEST))
    values = graph.node("Where", graph.node("IsNaN", z), graph.constant(0.0), held)
    return values, _absent(graph, row, encoder, len(mean))


def _absent(graph: Any, row: str, encoder: Encoder, width: int) -> str:
    """Return the name of what tells of absent features, '' where none may be: a column per raw column, or per feature if vectors may be."""
    scaled = (*encoder.numeric, *encoder.embedding)
    if not any(each.missing for each in scaled):
        return ""
    missing = graph.node("Cast", graph.node("IsNaN", row), to=1)
    if not any(vector.missing for vector in encoder.embedding):
        return missing
    belongs = np.zeros((width, len(scaled)), np.float32)
    feature = np.repeat(np.arange(len(scaled)), [len(each.mean) for each in scaled])
    belongs[np.arange(len(feature)), feature] = 1
    count = graph.node("MatMul", missing, graph.constant(belongs))
    return graph.node("Clip", count, graph.constant(0.0), graph.constant(1.0))


def _absent_rows(encoder: Encoder, weight: Floats, *, pooled: bool) -> Floats:
    """Return the weights of what `_absent` tells; (F, out) are those of the indicators."""
    scaled = (*encoder.numeric, *encoder.embedding)
    weight = weight * np.array([each.missing for each in scaled])[:, None]
    if any(vector.missing for vector in encoder.embedding):
        return weight
    others = sum(len(vector.mean) for vector in encoder.embedding)
    others += sum(len(tokens.pooled.mean) for tokens in encoder.sequence) if pooled else 0
    return np.concatenate([weight[: len(encoder.numeric)], np.zeros((others, weight.shape[1]))])


def _word_rows(graph: Any, encoder: Encoder) -> str:
    """Return the name of (C, n) rows in the stacked tables of all categoricals."""
    every = sorted({word for words in encoder.categorical for word in words.words})
    names = [words.name for words in encoder.categorical]
    beside = names[0] if len(names) == 1 else graph.node("Concat", *names, axis=0)
    texts = graph.node("Reshape", beside, graph.constant([len(names), -1], np.int64))
    if not every:
        zero = graph.node("LabelEncoder", texts, domain="ai.onnx.ml", keys_strings=[""], values_int64s=[0], default_int64=0)
        starts: Ints = np.arange(len(names))[:, None]
        return graph.node("Add", zero, graph.constant(starts, np.int64))
    number = graph.node(
        "LabelEncoder", texts, domain="ai.onnx.ml", keys_strings=every, values_int64s=list(range(1, len(every) + 1)), default_int64=0
    )
    table, start = np.zeros((len(names), 1 + len(every)), np.int64), 0
    for i, words in enumerate(encoder.categorical):
        slots = {word: slot for slot, word in enumerate(words.words, start=1)}
        table[i] = [start, *(start + slots.get(word, 0) for word in every)]
        start += 1 + len(words.words)
    own = number
    if len(names) > 1:
        own = graph.node("Add", number, graph.constant(np.arange(len(names))[:, None] * table.shape[1], np.int64))
    return graph.node("Gather", graph.constant(table.ravel(), np.int64), own, axis=0)


def _histograms(graph: Any, encoder: Encoder) -> list[str]:
    """Return the names of (n, H) histograms of all windows of all sequences, and of (n, S) log lengths."""
    names = [tokens.name for tokens in encoder.sequence]
    tokens = names[0] if len(names) == 1 else graph.node("Concat", *names, axis=1)
    vocabulary, bins, cells, sums, widths = [], [], [], [], []
    start = 0
    for sequence in encoder.sequence:
        size, covers = min(sequence.vocabulary, BUCKETS), windows(sequence.length)
        place = np.arange(sequence.length)
        segment = np.searchsorted(covers, sequence.length - place)  # the first window that reaches back to the place
        cells += (start + segment * size).tolist()
        vocabulary += [sequence.vocabulary] * sequence.length
        bins += [size] * sequence.length
        sums.append(np.kron(np.triu(np.ones((len(covers), len(covers)))), np.eye(size)))  # a window holds its segment and newer ones
        widths += [size] * len(covers)
        start += len(covers) * size
    index = graph.node("Mod", tokens, graph.constant(vocabulary, np.int32))
    if vocabulary != bins:
        index = graph.node("Mod", index, graph.constant(bins, np.int32))
    index = graph.node("Add", index, graph.constant(cells, np.int32))
    real = graph.node("Cast", graph.node("GreaterOrEqual", tokens, graph.constant(0, np.int32)), to=1)
    zeros = graph.node("MatMul", real, graph.constant(np.zeros((len(cells), start))))
    counts = graph.node("ScatterElements", zeros, index, real, axis=1, reduction="add")
    add_up, at = np.zeros((start, start)), 0
    for block in sums:
        add_up[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    of_window = np.repeat(np.arange(len(widths)), widths)
    totals = add_up @ (of_window[:, None] == np.arange(len(widths)))  # (cells, windows)
    last = np.cumsum([len(windows(sequence.length)) for sequence in encoder.sequence]) - 1
    gather = np.concatenate([add_up, totals[:, of_window], totals[:, last]], axis=1)
    # a count over its window's total, which is whole or, beside a count of zero, all but zero; and 1 + the length
    bias = np.concatenate([np.zeros(start), np.full(start, 1e-30), np.ones(len(last))])
    summed = graph.node("Gemm", counts, graph.constant(gather), graph.constant(bias))
    sizes = graph.constant([start, start, len(last)], np.int64)
    inside, total, length = graph.nodes_of("Split", summed, sizes, outputs=3, axis=1)
    return [graph.node("Div", inside, total), graph.node("Log", length)]


def _histogram_order(encoder: Encoder) -> Ints:
    """Return which pooled column of `Encoder.wide` stands where in the graph: all histograms, then all lengths."""
    shares, lengths, at = [], [], 0
    for tokens in encoder.sequence:
        width = len(tokens.pooled.mean)
        shares += list(range(at, at + width - 1))
        lengths.append(at + width - 1)
        at += width
    return np.array([*shares, *lengths], dtype=np.int64)
