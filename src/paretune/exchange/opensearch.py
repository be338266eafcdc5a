"""Utility weights as OpenSearch hybrid-search pipelines: one sub-query per head, in order, whose scores are averaged by weight.

    utility u = sum_i w_i h_i   ->   score = sum_i v_i s_i,   v_i = |w_i| / sum_j |w_j|

The rule: the order of items stays the same, or the pipeline is refused. OpenSearch takes weights in [0, 1] that sum to 1, so the scale of
u is lost (no order depends on it). A negative weight is refused, or, with `fold`, becomes the positive weight of a sub-query that scores
1 - h: -4 h = 4 (1 - h) - 4. OpenSearch also rescales every sub-query's scores; bounds of 0 and 1 make `min_max` leave scores in [0, 1] as
they are, without which a weight means something else for every query (docs/exchange.md says what else is lost). At most five sub-queries.

Reference: OpenSearch, normalization-processor; opensearch-project/neural-search, ScoreCombinationUtil (range and sum of the weights) and
HybridQueryBuilder (number of sub-queries).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from paretune.errors import ConfigError
from paretune.exchange.weights_table import WeightsTable

MOST_QUERIES = 5
DIGITS = 6  # decimals of a weight; they sum to 1 exactly
_BEFORE = "utility weights of paretune; sub-queries in order: "


def pipeline(heads: Sequence[str], weights: Sequence[float], *, fold: bool = False, bounds: bool = True) -> dict[str, Any]:
    """Return the body of a search pipeline.

    Args:
        heads: (m,) names; the score of a head must lie in [0, 1].
        weights: (m,) finite; heads of weight 0 get no sub-query.
        fold: a head of negative weight is scored by 1 - h.
        bounds: keep scores as they are; without them OpenSearch stretches each sub-query's scores to [0, 1], as versions that know no
            `upper_bounds` do.

    Raises:
        ConfigError: a weight is negative and not folded, all are 0, or more than five are left.
    """
    named = [(head, float(weight)) for head, weight in zip(heads, weights, strict=True) if weight != 0]
    negative = [head for head, weight in named if weight < 0]
    if not all(isfinite(weight) for _, weight in named) or not named:
        raise ConfigError(f"weights {list(weights)} give no order", hint="give finite weights, at least one of them other than 0")
    if negative and not fold:
        raise ConfigError(
            f"OpenSearch takes no negative weights; {', '.join(negative)} {'has one' if len(negative) == 1 else 'have some'}",
            hint="fold them (--fold): the sub-query of such a head then has to score 1 - its prediction",
        )
    if len(named) > MOST_QUERIES:
        raise ConfigError(
            f"a hybrid query has at most {MOST_QUERIES} sub-queries, these are {len(named)} heads with a weight",
            hint="score the heads that are not tuned together, in one sub-query",
        )
    normalization: dict[str, Any] = {"technique": "min_max"}
    if bounds:
        normalization["parameters"] = {
            "lower_bounds": [{"mode": "apply", "min_score": 0.0}] * len(named),
            "upper_bounds": [{"mode": "apply", "max_score": 1.0}] * len(named),
        }
    shares = _shares([abs(weight) for _, weight in named])
    queries = [f"1 - {head}" if weight < 0 else head for head, weight in named]
    combination = {"technique": "arithmetic_mean", "parameters": {"weights": shares}}
    return {
        "description": _BEFORE + json.dumps(queries, ensure_ascii=False),
        "phase_results_processors": [{"normalization-processor": {"normalization": normalization, "combination": combination}}],
    }


def pipelines(table: WeightsTable, name: str, *, fold: bool = False, bounds: bool = True) -> dict[str, dict[str, Any]]:
    """Return the pipelines of a weights table by id: NAME for the last row, which is everybody else's, NAME-0, NAME-1... for the others.

    A request names its pipeline, so the ranker's caller still reads the table; equal rows have a pipeline each.

    Raises:
        ConfigError: see `pipeline`.
    """
    *some, everybody = table.rows
    ids = {f"{name}-{place}": row for place, row in enumerate(some)} | {name: everybody}
    return {key: pipeline(table.heads, row.weights, fold=fold, bounds=bounds) for key, row in ids.items()}


def weights_of(body: Mapping[str, Any]) -> dict[str, float]:
    """Return the weights that a pipeline of ours stands for, head -> weight; their absolute values sum to 1.

    Raises:
        ConfigError: it is no pipeline of `pipeline`.
    """
    try:
        queries = json.loads(str(body["description"]).removeprefix(_BEFORE))
        (processor,) = body["phase_results_processors"]
        shares = processor["normalization-processor"]["combination"]["parameters"]["weights"]
        pairs = list(zip(queries, shares, strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"no pipeline of paretune: {type(error).__name__} {error}", hint="write it with `paretune convert`") from None
    return {query.removeprefix("1 - "): -share if query.startswith("1 - ") else share for query, share in pairs}


def _shares(sizes: Sequence[float]) -> list[float]:
    """Return sizes as decimals that sum to 1 exactly: rounded down, the largest remainders rounded up."""
    unit = 10**DIGITS
    exact = [size / sum(sizes) * unit for size in sizes]
    whole = [int(share) for share in exact]
    short = sorted(range(len(sizes)), key=lambda i: whole[i] - exact[i])[: unit - sum(whole)]
    return [(count + (place in short)) / unit for place, count in enumerate(whole)]
