"""The dashboard: every expression is about metrics that exist, every metric that exists is on it, and nothing lies on top of another."""

import json
from itertools import combinations
from typing import Any

import pytest
import yaml
from asked import exported, names, wrong
from deployed import DEPLOY

BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "paretune.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
QUERIES += [(note["name"], note["expr"]) for note in BOARD["annotations"]["list"]]
SHOWN_ELSEWHERE = {"paretune_explore_share"}  # a gauge of the last half second, for the console; the board takes rates


def plain(expression: str) -> str:
    """Return an expression with Grafana's variables filled in."""
    for variable, value in (("$__rate_interval", "1m"), ("$job", ".*"), ("$instance", ".*")):
        expression = expression.replace(variable, value)
    assert "$" not in expression, "a variable that the board does not have"
    return expression


@pytest.mark.parametrize(("title", "expression"), QUERIES)
def test_a_panel_asks_only_for_what_is_exported(title: str, expression: str) -> None:
    assert wrong(plain(expression)) == []


def test_every_metric_that_is_exported_is_on_the_board() -> None:
    asked = {name for _, expression in QUERIES for name in names(plain(expression))}
    bases = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in asked}
    there = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in exported()}
    assert there - bases - SHOWN_ELSEWHERE == set()


def test_panels_have_a_number_a_title_a_unit_and_words_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_variables_ask_for_labels_that_exist_and_the_datasource_is_chosen() -> None:
    variables = {one["name"]: one for one in BOARD["templating"]["list"]}
    assert set(variables) == {"datasource", "job", "instance"}
    assert variables["job"]["query"]["query"] == "label_values(paretune_plan_version, job)"
    assert "paretune_plan_version" in exported()
    sources = {json.dumps(each["datasource"]) for panel in PANELS for each in (panel, *panel["targets"])}
    assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}


def test_grafana_finds_board_and_prometheus() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    provider = yaml.safe_load((provisioning / "dashboards" / "paretune.yaml").read_text())["providers"][0]
    source = yaml.safe_load((provisioning / "datasources" / "paretune.yaml").read_text())["datasources"][0]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    targets = {config["source"]: config["target"] for config in compose["services"]["grafana"]["configs"]}
    assert targets["dashboard"].startswith(provider["options"]["path"] + "/")
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert BOARD["uid"] == "paretune"
    assert BOARD["id"] is None
