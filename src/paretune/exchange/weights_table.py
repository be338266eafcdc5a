"""Weights by rules, as a flat table in JSON: what a ranker in any language needs to give each request its weights.

    {"format": "paretune weights table 1", "heads": ["save", "hide"], "fallback": [91.6, -4.0],
     "rows": [{"when": [{"feature": "cohort", "equals": "NEW"}], "weights": [120.0, -4.0]}, {"when": [], "weights": [91.6, -4.0]}]}

`weights_table.schema.json` beside this file is its JSON Schema. The rule: the first row all of whose tests pass says the weights; a missing
value passes no test; the last row has no tests, so that there always is one; `fallback`, the static weights, is for whatever goes wrong.
A tree becomes rows by listing its leaves, passed branches first: what failed a test has passed by all rows that ask for it, so that only
passed tests need to be named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import msgspec

from paretune.errors import ArtefactError
from paretune.value.distil_json import FORMAT as TREE_FORMAT

FORMAT = "paretune weights table 1"
READING = (
    "Take the first of `rows` all of whose tests in `when` pass, and serve its weights, in the order of `heads`. `equals` compares text; "
    "`at_least` compares a number: the feature's, that of its `element` (counted from 0), or how often `count_of` stands among the last "
    "`among_newest` entries of the list. A missing value passes no test. If anything fails, serve `fallback`."
)


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A question about one feature of the request."""

    feature: str
    equals: str | None = None
    at_least: float | None = None
    element: int | None = None  # of a vector, from 0
    count_of: int | None = None  # token of a sequence
    among_newest: int | None = None

    def passes(self, request: Mapping[str, Any]) -> bool:
        """Whether a request passes; one that lacks the value does not."""
        value = request.get(self.feature)
        if value is None:
            return False
        if self.equals is not None:
            return (str(value).lower() if isinstance(value, bool) else str(value)) == self.equals
        if self.count_of is not None:
            value = list(value)[-(self.among_newest or len(value)) :].count(self.count_of)
        elif self.element is not None:
            value = value[self.element]
        return self.at_least is not None and float(value) >= self.at_least


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Weights for the requests that pass all tests and came by no row before."""

    when: tuple[Condition, ...]
    weights: tuple[float, ...]  # (m,)
    share: float | None = None  # of the requests that the rules were fitted on


class WeightsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of it."""

    heads: tuple[str, ...]  # (m,)
    fallback: tuple[float, ...]  # (m,) the static weights
    rows: tuple[Row, ...]
    about: dict[str, Any] = {}  # where it comes from and what speaks for it, for people
    reading: str = ""
    format: str = ""

    def look_up(self, request: Mapping[str, Any]) -> tuple[float, ...]:
        """Return the weights (m,) of a request.

        Args:
            request: feature -> text, number, vector or tokens (newest last), as they are logged.
        """
        try:
            return next(row.weights for row in self.rows if all(test.passes(request) for test in row.when))
        except (TypeError, ValueError, IndexError, StopIteration):  # a vector too short, a text for a number
            return self.fallback


def table_of_tree(document: Mapping[str, Any]) -> WeightsTable:
    """Return a distilled policy, as `paretune distil` writes it, as a table.

    Raises:
        ArtefactError: it is no distilled policy, or of another format.
    """
    try:
        if document["format"] != TREE_FORMAT:
            raise ArtefactError(f"format {document['format']!r}, expected {TREE_FORMAT!r}", hint="write it with `paretune distil`")
        heads, fallback = zip(*document["fallback"]["weights"].items(), strict=True)
        rows = tuple(_leaves(document["policy"], heads, ()))
        return checked(WeightsTable(heads, tuple(map(float, fallback)), rows, dict(document.get("about", {}))))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"no distilled policy: {type(error).__name__} {error}", hint="write it with `paretune distil`") from error


def table_of_cohorts(
    heads: Sequence[str], static: Sequence[float], cohorts: Mapping[str, Sequence[float]], *, column: str, about: Mapping[str, Any]
) -> WeightsTable:
    """Return weights by cohort as a table; everybody else gets the static weights.

    Args:
        heads: (m,)
        static: (m,) weights in use.
        cohorts: cohort -> (m,) weights.
        column: feature that holds the cohort.
        about: see `WeightsTable`.
    """
    rows = [Row((Condition(column, equals=name),), tuple(map(float, weights))) for name, weights in cohorts.items()]
    fixed = tuple(map(float, static))
    return checked(WeightsTable(tuple(heads), fixed, (*rows, Row((), fixed)), dict(about)))


def table_of_weights(heads: Sequence[str], static: Sequence[float], weights: Sequence[float], *, about: Mapping[str, Any]) -> WeightsTable:
    """Return one weight vector for everybody as a table of one row."""
    return checked(WeightsTable(tuple(heads), tuple(map(float, static)), (Row((), tuple(map(float, weights))),), dict(about)))


def encode_table(table: WeightsTable) -> bytes:
    """Return the table as JSON; `decode_table` reads it back to an equal record."""
    whole = msgspec.structs.replace(table, format=FORMAT, reading=READING)
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


def decode_table(document: bytes, *, source: str = "weights table") -> WeightsTable:
    """Return the table in a JSON document, checked.

    Raises:
        ArtefactError: it is torn, of another format, or breaks a rule of the table; the message names what.
    """
    try:
        table = msgspec.json.decode(document, type=WeightsTable)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(f"{source} is no weights table: {error}", hint="write it with `paretune convert`") from None
    if table.format != FORMAT:
        raise ArtefactError(f"{source}: format {table.format!r}, expected {FORMAT!r}", hint="write it with `paretune convert`")
    return checked(msgspec.structs.replace(table, format="", reading=""), source=source)


def checked(table: WeightsTable, *, source: str = "weights table") -> WeightsTable:
    """Return the table where it keeps every rule.

    Raises:
        ArtefactError: naming the rule that it breaks.
    """
    m = len(table.heads)
    vectors = [table.fallback, *(row.weights for row in table.rows)]
    problem = ""
    if m == 0 or len(set(table.heads)) != m or any(len(vector) != m for vector in vectors):
        problem = f"{sorted({len(vector) for vector in vectors})} weights for the heads {list(table.heads)}"
    elif not all(isfinite(weight) for vector in vectors for weight in vector):
        problem = "a weight is not finite"
    elif not table.rows or table.rows[-1].when or not all(row.when for row in table.rows[:-1]):
        problem = "the last row, and no other, is for everybody: its `when` is empty"
    elif any((test.equals is None) == (test.at_least is None) for row in table.rows for test in row.when):
        problem = "a test has either `equals` or `at_least`"
    if problem:
        raise ArtefactError(f"{source}: {problem}", hint="write it with `paretune convert`")
    return table


def _leaves(node: Mapping[str, Any], heads: Sequence[str], passed: tuple[Condition, ...]) -> Iterator[Row]:
    if "if" in node:
        yield from _leaves(node["then"], heads, (*passed, msgspec.convert(node["if"], Condition)))
        yield from _leaves(node["else"], heads, passed)
        return
    yield Row(passed, tuple(float(node["weights"][head]) for head in heads), node.get("share"))
