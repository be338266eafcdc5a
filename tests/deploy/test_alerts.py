"""The alert rules: about metrics that exist, proven to fire and to keep quiet by promtool, and each with its entry in the runbook."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from asked import exported, names, wrong
from deployed import DEPLOY, ROOT, documents

RULES, TESTS = DEPLOY / "prometheus" / "alerts.yml", DEPLOY / "prometheus" / "alerts_test.yml"
PROMTOOL = shutil.which("promtool")
GROUPS: list[dict[str, Any]] = documents(RULES)[0]["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
RUNBOOK = ROOT / "docs" / "operations.md"


def promtool(*words: str) -> str:
    if PROMTOOL is None:
        pytest.skip("no promtool: it comes with Debian's package `prometheus`")
    ran = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_check_finds_what_nobody_exports() -> None:
    assert wrong("sum by (reason) (rate(paretune_decisions_total[5m]))") == []
    assert wrong("paretune_no_such_thing > 0") == ["nobody exports paretune_no_such_thing"]
    assert wrong("sum by (cause) (paretune_decisions_total)") == ["no label cause in sum by (cause) (paretune_decisions_total)"]
    assert "never 'EXPLORED'" in wrong('paretune_decisions_total{reason="EXPLORED"}')[0]
    assert wrong('paretune_ready{arm="x"}') == ["paretune_ready has no label arm"]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_asks_only_for_what_is_exported(name: str) -> None:
    rule = ALERTS[name]
    assert wrong(rule["expr"]) == []
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    told = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    by = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([\w, ]+)\)", rule["expr"])))) or {"job", "instance"}
    assert told <= by, "an annotation names a label that the expression took away"


def test_each_alert_has_its_entry_in_the_runbook_and_points_there() -> None:
    headings = re.findall(r"^### (Paretune\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == list(ALERTS), "one entry per alert, in the order of alerts.yml"
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"


def test_an_entry_says_what_it_means_how_to_look_and_what_to_do() -> None:
    entries = re.split(r"^### Paretune\w+\n", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for entry in (part.split("\n## ")[0] for part in entries):
        for word in ("Means:", "Look:", "Do:"):
            assert f"**{word}**" in entry, entry[:200]


def test_what_must_never_happen_and_what_can_go_stale_is_watched() -> None:
    asked = {name for rule in ALERTS.values() for name in names(rule["expr"])}
    stamps = {name for name in exported() if name.endswith("_timestamp_seconds")} - {"paretune_plan_since_timestamp_seconds"}
    assert stamps <= asked
    assert {"paretune_logged_decisions_total", "paretune_join_adds_up", "paretune_join_lost", "paretune_disk_free_bytes"} <= asked


def test_promtool_reads_rules_and_configuration(tmp_path: Path) -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(RULES))
    assert "SUCCESS" in promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))


def test_promtool_sees_each_alert_fire_when_it_should_and_none_in_a_healthy_fleet() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(TESTS))


def test_each_alert_is_seen_to_fire_by_a_test_whose_series_are_exported() -> None:
    fired, quiet = set(), 0
    for test in documents(TESTS)[0]["tests"]:
        for series in test["input_series"]:
            assert wrong(series["series"]) == []
        for asked in test["promql_expr_test"]:
            expected = asked.get("exp_samples") or []
            fired |= {found for sample in expected for found in re.findall(r'alertname="(\w+)"', sample["labels"])}
            quiet += not expected
    assert fired == set(ALERTS)
    assert quiet >= 2
