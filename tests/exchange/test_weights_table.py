"""Weights as a flat table: it says what the tree, the cohorts and the policy said, by its JSON alone, and keeps its schema."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from foreign import CONFIG
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.cli import main
from paretune.errors import ArtefactError
from paretune.exchange.weights_table import (
    FORMAT,
    Condition,
    Row,
    WeightsTable,
    decode_table,
    encode_table,
    table_of_cohorts,
    table_of_tree,
    table_of_weights,
)
from paretune.value.distil import Branch, Leaf, Question, Tree
from paretune.value.distil_json import policy_json

SURFACE = CONFIG.surface.build()
SCHEMA = json.loads(resources.files("paretune.exchange").joinpath("weights_table.schema.json").read_text(encoding="utf-8"))
QUESTIONS = st.one_of(
    st.builds(Question, st.just("age"), st.just("number")),
    st.builds(Question, st.just("taste"), st.just("element"), st.integers(0, 2)),
    st.builds(Question, st.just("device"), st.just("word"), word=st.sampled_from(["phone", "web"])),
    st.builds(Question, st.just("cohort"), st.just("cohort"), word=st.sampled_from(["NEW", "OLD"])),
    st.builds(Question, st.just("last"), st.just("count"), st.integers(0, 2), st.integers(1, 4)),
)
LEAVES = st.builds(Leaf, st.integers(0, len(SURFACE) - 1), st.integers(0, 100))
TREES = st.recursive(LEAVES, lambda inner: st.builds(Branch, QUESTIONS, st.sampled_from([-0.5, 0.5, 1.5]), inner, inner), max_leaves=12)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "age": st.one_of(st.none(), st.floats(-2, 2), st.just(float("nan"))),
        "taste": st.lists(st.floats(-2, 2), min_size=3, max_size=3),
        "device": st.sampled_from(["phone", "web", "tv", None]),
        "cohort": st.sampled_from(["NEW", "OLD", "ELSE"]),
        "last": st.lists(st.integers(0, 3), max_size=6),
    },
)


def walked(node: dict[str, Any], request: dict[str, Any]) -> list[float]:
    """Return what the nested JSON of `paretune distil` says, as its own reading tells."""
    while "weights" not in node:
        asked = node["if"]
        value = request.get(asked["feature"])
        if value is not None and "element" in asked:
            value = value[asked["element"]]
        if value is not None and "count_of" in asked:
            value = value[-asked["among_newest"] :].count(asked["count_of"])
        passed = value is not None and (value == asked["equals"] if "equals" in asked else value >= asked["at_least"])
        node = node["then"] if passed else node["else"]
    return list(node["weights"].values())


@given(tree=TREES, requests=st.lists(REQUESTS, min_size=1, max_size=10))
@settings(max_examples=60, deadline=None)
def test_the_table_of_a_tree_says_what_the_tree_says_also_of_missing_values(tree: Tree, requests: list[dict[str, Any]]) -> None:
    document = policy_json(tree, SURFACE, about={"pick": "knee"})
    written = encode_table(table_of_tree(document))
    jsonschema.validate(json.loads(written), SCHEMA)
    table = decode_table(written)
    assert table.about == {"pick": "knee"}
    for request in requests:
        assert list(table.look_up(request)) == walked(document["policy"], request)


def test_the_schema_is_a_schema_and_a_table_comes_back_as_it_was() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    table = table_of_cohorts(SURFACE.names, SURFACE.static, {"NEW": [1, 2, 3]}, column="cohort", about={"policy": "by hand"})
    assert decode_table(encode_table(table)) == table
    assert table.look_up({"cohort": "NEW"}) == (1, 2, 3)
    assert table.look_up({"cohort": "OLD"}) == table.look_up({}) == tuple(SURFACE.static)
    assert table_of_weights(SURFACE.names, SURFACE.static, [1, 2, 3], about={}).look_up({}) == (1, 2, 3)


def test_whatever_goes_wrong_in_a_look_up_gives_the_fallback() -> None:
    rows = (Row((Condition("taste", at_least=0.5, element=9),), (1.0,)), Row((), (2.0,)))
    table = WeightsTable(("save",), (90.0,), rows)
    assert table.look_up({"taste": [1.0]}) == (90.0,)
    assert table.look_up({"taste": "red"}) == (90.0,)
    assert table.look_up({}) == (2.0,)
    assert Condition("new", equals="true").passes({"new": True})


GOOD: dict[str, Any] = {
    "format": FORMAT,
    "heads": ["save", "hide"],
    "fallback": [90.0, -4.0],
    "rows": [{"when": [{"feature": "age", "at_least": 3.0}], "weights": [1.0, 2.0]}, {"when": [], "weights": [90.0, -4.0]}],
}


@pytest.mark.parametrize(
    ("change", "said", "also"),
    [
        ({"format": "paretune weights table 2"}, "format", True),
        ({"heads": ["save"]}, "weights for the heads", False),
        ({"heads": ["save", "save"]}, "weights for the heads", True),
        ({"fallback": [1.0]}, "weights for the heads", False),
        ({"rows": []}, "is for everybody", True),
        ({"rows": GOOD["rows"][:1]}, "is for everybody", False),
        ({"rows": GOOD["rows"][::-1]}, "is for everybody", False),
        ({"rows": [{"when": [{"feature": "age"}], "weights": [1.0, 2.0]}, GOOD["rows"][1]]}, "either `equals`", True),
        ({"more": 1}, "unknown field", True),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused(change: dict[str, Any], said: str, also: bool) -> None:
    jsonschema.validate(GOOD, SCHEMA)
    assert decode_table(json.dumps(GOOD).encode()).look_up({"age": 3}) == (1, 2)
    with pytest.raises(ArtefactError, match=said):
        decode_table(json.dumps(GOOD | change).encode())
    if also:  # the schema cannot count weights, nor say which row is the last
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(GOOD | change, SCHEMA)


def test_a_torn_or_foreign_document_is_refused() -> None:
    for document in (b"{", b"[]", b"\xff", json.dumps(GOOD).encode()[:-9]):
        with pytest.raises(ArtefactError, match="no weights table"):
            decode_table(document)
    for tree in ({}, {"format": "paretune policy 2"}, {"format": "paretune policy 1", "fallback": {"weights": {"a": 1}}, "policy": {}}):
        with pytest.raises(ArtefactError):
            table_of_tree(tree)


def test_a_distilled_policy_is_converted_and_converting_the_table_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = Branch(Question("age", "number"), 40.0, Leaf(3, 60), Leaf(7, 40))
    Path("policy.json").write_text(json.dumps(policy_json(tree, SURFACE, about={})), encoding="utf-8")
    assert main(["convert", "policy.json", "--to", "weights-table", "-o", "first.json"]) == 0
    assert main(["convert", "first.json", "--to", "weights-table", "-o", "second.json"]) == 0
    assert Path("first.json").read_bytes() == Path("second.json").read_bytes()
    table = decode_table(Path("first.json").read_bytes())
    np.testing.assert_array_equal(table.look_up({"age": 50}), SURFACE.actions[3])
    np.testing.assert_array_equal(table.look_up({"age": 30}), SURFACE.actions[7])
    assert [row.share for row in table.rows] == [0.6, 0.4]
    for words, code in (
        (["nowhere.json", "--to", "weights-table"], 3),
        (["policy.json", "--to", "flagd"], 2),
        (["policy.json", "--to", "weights-table", "--fold"], 2),
    ):
        assert main(["convert", *words]) == code
        assert "hint:" in capsys.readouterr().err
