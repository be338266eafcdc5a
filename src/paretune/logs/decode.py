"""Columns of a log file as arrays: ids, categories, numbers, vectors, token sequences, ragged lists.

The rule: both layouts of schema.py, binary and list, give the same arrays; a cell that cannot be decoded is marked and filled, never
dropped, so that row i of every array is row i of the file. Column types were checked before (layout.py).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from paretune.logs.hashing import hash_integers, hash_texts
from paretune.records import Bools, Categorical, Floats, Ints

_SMALL = np.iinfo(np.int16)


def ids(series: pl.Series) -> tuple[Ints, Bools]:
    """Return (n,) uint64 hashes of an integer, text or binary column, and the mask of the known ones (0 where unknown)."""
    known = series.is_not_null().to_numpy()
    if series.dtype.is_integer():
        hashes = hash_integers(series.fill_null(0).to_numpy())
    else:
        text = series if series.dtype == pl.Binary else series.cast(pl.String).cast(pl.Binary)
        hashes = hash_texts(text.fill_null(b"").to_list())
    return np.where(known, hashes, np.uint64(0)), known


def categorical(series: pl.Series) -> Categorical:
    """Return a text, boolean or number column dictionary-encoded; the vocabulary is sorted, null is -1."""
    text = series.cast(pl.String)
    words = text.drop_nulls().unique().sort()
    codes = text.cast(pl.Enum(words)).to_physical().cast(pl.Int32).fill_null(-1)
    return Categorical(codes.to_numpy(), tuple(words.to_list()))


def number(series: pl.Series) -> tuple[Floats, Bools]:
    """Return (n,) float32 with NaN for null, and the mask of the values that float32 can hold (NaN is missing, and allowed)."""
    values = series.cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return values, ~np.isinf(values)


def ragged(series: pl.Series, dtype: str, *, stride: int = 1) -> tuple[Ints, Floats | Ints, Bools]:
    """Return the cells of a list, array or binary column end to end; null is empty.

    Args:
        series: lists of numbers, or binary cells of `dtype`.
        dtype: little-endian numpy dtype of binary cells, "<i4" for example; lists keep their own.
        stride: cells must hold a multiple of so many numbers.

    Returns:
        (n + 1,) offsets, (T,) numbers, and the (n,) mask of cells that are whole; the others are given as empty.
    """
    if series.dtype == pl.Binary:
        size = series.bin.size().fill_null(0).to_numpy()
        whole = size % (np.dtype(dtype).itemsize * stride) == 0
        cells = series.fill_null(b"").to_list()
        if not whole.all():
            cells = [cell if good else b"" for cell, good in zip(cells, whole.tolist(), strict=True)]
        flat = np.frombuffer(b"".join(cells), dtype=dtype)
        return _offsets(np.where(whole, size // np.dtype(dtype).itemsize, 0)), flat, whole
    lists = series.arr.to_list() if isinstance(series.dtype, pl.Array) else series
    lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    exploded = lists.fill_null([]).explode(empty_as_null=False) if len(lists) else lists.explode()
    whole = lengths % stride == 0
    if exploded.dtype.is_integer() and exploded.null_count():
        holed = np.repeat(np.arange(len(lengths)), lengths)[exploded.is_null().to_numpy()]
        whole[holed] = False
        exploded = exploded.fill_null(0)
    flat = (exploded.cast(pl.Float32).fill_null(float("nan")) if exploded.dtype.is_float() else exploded).to_numpy()
    if not whole.all():
        flat = flat[np.repeat(whole, lengths)]
    return _offsets(np.where(whole, lengths, 0)), flat, whole


def vector(series: pl.Series, size: int, dtype: str) -> tuple[Floats, Bools]:
    """Return (n, size) float32, a NaN row for null, and the mask of cells that are null or hold `size` numbers without infinity."""
    offsets, flat, whole = ragged(series, dtype)
    lengths = np.diff(offsets)
    if (lengths == size).all():
        values = flat.reshape(-1, size).astype(np.float32)
    else:
        fits = lengths == size
        values = np.full((len(series), size), np.nan, dtype=np.float32)
        values[fits] = flat[np.repeat(fits, lengths)].reshape(-1, size)
        whole = whole & (fits | series.is_null().to_numpy())
    return values, whole & ~np.isinf(values).any(axis=1)


def tokens(series: pl.Series, length: int) -> tuple[Ints, Bools]:
    """Return (n, length) tokens, newest last, padded in front with -1, and the mask of cells of integers >= -1.

    Longer cells keep their newest tokens. int16 where every token fits, else int64.
    """
    offsets, flat, whole = ragged(series, "<i2")
    small = flat.size == 0 or (flat.min() >= _SMALL.min and flat.max() <= _SMALL.max)
    flat = flat.astype(np.int16 if small else np.int64)
    lengths = np.diff(offsets)
    if (lengths == length).all():
        result = flat.reshape(-1, length)
    else:
        kept = np.minimum(lengths, length)
        within = np.arange(kept.sum()) - np.repeat(np.cumsum(kept) - kept, kept)
        result = np.full((len(series), length), -1, dtype=flat.dtype)
        rows = np.repeat(np.arange(len(series)), kept)
        result[rows, within + np.repeat(length - kept, kept)] = flat[within + np.repeat(offsets[1:] - kept, kept)]
    sound = whole & (result >= -1).all(axis=1)
    return (result if sound.all() else np.maximum(result, -1)), sound


def _offsets(lengths: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
