"""Is it worth it, drawn and told: tables, the picture, and the command on a run folder and on logs."""

from dataclasses import replace
from typing import Any

import numpy as np
import vl_convert
from fake_front import SURFACE, fake_front

from paretune.frontier.front import Front, Policy
from paretune.frontier.lifts import with_production
from paretune.frontier.worth import Worth, judge_worth
from paretune.report.worth_figures import comparisons_table, standings_table, worth_figure


def judged() -> tuple[Front, Worth]:
    """The made-up front with production in its place, and what is to be said of it."""
    made = fake_front()
    policies = [Policy("production", "static", weights=SURFACE.static)]
    policies += [replace(p, scalarisation=() if p.alpha is None else (p.alpha, 1 - p.alpha)) for p in made.policies]
    shares = np.vstack([np.eye(len(SURFACE))[0], made.action_shares])
    front = Front(
        tuple(policies),
        with_production(made.lifts, rows=500_000),
        np.append(False, made.non_dominated),
        tuple(replace(pick, policy=pick.policy + 1) for pick in made.picks),
        shares @ SURFACE.actions,
        shares,
    )
    return front, judge_worth(front, signs=np.ones(2), floors=np.zeros(2), smallest_lift=0.01)


def test_the_tables_name_every_kind_of_weights_and_every_comparison() -> None:
    front, worth = judged()
    standings, comparisons = standings_table(front, worth), comparisons_table(front, worth)
    assert {row[0] for row in standings.rows} >= {"production", "best static", "personalised: knee", "personalised: constrained"}
    assert len(comparisons.rows) == len(worth.personalised) + len(worth.static)
    assert comparisons.columns == ("difference", "save", "p2p", "value")
    assert all(len(row) == 4 for row in comparisons.rows)


def test_lifts_of_objectives_of_which_less_is_better_say_so() -> None:
    front, worth = judged()
    assert standings_table(front, worth, minimised=frozenset({"p2p"})).columns[2:4] == ("save", "p2p (lower is better)")
    assert standings_table(front, worth).columns[2:4] == ("save", "p2p")


def test_the_picture_says_the_sentence_and_draws_every_comparison() -> None:
    front, worth = judged()
    chart = worth_figure(front, worth)
    specification: dict[str, Any] = chart.to_dict()
    answer, _, reason = worth.sentence.partition(": ")
    assert specification["title"]["text"] == answer
    assert specification["title"]["subtitle"][0][1:] == reason[1:]
    rows = [row for values in specification["datasets"].values() for row in values]
    assert {row["panel"] for row in rows} == {"save", "p2p", "value"}
    assert len(rows) == 3 * (len(worth.personalised) + len(worth.static))
    assert vl_convert.vegalite_to_svg(chart.to_json()).startswith("<svg")
