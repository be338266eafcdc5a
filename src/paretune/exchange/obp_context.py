"""OBP's context matrix and our features: a column per number, per element of a vector or sequence, per word of a category.

The rule: with `context_names` a matrix goes back to the features it came from; without them its columns are the numbers of the
configuration in their order, then the elements of its vectors, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.errors import DataError
from paretune.records import Floats, State

POSITION = "position"  # a feature of this name holds the position of the item in its list


def context_of(state: State) -> tuple[Floats, list[str]]:
    """Return the features of a log but the position as one matrix (n, d) float64, and what each column is."""
    columns: list[Any] = [np.empty((len(state), 0))]
    names: list[str] = []
    for name, number in state.numeric.items():
        if name != POSITION:
            columns.append(number[:, None])
            names.append(name)
    for name, matrix in (*state.embedding.items(), *state.sequence.items()):
        columns.append(matrix)
        names += [f"{name}[{i}]" for i in range(matrix.shape[1])]
    for name, category in state.categorical.items():
        if name != POSITION:
            columns.append(category.codes[:, None] == np.arange(len(category.vocabulary)))
            names += [f"{name}={word}" for word in category.vocabulary]
    return np.concatenate([np.asarray(column, dtype=np.float64) for column in columns], axis=1), names


def position_of(state: State) -> Any:
    """Return (n,) positions, from the feature of that name; None where the log has none.

    Raises:
        DataError: a position is no whole number >= 0.
    """
    column: Any = state.numeric.get(POSITION)
    if POSITION in state.categorical:
        words = state.categorical[POSITION]
        known = [int(word) if word.isdigit() else -1 for word in words.vocabulary]
        column = np.array([*known, -1])[words.codes]
    if column is None:
        return None
    whole = np.nan_to_num(column, nan=-1.0).astype(np.int64)
    if not (whole == column).all() or whole.min(initial=0) < 0:
        raise DataError("the feature 'position' holds more than whole numbers >= 0", hint="give it another name; OBP's position is one")
    return whole


def features_of(context: Floats, feedback: Mapping[str, Any], config: Config) -> dict[str, pl.Series]:
    """Return the features that a context holds, as columns of a log.

    Args:
        context: (n, d) float64.
        feedback: may hold `position` and `context_names`.
        config: which features the log has.

    Raises:
        DataError: the context does not hold the features, or positions differ and no feature takes them.
    """
    features, position = config.features, feedback.get(POSITION)
    found: dict[str, pl.Series] = {}
    if position is not None and POSITION in (*features.numeric, *features.categorical):
        column = pl.Series(np.asarray(position))
        found[POSITION] = column.cast(pl.Float64) if POSITION in features.numeric else column.cast(pl.Int64).cast(pl.String)
    elif position is not None and np.unique(np.asarray(position)).size > 1:
        raise DataError(
            "positions differ, and no feature is called 'position'", hint="add it to features.categorical, so that it is learned from"
        )
    numeric = [name for name in features.numeric if name not in found]
    words = [name for name in features.categorical if name not in found]
    names = feedback.get("context_names")
    at = _placed(context, numeric, words, config) if names is None else {str(name): place for place, name in enumerate(names)}
    found |= {name: pl.Series(context[:, _places(at, [name], name)[0]]) for name in numeric}
    found |= {name: _word(context, name, at) for name in words}
    for embedding in features.embeddings:
        places = _places(at, [f"{embedding.name}[{i}]" for i in range(embedding.size)], embedding.name)
        found[embedding.name] = pl.Series(context[:, places].tolist(), dtype=pl.List(pl.Float64))
    for sequence in features.sequences:
        places = _places(at, [f"{sequence.name}[{i}]" for i in range(sequence.length)], sequence.name)
        found[sequence.name] = pl.Series(context[:, places].astype(np.int64).tolist(), dtype=pl.List(pl.Int64))
    return found


def _placed(context: Floats, numeric: Sequence[str], words: Sequence[str], config: Config) -> dict[str, int]:
    names = [*numeric, *(f"{e.name}[{i}]" for e in config.features.embeddings for i in range(e.size))]
    others = [*words, *(sequence.name for sequence in config.features.sequences)]
    if len(names) != context.shape[1] or others:
        raise DataError(
            f"the context has {context.shape[1]} columns, the configuration {len(names)} numbers"
            + (f", and {', '.join(others)}, which are none" if others else ""),
            hint="features.numeric and features.embeddings must name OBP's context columns, in their order",
        )
    return {name: place for place, name in enumerate(names)}


def _places(at: Mapping[str, int], names: Sequence[str], feature: str) -> list[int]:
    missing = [name for name in names if name not in at]
    if missing:
        raise DataError(f"the context has no column {missing[0]!r} for feature {feature!r}", hint=f"it has {', '.join(list(at)[:20])}")
    return [at[name] for name in names]


def _word(context: Floats, name: str, at: Mapping[str, int]) -> pl.Series:
    words = {key.partition("=")[2]: place for key, place in at.items() if key.startswith(f"{name}=")}
    if not words:
        return pl.Series([None] * len(context), dtype=pl.String)
    chosen, known = context[:, list(words.values())], list(words)
    return pl.Series([known[int(row.argmax())] if row.any() else None for row in chosen], dtype=pl.String)
