"""A ledger drawn and told: every promise, the diagonal, the slope; nothing of what cannot be told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pytest
import vl_convert

from paretune.errors import DataError
from paretune.experiment.ledger import Entry, Ledger, Lift, kept_ledger, shrunk
from paretune.report.ledger import ledger_sentence, publish_ledger
from paretune.report.ledger_figures import accounts_table, entries_table, expected_table, promises_figure


def ledger(slope: float = 1.0, n: int = 6, *, error: float = 0.002, objectives: tuple[str, ...] = ("save", "hide")) -> Ledger:
    entries = []
    for place, name in enumerate(objectives):
        rng = np.random.default_rng(7 + place)
        for i, true in enumerate(np.linspace(-0.01, 0.03, n)):
            x, y = true + error * rng.normal(), slope * true + error * rng.normal()
            entries.append(Entry(f"policy-{i + 1}", name, Lift(x, error), Lift(y, error), minimised=name == "hide", test=f"t{i}"))
    return kept_ledger(entries)


def rows_of(chart: alt.TopLevelMixin) -> list[dict[str, Any]]:
    specification: dict[str, Any] = chart.to_dict()
    assert vl_convert.vegalite_to_svg(chart.to_json()).startswith("<svg")
    return [row for values in specification["datasets"].values() for row in values]


def test_every_promise_is_drawn_with_its_intervals_and_its_name() -> None:
    found = ledger()
    rows = [row for row in rows_of(promises_figure(found, title="a title")) if "release" in row]
    drawn = {(row["x"], row["y"]) for row in rows}
    assert drawn == {(100 * entry.predicted.estimate, 100 * entry.seen.estimate) for entry in found.entries}
    first = rows[0]
    assert first["name"] == "policy-1"
    assert first["xhigh"] - first["x"] == pytest.approx(100 * 1.96 * 0.002)
    assert first["y"] - first["ylow"] == pytest.approx(100 * 1.96 * 0.002)


def test_a_panel_says_its_objective_slope_and_correlation_and_both_axes_have_one_scale() -> None:
    found = ledger()
    panels = promises_figure(found, title="a title").to_dict()["concat"]
    assert [panel["title"]["text"][0] for panel in panels] == ["save", "hide (lower is better)"]
    slope, r = found.accounts[0].slope, found.accounts[0].correlation.value
    assert panels[0]["title"]["text"][1] == f"slope {slope.slope:.2f} ({slope.low:.2f} … {slope.high:.2f}), r {r:.3f}"
    for panel in panels:
        scales = [
            layer["encoding"][axis]["scale"]["domain"]
            for layer in panel["layer"]
            for axis in "xy"
            if "scale" in layer["encoding"].get(axis, {})
        ]
        assert len(scales) > 4
        assert all(scale == scales[0] for scale in scales)


def test_few_outcomes_are_drawn_without_a_slope_and_many_without_names() -> None:
    few = promises_figure(ledger(n=2, objectives=("save",)), title="a title")
    assert few.to_dict()["concat"][0]["title"]["text"][1] == "2 outcomes: too few for a slope"
    assert not [row for row in rows_of(few) if "y2" in row]
    many = promises_figure(ledger(n=9, objectives=("save",)), title="a title").to_dict()
    assert not [layer for layer in many["concat"][0]["layer"] if layer["mark"]["type"] == "text"]
    with pytest.raises(DataError, match="empty ledger"):
        promises_figure(kept_ledger(()), title="a title")


def test_tables_say_what_is_covered_and_what_is_unknown() -> None:
    found = ledger(slope=0.3)
    cells = [row[-1] for row in entries_table(found).rows]
    assert set(cells) == {"✓ yes", "✗ no"}
    table = accounts_table(found)
    assert [row[0] for row in table.rows] == ["save", "hide", "together"]
    assert [row[-1] for row in table.rows] == ["✗ overstated"] * 3
    assert "unknown" not in table.note
    untold = kept_ledger([replace(entry, predicted=Lift(entry.predicted.estimate), test="one") for entry in found.entries])
    assert {row[-1] for row in entries_table(untold).rows} == {"–"}
    assert [row[-2] for row in accounts_table(untold).rows] == ["–"] * 3
    assert "Where errors are unknown" in accounts_table(untold).note
    assert "fewer than three tests" in accounts_table(untold).note
    assert [row[0] for row in accounts_table(ledger(objectives=("save",))).rows] == ["save"]


def test_a_promise_of_nothing_but_errors_has_a_slope_without_ends() -> None:
    entries = [
        Entry(f"r{i}", "save", Lift(x, 0.01), Lift(y, 0.01)) for i, (x, y) in enumerate([(0.001, 0.01), (-0.002, 0.0), (0.001, -0.01)])
    ]
    assert "(−∞ … ∞)" in accounts_table(kept_ledger(entries)).rows[0][3]
    assert promises_figure(kept_ledger(entries), title="a title").to_dict()


def test_what_to_expect_names_the_slope_that_says_so() -> None:
    found, promise = ledger(slope=0.5, n=12), Lift(0.02, 0.004)
    told = expected_table([("7 knee", "save", promise, *shrunk(promise, found, objective="save"))])
    unsaid = expected_table([("7 knee", "save", promise, *shrunk(promise, ledger(), objective="save"))])
    slope = found.accounts[0].slope.slope
    assert told.rows[0][:2] == ("7 knee", "save")
    assert told.rows[0][3].startswith(f"+{2 * slope:.2f} %")
    assert told.rows[0][4] == f"{slope:.2f} of save"
    assert unsaid.rows[0][2] == unsaid.rows[0][3]
    assert unsaid.rows[0][4] == "–"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (kept_ledger(()), "No promise was tested yet: too few to say"),
        (ledger(n=1, objectives=("save",)), "One outcome: too few to say"),
        (ledger(n=1), "2 outcomes: too few to say"),
        (ledger(), "Nothing speaks against the next promise: slope "),
        (ledger(slope=0.3), "The next promise cannot be taken as it stands: tests saw 0."),
    ],
)
def test_one_sentence_says_how_far_to_trust_the_next_promise(found: Ledger, said: str) -> None:
    assert ledger_sentence(found).startswith(said)


def test_outcomes_that_are_all_off_are_named_by_their_coverage() -> None:
    shifted = [replace(entry, seen=replace(entry.seen, estimate=entry.predicted.estimate + 0.02)) for entry in ledger(n=8).entries]
    assert ledger_sentence(kept_ledger(shifted)).endswith(
        "only 0 % of the outcomes of all objectives together lie where their promises said."
    )


def test_the_page_holds_the_picture_the_tables_and_the_sentence(tmp_path: Path) -> None:
    found = ledger(slope=0.5, n=8)
    promise = Lift(0.02, 0.004)
    page = publish_ledger(found, tmp_path, expected=[("7 knee", "save", promise, *shrunk(promise, found, objective="save"))])
    text = page.read_text(encoding="utf-8")
    assert ledger_sentence(found) in text
    assert "Promises were larger than what tests saw" in text
    for caption in ("Promised and seen", "How promises turn out", "Not tested yet"):
        assert f"<caption>{caption}<" in text
    assert "http://" not in text.split("<script")[0]
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"ledger.png", "ledger.svg"}
    assert publish_ledger(kept_ledger(()), tmp_path / "empty").exists()
    assert not (tmp_path / "empty" / "figures").exists()
