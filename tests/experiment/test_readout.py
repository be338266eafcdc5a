"""What is said of an arm follows from intervals that hold together; a split that is not the plan's is no verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.errors import DataError
from paretune.experiment.lifts import Ratio
from paretune.experiment.metrics import Metric
from paretune.experiment.moments import Moments, user_moments
from paretune.experiment.readout import FIXED, WATCHED, Design, Readout, cohort_lifts, read_out
from paretune.experiment.sample_ratio import sample_ratio
from paretune.experiment.sequences import critical, planned_error
from paretune.experiment.verdict import BETTER, BLOCKED, CANNOT_TELL, HARMS, KEPT, NOT_INFERIOR, OPEN, SHIPS, WORSE, finding, verdict_of

SAVE = Metric("save", Ratio("save", 1, 0), 1, 0.02)
HIDE = Metric("hide", Ratio("hide", 2, 0), -1, 0.05, guardrail=True)
EVEN = sample_ratio({"control": 500, "new": 500}, {"control": 1, "new": 1})


def stacked(parts: list[Moments]) -> Moments:
    return Moments(*(np.stack([getattr(part, name) for part in parts]) for name in ("users", "crossed", "total", "product")))


def looks(
    n: int, *, seed: int = 1, days: int = 4, save: float = 0.0, hide: float = 0.0, arms: int = 2, cohorts: bool = False
) -> tuple[Moments, Moments | None]:
    """Cumulated days of a test whose other arms save and hide more by so much."""
    rng = np.random.default_rng(seed)
    arm, total = np.arange(n) % arms, np.zeros((n, 3))
    found = []
    for _ in range(days):
        requests = rng.poisson(2.0, n)
        saves = rng.binomial(requests, 0.3 * (1 + save * (arm > 0)))
        hides = rng.binomial(requests, 0.1 * (1 + hide * (arm > 0)))
        total += np.stack([requests, saves, hides], axis=1)
        found.append(user_moments(np.arange(n), arm, total, arms=arms))
    if not cohorts:
        return stacked(found), None
    cohort = rng.integers(0, 3, n)
    parts = [user_moments(np.flatnonzero(cohort == c), arm[cohort == c], total[cohort == c], arms=arms) for c in range(3)]
    return stacked(found), stacked(parts)


def judged(n: int, *, planned: int = 4, ratio=EVEN, moved: int = 0, arms: int = 2, smallest: float = 0.01, **truth: float) -> Readout:
    moments, _ = looks(n, arms=arms, **truth)  # type: ignore[arg-type]
    names = ("control", "new", "other")[:arms]
    design = Design(names, planned, smallest=smallest)
    return read_out(moments, [SAVE, HIDE], design, days=range(10, 14), ratio=ratio, moved=moved)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.001, 0.02, BETTER), (-0.01, 0.02, KEPT), (-0.01, -0.001, KEPT), (-0.05, -0.001, WORSE), (-0.05, 0.02, OPEN), (np.nan, 0.1, OPEN)],
)
def test_an_interval_says_better_kept_worse_or_open(low: float, high: float, said: str) -> None:
    assert finding(low, high, SAVE) == said
    turned = replace(SAVE, sign=-1)
    assert finding(-high, -low, turned) == said


def said(save: tuple[float, float, float], hide: tuple[float, float, float], *, error: float = 0.01) -> tuple[str, str, float]:
    lift, low, high = np.array([save, hide]).T
    found = verdict_of(
        "new",
        [SAVE, HIDE],
        lift=lift,
        low=low,
        high=high,
        std_error=np.full(2, error),
        critical=np.full(2, 2.2),
        users=1_000,
        smallest=0.01,
    )
    return found.answer, found.sentence, found.more_users


def test_the_sentence_names_what_decides() -> None:
    kept = (0.0, -0.01, 0.01)
    assert said((0.03, 0.01, 0.05), kept)[:2] == (
        SHIPS, "new: ships; save +3.00 % (+1.00 … +5.00 %), and nothing is lost beyond its margin",
    )  # fmt: skip
    assert said(kept, kept)[0] == NOT_INFERIOR
    answer, sentence, _ = said((0.03, 0.01, 0.05), (0.08, 0.02, 0.14))
    assert (answer, sentence) == (HARMS, "new: harms hide +8.00 % (+2.00 … +14.00 %)")
    answer, sentence, more = said((0.0, -0.03, 0.03), kept, error=0.03)
    assert answer == CANNOT_TELL
    assert sentence.startswith("new: cannot tell; save may still lose more than 2 %; needs about ")
    assert more > 0
    assert said((np.nan, np.nan, np.nan), kept)[1] == "new: cannot tell; too few users or events of save to say anything"


def test_the_users_that_are_needed_make_the_margin_clear_where_nothing_changes() -> None:
    _, _, more = said((0.0, -0.066, 0.066), (0.0, -0.01, 0.01), error=0.03)
    error = 0.03 * np.sqrt(1_000 / (1_000 + more))
    rng = np.random.default_rng(1)
    cleared = (rng.normal(0, error, 20_000) - 2.2 * error > np.log1p(-0.02)).mean()
    assert cleared == pytest.approx(0.8, abs=0.02)


def test_a_good_arm_ships_a_bad_one_harms_and_the_same_one_is_not_inferior() -> None:
    assert judged(20_000, save=0.08).verdicts[0].answer == SHIPS
    bad = judged(20_000, save=0.08, hide=0.3).verdicts[0]
    assert bad.answer == HARMS
    assert "hide" in bad.sentence
    assert judged(60_000).verdicts[0].answer == NOT_INFERIOR
    few = judged(400)
    assert few.verdicts[0].answer == CANNOT_TELL
    assert not few.told


def test_a_split_that_is_not_the_plan_s_blocks_whatever_was_earned() -> None:
    wrong = sample_ratio({"control": 600, "new": 400}, {"control": 1, "new": 1})
    found = judged(20_000, save=0.3, ratio=wrong)
    assert found.verdicts[0].answer == BLOCKED
    assert "not the planned one" in found.verdicts[0].sentence
    assert not found.told
    assert judged(20_000, save=0.3, moved=300).blocked == "300 of 20,000 users changed their arm meanwhile"


def test_a_fixed_horizon_speaks_on_the_planned_day_only() -> None:
    assert judged(5_000, planned=4).basis == FIXED
    assert judged(5_000, planned=14).basis == WATCHED
    assert judged(5_000, planned=2).basis == WATCHED


def test_bands_contain_intervals_and_sequences_contain_bands() -> None:
    found = judged(5_000, arms=3)
    assert (found.band_low < found.low).all()
    assert (found.band_high > found.high).all()
    assert (found.watched_low[-1] < found.band_low).all()
    assert (found.watched_high[-1] > found.band_high).all()
    assert found.watched_low.shape == (4, 2, 2)


def test_each_of_several_numbers_gets_its_part_of_alpha() -> None:
    found = judged(5_000, arms=3)  # two arms, two metrics
    widest = np.log1p(found.watched_high[-1]) - np.log1p(found.lift)
    planned = planned_error(found.std_error[None], np.array([1_666]), np.array([1.0]), planned=1)  # this look as the planned one
    assert (widest >= found.std_error * critical(found.std_error, planned=planned, alpha=0.05 / 4) - 1e-12).all()


def test_a_later_look_does_not_change_what_an_earlier_one_said() -> None:
    moments, _ = looks(5_000)
    design = Design(("control", "new"), 14)
    whole = read_out(moments, [SAVE, HIDE], design, days=range(10, 14), ratio=EVEN)
    two = Moments(moments.users[:2], moments.crossed[:2], moments.total[:2], moments.product[:2])
    early = read_out(two, [SAVE, HIDE], design, days=range(10, 12), ratio=EVEN)
    np.testing.assert_allclose(early.watched_low, whole.watched_low[:2])
    np.testing.assert_allclose(early.watched_high, whole.watched_high[:2])


def test_what_is_detectable_is_what_so_many_users_detect() -> None:
    found = judged(20_000, save=0.0)
    users = found.users.sum()
    at_that_size = judged(20_000, smallest=float(found.detectable[0, 0]))
    assert at_that_size.needed[0, 0] == pytest.approx(users, rel=0.001)
    assert (found.needed[0] > users).tolist() == (found.detectable[0] > 0.01).tolist()


def test_few_users_say_nothing_at_all() -> None:
    found = judged(150)
    assert (found.band_low == -1).all()
    assert np.isinf(found.band_high).all()
    assert found.verdicts[0].sentence == "new: cannot tell; too few users or events of save, hide to say anything"


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_cohorts_add_up_to_the_total_that_is_read_out(seed: int) -> None:
    moments, cohorts = looks(1_500, seed=seed, cohorts=True, save=0.1)
    assert cohorts is not None
    found = read_out(
        moments, [SAVE, HIDE], Design(("control", "new"), 4), days=range(4), ratio=EVEN, cohorts=cohorts, cohort_names=("A", "B", "C")
    )
    assert found.by_cohort is not None
    np.testing.assert_allclose(found.by_cohort.users.sum(axis=0), found.users)
    whole = read_out(stacked([cohorts.over()]), [SAVE, HIDE], Design(("control", "new"), 1), days=[0], ratio=EVEN)
    np.testing.assert_allclose(whole.lift, found.lift)
    np.testing.assert_allclose(whole.std_error, found.std_error)


def test_cohorts_are_judged_together() -> None:
    _, cohorts = looks(9_000, cohorts=True)
    assert cohorts is not None
    three = cohort_lifts(cohorts, [SAVE], names=("A", "B", "C"), confidence=0.95)
    first = Moments(cohorts.users[:1], cohorts.crossed[:1], cohorts.total[:1], cohorts.product[:1])
    alone = cohort_lifts(first, [SAVE], names=("A",), confidence=0.95)
    np.testing.assert_allclose(three.lift[0], alone.lift[0])
    assert (three.low[0] < alone.low[0]).all()


def test_one_arm_is_no_test() -> None:
    moments, _ = looks(500)
    with pytest.raises(DataError, match="make no test"):
        read_out(moments, [SAVE], Design(("control",), 4), days=range(4), ratio=EVEN)
    with pytest.raises(DataError, match="make no test"):
        read_out(moments, [], Design(("control", "new"), 4), days=range(4), ratio=EVEN)
