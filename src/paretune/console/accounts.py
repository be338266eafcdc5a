"""Accounts, sessions and tokens in the registry's database. An edge: the database, the clock.

The rules: each change of access is one transaction with its line of the audit trail in it, which says who, what and from where, and holds
no secret; an account that is disabled, or whose password or role changed, has no session left; there is always an admin.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from paretune.console.access import NOBODY, By, Caller, Role, least_of, role_named
from paretune.console.credentials import TOKEN_PREFIX, Cost, Expiry, hash_password, hash_secret, is_alive, is_password, new_secret
from paretune.errors import ConfigError, ConflictError, ForbiddenError, NotFoundError, SignInError
from paretune.policy import rows
from paretune.policy.audit import AUTOMAT
from paretune.policy.database import Database
from paretune.policy.tables import accounts, sessions, tokens

_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}\Z")
_LONGEST = 100  # characters of a token's name
_SEEN_EVERY = 20  # a session's last request is noted once in so many parts of its idle time


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may sign in; times are microseconds since 1970."""

    name: str
    role: Role
    disabled: bool
    has_password: bool  # without one, somebody whom a proxy signs in
    made_us: int


@dataclass(frozen=True, slots=True)
class Token:
    """What a program signs in with; the secret itself is kept nowhere."""

    id: str
    account: str
    name: str
    role: Role
    plans_only: bool
    made_us: int
    expires_us: int  # 0 = never
    revoked_us: int  # 0 = not revoked


