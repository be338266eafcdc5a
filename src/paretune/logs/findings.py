"""What the rows of a log have shown: sums over parts that add up in any order, and the check that is drawn from them.

The rule: nothing here grows with the rows but the distinct users (16 bytes each); which rows are named as examples depends on the log,
not on the order in which its parts were read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.logs.checks import LogCheck, RuleResult, Tally, days_rules, mean_weights, whole_log_rules
from paretune.logs.rules import RowRule, row_rules
from paretune.surface.heads import Surface

UNIQUE = "request_unique"
_PLACES = 3  # files, and rows of a file, that a result names


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The first rows of a file that break a rule."""

    place: int  # of the file in the log
    path: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """What some rows of a log have shown; `Findings()` is what none have."""

    facts: frozenset[str] = frozenset()  # that could be judged, see `decode_rows`
    broken: dict[str, int] = field(default_factory=dict)  # rule label -> rows that break it
    places: dict[str, tuple[Place, ...]] = field(default_factory=dict)  # rule label -> the first files, with the first rows of each
    tally: Tally | None = None  # of the good rows
    good: int = 0
    bad: int = 0
    days: dict[int, tuple[int, int]] = field(default_factory=dict)  # day -> good exploration rows, good production rows
    unreadable: dict[str, str] = field(default_factory=dict)  # file -> why

    def __add__(self, other: Findings) -> Findings:
        """Return what the rows of both have shown."""
        tally = self.tally if other.tally is None else other.tally if self.tally is None else self.tally + other.tally
        labels, days = {*self.places, *other.places}, {*self.days, *other.days}
        return Findings(
            facts=self.facts | other.facts,
            broken={label: self.broken.get(label, 0) + other.broken.get(label, 0) for label in {*self.broken, *other.broken}},
            places={label: _first_places((*self.places.get(label, ()), *other.places.get(label, ()))) for label in labels},
            tally=tally,
            good=self.good + other.good,
            bad=self.bad + other.bad,
            days={day: _both(self.days.get(day), other.days.get(day)) for day in days},
            unreadable=self.unreadable | other.unreadable,
        )


def summed(parts: Iterable[Findings]) -> Findings:
    """Return the sum of all parts, added like the digits of a binary counter, so that what grows is copied log(parts) times."""
    digits: list[Findings | None] = []
    for part in parts:
        carry, at = part, 0
        while at < len(digits) and (digit := digits[at]) is not None:
            carry, digits[at], at = digit + carry, None, at + 1
        digits[at:] = [carry, *digits[at + 1 :]]
    total = Findings()
    for digit in digits:
        total = total if digit is None else digit + total
    return total


def unique_rule(config: Config) -> RowRule:
    """Return the rule that every request id occurs once, which only the whole log can keep or break."""
    remedy = "keep one row per request; the quarantine keeps the first, in the order of days and files"
    return RowRule(UNIQUE, config.logs.columns.request_id, pl.lit(True), "each request once", False, remedy)


def conclude(findings: Findings, config: Config, surface: Surface, *, quarantined: int = 0) -> LogCheck:
    """Return the check of a log of which all parts have been looked at.

    Args:
        findings: of all parts together.
        config: what the log should hold.
        surface: of the configuration.
        quarantined: bad rows that were written to the quarantine.
    """
    tally, days = findings.tally, tuple(sorted(findings.days))
    unreadable = RuleResult(
        "readable",
        not findings.unreadable,
        "error",
        f"{len(findings.unreadable)} unreadable files",
        "none",
        "; ".join(findings.unreadable[file] for file in sorted(findings.unreadable)),
        remedy="write the files again (to a temporary name, then rename), or move them out of the log",
    )
    labels = RuleResult(
        "label_mature",
        False,
        "warning",
        f"no column {config.logs.columns.label_age_h!r}",
        f">= {config.logs.reward_window_h:g} h, the reward window",
        remedy="log the hours between a request and the reading of its events, so that unripe rewards can be told",
    )
    whole = () if tally is None else whole_log_rules(tally, config, surface, has_candidates="items" in findings.facts)
    empty = tally is None or tally.rows == 0
    some = RuleResult(
        "rows", not empty, "error", f"{findings.good:,} good rows", "at least one", remedy="check the path and the rules above"
    )
    none = np.zeros(len(surface), dtype=np.int64)
    labelled = "label_age_h" in findings.facts
    rows = _row_results(findings, config, surface)
    return LogCheck(
        rules=(unreadable, *rows, *(() if labelled else (labels,)), some, *whole, *days_rules(days, config)),
        rows=findings.good + findings.bad,
        good=findings.good,
        bad=findings.bad,
        users=0 if tally is None else len(tally.users),
        days=days,
        explored_per_day=np.array([findings.days[day][0] for day in days], dtype=np.int64),
        production_per_day=np.array([findings.days[day][1] for day in days], dtype=np.int64),
        explored=0 if tally is None else tally.explored,
        production=0 if tally is None else tally.production,
        per_action=none if tally is None else tally.count,
        mean_weight=np.full(len(none), np.nan) if tally is None else mean_weights(tally),
        quarantined=quarantined,
    )


def _both(one: tuple[int, int] | None, other: tuple[int, int] | None) -> tuple[int, int]:
    (explored, production), (more_explored, more_production) = one or (0, 0), other or (0, 0)
    return explored + more_explored, production + more_production


def _first_places(places: Iterable[Place]) -> tuple[Place, ...]:
    """Return the first files, each with its first rows, of places that may name a file more than once."""
    rows: dict[tuple[int, str], list[int]] = {}
    for place in places:
        rows.setdefault((place.place, place.path), []).extend(place.rows)
    files = sorted(rows)[:_PLACES]
    return tuple(Place(*file, tuple(sorted(rows[file])[:_PLACES])) for file in files)


def _judged_rules(findings: Findings, config: Config, surface: Surface) -> Iterator[RowRule]:
    """Yield the rules that some rows could be judged by, in the order of the log's columns."""
    names, features = config.logs.columns, config.features
    ids = [f"known:{column}" for column in (names.request_id, names.user, names.session)]
    columns = [*features.numeric, *(e.name for e in features.embeddings), *(s.name for s in features.sequences), names.candidate_scores]
    ordered = dict.fromkeys([*ids, *(f"sound:{column}" for column in columns), *sorted(findings.facts)])
    if findings.facts:
        yield from row_rules(config, surface, tuple(fact for fact in ordered if fact in findings.facts))
        yield unique_rule(config)


def _row_results(findings: Findings, config: Config, surface: Surface) -> Iterator[RuleResult]:
    judged = list(_judged_rules(findings, config, surface))
    for name in dict.fromkeys(rule.name for rule in judged):
        rules = [rule for rule in judged if rule.name == name]
        broken = [rule for rule in rules if rule.label in findings.broken]
        places = [
            f"{place.path}: column {rule.column!r}, row{'s' if len(place.rows) > 1 else ''} {', '.join(map(str, place.rows))}"
            for rule in broken
            for place in findings.places[rule.label]
        ]
        yield RuleResult(
            name,
            not broken,
            "error",
            "; ".join(f"{findings.broken[rule.label]:,} rows in {rule.column}" for rule in broken) or "0 rows",
            "; ".join(dict.fromkeys(rule.expected for rule in (broken or rules))),
            "; ".join(places),
            sum(findings.broken[rule.label] for rule in broken),
            "; ".join(dict.fromkeys(rule.remedy for rule in (broken or rules))),
        )
