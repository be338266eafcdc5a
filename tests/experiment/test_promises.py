"""Promises out of a file, and out of the registry: what counts once, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paretune.errors import DataError
from paretune.experiment.ledger import Entry, Lift
from paretune.experiment.promises import entries_in, latest_of
from paretune.policy.outcomes import Outcome

HEAD = "release,objective,predicted_pct,seen_pct"
FIRST = Outcome(1, 3, 2, 1, "save", False, 0.02, 0.004, 0.012, 0.028, 0.01, None, None, None, 9_000, 7, 1, "anna", "day 7")


def test_cells_are_per_cents_and_empty_ones_are_unknown() -> None:
    text = f"{HEAD}, predicted_error_pct,seen_error_pct,minimised,test\nknee,hide,-1.5,2,0.5,,yes,t\nknee,save,1,0,0.25,0.5,,\n"
    hide, save = entries_in(text, source="a.csv")
    assert (hide.release, hide.objective, hide.minimised, hide.test) == ("knee", "hide", True, "t")
    assert (hide.predicted.estimate, hide.predicted.std_error, hide.seen.estimate) == pytest.approx((-0.015, 0.005, 0.02))
    assert np.isnan(hide.seen.std_error)
    assert (save.predicted.std_error, save.seen.std_error, save.minimised, save.test) == pytest.approx((0.0025, 0.005, False, ""))


def test_a_file_with_a_heading_alone_is_an_empty_ledger() -> None:
    assert entries_in(f"{HEAD}\n", source="a.csv") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lacks the columns"),
        ("release,objective,predicted_pct\n", r"lacks the columns \['seen_pct'\]"),
        (f"{HEAD},colour\n", r"mean nothing here: \['colour'\]"),
        (f"{HEAD}\nknee,save,much,1\n", "a.csv, line 2: predicted_pct is 'much', no number"),
        (f"{HEAD}\nknee,save,1,\n", "seen_pct is '', no number"),
        (f"{HEAD}\nknee,save,1,nan\n", "seen_pct is 'nan', no number"),
        (f"{HEAD}\nknee,save,1\n", "seen_pct is '', no number"),
        (f"{HEAD}\n,save,1,1\n", "without a name"),
        (f"{HEAD}\nknee,save,1,1,9\n", "a cell too many"),
        (f"{HEAD},minimised\nknee,save,1,1,perhaps\n", "minimised is 'perhaps'"),
    ],
)
def test_what_cannot_be_read_is_refused_and_named(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        entries_in(text, source="a.csv")


def test_the_latest_readout_of_a_promise_counts_and_each_promise_once() -> None:
    later = replace(FIRST, seq=2, seen=0.015, seen_error=0.003, seen_low=0.009, seen_high=0.021, readout="day 14")
    renewed = replace(FIRST, seq=3, revision=2, predicted=0.01, readout="of the new evidence")
    other = replace(FIRST, seq=4, objective="hide", minimised=True, readout="day 14")
    found = latest_of([FIRST, later, renewed, other])
    assert [(entry.release, entry.objective, entry.test) for entry in found] == [
        ("policy-2", "save", "day 14"),
        ("policy-2", "hide", "day 14"),
        ("policy-2, evidence 2", "save", "of the new evidence"),
    ]
    assert found[0] == Entry("policy-2", "save", Lift(0.02, 0.004, 0.012, 0.028), Lift(0.015, 0.003, 0.009, 0.021), False, "day 14")
    assert found[1].minimised
    assert np.isnan([found[2].seen.std_error, found[2].seen.low]).all()
    assert latest_of(()) == ()
