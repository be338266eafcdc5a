"""Which policy may do what when; pure."""

from dataclasses import replace

import pytest

from paretune.errors import ConfigError, ConflictError, ForbiddenError
from paretune.policy.states import DAY_US, Rules, Standing, State, approve, require_approval, retire, why_void

NOW = 1_000 * DAY_US
DRAFT = Standing(7, State.DRAFT, "f" * 64, ("anna", "cara"), NOW)
APPROVED = approve(DRAFT, by="bert", now_us=NOW, rules=Rules())


def test_an_approval_binds_the_fingerprint_and_who_gave_it() -> None:
    assert (APPROVED.state, APPROVED.approved, APPROVED.approved_by, APPROVED.approved_us) == (State.APPROVED, "f" * 64, "bert", NOW)
    assert why_void(APPROVED, now_us=NOW, rules=Rules()) == ""
    require_approval(APPROVED, now_us=NOW, rules=Rules())


@pytest.mark.parametrize("author", ["anna", "cara"])
def test_nobody_approves_what_they_published_unless_the_rules_say_so(author: str) -> None:
    with pytest.raises(ForbiddenError, match=f"{author} published policy 7"):
        approve(DRAFT, by=author, now_us=NOW, rules=Rules())
    assert approve(DRAFT, by=author, now_us=NOW, rules=Rules(self_approval=True)).state is State.APPROVED


def test_an_approval_is_void_for_other_evidence_and_comes_back_with_the_old() -> None:
    other = replace(APPROVED, fingerprint="e" * 64)
    assert "changed after bert" in why_void(other, now_us=NOW, rules=Rules())
    with pytest.raises(ForbiddenError, match="void"):
        require_approval(other, now_us=NOW, rules=Rules())
    assert approve(other, by="dora", now_us=NOW, rules=Rules()).approved == "e" * 64


def test_an_approval_ends_at_the_evidence_s_age_and_not_before() -> None:
    rules = Rules(evidence_days=30)
    assert why_void(APPROVED, now_us=NOW + 30 * DAY_US, rules=rules) == ""
    assert "30.0 days old" in why_void(APPROVED, now_us=NOW + 30 * DAY_US + 1, rules=rules)
    with pytest.raises(ForbiddenError, match="cannot be approved"):
        approve(DRAFT, by="bert", now_us=NOW + 31 * DAY_US, rules=rules)


def test_what_does_not_follow_is_a_conflict() -> None:
    retired = retire(APPROVED)
    with pytest.raises(ConflictError, match="approved already, by bert"):
        approve(APPROVED, by="dora", now_us=NOW, rules=Rules())
    for attempt in (lambda: approve(retired, by="bert", now_us=NOW, rules=Rules()), lambda: retire(retired)):
        with pytest.raises(ConflictError, match="retired"):
            attempt()
    for standing in (DRAFT, retired):
        with pytest.raises(ForbiddenError, match="not approved"):
            require_approval(standing, now_us=NOW, rules=Rules())


@pytest.mark.parametrize("days", [0.0, -1.0, float("nan"), 1e9])
def test_a_limit_that_is_no_number_of_days_is_refused(days: float) -> None:
    with pytest.raises(ConfigError, match="number of days"):
        Rules(evidence_days=days)
