"""A readout drawn and told: every arm, metric and look; nothing of what may not be said yet."""

from dataclasses import replace
from typing import Any

import altair as alt
import numpy as np
import pytest
import vl_convert

from paretune.errors import DataError
from paretune.experiment.lifts import Ratio
from paretune.experiment.metrics import Metric
from paretune.experiment.moments import Moments, user_moments
from paretune.experiment.readout import Design, Readout, read_out
from paretune.experiment.sample_ratio import sample_ratio
from paretune.experiment.users import Exposure
from paretune.report.readout import readout_sentences
from paretune.report.readout_figures import cohort_table, forest_figure, lifts_table, power_table, sequence_figure, split_table
from paretune.report.tables import signed

SAVE, HIDE = Metric("save", Ratio("save", 1, 0), 1, 0.02), Metric("hide", Ratio("hide", 2, 0), -1, 0.05, guardrail=True)


def found(n: int = 6_000, *, days: int = 3, arms: int = 3, failed: bool = False) -> Readout:
    rng = np.random.default_rng(1)
    arm, total, looks = np.arange(n) % arms, np.zeros((n, 3)), []
    for _ in range(days):
        requests = rng.poisson(2.0, n)
        total += np.stack([requests, rng.binomial(requests, np.where(arm == 1, 0.4, 0.3)), rng.binomial(requests, 0.1)], axis=1)
        looks.append(user_moments(np.arange(n), arm, total, arms=arms))
    stacked = Moments(*(np.stack([getattr(look, name) for look in looks]) for name in ("users", "crossed", "total", "product")))
    names = ("control", "new", "other")[:arms]
    seen = dict(zip(names, looks[-1].users.tolist(), strict=True))
    ratio = sample_ratio(seen | ({"new": 3 * n} if failed else {}), dict.fromkeys(names, 1.0))
    return read_out(stacked, [SAVE, HIDE], Design(names, 3), days=range(20_454, 20_454 + days), ratio=ratio)


def exposed(moved: int = 0, armless: int = 0) -> Exposure:
    empty = np.empty(0)
    shares = {"control": 0.05, "new": 0.05, "other": 0.05}
    return Exposure(("control", "new", "other"), (), (), (), *[empty] * 7, moved, armless, {}, shares)


def rows_of(chart: alt.TopLevelMixin) -> list[dict[str, Any]]:
    specification: dict[str, Any] = chart.to_dict()
    assert vl_convert.vegalite_to_svg(chart.to_json()).startswith("<svg")
    return [row for values in specification["datasets"].values() for row in values]


def test_the_forest_draws_every_arm_in_every_metric_and_says_the_answers() -> None:
    readout = found()
    chart = forest_figure(readout)
    rows = [row for row in rows_of(chart) if "arm" in row]
    lifts = [(arm, signed(readout.lift[a, m], 1)) for m in (0, 1) for a, arm in enumerate(readout.arms)]
    assert [(row["arm"], row["text"]) for row in rows] == lifts
    assert chart.to_dict()["title"]["text"] == "new: cannot tell; other: cannot tell"
    alone = found(arms=2)
    assert alone.verdicts[0].sentence.startswith(forest_figure(alone).to_dict()["title"]["text"].removesuffix(" …"))


def test_the_looks_are_drawn_day_by_day_and_one_look_is_none() -> None:
    rows = [row for row in rows_of(sequence_figure(found())) if "arm" in row]
    assert len(rows) == 3 * 2 * 2
    assert {row["date"] for row in rows} == {"2026-01-01", "2026-01-02", "2026-01-03"}
    assert all(row["low"] < row["lift"] < row["high"] for row in rows)
    with pytest.raises(DataError, match="no sequence"):
        sequence_figure(found(days=1))


@pytest.mark.parametrize("draw", [forest_figure, sequence_figure])
def test_what_may_not_be_said_yet_is_not_drawn(draw: Any) -> None:
    rows = [row for row in rows_of(draw(found(240))) if "arm" in row]
    assert all(row["lift"] is None and row["low"] is None for row in rows)


def test_tables_hold_what_is_said_and_what_is_not_known_is_a_dash() -> None:
    readout = found()
    table = lifts_table(readout)
    assert [row[:2] for row in table.rows] == [
        ("new", "save"),
        ("", "hide (lower is better)"),
        ("other", "save"),
        ("", "hide (lower is better)"),
    ]
    assert table.rows[0][-2:] == ("may fall by 2.00 %", "better")
    assert "read off the bands" in table.note
    assert lifts_table(found(240)).rows[0][5:7] == ("–", "–")
    assert power_table(found(240)).rows[0][2:] == ("–", "–")
    assert len(power_table(readout).rows) == 4
    assert cohort_table(readout) is None
    assert cohort_table(replace(readout, by_cohort=None)) is None


def test_a_failed_split_is_marked_and_nothing_else_is_said() -> None:
    failed = found(failed=True)
    table = split_table(failed, exposed(moved=3, armless=7))
    assert table.caption.startswith("✗")
    assert "3 users changed their arm" in table.note
    assert "7 requests of no arm" in table.note
    assert readout_sentences(failed) == (f"Blocked: {failed.blocked}.",)
    assert {row[-1] for row in lifts_table(failed).rows} == {"–"}
    assert split_table(found(), exposed()).caption == "Sample ratio"
