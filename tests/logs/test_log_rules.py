"""Rules judge rows: what is unknown breaks them, and rows that break one of several rules under one label all count."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from paretune.logs.rules import RowRule, judge

FACTS = pl.DataFrame({"a": [1.0, 2.0, None, 4.0], "b": [True, False, True, True]})


def rule(name: str, keeps: pl.Expr) -> RowRule:
    return RowRule(name, "file_column", keeps, "what it should be", True)


def broken(*rules: RowRule) -> dict[str, Any]:
    return {label: mask.tolist() for label, mask in judge(FACTS, rules).broken.items()}


def test_rows_that_keep_every_rule_are_good_and_no_rule_is_named() -> None:
    verdict = judge(FACTS, (rule("small", pl.col("a").fill_null(0) < 9),))
    assert verdict.good.tolist() == [True] * 4
    assert verdict.broken == {}


def test_what_is_unknown_breaks_a_rule() -> None:
    assert broken(rule("small", pl.col("a") < 4)) == {"small:file_column": [False, False, True, True]}


def test_two_rules_of_one_label_count_the_rows_that_break_either() -> None:
    """Two objectives may read one column, say its clip and its logarithm."""
    rules = rule("count", pl.col("a").is_not_null()), rule("count", pl.col("b")), rule("other", pl.lit(True))
    assert broken(*rules) == {"count:file_column": [False, True, True, False]}
    assert judge(FACTS, rules).good.tolist() == [True, False, False, True]


@pytest.mark.parametrize("rows", [0, 3])
def test_no_row_is_lost_or_made_up(rows: int) -> None:
    verdict = judge(FACTS.head(rows), (rule("none", pl.col("b") & ~pl.col("b")),))
    assert len(verdict.good) == rows
    assert not np.any(verdict.good)
