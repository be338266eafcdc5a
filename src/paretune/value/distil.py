"""A policy distilled into a shallow tree or a cohort table: questions about raw feature values, one action per leaf.

The rule: a tree is grown greedily to maximise sum over requests of the predicted scalarised value of its leaf's action, exact over every
threshold; it only ever asks what anyone can answer without this package, and a missing value never passes a question. The values are a
model's predictions, so there is no reward noise to overfit; what a tree loses is measured on held-out rows, never here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paretune.config import Config
from paretune.errors import DataError
from paretune.records import PRODUCTION, Categorical, Floats, Ints, Log
from paretune.value.features import BUCKETS, WORDS, windows

DEEPEST = 4
SMALLEST_LEAF = 0.01  # share of the requests; smaller groups are not worth a rule
SMALLEST_GAIN = 1e-9  # per request, in relative units: below it a split is rounding


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a request: a number to compare with a threshold, NaN where the answer is missing."""

    feature: str  # log column
    kind: Literal["number", "element", "word", "cohort", "count"]
    place: int = 0  # of the element in an embedding, or the token that is counted
    newest: int = 0  # actions of a sequence among which it is counted
    word: str = ""

    def measure(self, rows: Log) -> Floats:
        """Return (n,) answers: a number, 1 or 0 for being the word, or a count."""
        state = rows.state
        if self.kind == "number":
            return np.asarray(state.numeric[self.feature], dtype=np.float64)
        if self.kind == "element":
            return np.asarray(state.embedding[self.feature][:, self.place], dtype=np.float64)
        if self.kind == "count":
            return (np.asarray(state.sequence[self.feature])[:, -self.newest :] == self.place).sum(axis=1).astype(np.float64)
        column = rows.cohort if self.kind == "cohort" else state.categorical[self.feature]
        return _is_word(column, self.word)


@dataclass(frozen=True, slots=True)
class Leaf:
    """An action for everybody who arrives here."""

    action: int
    rows: int  # requests of the fit that arrived


@dataclass(frozen=True, slots=True)
class Branch:
    """A question; those whose answer is at least the threshold go to `yes`, others and missing ones to `no`."""

    question: Question
    threshold: float
    yes: Tree
    no: Tree


Tree = Leaf | Branch


def decide(tree: Tree, rows: Log) -> Ints:
    """Return (n,) int16 actions that a tree takes."""
    if isinstance(tree, Leaf):
        return np.full(len(rows), tree.action, dtype=np.int16)
    passes = tree.question.measure(rows) >= tree.threshold
    chosen = np.empty(len(rows), dtype=np.int16)
    chosen[passes] = decide(tree.yes, rows.take(passes))
    chosen[~passes] = decide(tree.no, rows.take(~passes))
    return chosen


def leaves(tree: Tree) -> tuple[Leaf, ...]:
    """Return the leaves of a tree, `yes` before `no`."""
    return (tree,) if isinstance(tree, Leaf) else (*leaves(tree.yes), *leaves(tree.no))


def questions(rows: Log, config: Config) -> tuple[Question, ...]:
    """Return every question that may be asked of these requests.

    Numbers, elements of embeddings, the frequent words of categoricals, cohorts, and how often a token stands among the newest actions;
    sequences of more than 64 tokens are not asked about.
    """
    features, found = config.features, []
    found += [Question(name, "number") for name in features.numeric]
    found += [Question(e.name, "element", place=i) for e in features.embeddings for i in range(e.size)]
    for name in features.categorical:
        found += [Question(name, "word", word=word) for word in _frequent(rows.state.categorical[name])]
    if config.logs.columns.cohort not in features.categorical:
        found += [Question(config.logs.columns.cohort, "cohort", word=word) for word in _frequent(rows.cohort)]
    for sequence in features.sequences:
        if sequence.vocabulary <= BUCKETS:
            pairs = ((window, token) for window in windows(sequence.length) for token in range(sequence.vocabulary))
            found += [Question(sequence.name, "count", place=token, newest=window) for window, token in pairs]
    return tuple(found)


