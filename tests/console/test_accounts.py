"""Accounts, sessions and tokens on both databases."""

import json
import threading

import pytest
from registries import Clock
from sqlalchemy import select, text

from paretune.console.access import NOBODY, By, Caller, Role
from paretune.console.accounts import Accounts
from paretune.errors import ConfigError, ConflictError, ForbiddenError, NotFoundError, ParetuneError, SignInError
from paretune.policy import tables
from paretune.policy.registry import Registry

PASSWORD, OTHER = "correct horse battery", "staple of the day"


@pytest.fixture
def root(accounts: Accounts) -> Accounts:
    """With an admin, root."""
    accounts.set_up("root", PASSWORD, origin="127.0.0.1")
    return accounts


def test_the_first_admin_is_made_once(accounts: Accounts) -> None:
    assert accounts.is_empty()
    made = accounts.set_up("Root", PASSWORD)
    assert (made.name, made.role, made.has_password, made.disabled) == ("root", Role.ADMIN, True, False)
    assert not accounts.is_empty()
    with pytest.raises(ConflictError, match="accounts already"):
        accounts.set_up("other", PASSWORD)
    assert accounts.all() == [made]


def test_of_many_who_set_up_at_once_one_becomes_admin(accounts: Accounts) -> None:
    made: list[str] = []
    refused: list[ParetuneError] = []

    def attempt(number: int) -> None:
        try:
            made.append(accounts.set_up(f"root{number}", PASSWORD).name)
        except ParetuneError as error:
            refused.append(error)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), [type(error) for error in refused]) == (1, [ConflictError] * 7)
    assert [account.name for account in accounts.all()] == made


def test_a_name_and_its_password_sign_in_and_nothing_else_does(root: Accounts) -> None:
    root.add("anna", Role.OPERATOR, OTHER, by="root")
    root.add("proxied", Role.VIEWER, None, by="root")
    assert root.check("ANNA", OTHER) == "anna"
    for name, password in [
        ("anna", PASSWORD),
        ("nobody", OTHER),
        ("proxied", ""),
        ("proxied", PASSWORD),
        ("", ""),
        ("x" * 5000, "y" * 5000),
    ]:
        with pytest.raises(SignInError, match="do not belong together"):
            root.check(name, password)
    root.change("anna", disabled=True, by="root")
    with pytest.raises(SignInError, match="do not belong together"):
        root.check("anna", OTHER)
    with pytest.raises(SignInError, match="barred"):
        root.begin("anna")


def test_names_are_unique_whatever_their_case_and_have_no_odd_characters(root: Accounts) -> None:
    with pytest.raises(ConflictError, match="account root already"):
        root.add("ROOT", Role.VIEWER, OTHER, by="root")
    for name in ["", " ", "an na", "añna", "a\x00", ".hidden", "x" * 101, "a\n"]:
        with pytest.raises(ConfigError, match="no name"):
            root.add(name, Role.VIEWER, OTHER, by="root")


def test_a_session_lives_while_it_is_used_and_not_past_its_time(root: Accounts, clock: Clock) -> None:
    session = root.begin("root", origin="10.0.0.1")
    for _ in range(7):
        clock.now += 500
        assert root.by_session(session) == Caller("root", Role.ADMIN, By.SESSION)
    clock.now += 100
    assert root.by_session(session) == NOBODY, "3,600 s after it began"
    other = root.begin("root")
    clock.now += 600
    assert root.by_session(other) == NOBODY, "600 s after its last request"
    assert root.by_session("made up") == NOBODY
    root.begin("root")
    count = root.database.read(lambda connection: connection.execute(text("SELECT count(*) FROM sessions")).scalar())
    assert count == 1, "those that ended are swept away"


def test_a_session_ends_when_it_is_ended_and_when_access_changes(root: Accounts) -> None:
    root.add("anna", Role.OPERATOR, OTHER, by="root")
    session = root.begin("anna")
    root.end(session)
    root.end(session)
    assert root.by_session(session) == NOBODY
    for change in (
        lambda: root.change("anna", role=Role.VIEWER, by="root"),
        lambda: root.set_password("anna", PASSWORD, by="anna"),
        lambda: root.change("anna", disabled=True, by="root"),
    ):
        session = root.begin("anna")
        assert root.by_session(session).name == "anna"
        change()
        assert root.by_session(session) == NOBODY
    with pytest.raises(NotFoundError, match="no account cara"):
        root.set_password("cara", PASSWORD, by="root")


def test_there_is_always_an_admin(root: Accounts) -> None:
    for change in ({"role": Role.APPROVER}, {"disabled": True}):
        with pytest.raises(ConflictError, match="last admin"):
            root.change("root", by="root", **change)  # type: ignore[arg-type]
    session = root.begin("root")
    root.add("anna", Role.ADMIN, OTHER, by="root")
    assert root.by_session(session).role is Role.ADMIN, "what was refused ended no session"
    assert root.change("root", role=Role.APPROVER, by="anna").role is Role.APPROVER