class Accounts:
    """Who has access; for any number of threads and processes."""

    def __init__(
        self, database: Database, *, clock: Callable[[], float] = time.time, expiry: Expiry | None = None, cost: Cost | None = None
    ) -> None:
        """Use a registry's database, whose tables are up to date.

        Args:
            database: of the registry.
            clock: seconds since 1970.
            expiry: of sessions.
            cost: of a password.
        """
        self.database, self.expiry = database, expiry or Expiry()
        self._clock, self._cost = clock, cost or Cost()

    def is_empty(self) -> bool:
        """Say whether there is no account yet."""
        return self.database.read(_is_empty)

    def all(self) -> list[Account]:
        """Return all accounts, by name."""
        chosen = select(accounts).order_by(accounts.c.name)
        return self.database.read(lambda connection: [_account(row) for row in connection.execute(chosen)])

    def set_up(self, name: str, password: str, *, origin: str = "") -> Account:
        """Make the first admin.

        Raises:
            ConflictError: there is an account already.
        """
        return self._add(name, Role.ADMIN, password, by=name, origin=origin, first=True)

    def add(self, name: str, role: Role, password: str | None, *, by: str, origin: str = "") -> Account:
        """Make an account; without a password, for somebody whom a proxy signs in.

        Raises:
            ConfigError: the name or the password is not one.
            ConflictError: the name is taken.
        """
        return self._add(name, role, password, by=by, origin=origin, first=False)

    def change(self, name: str, *, by: str, role: Role | None = None, disabled: bool | None = None, origin: str = "") -> Account:
        """Give an account another role, or bar it, or let it in again; its sessions end.

        Raises:
            NotFoundError: there is none.
            ConflictError: no admin would be left.
        """
        name = name_of(name)

        def work(connection: Connection) -> Account:
            old = _named(connection, name)
            after = Account(name, role or old.role, old.disabled if disabled is None else disabled, old.has_password, old.made_us)
            connection.execute(update(accounts).where(accounts.c.name == name).values(role=after.role, disabled=after.disabled))
            if not _admins(connection):
                raise ConflictError(f"{name} is the last admin", hint="make somebody else an admin first")
            connection.execute(delete(sessions).where(sessions.c.account == name))
            told = {"role": after.role, "was": old.role, "disabled": after.disabled}
            self._note(connection, by, "account change", f"account {name}", told, origin)
            return after

        return self.database.write(work)

    def set_password(self, name: str, password: str, *, by: str, origin: str = "") -> None:
        """Give an account another password; its sessions end.

        Raises:
            ConfigError: it is too short or too long.
            NotFoundError: there is no such account.
        """
        name, stored = name_of(name), hash_password(password, cost=self._cost)

        def work(connection: Connection) -> None:
            _named(connection, name)
            connection.execute(update(accounts).where(accounts.c.name == name).values(password=stored))
            connection.execute(delete(sessions).where(sessions.c.account == name))
            self._note(connection, by, "account password", f"account {name}", {}, origin)

        self.database.write(work)

    def check(self, name: str, password: str) -> str:
        """Return the account that a name and a password belong to; takes as long for a name that nobody has.

        Raises:
            SignInError: they do not belong together, or the account is barred; it does not say which.
        """
        known = name.lower() if _NAME.match(name.lower()) else ""
        row = self.database.read(lambda connection: connection.execute(select(accounts).where(accounts.c.name == known)).first())
        right = is_password(password, "" if row is None else row.password)
        if row is None or not right or row.disabled:
            raise SignInError("the name and the password do not belong together", hint="try again, or ask an admin")
        return str(row.name)

    def begin(self, name: str, *, origin: str = "", how: str = "password") -> str:
        """Return the id of a new session of an account.

        Args:
            name: of the account.
            origin: address it is begun from.
            how: the account was shown to be one's own.

        Raises:
            SignInError: there is no such account, or it is barred.
        """
        session_id, now_us = new_secret(), self._now_us()

        def work(connection: Connection) -> str:
            row = connection.execute(select(accounts).where(accounts.c.name == name, accounts.c.disabled.is_(False))).first()
            if row is None:
                raise SignInError("there is no account of that name here, or it is barred", hint="ask an admin")
            oldest, idle = now_us - int(1e6 * self.expiry.absolute_s), now_us - int(1e6 * self.expiry.idle_s)
            connection.execute(delete(sessions).where((sessions.c.made_us <= oldest) | (sessions.c.seen_us <= idle)))
            values = {"hash": hash_secret(session_id), "account": name, "made_us": now_us, "seen_us": now_us, "origin": origin}
            connection.execute(insert(sessions).values(**values))
            self._note(connection, name, "sign in", f"account {name}", {"how": how}, origin)
            return session_id

        return self.database.write(work)

    def end(self, session_id: str, *, origin: str = "") -> None:
        """End a session; nothing happens where it ended before."""

        def work(connection: Connection) -> None:
            name = connection.execute(select(sessions.c.account).where(sessions.c.hash == hash_secret(session_id))).scalar()
            if name is not None:
                connection.execute(delete(sessions).where(sessions.c.hash == hash_secret(session_id)))
                self._note(connection, name, "sign out", f"account {name}", {}, origin)

        self.database.write(work)

    def by_session(self, session_id: str) -> Caller:
        """Return whose session it is; nobody where it ended."""
        digest, now_us = hash_secret(session_id), self._now_us()
        chosen = select(sessions, accounts.c.role).join(accounts).where(sessions.c.hash == digest, accounts.c.disabled.is_(False))
        row = self.database.read(lambda connection: connection.execute(chosen).first())
        if row is None or not is_alive(made_s=row.made_us / 1e6, seen_s=row.seen_us / 1e6, now_s=now_us / 1e6, expiry=self.expiry):
            return NOBODY
        if now_us - row.seen_us > 1e6 * self.expiry.idle_s / _SEEN_EVERY:
            seen = update(sessions).where(sessions.c.hash == digest, sessions.c.seen_us < now_us).values(seen_us=now_us)
            self.database.write(lambda connection: connection.execute(seen))
        return Caller(row.account, Role(row.role), By.SESSION)

    def make_token(
        self, account: str, name: str, *, role: Role, by: str, plans_only: bool = False, days: float | None = None, origin: str = ""
    ) -> tuple[Token, str]:
        """Return a new token and its secret, which is shown this once.

        Args:
            account: that it acts for.
            name: what it is for.
            role: that it acts as at most.
            by: who makes it.
            plans_only: it reads plans and nothing else.
            days: until it ends; None = never.
            origin: address it is asked from.

        Raises:
            ConfigError: no name, or no time.
            ForbiddenError: the account has not that role.
        """
        if not name.strip() or len(name) > _LONGEST or (days is not None and not 0 < days < 10_000):
            raise ConfigError("a token needs a name and, where it ends, a number of days", hint="say what it is for")
        secret, now_us, account = new_secret(TOKEN_PREFIX), self._now_us(), name_of(account)
        expires_us = 0 if days is None else now_us + int(days * 86_400e6)
        made = Token(secrets.token_hex(4), account, name.strip(), role, plans_only, now_us, expires_us, 0)

        def work(connection: Connection) -> Token:
            owner = _named(connection, account)
            if owner.disabled or least_of(owner.role, role) is not role:
                raise ForbiddenError(f"{account} is {owner.role} and has no token as {role}", hint="ask for a lesser role")
            values = {field: getattr(made, field) for field in Token.__slots__}
            connection.execute(insert(tokens).values(**values, hash=hash_secret(secret)))
            told = {"account": account, "name": made.name, "role": role, "plans_only": plans_only, "expires_us": expires_us}
            self._note(connection, by, "token make", f"token {made.id}", told, origin)
            return made

        return self.database.write(work), secret

    def tokens(self, account: str | None = None) -> list[Token]:
        """Return the tokens of an account, or all; the latest first."""
        chosen = select(tokens).order_by(tokens.c.made_us.desc(), tokens.c.id)
        chosen = chosen if account is None else chosen.where(tokens.c.account == account)
        return self.database.read(lambda connection: [_token(row) for row in connection.execute(chosen)])

    def revoke(self, token_id: str, *, by: str, of: str | None = None, origin: str = "") -> Token:
        """End a token for good, and return it.

        Args:
            token_id: of `Token.id`.
            by: who does it.
            of: account that it must belong to; None = any.
            origin: address it is asked from.

        Raises:
            NotFoundError: there is none, or it is another's.
            ConflictError: it ended before.
        """
        now_us = self._now_us()

        def work(connection: Connection) -> Token:
            row = connection.execute(select(tokens).where(tokens.c.id == token_id)).first()
            if row is None or (of is not None and row.account != of):
                raise NotFoundError(f"there is no token {token_id[:16]}", hint="list the tokens to see their ids")
            if row.revoked_us:
                raise ConflictError(f"token {token_id} was revoked before", hint="there is nothing to do")
            connection.execute(update(tokens).where(tokens.c.id == token_id).values(revoked_us=now_us))
            self._note(connection, by, "token revoke", f"token {token_id}", {"account": row.account, "name": row.name}, origin)
            return _token(connection.execute(select(tokens).where(tokens.c.id == token_id)).one())

        return self.database.write(work)

    def by_token(self, secret: str) -> Caller:
        """Return whom a token acts for; nobody where it ended."""
        chosen = select(tokens, accounts.c.role.label("of_account")).join(accounts)
        chosen = chosen.where(tokens.c.hash == hash_secret(secret), accounts.c.disabled.is_(False), tokens.c.revoked_us == 0)
        row = self.database.read(lambda connection: connection.execute(chosen).first())
        if row is None or (row.expires_us and row.expires_us <= self._now_us()):
            return NOBODY
        return Caller(row.account, least_of(Role(row.role), Role(row.of_account)), By.TOKEN, bool(row.plans_only), row.id)

    def _add(self, name: str, role: Role, password: str | None, *, by: str, origin: str, first: bool) -> Account:
        if name_of(name) == AUTOMAT:  # what a person does would pass for what the guardrails did by themselves, and hold them
            raise ConfigError(f"{AUTOMAT!r} is how `paretune guard` signs", hint="take another name")
        name, stored = name_of(name), "" if password is None else hash_password(password, cost=self._cost)
        made = Account(name, role, False, bool(stored), self._now_us())

        def work(connection: Connection) -> Account:
            if first and not _is_empty(connection):
                raise ConflictError("there are accounts already", hint="sign in, or ask an admin for an account")
            if connection.execute(select(accounts.c.name).where(accounts.c.name == name)).first() is not None:
                raise ConflictError(f"there is an account {name} already", hint="choose another name")
            values = {"name": name, "role": role, "password": stored, "disabled": False, "made_us": made.made_us}
            connection.execute(insert(accounts).values(**values))
            self._note(connection, by, "account add", f"account {name}", {"role": role, "has_password": bool(stored)}, origin)
            return made

        return self.database.write(work)

    def _note(self, connection: Connection, who: str, what: str, subject: str, detail: dict[str, Any], origin: str) -> None:
        detail = {**detail, **({"from": origin} if origin else {})}
        rows.note_down(connection, at_us=self._now_us(), who=who, what=what, subject=subject, detail=detail)

    def _now_us(self) -> int:
        return int(self._clock() * 1e6)


