"""A first paretune.toml from static weights: what it proposes, what it guesses, what it leaves to a person."""

import re
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.config import Config, parse_config
from paretune.errors import ConfigError
from paretune.template import Column, propose_config, render_config

WEIGHTS = {"save": 91.6, "p2p": 9.1, "click": 1.1, "hide": -4}
LOG = [
    Column("impression_id", "number"),
    Column("user_id", "number"),
    Column("ts", "time"),
    Column("segment", "text"),
    Column("served_weights", "numbers", 4),
    Column("propensity", "number"),
    Column("reason", "text"),
    Column("save", "number"),
    Column("events_p2p", "number"),
    Column("hide_count", "number"),
    Column("age", "number"),
    Column("country", "text"),
    Column("embedding", "numbers", 16),
    Column("history", "integers", 20, 999),
    Column("blob", "binary", 32),
    Column("advertiser_id", "number"),
    Column("first_seen", "time"),
]

names = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=20)
weights = st.dictionaries(names, st.floats(-1e6, 1e6).filter(lambda w: abs(w) > 1e-3), min_size=1, max_size=8).filter(
    lambda heads: any(weight > 0 for weight in heads.values())
)


@given(weights)
@settings(max_examples=60, deadline=None)
def test_what_is_written_reads_back_to_what_was_proposed(heads: dict[str, float]) -> None:
    config = propose_config(heads).config
    assert parse_config(tomllib.loads(render_config(config))) == config
    assert config.surface.build().static.tolist() == list(heads.values())


def test_a_file_with_every_kind_of_section_reads_back_equal() -> None:
    raw = propose_config(WEIGHTS, LOG).config.model_dump()
    raw["guardrails"] = [{"objective": "save", "floor_pct": -1.5}]
    raw["objectives"][0]["head"] = None
    config = parse_config(raw)
    assert parse_config(tomllib.loads(render_config(config))) == config


def test_every_key_has_a_comment_where_its_table_comes_up_first() -> None:
    for columns in (None, LOG):
        text = render_config(propose_config(WEIGHTS, columns).config)
        explained, seen = set(), set()
        for line in text.splitlines():
            if header := re.match(r"#? ?\[+([\w.]+)\]+$", line):
                table = header[1]
            elif key := re.match(r"#? ?(\w+) = (.*)$", line):
                seen.add((table, key[1]))
                if re.search(r"  # \w", key[2]):
                    explained.add((table, key[1]))
        assert seen == explained
        assert {name for table, name in seen if table == "training"} == set(Config.model_fields["training"].default.__class__.model_fields)


def test_the_two_largest_positive_weights_are_tuned_around_production() -> None:
    proposal = propose_config(WEIGHTS)
    tune = {head.name: head.tune for head in proposal.config.surface.heads}
    assert tune["click"] is None
    assert tune["hide"] is None
    assert tune["save"] is not None
    assert (tune["save"].low, tune["save"].high, tune["save"].levels) == (9.16, 183.0, 7)
    assert len(proposal.config.surface.build()) == 50
    assert any("paretune surface LOGS" in line for line in proposal.guessed)
    assert "paretune surface LOGS" in render_config(proposal.config)


def test_objectives_are_the_tuned_heads_unless_they_are_given() -> None:
    assert [o.name for o in propose_config(WEIGHTS).config.objectives] == ["save", "p2p"]
    given_ones = propose_config({"heads": WEIGHTS, "objectives": ["p2p", {"name": "hides", "column": "n_hide", "direction": "minimise"}]})
    assert [(o.name, o.head, o.column) for o in given_ones.config.objectives] == [("p2p", "p2p", "events_p2p"), ("hides", None, "n_hide")]


def test_a_nested_file_sets_ranges_list_length_and_guardrails() -> None:
    tune = {"save": [10, 200], "p2p": {"low": 1.0, "high": 30.0, "spacing": "log"}, "click": [0.5, 2]}
    config = propose_config({"heads": WEIGHTS, "tune": tune, "k": 15, "guardrails": [{"objective": "save"}]}).config
    assert config.surface.k == 15
    assert [head.tune.levels for head in config.surface.heads if head.tune] == [4, 4, 4]
    assert config.surface.heads[1].tune is not None
    assert config.surface.heads[1].tune.spacing == "log"
    assert config.guardrails[0].floor_pct == 0


def test_columns_are_guessed_by_name_and_type() -> None:
    proposal = propose_config(WEIGHTS, LOG)
    config = proposal.config
    columns = config.logs.columns
    assert (columns.request_id, columns.user, columns.cohort, columns.weights) == ("impression_id", "user_id", "segment", "served_weights")
    assert [o.column for o in config.objectives] == ["save", "events_p2p"]
    assert config.features.numeric == ["age"]
    assert config.features.categorical == ["country"]
    assert [(e.name, e.size) for e in config.features.embeddings] == [("embedding", 16)]
    assert [(s.name, s.length, s.vocabulary) for s in config.features.sequences] == [("history", 20, 1000)]


def test_what_came_of_a_request_is_never_a_feature() -> None:
    outcomes = [Column(name, "number") for name in ("hide_count", "clicks", "events_share", "served_items", "reward")]
    features = propose_config(WEIGHTS, [*LOG, *outcomes]).config.features
    assert not {column.name for column in outcomes} & set(features.numeric)


def test_what_cannot_be_guessed_is_listed() -> None:
    unknown = " ".join(propose_config(WEIGHTS, LOG).unknown)
    for word in ("surface.k", "'blob' holds 32 bytes", "'advertiser_id' is left out", "'first_seen' is left out"):
        assert word in unknown
    bare = " ".join(propose_config(WEIGHTS, [Column("x", "number")]).unknown)
    for key in (
        "logs.columns.request_id",
        "logs.columns.user",
        "logs.columns.propensity",
        "logs.columns.weights",
        "objectives[save].column",
    ):
        assert key in bare
    assert "--logs DIR" in " ".join(propose_config(WEIGHTS).unknown)


def test_scores_in_four_bytes_are_read_as_float32() -> None:
    def layout(score_bytes: int) -> str:
        pair = [Column("candidate_ids", "binary", 4 * 30), Column("candidate_scores", "binary", score_bytes * 30 * 4)]
        return propose_config(WEIGHTS, [*LOG, *pair]).config.logs.candidate_scores_dtype

    assert (layout(2), layout(4)) == ("float16", "float32")


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({}, "names no head"),
        ({"save": "much"}, "save"),
        ({"save": True}, "save"),
        ({"hide": -4}, "no head has a positive weight"),
        ({"heads": WEIGHTS, "tunes": {}}, "unknown keys"),
        ({"heads": WEIGHTS, "tune": {"nobody": [1, 2]}}, "nobody"),
        ({"heads": WEIGHTS, "tune": {"save": [1, 2, 3]}}, "tune.save"),
        ({"heads": WEIGHTS, "tune": ["save"]}, "tune is"),
        ({"heads": WEIGHTS, "objectives": "save"}, "objectives is"),
        ({"heads": WEIGHTS, "tune": {"save": {"low": 1.0, "hihg": 2.0}}}, "did you mean 'high'"),
        ({"heads": WEIGHTS, "k": 0}, "surface.k"),
    ],
)
def test_a_weights_file_that_means_nothing_is_refused_by_name(weights: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        propose_config(weights)
    assert said in str(caught.value)
    assert caught.value.hint
