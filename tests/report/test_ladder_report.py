"""The ladder in the report: every pick on every rung, and a warning when the test fires."""

from __future__ import annotations

import json

import numpy as np
from fake_front import fake_front

from paretune.frontier.ladder import EXACT, Ladder
from paretune.report.ladder import ladder_figure, ladder_table, ladder_warning


def fake_ladder(front, *, z=0.5):
    estimate = np.stack([front.lifts.estimate + shift for shift in (0.001, 0.0, -0.001, 0.004)])
    error = np.full_like(estimate, 0.003)
    bias = np.full(front.lifts.estimate.shape, z)
    p = np.full(front.lifts.estimate.shape, 0.6 if abs(z) < 2 else 1e-6)
    return Ladder(("p = 8", "p = 16", "p = 32", EXACT), 1, estimate, error, np.ones(estimate.shape[:2]), bias, p, bias * 0.001)


def test_the_table_names_the_rung_that_speaks_and_gives_every_pick_a_row_per_objective():
    front = fake_front()
    table = ladder_table(front, fake_ladder(front))
    assert table.columns[2:6] == ("p = 8", "p = 16 (the estimate)", "p = 32", EXACT)
    assert len(table.rows) == 2 * len(front.picks)
    assert "✗" not in str(table.rows)
    assert ladder_warning(front, fake_ladder(front)) == ""


def test_a_test_that_fires_is_said_aloud():
    front = fake_front()
    ladder = fake_ladder(front, z=-6.0)
    assert "✗" in str(ladder_table(front, ladder).rows)
    assert "knee" in ladder_warning(front, ladder)


def test_the_picture_holds_all_rungs_and_picks():
    front = fake_front()
    drawn = json.dumps(ladder_figure(front, fake_ladder(front)).to_dict())
    assert all(label in drawn for label in ("p = 32", EXACT, "knee", "save-leaning"))


def test_objectives_of_which_less_is_better_say_so():
    front, less = fake_front(), frozenset({"p2p"})
    assert [row[1] for row in ladder_table(front, fake_ladder(front), minimised=less).rows[:2]] == ["save", "p2p (lower is better)"]
    assert "p2p (lower is better)" in json.dumps(ladder_figure(front, fake_ladder(front), minimised=less).to_dict())