def name_of(text: str) -> str:
    """Return the name of an account, in small letters.

    Raises:
        ConfigError: it is none.
    """
    name = text.lower()
    if not _NAME.match(name):
        raise ConfigError("this is no name of an account", hint="1 to 100 letters, digits and . _ @ + -; begin with a letter or digit")
    return name


def _is_empty(connection: Connection) -> bool:
    return connection.execute(select(accounts.c.name).limit(1)).first() is None


def _admins(connection: Connection) -> int:
    chosen = select(func.count()).select_from(accounts)
    return int(connection.execute(chosen.where(accounts.c.role == Role.ADMIN, accounts.c.disabled.is_(False))).scalar_one())


def _named(connection: Connection, name: str) -> Account:
    row = connection.execute(select(accounts).where(accounts.c.name == name)).first()
    if row is None:
        raise NotFoundError(f"there is no account {name}", hint="an admin can list the accounts")
    return _account(row)


def _account(row: rows.Record) -> Account:
    return Account(row.name, role_named(row.role), bool(row.disabled), bool(row.password), row.made_us)


def _token(row: rows.Record) -> Token:
    return Token(
        row.id, row.account, row.name, role_named(row.role), bool(row.plans_only), row.made_us, int(row.expires_us), int(row.revoked_us)
    )
