"""In which bins a window is counted: fixed from rows of the reference window, kept with it, used for every later window.

The rules: a number falls into one of ten quantiles of the reference (fewer where values tie), missing is a bin of its own; a word or token
that the reference did not keep is 'other'; of an embedding at most 32 dimensions are watched, evenly spaced. Segments, by which heads are
watched, are the values of the categorical columns and the cohorts; a row is in one segment per column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paretune.errors import ArtefactError, DataError
from paretune.records import Candidates, Categorical, Floats, Ints, Log, State
from paretune.surface.lists import top_lists

QUANTILES = 10
MOST_DIMENSIONS = 32  # of an embedding
MOST_WORDS = 30  # of a categorical or sequence column; the rest is 'other'
MOST_SEGMENTS_OF_A_COLUMN = 12
SMALLEST_SCORE = 1e-6  # sizes of scores are compared as logarithms
COHORT = "cohort"


@dataclass(frozen=True, slots=True)
class NumberBins:
    """Bins of a number: below the first edge, between edges, from the last on, and missing."""

    name: str  # a column, or "user_embedding[3]"
    edges: tuple[float, ...]  # (B - 2,) increasing

    @property
    def size(self) -> int:
        """B."""
        return len(self.edges) + 2

    def codes(self, values: Floats) -> Ints:
        """Return the bin of each value (n,)."""
        found = np.searchsorted(np.array(self.edges), values, side="right")
        return np.where(np.isnan(values), len(self.edges) + 1, found)


@dataclass(frozen=True, slots=True)
class WordBins:
    """Bins of words or tokens: one each, then other, then missing (of tokens: padding)."""

    name: str
    words: tuple[str, ...]  # (B - 2,)

    @property
    def size(self) -> int:
        """B."""
        return len(self.words) + 2

    def codes(self, column: Categorical) -> Ints:
        """Return the bin of each row (n,)."""
        known = {word: code for code, word in enumerate(self.words)}
        table = np.array([*(known.get(word, len(self.words)) for word in column.vocabulary), len(self.words) + 1])
        return table[column.codes]

    def token_codes(self, tokens: Ints) -> Ints:
        """Return the bin of each token (n, L); negative tokens are padding."""
        known = np.array([int(word) for word in self.words], dtype=np.int64)
        if not len(known):
            return np.where(tokens < 0, 1, 0)
        order = np.argsort(known)
        place = np.searchsorted(known, tokens, sorter=order).clip(0, len(known) - 1)
        found = order[place]
        code = np.where(known[found] == tokens, found, len(known))
        return np.where(tokens < 0, len(known) + 1, code)


@dataclass(frozen=True, slots=True)
class Bins:
    """Everything a window is counted in."""

    numbers: tuple[NumberBins, ...]
    categories: tuple[WordBins, ...]
    sequences: tuple[WordBins, ...]
    scores: tuple[tuple[float, ...], ...]  # (m, S - 1) edges of ln |score| of the items that the static weights list; empty without
    segments: tuple[tuple[str, str], ...]  # (G,) column and value

    @property
    def state(self) -> tuple[tuple[str, int], ...]:
        """Name and number of bins of each watched feature, in the order of the counts."""
        numbers = ((each.name, each.size) for each in self.numbers)
        return (*numbers, *((each.name, each.size) for each in (*self.categories, *self.sequences)))

    def plain(self) -> dict[str, Any]:
        """Return what JSON holds; `bins_from` reads it."""
        return {
            "numbers": {each.name: list(each.edges) for each in self.numbers},
            "categories": {each.name: list(each.words) for each in self.categories},
            "sequences": {each.name: list(each.words) for each in self.sequences},
            "scores": [list(edges) for edges in self.scores],
            "segments": [list(segment) for segment in self.segments],
        }


def bins_from(plain: Mapping[str, Any]) -> Bins:
    """Return the bins that `Bins.plain` wrote.

    Raises:
        ArtefactError: it is none of them.
    """
    try:
        return Bins(
            tuple(NumberBins(str(name), tuple(map(float, edges))) for name, edges in plain["numbers"].items()),
            tuple(WordBins(str(name), tuple(map(str, words))) for name, words in plain["categories"].items()),
            tuple(WordBins(str(name), tuple(map(str, words))) for name, words in plain["sequences"].items()),
            tuple(tuple(map(float, edges)) for edges in plain["scores"]),
            tuple((str(column), str(value)) for column, value in plain["segments"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"the bins of a window cannot be read: {error!r}", hint="watch the reference window anew") from error


def fit_bins(log: Log, *, static: Floats, k: int) -> Bins:
    """Return bins for windows like this one.

    Args:
        log: rows of the reference window; a sample of some thousands is plenty.
        static: (m,) weights whose lists are watched.
        k: list length.
    """
    state = log.state
    numbers = [NumberBins(name, _quantiles(column)) for name, column in state.numeric.items()]
    numbers += [
        NumberBins(f"{name}[{d}]", _quantiles(vectors[:, d])) for name, vectors in state.embedding.items() for d in _dimensions(vectors)
    ]
    categories = tuple(WordBins(name, _words(column)) for name, column in state.categorical.items())
    sequences = tuple(WordBins(name, _tokens(tokens)) for name, tokens in state.sequence.items())
    columns = {COHORT: log.cohort} | state.categorical
    segments = [(name, word) for name, column in columns.items() for word in _words(column)[:MOST_SEGMENTS_OF_A_COLUMN]]
    items = None if log.candidates is None else listed_scores(log.candidates, static, k)[1]
    scores: tuple[tuple[float, ...], ...] = ()
    if items is not None and len(items):
        scores = tuple(_quantiles(sizes) for sizes in items.reshape(-1, items.shape[2]).T)
    return Bins(tuple(numbers), categories, sequences, scores, tuple(segments))


def state_codes(state: State, bins: Bins) -> list[Ints]:
    """Return the bin of each row (n,), of sequences of each token (n, L), for every watched feature in the order of `Bins.state`.

    Raises:
        DataError: the state lacks a watched feature.
    """
    _refuse_lacking(state, bins)
    codes = []
    for each in bins.numbers:
        name, _, place = each.name.rpartition("[")
        column = state.numeric[each.name] if each.name in state.numeric else state.embedding[name][:, int(place.rstrip("]"))]
        codes.append(each.codes(column))
    codes += [each.codes(state.categorical[each.name]) for each in bins.categories]
    codes += [each.token_codes(state.sequence[each.name]) for each in bins.sequences]
    return codes


def segment_members(log: Log, segments: tuple[tuple[str, str], ...]) -> Floats:
    """Return (n, G) 1 where a row is in a segment, else 0."""
    columns = {COHORT: log.cohort} | log.state.categorical
    members = np.zeros((len(log), len(segments)))
    for g, (name, word) in enumerate(segments):
        column = columns.get(name)
        if column is not None and word in column.vocabulary:
            members[:, g] = column.codes == column.vocabulary.index(word)
    return members


def listed_scores(candidates: Candidates, weights: Floats, k: int) -> tuple[Ints, Floats]:
    """Return which rows have k candidates, and ln |score| of the k that the weights list (n', k, m), at least ln 1e-6."""
    rows = np.flatnonzero(np.diff(candidates.offsets) >= k)
    enough = candidates.take(rows)
    lists = top_lists(enough, np.asarray(weights)[None], k)[:, 0]
    scores = enough.scores[lists + enough.offsets[:-1, None]].astype(np.float64)
    return rows, np.log(np.maximum(np.abs(scores), SMALLEST_SCORE))


def _refuse_lacking(state: State, bins: Bins) -> None:
    vectors = {f"{name}[{d}]" for name, column in state.embedding.items() for d in range(column.shape[1])}
    have = state.numeric.keys() | vectors | state.categorical.keys() | state.sequence.keys()
    if lacking := [name for name, _ in bins.state if name not in have]:
        raise DataError(
            f"the reference window has features {lacking[:5]} that these rows lack",
            hint="watch with the configuration that the reference was taken with, or take a new reference",
        )


def _quantiles(values: Floats) -> tuple[float, ...]:
    known = values[np.isfinite(values)].astype(np.float64)
    if not len(known):
        return ()
    return tuple(np.unique(np.quantile(known, np.linspace(0, 1, QUANTILES + 1)[1:-1])).tolist())


def _dimensions(vectors: Floats) -> list[int]:
    size = vectors.shape[1]
    return np.unique(np.linspace(0, size - 1, min(size, MOST_DIMENSIONS)).astype(int)).tolist()


def _words(column: Categorical) -> tuple[str, ...]:
    count = np.bincount(column.codes[column.codes >= 0], minlength=len(column.vocabulary))
    order = sorted((i for i in range(len(count)) if count[i]), key=lambda i: (-count[i], column.vocabulary[i]))
    return tuple(column.vocabulary[i] for i in order[:MOST_WORDS])


def _tokens(tokens: Ints) -> tuple[str, ...]:
    known, count = np.unique(tokens[tokens >= 0], return_counts=True)
    order = np.lexsort((known, -count))
    return tuple(str(token) for token in known[order[:MOST_WORDS]])
