"""Roles, credentials and the limit on attempts: pure."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.console import credentials
from paretune.console.access import NOBODY, RULES, Action, By, Caller, Role, least_of, require, role_named
from paretune.console.attempts import _MOST, Attempts, Limit
from paretune.console.credentials import (
    Cost,
    Expiry,
    csrf_token,
    hash_password,
    hash_secret,
    is_alive,
    is_csrf_token,
    is_password,
    new_secret,
)
from paretune.errors import ConfigError, ForbiddenError, SignInError, TooOftenError

QUICK = Cost(n=1 << 4, r=8, p=1)

# By hand, not read off RULES: the least role of each action; None = anybody.
LEAST = {
    "sign-in": None,
    "set-up": None,
    "see-health": None,
    "see-interface": None,
    "see-self": "viewer",
    "read-plans": "viewer",
    "read-policies": "viewer",
    "read-audit": "viewer",
    "read-traffic": "viewer",
    "choose": "operator",
    "sign-out": "viewer",
    "change-password": "viewer",
    "activate": "operator",
    "ramp": "operator",
    "roll-back": "operator",
    "kill": "operator",
    "release": "operator",
    "read-tokens": "operator",
    "make-token": "operator",
    "revoke-token": "operator",
    "approve": "approver",
    "retire": "approver",
    "read-accounts": "admin",
    "change-accounts": "admin",
}


def allowed(caller: Caller, action: Action) -> bool:
    try:
        require(caller, action)
    except ForbiddenError:
        return False
    return True


def test_every_action_has_a_rule() -> None:
    assert set(RULES) == set(Action) == {Action(name) for name in LEAST}


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_what_it_and_lesser_roles_may(action: Action, role: Role) -> None:
    order = ("viewer", "operator", "approver", "admin")
    least = LEAST[action]
    assert allowed(Caller("anna", role, By.SESSION), action) == (least is None or order.index(role) >= order.index(least))


@pytest.mark.parametrize("action", list(Action))
def test_nobody_may_only_what_needs_nobody(action: Action) -> None:
    if LEAST[action] is None:
        require(NOBODY, action)
    else:
        with pytest.raises(SignInError, match="nobody is signed in"):
            require(NOBODY, action)


def test_a_viewers_token_changes_nothing_and_no_token_makes_credentials() -> None:
    personal = {Action.SIGN_OUT, Action.CHANGE_PASSWORD, Action.READ_TOKENS, Action.MAKE_TOKEN, Action.REVOKE_TOKEN, Action.CHANGE_ACCOUNTS}
    for action, rule in RULES.items():
        viewer, admin = (allowed(Caller("anna", role, By.TOKEN), action) for role in (Role.VIEWER, Role.ADMIN))
        assert not (viewer and rule.changes and rule.least is not None)
        assert admin == (action not in personal)


def test_a_token_that_reads_plans_reads_only_plans() -> None:
    caller = Caller("anna", Role.ADMIN, By.TOKEN, plans_only=True)
    open_to_it = {action for action in Action if LEAST[action] is not None and allowed(caller, action)}
    assert open_to_it == {Action.READ_PLANS, Action.SEE_SELF}


def test_roles_are_ordered_and_unknown_ones_refused() -> None:
    assert least_of(Role.ADMIN, Role.OPERATOR) is Role.OPERATOR
    assert role_named("approver") is Role.APPROVER
    with pytest.raises(ConfigError, match="no role 'root'"):
        role_named("root")


def test_a_password_is_stored_salted_and_with_its_parameters() -> None:
    one, other = (hash_password("correct horse battery", cost=QUICK) for _ in range(2))
    assert one != other
    assert one.split("$")[:4] == ["scrypt", "16", "8", "1"]
    assert is_password("correct horse battery", one)
    assert is_password("correct horse battery", other)
    assert not is_password("correct horse batterz", one)
    assert not is_password("", "")
    assert not is_password("anything at all", ""), "an account without a password has none"
    assert "horse" not in one


def test_a_password_costs_at_least_32_mib_by_default() -> None:
    kind, n, r, p = hash_password("correct horse battery").split("$")[:4]
    assert (kind, 128 * int(n) * int(r) >= 32 << 20, int(p)) == ("scrypt", True, 3)


@pytest.mark.parametrize("password", ["", "short", "x" * 11, "x" * 257])
def test_passwords_too_short_or_too_long_are_refused(password: str) -> None:
    with pytest.raises(ConfigError, match=f"of {len(password)} characters"):
        hash_password(password, cost=QUICK)


def test_a_longer_text_than_a_password_may_be_never_counts() -> None:
    assert not is_password("x" * 257, hash_password("x" * 256, cost=QUICK))


def test_secrets_are_256_bits_and_stored_as_their_hash() -> None:
    made = {new_secret("ptk_") for _ in range(100)}
    assert len(made) == 100
    assert {len(secret) for secret in made} == {4 + 43}
    assert hash_secret("abc") == hashlib.sha256(b"abc").hexdigest()


def test_a_csrf_token_belongs_to_one_session() -> None:
    one, other = new_secret(), new_secret()
    assert csrf_token(one) == hmac.new(one.encode(), b"paretune csrf", hashlib.sha256).hexdigest()
    assert is_csrf_token(csrf_token(one), one)
    assert not is_csrf_token(csrf_token(one), other)
    assert not is_csrf_token("", one)


def test_a_session_ends_when_idle_and_in_any_case_after_its_time() -> None:
    expiry = Expiry(idle_s=60, absolute_s=600)
    assert is_alive(made_s=0, seen_s=0, now_s=59.9, expiry=expiry)
    assert not is_alive(made_s=0, seen_s=0, now_s=60, expiry=expiry)
    assert is_alive(made_s=0, seen_s=599, now_s=599.9, expiry=expiry)
    assert not is_alive(made_s=0, seen_s=599, now_s=600, expiry=expiry)
    with pytest.raises(ConfigError, match="idle"):
        Expiry(idle_s=60, absolute_s=30)


def test_tries_run_out_and_come_back_with_time() -> None:
    attempts = Attempts(Limit(3, 0.1), Limit(100, 1))
    for _ in range(3):
        attempts.take(account="anna", address="a", now_s=0)
    with pytest.raises(TooOftenError, match="next in 10 s") as refused:
        attempts.take(account="anna", address="b", now_s=0)
    assert refused.value.retry_after_s == pytest.approx(10)
    attempts.take(account="bert", address="a", now_s=0)
    attempts.take(account="anna", address="b", now_s=10.1)
    with pytest.raises(TooOftenError):
        attempts.take(account="anna", address="b", now_s=10.2)


def test_an_address_runs_out_whichever_accounts_it_tries() -> None:
    attempts = Attempts(Limit(3, 0.1), Limit(5, 1))
    for number in range(5):
        attempts.take(account=f"account {number}", address="a", now_s=0)
    with pytest.raises(TooOftenError):
        attempts.take(account="another", address="a", now_s=0)
    attempts.take(account="another", address="b", now_s=0)


def test_a_right_password_costs_no_try() -> None:
    attempts = Attempts(Limit(1, 0.001), Limit(1, 0.001))
    for _ in range(50):
        attempts.take(account="anna", address="a", now_s=0)
        attempts.give_back(account="anna", address="a", now_s=0)


def test_what_is_kept_of_attempts_stays_bounded() -> None:
    attempts = Attempts()
    for number in range(3 * _MOST):
        attempts.take(account=str(number), address=str(number), now_s=number / 100)
    assert len(attempts.buckets) <= _MOST + 2


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60))
def test_no_order_of_attempts_gets_more_than_burst_and_rate(steps: list[tuple[float, bool]]) -> None:
    limit = Limit(4, 0.5)
    attempts, now, taken = Attempts(limit, Limit(1e9, 1)), 0.0, 0
    for wait, _ in steps:
        now += wait
        try:
            attempts.take(account="anna", address="a", now_s=now)
        except TooOftenError:
            continue
        taken += 1
    assert taken <= limit.burst + limit.per_s * now + 1e-6


def test_the_hash_that_unknown_accounts_are_compared_with_is_as_dear_as_a_real_one() -> None:
    assert credentials._NONE.split("$")[1:4] == hash_password("correct horse battery").split("$")[1:4]
