"""From the state of a request to numbers, the same way in training and in serving.

The rules: every statistic comes from the training rows; a missing number becomes the training mean, and its indicator fires; a word that
training did not keep is 'unknown'; a column, indicator or unknown slot that training never saw vary stays zero, so that no untrained weight
ever acts; infinity is refused. Rows are encoded independently of each other.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from paretune.config import Features
from paretune.errors import ArtefactError, DataError
from paretune.logs.paged import Scratch
from paretune.ports import ALONE, Team
from paretune.records import Categorical, Floats, Ints, State

LARGEST = 10.0  # standard deviations; a wild value counts, but cannot shout down the rest
WORDS = 63  # most frequent words kept per categorical; slot 0 is 'unknown'
BUCKETS = 64  # token histograms of larger vocabularies share buckets by remainder
WINDOWS = (4, 8)  # histograms of the newest 4 and 8 actions, and of all
_CHUNK = 16_384  # rows per pass; keeps a pass in the cache
_ROWS_ENCODED = 65_536  # at a time, where encoded rows may lie on disk
_SAMPLE = 100_000  # rows from which the scale of token histograms is read


class States(Protocol):
    """States of n requests, some of which are taken at a time: a `State`, or the rows of a log on disk."""

    def __len__(self) -> int: ...

    def take(self, rows: Any, /) -> State:
        """Return the states of some rows."""
        ...


@dataclass(frozen=True, slots=True)
class Scaled:
    """A numeric column (d = 1), an embedding, or a block of token histograms."""

    name: str
    mean: tuple[float, ...]  # (d,) training mean
    scale: tuple[float, ...]  # (d,) one over the training standard deviation; 0 where training was constant
    missing: bool  # training held missing values

    def into(self, out: Floats, raw: Floats) -> None:
        """Write (n, d) standardised values, 0 where raw is NaN, into `out`."""
        with np.errstate(over="ignore", invalid="ignore"):  # a number beyond float32 ends at the clip
            np.subtract(raw, np.array(self.mean), out=out, casting="unsafe")
            out *= np.array(self.scale, dtype=np.float32)
        np.clip(out, -LARGEST, LARGEST, out=out)
        out[np.isnan(out)] = 0.0


@dataclass(frozen=True, slots=True)
class Words:
    """A categorical column: slot 0 is unknown or missing, slot 1 + i is words[i]."""

    name: str
    words: tuple[str, ...]
    unknown: bool  # training held missing values or words beyond the kept ones

    def slots(self, column: Categorical) -> Ints:
        """Return (n,) int32 slot of each row."""
        codes = np.asarray(column.codes)
        if len(codes) and (codes.min() < -1 or codes.max() >= len(column.vocabulary)):
            raise DataError(
                f"codes of {self.name!r} lie outside its vocabulary", hint="use -1 for missing, else an index into the vocabulary"
            )
        known = {word: slot for slot, word in enumerate(self.words, start=1)}
        table = np.array([*(known.get(word, 0) for word in column.vocabulary), 0], dtype=np.int32)
        return table[codes]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A sequence column, newest token last."""

    name: str
    length: int
    vocabulary: int
    pooled: Scaled  # of the block that `histograms` returns

    def padded(self, raw: Ints) -> Ints:
        """Return (n, length) int32: 0 = padding, token + 1 otherwise; older tokens are cut."""
        tokens = np.asarray(raw)[:, -self.length :].astype(np.int32)
        tokens = np.where(tokens < 0, 0, tokens % self.vocabulary + 1)
        return np.pad(tokens, ((0, 0), (self.length - tokens.shape[1], 0)))


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a network with embeddings of its own reads."""

    dense: Floats  # (n, Dd) float32
    categorical: Ints  # (n, C) int32 slots
    sequences: tuple[Ints, ...]  # of (n, L) int32, 0 = padding, token + 1 otherwise


@dataclass(frozen=True, slots=True)
class Encoder:
    """The fitted encoding; part of every value model's artefact."""

    numeric: tuple[Scaled, ...]
    embedding: tuple[Scaled, ...]
    categorical: tuple[Words, ...]
    sequence: tuple[Tokens, ...]

    @staticmethod
    def fit(states: States, features: Features, *, team: Team = ALONE) -> Encoder:
        """Return the encoding of the configured features, with statistics of the training rows, which are read a chunk at a time.

        Of a team, every member gives its own rows, and gets the encoding of all.

        Raises:
            DataError: no row, no configured feature, a configured column is absent, of another shape, or holds infinity.
        """
        if not (features.numeric or features.categorical or features.embeddings or features.sequences) or len(states) == 0:
            raise DataError(
                f"nothing to learn from: {len(states)} rows, features {features!r}", hint="list the log's state columns under [features]"
            )
        widths = dict.fromkeys(features.numeric, 1) | {e.name: e.size for e in features.embeddings}
        scaled = _fit_numbers(states, widths, team)
        sample = states.take(np.arange(0, len(states), max(1, len(states) * team.size // _SAMPLE)))
        return Encoder(
            tuple(scaled[name] for name in features.numeric),
            tuple(scaled[e.name] for e in features.embeddings),
            _fit_words(states, tuple(features.categorical), team),
            tuple(_fit_tokens(s.name, s.length, s.vocabulary, _sequence(sample, s.name), team) for s in features.sequences),
        )

    def wide(self, state: State) -> Floats:
        """Return (n, D) float32: numbers, embeddings, indicators, one-hot words and pooled token histograms.

        Raises:
            DataError: a column of the encoding is absent, of another shape, or holds infinity.
        """
        n = len(state)
        out = np.zeros((n, len(self.groups)), dtype=np.float32)
        at = self._dense_into(state, out)
        for words in self.categorical:
            slots = words.slots(_column(state.categorical, words.name))
            rows = np.arange(n) if words.unknown else np.flatnonzero(slots)
            out[rows, at + slots[rows]] = 1.0
            at += 1 + len(words.words)
        for tokens in self.sequence:
            raw = _sequence(state, tokens.name)
            width = len(tokens.pooled.mean)
            for part in _chunks(n):
                tokens.pooled.into(out[part, at : at + width], histograms(tokens.padded(raw[part]), tokens.vocabulary))
            at += width
        return out

    def stacked(self, states: States, scratch: Scratch, name: str = "x") -> Floats:
        """Return `wide` of all states, made chunk by chunk, where the scratch space is.

        Raises:
            DataError: see `wide`.
            ArtefactError: the disk says no.
        """
        starts = range(0, len(states), _ROWS_ENCODED)
        chunks = (self.wide(states.take(slice(start, start + _ROWS_ENCODED))) for start in starts)
        return scratch.stacked(name, len(states), chunks)

    def parts(self, state: State) -> Encoded:
        """Return the state for a network that embeds words and tokens itself.

        Raises:
            DataError: a column of the encoding is absent, of another shape, or holds infinity.
        """
        dense = np.zeros((len(state), self.dense_width), dtype=np.float32)
        self._dense_into(state, dense)
        slots = [words.slots(_column(state.categorical, words.name)) for words in self.categorical]
        return Encoded(
            dense,
            np.stack(slots, axis=1) if slots else np.zeros((len(state), 0), np.int32),
            tuple(tokens.padded(_sequence(state, tokens.name)) for tokens in self.sequence),
        )

    def columns(self) -> tuple[str, ...]:
        """Return the D names of the columns of `wide`."""
        names = [name for name, _ in self._dense_columns()]
        names += [f"{words.name}={word}" for words in self.categorical for word in ("(unknown)", *words.words)]
        for tokens in self.sequence:
            buckets = range(min(tokens.vocabulary, BUCKETS))
            names += [f"{tokens.name}[-{window}:]#{bucket}" for window in windows(tokens.length) for bucket in buckets]
            names.append(f"{tokens.name}#length")
        return tuple(names)

    @property
    def groups(self) -> tuple[str, ...]:
        """(D,) the feature each column of `wide` comes from."""
        return (
            *(group for _, group in self._dense_columns()),
            *(words.name for words in self.categorical for _ in range(1 + len(words.words))),
            *(tokens.name for tokens in self.sequence for _ in tokens.pooled.mean),
        )

    @property
    def dense_width(self) -> int:
        """Columns of `parts(...).dense`, which are also the first columns of `wide`."""
        return len(self._dense_columns())

    def manifest(self) -> dict[str, Any]:
        """Return the encoding as JSON-able values."""
        return asdict(self)

    @staticmethod
    def from_manifest(manifest: dict[str, Any]) -> Encoder:
        """Return the encoding that `manifest` wrote, also after a round trip through JSON.

        Raises:
            ArtefactError: it is none.
        """
        try:
            return Encoder(
                tuple(_scaled(m) for m in manifest["numeric"]),
                tuple(_scaled(m) for m in manifest["embedding"]),
                tuple(Words(m["name"], tuple(m["words"]), bool(m["unknown"])) for m in manifest["categorical"]),
                tuple(Tokens(m["name"], int(m["length"]), int(m["vocabulary"]), _scaled(m["pooled"])) for m in manifest["sequence"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactError(f"the encoder of the artefact cannot be read: {error!r}", hint="train and save the model again") from error

    def _dense_columns(self) -> list[tuple[str, str]]:
        numbers = [(scaled.name, scaled.name) for scaled in self.numeric]
        vectors = [(f"{scaled.name}[{i}]", scaled.name) for scaled in self.embedding for i in range(len(scaled.mean))]
        return numbers + vectors + [(f"{scaled.name}?", scaled.name) for scaled in (*self.numeric, *self.embedding)]

    def _dense_into(self, state: State, out: Floats) -> int:
        columns = [(scaled, _numbers(state, scaled.name, len(scaled.mean))) for scaled in (*self.numeric, *self.embedding)]
        at = 0
        for scaled, raw in columns:
            width = raw.shape[1]
            for part in _chunks(len(raw)):
                scaled.into(out[part, at : at + width], raw[part])
            at += width
        for scaled, raw in columns:
            if scaled.missing:
                out[:, at] = np.isnan(raw).any(axis=1)
            at += 1
        return at


def windows(length: int) -> tuple[int, ...]:
    """Return how many of the newest actions each histogram covers."""
    return (*(window for window in WINDOWS if window < length), length)


def histograms(padded: Ints, vocabulary: int) -> Floats:
    """Return the pooled reading of token sequences: normalised histograms of the newest 4, 8 and all actions, and log(1 + length).

    Args:
        padded: (n, L) 0 = padding, token + 1 otherwise; newest last.
        vocabulary: tokens are below it; histograms have min(vocabulary, 64) bins.

    Returns:
        (n, W * bins + 1) float32; zero histograms where a window is empty.
    """
    n, length = padded.shape
    bins = min(vocabulary, BUCKETS)
    bucket = padded if vocabulary <= BUCKETS else np.where(padded > 0, (padded - 1) % BUCKETS + 1, 0)
    key = bucket + (bins + 1) * np.arange(n)[:, None]
    counts = np.zeros((n, bins), dtype=np.float32)
    blocks, newer = [], 0
    for window in windows(length):
        older = key[:, length - window : length - newer].ravel()
        counts = counts + np.bincount(older, minlength=n * (bins + 1)).reshape(n, bins + 1)[:, 1:].astype(np.float32)
        blocks.append(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
        newer = window
    return np.concatenate([*blocks, np.log1p(counts.sum(axis=1, keepdims=True))], axis=1)


def _fit_numbers(states: States, widths: dict[str, int], team: Team) -> dict[str, Scaled]:
    """Return the scale of every number and vector, in two passes: means, then deviations from them."""
    n, none = len(states), {name: np.zeros(width) for name, width in widths.items()}
    present, total, square = ({name: zero.copy() for name, zero in none.items()} for _ in range(3))

    def columns() -> Iterator[tuple[str, Floats]]:
        for part in _chunks(n):
            chunk = states.take(part)
            yield from ((name, _numbers(chunk, name, width, first=part.start)) for name, width in widths.items())

    for name, raw in columns():
        present[name] += (~np.isnan(raw)).sum(axis=0)
        total[name] += np.nansum(raw, axis=0, dtype=np.float64)
    n = int(team.total(np.array([n]))[0])
    present = {name: team.total(count) for name, count in present.items()}
    mean = {name: team.total(total[name]) / np.maximum(present[name], 1) for name in widths}
    for name, raw in columns():
        square[name] += np.nansum((raw - mean[name]) ** 2, axis=0)
    return {name: _scaled_by(name, n, present[name], mean[name], team.total(square[name])) for name in widths}


def _scaled_by(name: str, n: int, present: Floats, mean: Floats, square: Floats) -> Scaled:
    sd = np.sqrt(square / np.maximum(present, 1))
    varies = sd > 1e-6 * np.maximum(np.abs(mean), 1e-12)
    scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=varies)
    return Scaled(name, tuple(mean.tolist()), tuple(scale.tolist()), bool((present < n).any()))


def _fit_words(states: States, names: tuple[str, ...], team: Team) -> tuple[Words, ...]:
    counts: dict[str, Ints] = {}
    vocabulary: dict[str, tuple[str, ...]] = {}
    for part in _chunks(len(states) if names else 0):
        chunk = states.take(part)
        for name in names:
            column: Categorical = _column(chunk.categorical, name)
            vocabulary[name] = column.vocabulary  # the same in every chunk
            found = np.bincount(np.asarray(column.codes) + 1, minlength=len(column.vocabulary) + 1)
            counts[name] = counts.get(name, 0) + found
    return tuple(_ranked_words(name, counts[name], vocabulary[name], team) for name in names)


def _ranked_words(name: str, counts: Ints, vocabulary: tuple[str, ...], team: Team) -> Words:
    mine = json.dumps(dict(zip(vocabulary, counts[1:].tolist(), strict=True))).encode()
    found = Counter[str]()
    for theirs in team.each(np.frombuffer(mine, dtype=np.uint8)):
        found.update(json.loads(theirs.tobytes()))
    ranked = sorted((-count, word) for word, count in found.items())[:WORDS]
    rows = int(team.total(np.array([counts.sum()]))[0])
    return Words(name, tuple(word for minus, word in ranked if minus < 0), -sum(minus for minus, _ in ranked) < rows)


def _fit_tokens(name: str, length: int, vocabulary: int, sample: Ints, team: Team) -> Tokens:
    bare = Tokens(name, length, vocabulary, Scaled(name, (), (), missing=False))
    block = np.concatenate([histograms(bare.padded(sample[part]), vocabulary) for part in _chunks(len(sample))])
    pooled = _fit_numbers(State({}, {}, {name: block}, {}), {name: block.shape[1]}, team)[name]
    return Tokens(name, length, vocabulary, pooled)


def _scaled(manifest: dict[str, Any]) -> Scaled:
    mean, scale = (tuple(float(value) for value in manifest[key]) for key in ("mean", "scale"))
    if len(mean) != len(scale) or not np.isfinite([*mean, *scale]).all():
        raise ValueError(f"statistics of {manifest['name']!r}")
    return Scaled(manifest["name"], mean, scale, bool(manifest["missing"]))


def _column(columns: dict[str, Any], name: str) -> Any:
    if name not in columns:
        raise DataError(f"feature {name!r} is absent; the state has {sorted(columns)}", hint="name the log's own columns under [features]")
    return columns[name]


def _numbers(state: State, name: str, width: int, *, first: int = 0) -> Floats:
    """Return a column as (n, width) numbers; `first` is the row of the log that the state begins with."""
    raw = np.asarray(_column(state.numeric if name in state.numeric else state.embedding, name))
    raw = raw[:, None] if raw.ndim == 1 else raw
    if raw.ndim != 2 or raw.shape[1] != width:
        raise DataError(f"feature {name!r} has {raw.shape[1:]} numbers per row, {width} expected", hint="mend its size under [features]")
    if np.isinf(raw).any():
        row = first + int(np.flatnonzero(np.isinf(raw).any(axis=1))[0])
        raise DataError(f"feature {name!r} holds infinity (first in row {row})", hint="send a missing value instead; it is understood")
    return raw


def _sequence(state: State, name: str) -> Ints:
    raw = np.asarray(_column(state.sequence, name))
    if raw.ndim != 2 or raw.dtype.kind not in "iu":
        raise DataError(f"sequence {name!r} has shape {raw.shape} and type {raw.dtype}", hint="give (n, L) integer tokens, -1 = padding")
    return raw


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, min(n, start + _CHUNK)) for start in range(0, n, _CHUNK))
