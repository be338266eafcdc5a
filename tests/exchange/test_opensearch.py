"""OpenSearch pipelines: items keep their order under OpenSearch's own arithmetic, and the real client sends and reads the bodies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign import CONFIG
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.cli import main
from paretune.errors import ConfigError
from paretune.exchange.opensearch import MOST_QUERIES, pipeline, pipelines, weights_of
from paretune.exchange.weights_table import table_of_cohorts

opensearchpy = pytest.importorskip("opensearchpy")
HEADS = ("save", "p2p", "hide")


def accepted(body: dict[str, Any]) -> tuple[dict[str, Any], list[float]]:
    """Check a body by the rules of neural-search (ScoreCombinationUtil, HybridQueryBuilder) and return its normalisation and weights."""
    (processor,) = body["phase_results_processors"]
    normalization, combination = processor["normalization-processor"]["normalization"], processor["normalization-processor"]["combination"]
    weights = combination["parameters"]["weights"]
    assert combination["technique"] == "arithmetic_mean"
    assert all(0 <= np.float32(weight) <= 1 for weight in weights)
    assert abs(float(np.sum(np.float32(weights))) - 1) <= 0.01
    assert 1 <= len(weights) <= MOST_QUERIES
    for kind in ("lower_bounds", "upper_bounds"):
        bounds = normalization.get("parameters", {}).get(kind)
        assert bounds is None or len(bounds) == len(weights)
    return normalization, weights


def scored(body: dict[str, Any], queries: np.ndarray) -> np.ndarray:
    """Return what OpenSearch makes of the scores (items, sub-queries) that all sub-queries gave all items.

    min_max with bounds in mode `apply`, as documented: the bound replaces the observed end where a score lies beyond it.
    """
    normalization, weights = accepted(body)
    low, high = queries.min(axis=0), queries.max(axis=0)
    parameters = normalization.get("parameters", {})
    for place, bound in enumerate(parameters.get("lower_bounds", [])):
        low[place] = min(low[place], bound["min_score"]) if high[place] > bound["min_score"] else low[place]
    for place, bound in enumerate(parameters.get("upper_bounds", [])):
        high[place] = max(high[place], bound["max_score"]) if low[place] < bound["max_score"] else high[place]
    scaled = (queries - low) / np.where(high > low, high - low, 1)
    return (scaled * weights).sum(axis=1) / np.sum(weights)


@given(
    weights=st.lists(st.floats(-100, 200).filter(lambda w: abs(w) > 0.1 or w == 0), min_size=2, max_size=5),
    seed=st.integers(0, 9999),
)
@settings(max_examples=100, deadline=None)
def test_items_are_ordered_as_the_utility_orders_them(weights: list[float], seed: int) -> None:
    if not any(weights):
        return
    heads = [f"h{i}" for i in range(len(weights))]
    scores = np.random.default_rng(seed).uniform(0.001, 0.999, (40, len(weights)))
    body = pipeline(heads, weights, fold=True)
    used = [(1 - scores[:, i]) if weight < 0 else scores[:, i] for i, weight in enumerate(weights) if weight]
    utility = scores @ weights
    theirs = scored(body, np.stack(used, axis=1))
    scale = np.abs(weights).sum()
    expected = (utility - np.minimum(weights, 0).sum()) / scale  # the folded weights' constants, and the lost scale
    np.testing.assert_allclose(theirs, expected, atol=5e-6)


def test_without_bounds_a_weight_means_another_thing_for_every_query() -> None:
    scores = np.array([[0.10, 0.50], [0.11, 0.10], [0.10, 0.52]])
    utility = scores @ [90, 9]
    bounded, free = (scored(pipeline(HEADS[:2], [90, 9], bounds=bounds), scores) for bounds in (True, False))
    assert bounded.argmax() == utility.argmax() == 2
    assert free.argmax() == 1


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_weights_sum_to_one_to_the_last_digit_and_are_as_near_as_digits_allow(weights: list[float]) -> None:
    _, shares = accepted(pipeline([f"h{i}" for i in range(len(weights))], weights))
    assert sum(round(share * 1e6) for share in shares) == 10**6
    np.testing.assert_allclose(shares, np.array(weights) / sum(weights), atol=1.1e-6)


def test_a_pipeline_is_read_back_as_the_weights_it_stands_for() -> None:
    weights = np.array([90.0, 9.0, -4.0])
    found = weights_of(pipeline(HEADS, weights, fold=True))
    assert list(found) == list(HEADS)
    np.testing.assert_allclose(list(found.values()), weights / np.abs(weights).sum(), atol=1e-6)
    assert list(weights_of(pipeline(("a, b", "c"), [1, 0]))) == ["a, b"]
    with pytest.raises(ConfigError, match="no pipeline of paretune"):
        weights_of({"description": "mine", "phase_results_processors": []})


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([90, 9, -4], "takes no negative weights; c has one"),
        ([0, 0, 0], "give no order"),
        ([1, float("nan"), 1], "give no order"),
        ([1] * 6, "at most 5 sub-queries"),
    ],
)
def test_what_would_change_the_order_is_refused(weights: list[float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        pipeline("abcdef"[: len(weights)], weights)


@pytest.fixture
def client() -> Iterator[Any]:
    """The real client, and a server that keeps what it is sent."""
    kept: dict[str, bytes] = {}

    class Keeper(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer({"acknowledged": True})

        def do_GET(self) -> None:
            self.answer({self.path.rpartition("/")[2]: json.loads(kept[self.path])})

        def answer(self, body: dict[str, Any]) -> None:
            told = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Keeper) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        opened = opensearchpy.OpenSearch(hosts=[{"host": "127.0.0.1", "port": server.server_port}])
        yield opened
        opened.close()
        server.shutdown()
        thread.join()


def test_the_real_client_puts_pipelines_and_gets_them_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
    monkeypatch.chdir(tmp_path)
    surface = CONFIG.surface.build()
    table = table_of_cohorts(surface.names, surface.static, {"NEW": [200, 1, -4], "OLD": [10, 30, -4]}, column="cohort", about={})
    from paretune.exchange.weights_table import encode_table

    Path("t.json").write_bytes(encode_table(table))
    assert main(["convert", "t.json", "--to", "opensearch"]) == 2  # a negative weight
    assert main(["convert", "t.json", "--to", "opensearch", "--fold", "--name", "feed"]) == 0
    written = json.loads(Path("opensearch_pipelines.json").read_text(encoding="utf-8"))
    assert list(written) == ["feed-0", "feed-1", "feed"]
    assert written == pipelines(table, "feed", fold=True)
    for name, body in written.items():
        assert client.search_pipeline.put(id=name, body=body) == {"acknowledged": True}
    for name, row in zip(written, table.rows, strict=True):
        body = client.search_pipeline.get(id=name)[name]
        accepted(body)
        found = np.array(list(weights_of(body).values()))
        np.testing.assert_allclose(found, np.array(row.weights) / np.abs(row.weights).sum(), atol=1e-6)