def grow_tree(rows: Log, scores: Floats, config: Config, *, depth: int) -> Tree:
    """Return the tree that loses least, greedily, of the best action per request.

    Args:
        rows: n requests.
        scores: (n, K) predicted scalarised values, in relative units; production, the first action, is never chosen.
        config: whose features are asked about.
        depth: questions on a way, at most 4.

    Raises:
        DataError: no rows, scores that do not fit them or are not finite, or a depth out of range.
    """
    if not 0 <= depth <= DEEPEST or len(rows) == 0 or len(scores) != len(rows) or not np.isfinite(scores).all():
        raise DataError(
            f"cannot grow a tree of depth {depth} on {len(rows)} rows with scores of shape {scores.shape}",
            hint=f"give finite scores of every action, and a depth of at most {DEEPEST}",
        )
    measured = [(question, question.measure(rows)) for question in questions(rows, config)]
    least = max(1, int(np.ceil(SMALLEST_LEAF * len(rows))))
    return _grow(measured, scores[:, PRODUCTION + 1 :].astype(np.float64), np.arange(len(rows)), depth=depth, least=least)


def grow_table(rows: Log, scores: Floats, config: Config) -> Tree:
    """Return the cohort table: the best action of each cohort; rows of other cohorts get everybody's best.

    Args:
        rows: n requests.
        scores: (n, K) predicted scalarised values, in relative units; production is never chosen.
        config: names the cohort column.
    """
    grid = scores[:, PRODUCTION + 1 :].astype(np.float64)
    table: Tree = _leaf(grid, np.arange(len(rows)))
    for word in reversed(_frequent(rows.cohort)):
        question = Question(config.logs.columns.cohort, "cohort", word=word)
        leaf = _leaf(grid, np.flatnonzero(question.measure(rows)))
        if not (isinstance(table, Leaf) and table.action == leaf.action):
            table = Branch(question, 1.0, leaf, table)
    return table


def _grow(measured: list[tuple[Question, Floats]], scores: Floats, index: Ints, *, depth: int, least: int) -> Tree:
    leaf = _leaf(scores, index)
    if depth == 0 or len(index) < 2 * least:
        return leaf
    here = scores[index]
    whole = here.sum(axis=0).max()
    best, split = whole + SMALLEST_GAIN * len(index), None
    for question, answers in measured:
        value, threshold = best_threshold(answers[index], here, least=least)
        if value > best:
            best, split = value, (question, threshold, answers)
    if split is None:
        return leaf
    question, threshold, answers = split
    passes = answers[index] >= threshold
    yes, no = (_grow(measured, scores, index[side], depth=depth - 1, least=least) for side in (passes, ~passes))
    if isinstance(yes, Leaf) and isinstance(no, Leaf) and yes.action == no.action:
        return leaf
    return Branch(question, threshold, yes, no)


def best_threshold(answers: Floats, scores: Floats, *, least: int) -> tuple[float, float]:
    """Return the largest summed score of two leaves, each with its best action, and the threshold between them.

    Args:
        answers: (n,) NaN = missing, which never passes.
        scores: (n, A).
        least: rows that each side must hold.

    Returns:
        The value, minus infinity where no threshold leaves both sides enough rows, and the threshold.
    """
    answers = np.where(np.isnan(answers), -np.inf, answers)
    order = np.argsort(answers, kind="stable")
    ordered = answers[order]
    ends = np.flatnonzero(ordered[1:] > ordered[:-1]) + 1  # sizes of the side that does not pass
    ends = ends[(ends >= least) & (len(answers) - ends >= least)]
    if not len(ends):
        return -np.inf, np.nan
    below = np.cumsum(scores[order], axis=0)
    value = below[ends - 1].max(axis=1) + (below[-1] - below[ends - 1]).max(axis=1)
    at = int(value.argmax())
    low, high = ordered[ends[at] - 1], ordered[ends[at]]
    middle = (low + high) / 2
    return float(value[at]), float(middle if low < middle else high)


def _leaf(scores: Floats, index: Ints) -> Leaf:
    return Leaf(PRODUCTION + 1 + int(scores[index].sum(axis=0).argmax()), len(index))


def _is_word(column: Categorical, word: str) -> Floats:
    code = column.vocabulary.index(word) if word in column.vocabulary else len(column.vocabulary)
    return (np.asarray(column.codes) == code).astype(np.float64)


def _frequent(column: Categorical) -> list[str]:
    """Return the most frequent words that occur, ties by the alphabet."""

    def counted() -> Iterator[tuple[int, str]]:
        counts = np.bincount(np.asarray(column.codes) + 1, minlength=len(column.vocabulary) + 1)[1:]
        yield from ((-int(n), word) for n, word in zip(counts, column.vocabulary, strict=True) if n)

    return [word for _, word in sorted(counted())[:WORDS]]
