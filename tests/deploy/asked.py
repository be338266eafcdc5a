"""PromQL taken apart, and held against what is exported: names, labels, the values that matchers ask for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import promql_parser
from exported import Metrics, scraped

from paretune.serving.decide import Reason

ADDED = {"job", "instance"}  # by Prometheus to everything it scrapes
OWN = {"up": set[str](), "ALERTS": {"alertname", "alertstate", "severity"}}  # Prometheus's own
POSSIBLE = {
    "reason": {str(reason) for reason in Reason},
    "outcome": {"written", "dropped"},
    "fate": {"written", "waiting", "duplicate", "rejected"},
}
FREE = {"arm", "guardrail", "version"}  # labels whose values are the deployment's own
CHILDREN = ("lhs", "rhs", "expr", "vector_selector", "args", "param")


def nodes(expression: Any) -> Iterator[Any]:
    """Yield an expression and all that it is made of."""
    yield expression
    for name in CHILDREN:
        child = getattr(expression, name, None)
        for each in child if isinstance(child, list) else [] if child is None else [child]:
            yield from nodes(each)


def exported() -> Metrics:
    """Everything that a deployment exports."""
    services, runs = scraped()
    assert not services.keys() & runs.keys()
    return services | runs


def wrong(text: str) -> list[str]:
    """Return what an expression asks for that nobody exports.

    Raises:
        ValueError: it is no PromQL.
    """
    known, found = exported(), []
    for node in nodes(promql_parser.parse(text)):
        if isinstance(node, promql_parser.VectorSelector):
            found += _wrong_selector(node, known)
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            inside = {
                label for one in nodes(node.expr) if isinstance(one, promql_parser.VectorSelector) for label in labels_of(one.name, known)
            }
            found += [f"no label {label} in {node.prettify()}" for label in node.modifier.labels if label not in inside]
    return found


def labels_of(name: str, known: Metrics) -> set[str]:
    """Return the labels of a metric."""
    return ADDED | (OWN[name] if name in OWN else set(known.get(name, {})))


def _wrong_selector(node: Any, known: Metrics) -> list[str]:
    if node.name not in known and node.name not in OWN:
        return [f"nobody exports {node.name}"]
    found = []
    for matcher in node.matchers.matchers:
        if matcher.name not in labels_of(node.name, known):
            found.append(f"{node.name} has no label {matcher.name}")
        elif matcher.name in known.get(node.name, {}) and matcher.name not in FREE:
            values = known[node.name][matcher.name] | POSSIBLE.get(matcher.name, set())
            pattern = matcher.value if matcher.op in (promql_parser.MatchOp.Re, promql_parser.MatchOp.NotRe) else re.escape(matcher.value)
            if not any(re.fullmatch(pattern, value) for value in values):
                found.append(f"{node.name}: {matcher.name} is never {matcher.value!r}, but one of {sorted(values)}")
    return found


def names(text: str) -> set[str]:
    """Return the metrics that an expression asks for."""
    return {node.name for node in nodes(promql_parser.parse(text)) if isinstance(node, promql_parser.VectorSelector)}
