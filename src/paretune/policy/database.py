"""Transactions of the registry, on SQLite and on PostgreSQL. An edge: the database, threads, the clock.

The rules: one writer at a time (SQLite: `BEGIN IMMEDIATE`; PostgreSQL: an advisory lock), so that what a transaction read still holds when
it commits; a transaction is whole on disk when it returns (`synchronous=FULL`), or never was; no call outlasts its deadline. A PostgreSQL
that is frozen or cut off answers nothing and breaks nothing, so the deadline is kept here: the call runs on a thread that is given up, and
its socket is shut.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from paretune.errors import ConfigError, ForbiddenError, ParetuneError, UnreachableError
from paretune.extras import missing
from paretune.policy.tables import HEAD

T = TypeVar("T")
DEADLINE_S = 5.0
CHANNEL = "paretune_plan"  # of NOTIFY
_LOCK = 0x70617265  # advisory lock of writers; with the schema's hash
_WAIT_FOR_WRITERS = text("SELECT pg_advisory_xact_lock(:lock, hashtext(current_schema()))")
_PING = text("SELECT :lock")  # of a pooled connection
_KEEPALIVE: dict[str, Any] = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
_CLOSING_S = 0.5  # for a call that was given up to notice
_RETRY_S = 0.01  # between two attempts to turn a new file into a write-ahead log


def registry_url(where: str | Path) -> URL:
    """Return where a registry lies: a path is an SQLite file, anything with :// a URL.

    Raises:
        ConfigError: it is neither SQLite nor PostgreSQL.
    """
    written = str(where)
    try:
        url = make_url(written) if "://" in written else URL.create("sqlite", database=written)
    except ArgumentError:
        raise ConfigError("the registry's URL cannot be read", hint="write sqlite:///paretune.db or postgresql://HOST/DATABASE") from None
    kind = url.get_backend_name()
    if kind in {"postgresql", "postgres"}:
        return url.set(drivername="postgresql+psycopg")
    if kind == "sqlite" and url.database and url.database != ":memory:":
        return url
    raise ConfigError(
        f"{url.render_as_string(hide_password=True)} is no place for a registry", hint="name an SQLite file or a PostgreSQL database"
    )


class Database:
    """Where transactions run."""

    def __init__(self, where: str | Path, *, deadline_s: float = DEADLINE_S, read_only: bool = False) -> None:
        """Prepare; nothing is connected yet.

        Args:
            where: see `registry_url`.
            deadline_s: of each call.
            read_only: refuse to write; on SQLite the file is opened with mode=ro.

        Raises:
            ConfigError: no such kind of database.
            MissingExtraError: its driver is not installed.
        """
        self.url, self.deadline_s, self.read_only = registry_url(where), deadline_s, read_only
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._engine = _sqlite(self.url, deadline_s, read_only) if self.is_sqlite else _postgresql(self.url, deadline_s, read_only)
        weakref.finalize(self, _disposed, self._engine, os.getpid())

    @property
    def name(self) -> str:
        """The database, for people; without a password."""
        if self.is_sqlite:
            return str(self.url.database)
        return self.url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)

    def read(self, call: Callable[[Connection], T]) -> T:
        """Return what a call reads, all of one moment.

        Raises:
            UnreachableError: no answer before the deadline.
            ForbiddenError: this login may not read it.
        """
        return self._run(call, "read")

    def write(self, call: Callable[[Connection], T]) -> T:
        """Return what a call answers after its changes are on disk; an error of the call undoes them all.

        Raises:
            UnreachableError: no answer before the deadline; whether the change was made is then not known.
            ForbiddenError: this login may not change it.
        """
        return self._run(call, "write")

    def migrate(self) -> bool:
        """Bring the tables up to date, and return whether anything was to do.

        Raises:
            ConfigError: they are of a later release.
        """
        found = self.read(_revision)
        if found == HEAD:
            return False
        if found and found > HEAD:
            raise ConfigError(f"{self.name} has tables of version {found}, this release knows {HEAD}", hint="use the later release")
        return self.write(_upgraded)

    def listening(self) -> Any:
        """Return a psycopg connection of its own that is told of plans, for `notifies`; PostgreSQL only.

        Raises:
            UnreachableError: no answer.
        """
        import psycopg

        _, settings = self._engine.dialect.create_connect_args(self.url.difference_update_query(["options"]))
        try:
            return psycopg.connect(**settings, **_KEEPALIVE, connect_timeout=2, autocommit=True, application_name="paretune listener")
        except psycopg.Error as error:
            raise UnreachableError(f"{self.name} cannot be listened to: {error}", hint="plans are followed by polling meanwhile") from error

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    def _run(self, call: Callable[[Connection], T], purpose: Literal["read", "write"]) -> T:
        if self.is_sqlite:
            return self._transacted(call, purpose, [])
        held: list[Any] = []
        return within(self.deadline_s, lambda: self._transacted(call, purpose, held), abort=lambda: _shut(held), name=self.name)

    def _transacted(self, call: Callable[[Connection], T], purpose: Literal["read", "write"], held: list[Any]) -> T:
        """Return what a call answers in a transaction; a pooled connection that had died in the meantime is replaced once."""
        for last in (False, True):
            begun = False
            try:
                with self._engine.connect().execution_options(**self._options(purpose)) as connection:
                    held.append(connection.connection.driver_connection)
                    with connection.begin():
                        if not self.is_sqlite:
                            connection.execute(_PING if purpose == "read" else _WAIT_FOR_WRITERS, {"lock": _LOCK})
                        begun = True
                        return call(connection)
            except SQLAlchemyError as error:
                if begun or last or not getattr(error, "connection_invalidated", False):
                    raise self._said(error) from error
            finally:
                held.clear()
        raise UnreachableError(f"{self.name} cannot be used", hint="see whether the database is up, then try again")

    def _options(self, purpose: str) -> dict[str, Any]:
        """Return how a transaction begins; PostgreSQL would otherwise let each statement of a reader see another moment."""
        snapshot = {} if self.is_sqlite or purpose == "write" else {"isolation_level": "REPEATABLE READ"}
        return {"purpose": purpose, **snapshot}

    def _said(self, error: SQLAlchemyError) -> ParetuneError:
        """Return an error of the database in our own words."""
        original = error.orig if isinstance(error, DBAPIError) else None
        what = str(original or error).strip().splitlines()[0] if str(original or error).strip() else type(error).__name__
        state = getattr(original, "sqlstate", None)
        if state in {"42501", "25006"} or "readonly" in what or "is only added to" in what:
            return ForbiddenError(f"{self.name} refuses: {what}", hint="use a login that may change the registry; its records never change")
        if state == "42P01" or "no such table" in what:
            return ConfigError(f"{self.name} is no registry: {what}", hint="make one with `paretune publish RUN POLICY`")
        return UnreachableError(f"{self.name} cannot be used: {what}", hint="see whether the database is up, then try again")


def within(deadline_s: float, call: Callable[[], T], *, abort: Callable[[], None], name: str) -> T:
    """Return what a call answers, on a thread of its own that is given up at the deadline.

    Args:
        deadline_s: seconds.
        call: may hang in compiled code.
        abort: makes it end, if anything can.
        name: of what is called, for the error.

    Raises:
        UnreachableError: no answer in time.
        Exception: whatever the call raises.
    """
    answers: list[T] = []
    errors: list[Exception] = []
    done = threading.Event()

    def run() -> None:
        try:
            answers.append(call())
        except Exception as error:  # noqa: BLE001  (broad: it is raised again on the caller's thread)
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="paretune-database", daemon=True).start()
    if not done.wait(deadline_s):
        abort()
        done.wait(_CLOSING_S)
        if not answers:
            raise UnreachableError(
                f"{name} did not answer within {deadline_s:g} s", hint="a change may have been made: look at `paretune history` first"
            )
    if errors:
        raise errors[0]
    return answers[0]


def _disposed(engine: Engine, process: int) -> None:
    """Close all connections, unless they are those of the process that this one was forked from."""
    if os.getpid() == process:
        engine.dispose()


def _shut(held: list[Any]) -> None:
    """Shut the socket of a connection that hangs, so that the thread that waits for it ends."""
    with suppress(Exception):  # broad: it may just have ended by itself
        handle = socket.socket(fileno=os.dup(held[0].pgconn.socket))
        with suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)
        handle.close()


def _sqlite(url: URL, deadline_s: float, read_only: bool) -> Engine:
    place = Path(str(url.database)).absolute()

    def connect() -> sqlite3.Connection:
        if not read_only:
            place.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            f"{place.as_uri()}?mode={'ro' if read_only else 'rwc'}",
            uri=True,
            timeout=deadline_s,
            isolation_level=None,
            check_same_thread=False,
        )
        if not read_only:
            _write_ahead(connection, deadline_s)
        for pragma in ("foreign_keys = ON", "query_only = ON") if read_only else ("synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("purpose") == "write"
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _write_ahead(connection: sqlite3.Connection, deadline_s: float) -> None:
    """Make a file one with a write-ahead log; SQLite's own timeout does not cover this change, which needs the file for itself."""
    until = time.monotonic() + deadline_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} or time.monotonic() > until:
                raise
            time.sleep(_RETRY_S)


def _postgresql(url: URL, deadline_s: float, read_only: bool) -> Engine:
    given, milliseconds = url.query.get("options", ""), int(1000 * deadline_s)
    limits = f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={2 * milliseconds}"
    options = (
        f"{given if isinstance(given, str) else ' '.join(given)} {limits}{' -c default_transaction_read_only=on' if read_only else ''}"
    )
    settings = {"options": options.strip(), "connect_timeout": max(2, int(deadline_s)), "application_name": "paretune"}
    try:
        return create_engine(
            url.difference_update_query(["options"]), connect_args=settings, pool_size=4, max_overflow=8, pool_timeout=deadline_s
        )
    except ImportError as error:
        raise missing("postgres", "a registry on PostgreSQL", error, otherwise="name an SQLite file") from error


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def _upgraded(connection: Connection) -> bool:
    """Run the migrations that are missing; whoever waited for another to do so finds none."""
    if _revision(connection) == HEAD:
        return False
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("paretune.policy").joinpath("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return True
