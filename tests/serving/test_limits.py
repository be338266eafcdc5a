"""The cap holds its rate, and the breaker opens, tries and closes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.serving.limits import Breaker, Bucket


@given(rate=st.floats(0.1, 50), steps=st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_no_more_is_taken_than_the_rate_and_one_burst(rate: float, steps: list[float]) -> None:
    bucket, now, taken = Bucket(rate), 100.0, 0
    for step in steps:
        now += step
        taken += bucket.take(now)
    assert taken <= bucket.burst + rate * sum(steps[1:]) + 1e-6


def test_a_bucket_never_fills_by_a_clock_that_goes_back() -> None:
    bucket = Bucket(1.0)
    assert bucket.take(1e6)
    assert not bucket.take(0.0)
    assert not bucket.take(1e6)
    assert bucket.take(1e6 + 1)


def test_a_breaker_opens_tries_once_a_pause_and_closes_on_an_answer() -> None:
    breaker = Breaker(failures=3, retry_s=1.0)
    for _ in range(3):
        assert breaker.allows(0.0)
        breaker.failed(0.0)
    assert (breaker.name, breaker.allows(0.9)) == ("open", False)
    assert (breaker.allows(1.0), breaker.name, breaker.allows(1.1)) == (True, "half-open", False)
    breaker.failed(1.2)
    assert (breaker.name, breaker.allows(3.1), breaker.allows(3.2)) == ("open", False, True)  # the pause has doubled
    breaker.succeeded()
    assert (breaker.name, breaker.allows(3.3)) == ("closed", True)


def test_failures_that_were_under_way_when_it_opened_do_not_prolong_the_pause() -> None:
    breaker = Breaker(failures=1, retry_s=1.0)
    breaker.failed(0.0)
    for _ in range(50):
        breaker.failed(0.5)
    assert breaker.allows(1.0)


def test_a_try_that_did_not_reach_the_model_is_given_back() -> None:
    breaker = Breaker(failures=1, retry_s=1.0)
    breaker.failed(0.0)
    assert breaker.allows(1.0)
    breaker.unheard(1.0)
    assert breaker.allows(1.0)


@pytest.mark.parametrize(("every", "opens"), [(20, False), (3, True)])
def test_it_opens_at_one_failure_in_three_and_not_at_one_in_twenty(every: int, opens: bool) -> None:
    breaker = Breaker()
    for i in range(5000):
        if i % every == 0:
            breaker.failed(float(i))
        elif not breaker.is_open:
            breaker.succeeded()
    assert breaker.is_open is opens
