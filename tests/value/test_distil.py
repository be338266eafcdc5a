"""Distilled policies: thresholds are exact, trees never lose to fewer questions, and the JSON alone says what the tree says."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_log import make_config, make_log

from paretune.errors import DataError
from paretune.records import Categorical
from paretune.value.distil import Branch, Leaf, best_threshold, decide, grow_table, grow_tree, leaves, questions
from paretune.value.distil_json import described, policy_json

CONFIG = make_config()
SURFACE = CONFIG.surface.build()


@pytest.fixture(scope="module")
def rows():
    log = make_log(600, CONFIG, seed=3)
    cohort = Categorical(np.random.default_rng(0).integers(-1, 2, 600).astype(np.int32), ("CORE", "CASUAL"))
    return replace(log, cohort=cohort)


def read(policy, request):
    """What anyone can write in ten lines of any language."""
    node = policy["policy"]
    while "weights" not in node:
        test = node["if"]
        value = request.get(test["feature"])
        if value is not None and "element" in test:
            value = value[test["element"]]
        if value is not None and "count_of" in test:
            value = value[-test["among_newest"] :].count(test["count_of"])
        missing = value is None or value != value
        passed = not missing and (value == test["equals"] if "equals" in test else value >= test["at_least"])
        node = node["then"] if passed else node["else"]
    return node["weights"]


def requests(log):
    """Raw requests as another service sees them: plain values, null where missing."""
    state, found = log.state, []
    for i in range(len(log)):
        request = {name: float(column[i]) for name, column in state.numeric.items()}
        request |= {name: column[i].astype(float).tolist() for name, column in state.embedding.items()}
        request |= {name: [int(t) for t in column[i] if t >= 0] for name, column in state.sequence.items()}
        words = {**state.categorical, "cohort": log.cohort}
        request |= {name: column.vocabulary[column.codes[i]] if column.codes[i] >= 0 else None for name, column in words.items()}
        found.append(request)
    return found


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_the_best_threshold_is_the_best_of_all(seed, n, least):
    rng = np.random.default_rng(seed)
    answers = np.where(rng.random(n) < 0.2, np.nan, rng.integers(0, 4, n).astype(float))
    scores = rng.normal(size=(n, 3))
    value, threshold = best_threshold(answers, scores, least=least)
    best = -np.inf
    for t in np.unique(answers[~np.isnan(answers)]):
        passes = np.array([a >= t for a in answers])
        if min(passes.sum(), n - passes.sum()) >= least:
            best = max(best, scores[passes].sum(axis=0).max() + scores[~passes].sum(axis=0).max())
    assert value == pytest.approx(best)
    if np.isfinite(value):
        passes = answers >= threshold
        assert scores[passes].sum(axis=0).max() + scores[~passes].sum(axis=0).max() == pytest.approx(value)


def test_a_planted_rule_is_found(rows):
    scores = np.zeros((600, len(SURFACE)))
    taste, country = rows.state.numeric["taste"], rows.state.categorical["country"]
    rich, be = taste >= 0.5, country.codes == country.vocabulary.index("be")
    scores[rich & be, 4] = scores[rich & ~be, 2] = scores[~rich, 7] = 1.0
    tree = grow_tree(rows, scores, CONFIG, depth=2)
    assert len(leaves(tree)) == 3
    np.testing.assert_array_equal(decide(tree, rows), np.where(rich, np.where(be, 4, 2), 7))
    said = "\n".join(described(tree, SURFACE))
    assert "country is be" in said
    assert "taste ≥ " in said


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_more_questions_never_lose_and_production_is_never_chosen(rows, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(600, len(SURFACE))) + 3 * (rows.state.numeric["taste"][:, None] > rng.normal(size=len(SURFACE)))
    scores[:, 0] = 100.0
    worth = []
    for depth in range(4):
        chosen = decide(grow_tree(rows, scores, CONFIG, depth=depth), rows)
        assert chosen.min() > 0
        worth.append(scores[np.arange(600), chosen].sum())
    assert worth == sorted(worth)
    assert worth[0] == pytest.approx(scores[:, 1:].sum(axis=0).max())


@pytest.mark.parametrize("feature", ["number", "element", "count", "word", "cohort"])
def test_the_json_alone_says_what_the_tree_says_also_for_missing_values(rows, feature):
    rng = np.random.default_rng(1)
    asked = [question for question in questions(rows, CONFIG) if question.kind == feature]
    scores = 0.1 * rng.normal(size=(600, len(SURFACE)))
    for question in asked[:3]:
        answers = question.measure(rows)
        scores[:, rng.integers(1, 10)] += answers > np.nanmedian(answers) - (feature == "count")
    tree = grow_tree(rows, scores, CONFIG, depth=4)
    assert isinstance(tree, Branch)
    for rules in (tree, grow_table(rows, scores, CONFIG)):
        policy = json.loads(json.dumps(policy_json(rules, SURFACE, about={}), allow_nan=False))
        weights = [read(policy, request) for request in requests(rows)]
        np.testing.assert_array_equal([[w[h] for h in SURFACE.names] for w in weights], SURFACE.actions[decide(rules, rows)])
        assert policy["fallback"]["weights"] == {"save": 20.0, "p2p": 4.0, "click": 1.0}


def test_the_table_gives_each_cohort_its_best_and_others_everybodys(rows):
    scores = np.random.default_rng(2).normal(size=(600, len(SURFACE)))
    chosen = decide(grow_table(rows, scores, CONFIG), rows)
    for code in (-1, 0, 1):
        own = rows.cohort.codes == code
        best = scores[own if code >= 0 else slice(None), 1:].sum(axis=0).argmax() + 1
        assert set(chosen[own].tolist()) == {best}


def test_without_anything_to_gain_there_is_one_leaf(rows):
    scores = np.tile(np.arange(len(SURFACE), dtype=float), (600, 1))
    assert grow_tree(rows, scores, CONFIG, depth=4) == Leaf(len(SURFACE) - 1, 600)
    assert grow_table(rows, scores, CONFIG) == Leaf(len(SURFACE) - 1, 600)


def test_wrong_depths_and_scores_are_refused(rows):
    scores = np.zeros((600, len(SURFACE)))
    for wrong, depth in ((scores, 5), (scores[:5], 2), (scores * np.nan, 2)):
        with pytest.raises(DataError, match="cannot grow"):
            grow_tree(rows, wrong, CONFIG, depth=depth)
