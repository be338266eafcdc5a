"""The rules every row of a log keeps, as expressions over the facts of rows.py.

The rule: hard rules are those without which a row has no meaning, so the reader refuses them; the others are for `paretune check`.
Each expression is true or false, never null: what is unknown breaks the rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.logs.schema import REASON_FALLBACK
from paretune.records import OFF_GRID, PRODUCTION, Bools
from paretune.surface.heads import Surface

_QUARANTINE = "set the rows aside with `paretune check --quarantine DIR`, and mend whatever wrote them"


@dataclass(frozen=True, slots=True)
class RowRule:
    """What a row must be."""

    name: str  # shared by the rules of one kind
    column: str  # of the file
    keeps: pl.Expr  # over the facts; true = the row keeps the rule
    expected: str
    hard: bool  # the reader refuses rows that break it
    remedy: str = _QUARANTINE

    @property
    def label(self) -> str:
        """Name and column, as in the quarantine's `broken_rules`."""
        return f"{self.name}:{self.column}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A batch, judged."""

    good: Bools  # (n,)
    broken: dict[str, Bools]  # rule label -> (n,) rows that break it; only rules that are broken


def row_rules(config: Config, surface: Surface, facts: tuple[str, ...]) -> tuple[RowRule, ...]:
    """Return the rules that can be judged on these facts, hard ones first."""
    rules = [*_hard(config, surface, facts), *_soft(config, surface, facts)]
    return tuple(rules)


def _hard(config: Config, surface: Surface, facts: tuple[str, ...]) -> list[RowRule]:
    names = config.logs.columns
    p = pl.col("propensity")
    actions = f"a whole number from -1 (off the grid) to {len(surface) - 1}"
    rules = [
        RowRule("day_known", names.ts, pl.col("day").is_not_null(), "a day", True),
        RowRule("propensity_range", names.propensity, p.is_not_nan() & (p > 0) & (p <= 1), "a number in (0, 1]", True),
        RowRule("reason_known", names.reason, pl.col("reason").is_not_null(), "EXPLORE, POLICY, STATIC or FALLBACK", True),
        RowRule("action_range", names.action, pl.col("action").is_between(OFF_GRID, len(surface) - 1), actions, True),
    ]
    rules += [RowRule("id_known", fact[6:], pl.col(fact), "an id", True) for fact in facts if fact.startswith("known:")]
    for objective in config.objectives:
        count = pl.col(f"count:{objective.name}")
        signed = objective.transform == "identity"
        keeps = count.is_finite() if signed else count.is_finite() & (count >= 0)
        rules.append(RowRule("count_finite", objective.column, keeps, "a finite number" + ("" if signed else " >= 0"), True))
    what = dict.fromkeys(config.features.numeric, "finite or missing")
    what |= {e.name: f"{e.size} finite numbers" for e in config.features.embeddings}
    what |= {s.name: "whole numbers >= -1" for s in config.features.sequences}
    what |= {names.candidate_scores: f"{len(surface.heads)} finite scores per candidate id"}
    for fact in facts:
        if fact.startswith("sound:"):
            name = "candidates_sound" if fact[6:] == names.candidate_scores else "feature_sound"
            rules.append(RowRule(name, fact[6:], pl.col(fact), what[fact[6:]], True))
    if "weights_sound" in facts:
        rules.append(RowRule("weights_sound", names.weights, pl.col("weights_sound"), f"{len(surface.heads)} finite weights", True))
    return rules


def _soft(config: Config, surface: Surface, facts: tuple[str, ...]) -> list[RowRule]:
    names = config.logs.columns
    explored, action, reason = pl.col("explored"), pl.col("action"), pl.col("reason")
    rules = [
        RowRule(
            "explored_not_static",
            names.reason,
            ~explored | (action != PRODUCTION),
            "exploration rows serve a drawn action, not the static weights",
            False,
            "log reason FALLBACK, and the propensity of the static weights, when a draw was not served",
        ),
        RowRule(
            "fallback_static",
            names.reason,
            ~reason.str.starts_with(REASON_FALLBACK) | (action == PRODUCTION),
            "FALLBACK rows serve the static weights (action 0)",
            False,
            "log what was really served: a fallback after a draw is action 0, and no exploration row",
        ),
    ]
    if config.exploration.design == "uniform":
        chance = 1 / (len(surface) - 1)
        keeps = ~explored | ((pl.col("propensity") / chance - 1).abs() <= 1e-4)
        remedy = 'log 1/K of the grid that was drawn from; if draws are not uniform, set exploration.design = "logged" in paretune.toml'
        expected = f"{chance:.6g} = 1/{len(surface) - 1} on every exploration row"
        rules.append(RowRule("propensity_design", names.propensity, keeps, expected, False, remedy))
    for objective in config.objectives:
        if objective.transform in {"clip", "two-level"}:
            count = pl.col(f"count:{objective.name}")
            rules.append(RowRule("count_whole", objective.column, count == count.round(), "a whole number of events", False))
    if "label_age_h" in facts:
        window = config.logs.reward_window_h
        age = pl.col("label_age_h")
        remedy = "read the events later, or lower logs.reward_window_h in paretune.toml"
        keeps = age.is_not_nan() & (age >= window)
        rules.append(RowRule("label_mature", names.label_age_h, keeps, f">= {window:g} h, the reward window", False, remedy))
    if "weights_match" in facts:
        remedy = "check that surface.heads in paretune.toml is the grid that was served, then quarantine what is left"
        rules.append(RowRule("weights_match", names.weights, pl.col("weights_match"), "the weights of the logged action", False, remedy))
    if "items" in facts:
        keeps = (pl.col("items") == 0) | (pl.col("items") >= surface.k)
        rules.append(RowRule("candidates_enough", names.candidate_ids, keeps, f"none, or at least k = {surface.k}", False))
    return rules


def judge(facts: pl.DataFrame, rules: tuple[RowRule, ...]) -> Verdict:
    """Return which rows keep all rules, and which break which.

    Args:
        facts: (n,) rows.
        rules: from `row_rules`, over columns of the facts.

    Returns:
        Masks over the n rows; a row is good where it breaks no rule.
    """
    kept = facts.select(rule.keeps.fill_null(False).alias(f"r{i}") for i, rule in enumerate(rules))
    if kept.select(pl.all_horizontal(pl.all().all())).item():
        return Verdict(np.ones(len(facts), dtype=np.bool_), {})
    broken: dict[str, Bools] = {}
    for rule, column in zip(rules, kept, strict=True):
        breaks = ~column.to_numpy()
        if breaks.any():
            broken[rule.label] = breaks | broken.get(rule.label, breaks)  # objectives may share a column, and so a label
    return Verdict(~np.logical_or.reduce(list(broken.values())), broken)