def test_a_token_acts_as_its_role_until_it_ends_and_never_as_more_than_its_account(root: Accounts, clock: Clock) -> None:
    root.add("anna", Role.APPROVER, OTHER, by="root")
    token, secret = root.make_token("anna", "ramp job", role=Role.OPERATOR, by="anna", days=2)
    assert secret.startswith("ptk_")
    assert root.by_token(secret) == Caller("anna", Role.OPERATOR, By.TOKEN, token=token.id)
    narrow, reader = root.make_token("anna", "decisions", role=Role.VIEWER, by="anna", plans_only=True)
    assert root.by_token(reader) == Caller("anna", Role.VIEWER, By.TOKEN, plans_only=True, token=narrow.id)
    assert root.by_token("ptk_made-up") == root.by_token("") == NOBODY
    with pytest.raises(ForbiddenError, match="anna is approver and has no token as admin"):
        root.make_token("anna", "too much", role=Role.ADMIN, by="anna")
    root.change("anna", role=Role.VIEWER, by="root")
    assert root.by_token(secret).role is Role.VIEWER
    clock.now += 2 * 86_400
    assert root.by_token(secret) == NOBODY
    assert root.by_token(reader) != NOBODY
    root.change("anna", disabled=True, by="root")
    assert root.by_token(reader) == NOBODY
    assert token.id in {found.id for found in root.tokens("anna")}
    assert root.tokens("root") == []


def test_a_revoked_token_is_dead(root: Accounts) -> None:
    token, secret = root.make_token("root", "x", role=Role.ADMIN, by="root")
    with pytest.raises(NotFoundError, match="no token"):
        root.revoke(token.id, by="anna", of="anna")
    assert root.revoke(token.id, by="root", of="root").revoked_us > 0
    assert root.by_token(secret) == NOBODY
    with pytest.raises(ConflictError, match="revoked before"):
        root.revoke(token.id, by="root")
    with pytest.raises(ConfigError, match="needs a name"):
        root.make_token("root", " ", role=Role.VIEWER, by="root")


def test_the_trail_tells_of_every_change_and_neither_it_nor_the_tables_hold_a_secret(root: Accounts, registry: Registry) -> None:
    root.add("anna", Role.OPERATOR, OTHER, by="root", origin="10.0.0.7")
    session = root.begin("anna", origin="10.0.0.8")
    token, secret = root.make_token("anna", "job", role=Role.OPERATOR, by="anna", origin="10.0.0.9")
    root.revoke(token.id, by="anna", origin="10.0.0.9")
    root.end(session, origin="10.0.0.8")
    root.set_password("anna", PASSWORD, by="anna", origin="10.0.0.8")
    root.change("anna", role=Role.VIEWER, by="root", origin="10.0.0.7")
    told = [(entry.who, entry.what, json.loads(entry.detail).get("from")) for entry in registry.audit()]
    assert told == [
        ("root", "account add", "127.0.0.1"),
        ("root", "account add", "10.0.0.7"),
        ("anna", "sign in", "10.0.0.8"),
        ("anna", "token make", "10.0.0.9"),
        ("anna", "token revoke", "10.0.0.9"),
        ("anna", "sign out", "10.0.0.8"),
        ("anna", "account password", "10.0.0.8"),
        ("root", "account change", "10.0.0.7"),
    ]
    assert registry.verify() == []
    everything = registry.database.read(
        lambda connection: "".join(
            repr(tuple(row))
            for table in (tables.accounts, tables.sessions, tables.tokens, tables.audit)
            for row in connection.execute(select(table))
        )
    )
    for kept_nowhere in (PASSWORD, OTHER, session, secret, secret.removeprefix("ptk_")):
        assert kept_nowhere not in everything


def test_a_registry_notes_from_where_it_is_asked(registry: Registry) -> None:
    from paretune.policy.states import Rules

    registry.asked_from("10.0.0.5").set_rules(Rules(evidence_days=5), by="anna")
    registry.set_rules(Rules(evidence_days=6), by="anna")
    assert [json.loads(entry.detail).get("from") for entry in registry.audit()] == ["10.0.0.5", None]


def test_a_registry_without_accounts_is_brought_up_to_date(registry: Registry, accounts: Accounts) -> None:
    def back(connection):  # type: ignore[no-untyped-def]
        for table in ("outcomes", "tokens", "sessions", "accounts"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))

    registry.database.write(back)
    assert registry.database.migrate()
    assert accounts.is_empty()
    assert not registry.database.migrate()


def test_nobody_is_named_as_the_guardrails_sign(accounts: Accounts) -> None:
    for name in ("guardrails", "Guardrails"):
        with pytest.raises(ConfigError, match="is how `paretune guard` signs"):
            accounts.add(name, Role.OPERATOR, None, by="ada")
