"""Guardrails: what a look says, what is then done, and that looking often raises no false alarm."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.config import Rollout
from paretune.errors import DataError
from paretune.experiment.guardrails import (
    BREACHED,
    HOLDS,
    OPEN,
    WORRIES,
    Limit,
    Watched,
    alpha_of_sequence,
    watch_lifts,
    watch_shares,
)
from paretune.experiment.lifts import Ratio
from paretune.experiment.metrics import Metric
from paretune.experiment.moments import Moments, user_moments
from paretune.experiment.watch import Sight, Situation, next_step
from paretune.policy.audit import AUTOMAT

SAVE = Metric("save", Ratio("save", 1, 0), sign=1, margin=0.01)
HIDE = Metric("hide", Ratio("hide", 2, 0), sign=-1, margin=0.02, guardrail=True)
ALPHA, PLANNED = 0.01, 4_000.0


def users(n: int, seed: int, *, save: float = 1.0, hide: float = 1.0) -> Moments:
    """Moments of n users, half of them in an arm whose rates are so many times those of the control."""
    rng = np.random.default_rng(seed)
    arm = np.arange(n) % 2
    requests = 1.0 + rng.poisson(4, n)
    saves = rng.binomial(requests.astype(int), 0.3 * np.where(arm, save, 1.0))
    hides = rng.binomial(requests.astype(int), 0.1 * np.where(arm, hide, 1.0))
    return user_moments(np.arange(n), arm, np.stack([requests, saves, hides], axis=1), arms=2)


def states(moments: Moments) -> list[str]:
    return [one.state for one in watch_lifts(moments, [SAVE, HIDE], alpha=ALPHA, planned_users=PLANNED)]


def test_a_fall_or_a_rise_beyond_its_margin_is_a_breach_and_the_other_way_is_none() -> None:
    assert states(users(6_000, 1, save=0.8)) == [BREACHED, HOLDS]
    assert states(users(6_000, 1, hide=1.6)) == [HOLDS, BREACHED]
    assert states(users(6_000, 1, save=1.3, hide=0.6)) == [HOLDS, HOLDS]


def test_a_loss_within_its_margin_is_never_a_breach_however_many_users_show_it() -> None:
    wide = replace(SAVE, margin=0.3)
    found = watch_lifts(users(40_000, 2, save=0.85), [wide], alpha=ALPHA, planned_users=PLANNED)[0]
    assert found.high < 0
    assert found.state == HOLDS


def test_what_one_look_alone_would_call_a_loss_worries_and_is_no_breach() -> None:
    found = watch_lifts(users(1_000, 3, save=0.87), [SAVE], alpha=ALPHA, planned_users=PLANNED)[0]
    assert (found.high > found.limit, found.state) == (True, WORRIES)
    assert watch_lifts(users(1_000, 3, save=0.985), [SAVE], alpha=ALPHA, planned_users=PLANNED)[0].state == HOLDS
    assert found.sentence.startswith("save: −")


def test_few_users_say_nothing() -> None:
    assert states(users(120, 4, save=0.2)) == [OPEN, OPEN]
    assert watch_shares(shares(40, 0.5, 1), [FALLBACK], alpha=ALPHA, planned_users=PLANNED)[0].state == OPEN


FALLBACK = Limit("fallbacks", Ratio("fallbacks", 1, 0), 0.02)


def shares(n: int, share: float, seed: int) -> Moments:
    rng = np.random.default_rng(seed)
    requests = 1.0 + rng.poisson(4, n)
    return user_moments(
        np.arange(n), np.zeros(n, np.int64), np.stack([requests, rng.binomial(requests.astype(int), share)], axis=1), arms=1
    )


@pytest.mark.parametrize(("share", "state"), [(0.06, BREACHED), (0.005, HOLDS), (0.0, HOLDS)])
def test_a_share_is_held_against_its_limit(share: float, state: str) -> None:
    found = watch_shares(shares(3_000, share, 5), [FALLBACK], alpha=ALPHA, planned_users=PLANNED)[0]
    assert (found.state, found.limit) == (state, 0.02)
    assert found.low <= found.value <= found.high


@given(st.floats(0.001, 0.5), st.integers(1, 400), st.integers(1, 100))
def test_all_sequences_together_spend_at_most_alpha(alpha: float, count: int, horizon: int) -> None:
    spent = [alpha_of_sequence(alpha, number, horizon=horizon) for number in range(1, count + 1)]
    assert sum(spent) <= alpha * (1 + 1e-12)
    assert len(set(spent[:horizon])) == 1
    assert all(one > two for one, two in pairwise(spent[horizon:]))


def test_what_cannot_be_watched_is_refused() -> None:
    with pytest.raises(DataError, match="1 arms to watch"):
        watch_lifts(shares(200, 0.1, 1), [SAVE], alpha=ALPHA, planned_users=PLANNED)
    with pytest.raises(DataError, match="2 arms to watch"):
        watch_shares(users(200, 1), [FALLBACK], alpha=ALPHA, planned_users=PLANNED)
    for number, horizon in ((0, 28), (1, 0)):
        with pytest.raises(DataError, match=f"sequence {number} of about {horizon}"):
            alpha_of_sequence(0.05, number, horizon=horizon)


@pytest.mark.slow
def test_watching_at_every_hundred_users_raises_false_alarms_no_more_often_than_alpha() -> None:
    alarms, runs, exact = 0, 400, replace(SAVE, margin=0.0)
    for seed in range(runs):
        rng = np.random.default_rng([seed, 7])
        n = 4_000
        arm, requests = np.arange(n) % 2, 1.0 + rng.poisson(4, n)
        columns = np.stack([requests, rng.binomial(requests.astype(int), 0.3), requests * 0], axis=1)
        for until in range(200, n + 1, 100):
            moments = user_moments(np.arange(until), arm[:until], columns[:until], arms=2)
            if watch_lifts(moments, [exact], alpha=0.05, planned_users=PLANNED)[0].state == BREACHED:
                alarms += 1
                break
    assert alarms / runs <= 0.05


CALM = tuple(Watched(name, 0.01, -0.01, 0.03, -0.02, HOLDS) for name in ("save", "p2p"))
AT = Situation(3, False, True, "otto", "activate", 30 * 3600.0, 60.0, 5_000, CALM, 0.25)
ROLLOUT = Rollout()


def with_state(state: str) -> tuple[Watched, ...]:
    return (CALM[0], replace(CALM[1], state=state))


@pytest.mark.parametrize(
    ("situation", "rollout", "action", "said"),
    [
        (AT, ROLLOUT, "ramp", "guardrails hold after 30.0 h"),
        (replace(AT, next_share=None), ROLLOUT, "keep", "no further step"),
        (replace(AT, age_s=3600.0), ROLLOUT, "keep", "1.0 of 24 h"),
        (replace(AT, users=999), ROLLOUT, "keep", "999 of 1,000 users"),
        (replace(AT, doubts=("the split is odd",)), ROLLOUT, "keep", "the split is odd"),
        (replace(AT, watched=with_state(WORRIES)), ROLLOUT, "keep", "worries: p2p"),
        (replace(AT, watched=with_state(OPEN)), ROLLOUT, "keep", "open: p2p"),
        (replace(AT, watched=with_state(BREACHED)), ROLLOUT, "kill", "p2p: +1.00 %"),
        (replace(AT, watched=with_state(BREACHED)), Rollout(on_breach="rollback"), "rollback", "p2p"),
        (replace(AT, watched=with_state(BREACHED), can_go_back=False), Rollout(on_breach="rollback"), "kill", "p2p"),
        (replace(AT, watched=with_state(BREACHED), age_s=1.0, users=0), ROLLOUT, "kill", "p2p"),
        (replace(AT, silent_s=700.0), ROLLOUT, "hold", "no row for 12 minutes"),
        (replace(AT, silent_s=1300.0), ROLLOUT, "kill", "nobody can see"),
        (replace(AT, silent_s=1300.0, age_s=300.0), ROLLOUT, "keep", "0.1 of 24 h"),
        (replace(AT, silent_s=1300.0, silence="no look succeeded", doubts=("torn",)), ROLLOUT, "kill", "succeeded for 22 minutes"),
        (replace(AT, silent_s=1300.0, freezes_first=True), ROLLOUT, "hold", "no row for 22 minutes"),
        (replace(AT, silent_s=1300.0, by=AUTOMAT, operation="rollback"), ROLLOUT, "hold", "a person says"),
        (replace(AT, acted_s=1800.0), ROLLOUT, "keep", "30 of 60 minutes since something was last done by itself"),
        (replace(AT, acted_s=1800.0, watched=with_state(BREACHED)), ROLLOUT, "kill", "p2p"),
        (replace(AT, acted_s=3600.0), ROLLOUT, "ramp", "guardrails hold"),
        (replace(AT, killed=True, watched=with_state(BREACHED)), ROLLOUT, "keep", "killed"),
        (replace(AT, served=False), ROLLOUT, "keep", "no policy"),
        (replace(AT, by=AUTOMAT, operation="rollback"), ROLLOUT, "hold", "a person says"),
        (replace(AT, by=AUTOMAT, operation="rollback", watched=with_state(BREACHED)), Rollout(on_breach="rollback"), "kill", "again"),
        (replace(AT, by=AUTOMAT, operation="ramp"), ROLLOUT, "ramp", "guardrails hold"),
        (replace(AT, by=AUTOMAT, operation="ramp", watched=with_state(BREACHED)), ROLLOUT, "kill", "p2p"),
    ],
)
def test_what_is_done_follows_from_what_is_seen(situation: Situation, rollout: Rollout, action: str, said: str) -> None:
    step = next_step(situation, rollout)
    assert (step.action, said in step.sentence) == (action, True), step.sentence


def test_sight_keeps_when_something_was_last_seen_and_when_looks_began_to_fail() -> None:
    seen = Sight(100.0)
    failing = seen.after(160.0, failed=True).after(220.0, failed=True)
    assert failing == Sight(100.0, 160.0)
    assert failing.after(280.0, failed=False) == Sight(280.0)
