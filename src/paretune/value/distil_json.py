"""A distilled policy as JSON that needs no Python: nested if / then / else on raw feature values, full weights at every leaf.

    {"if": {"feature": "age", "at_least": 31.5}, "then": {"weights": {...}}, "else": {...}}

The rule: whoever reads it needs nothing but the request's own log columns; a missing value passes no test; `fallback` holds the static
weights, for whatever goes wrong.
"""

from __future__ import annotations

from typing import Any

from paretune.surface.heads import Surface
from paretune.value.distil import Branch, Leaf, Question, Tree, leaves

FORMAT = "paretune policy 1"
READING = (
    "Start at `policy`. Where there are `weights`, serve them. Else test `if` against the request: `equals` compares text; `at_least` "
    "compares a number: the column's, that of its `element` (counted from 0), or how often `count_of` stands among the last "
    "`among_newest` entries of the list. Passed: go on at `then`. Not passed, or the value is missing: at `else`. "
    "If anything fails, serve `fallback`."
)


def policy_json(tree: Tree, surface: Surface, *, about: dict[str, Any]) -> dict[str, Any]:
    """Return a tree as JSON-able values.

    Args:
        tree: its leaves' actions are those of the surface.
        surface: gives each action's weights.
        about: what else the file should say: the pick, the measured loss.
    """
    total = sum(leaf.rows for leaf in leaves(tree))
    return {
        "format": FORMAT,
        "reading": READING,
        "about": about,
        "fallback": {"weights": _weights(surface, 0)},
        "policy": _node(tree, surface, total),
    }


def condition(question: Question, threshold: float) -> dict[str, Any]:
    """Return a question with its threshold as JSON-able values."""
    if question.kind in {"word", "cohort"}:
        return {"feature": question.feature, "equals": question.word}
    if question.kind == "element":
        return {"feature": question.feature, "element": question.place, "at_least": threshold}
    if question.kind == "count":
        counted = {"count_of": question.place, "among_newest": question.newest}
        return {"feature": question.feature, **counted, "at_least": int(threshold + 1) if threshold % 1 else int(threshold)}
    return {"feature": question.feature, "at_least": threshold}


def described(tree: Tree, surface: Surface, *, indent: str = "") -> list[str]:
    """Return a tree as lines of text for people."""
    if isinstance(tree, Leaf):
        weights = ", ".join(f"{surface.heads[i].name} {surface.actions[tree.action][i]:.4g}" for i in surface.tuned)
        return [f"{indent}serve {weights}"]
    asked = condition(tree.question, tree.threshold)
    name = asked["feature"] + (f"[{asked['element']}]" if "element" in asked else "")
    if "count_of" in asked:
        name = f"count of {asked['count_of']} among the newest {asked['among_newest']} of {name}"
    test = f"{name} is {asked['equals']}" if "equals" in asked else f"{name} ≥ {asked['at_least']:.6g}"
    deeper = indent + "  "
    return [
        f"{indent}if {test}",
        *described(tree.yes, surface, indent=deeper),
        f"{indent}else",
        *described(tree.no, surface, indent=deeper),
    ]


def _node(tree: Tree, surface: Surface, total: int) -> dict[str, Any]:
    if isinstance(tree, Branch):
        asked = condition(tree.question, tree.threshold)
        return {"if": asked, "then": _node(tree.yes, surface, total), "else": _node(tree.no, surface, total)}
    return {"weights": _weights(surface, tree.action), "action": tree.action, "share": round(tree.rows / max(1, total), 4)}


def _weights(surface: Surface, action: int) -> dict[str, float]:
    return dict(zip(surface.names, surface.actions[action].tolist(), strict=True))
