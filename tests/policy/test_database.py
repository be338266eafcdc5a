"""Both databases: tables as the migrations leave them, read-only views, deadlines."""

import multiprocessing
import re
import sqlite3
import threading
import time
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from registries import ANNA, POSTGRES, bundle, fingerprint, published
from sqlalchemy import text
from wires import Wire

from paretune.errors import ConfigError, ForbiddenError, UnreachableError
from paretune.policy.database import Database, registry_url
from paretune.policy.reader import READS, PlanReader
from paretune.policy.registry import Registry
from paretune.policy.tables import metadata

ROOT = Path(__file__).parents[2]


def test_the_migrations_leave_the_tables_that_the_code_speaks_of(registry: Registry) -> None:
    found = registry.database.read(lambda connection: compare_metadata(MigrationContext.configure(connection), metadata))
    assert found == []
    assert registry.database.migrate() is False


def test_tables_of_a_later_release_are_refused(where: str) -> None:
    Registry(where).database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(ConfigError, match="tables of version 9999"):
        Registry(where)


def _open(where: str) -> str:
    return Registry(where).name


def test_many_who_make_the_same_registry_at_once_make_one(where: str) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert len(set(pool.map(_open, [where] * 8, chunksize=1))) == 1
    assert Registry(where).verify() == []


def test_a_new_file_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "r.db", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE t (x)")
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, other.rollback).start()
    assert Registry(tmp_path / "r.db").verify() == []


def test_a_file_that_stays_held_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "r.db", isolation_level=None)
    other.execute("CREATE TABLE t (x)")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnreachableError, match="database is locked"):
        Database(tmp_path / "r.db", deadline_s=0.1).migrate()


@pytest.mark.parametrize("written", ["mysql://host/db", "sqlite://", "sqlite:///:memory:", "postgres", "http://x"])
def test_a_place_that_is_none_is_refused_or_is_a_file(written: str) -> None:
    if "://" not in written:
        assert registry_url(written).database == written
        return
    with pytest.raises(ConfigError, match=r"no place for a registry|cannot be read"):
        registry_url(written)


def test_a_password_is_never_told() -> None:
    assert "secret" not in Database("postgresql://anna:secret@127.0.0.1:1/x").name


def test_a_reader_sees_plan_and_bundles_and_can_change_nothing(where: str, registry: Registry) -> None:
    number = published(registry)
    plan = registry.activate(number, share=0.05, by=ANNA).plan
    reader = PlanReader(where)
    assert (reader.version(), reader.current(), reader.bundle(fingerprint(bundle()))) == (1, plan, bundle())
    for statement in ("UPDATE in_force SET version = 7", "INSERT INTO plans VALUES (9, 'f', 'd')", "DROP TABLE audit"):
        with pytest.raises(ForbiddenError, match="refuses"):
            reader.database.write(lambda connection, said=statement: connection.execute(text(said)))
    assert registry.version() == 1


def test_a_reader_of_a_file_that_is_not_there_says_so_and_makes_none(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="cannot be used"):
        PlanReader(tmp_path / "none.db").version()
    assert list(tmp_path.iterdir()) == []
    Path(tmp_path / "empty.db").touch()
    with pytest.raises(ConfigError, match="is no registry"):
        PlanReader(tmp_path / "empty.db").version()


def test_a_reader_opens_a_file_that_nobody_else_has_open(tmp_path: Path) -> None:
    published(Registry(tmp_path / "r.db"))
    assert PlanReader(tmp_path / "r.db").version() == 0


def test_the_documented_role_reads_plans_and_bundles_and_nothing_else(postgres_url: str) -> None:
    registry = Registry(postgres_url)
    plan = registry.activate(published(registry), share=0.05, by=ANNA).plan
    schema = postgres_url.rsplit("%3D", 1)[1]
    block = re.search(r"```sql\n(.*?)```", (ROOT / "docs" / "governance.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    assert all(table in block[1] for table in READS)
    role = f"service_{schema}"
    statements = (
        block[1].replace("paretune_service", role).replace("SCHEMA public", f"SCHEMA {schema}").replace(" PASSWORD 'choose one'", "")
    )
    with psycopg.connect(POSTGRES, autocommit=True) as admin:
        admin.execute(f"SET search_path TO {schema}")
        admin.execute(statements)
        try:
            reader = PlanReader(re.sub(r"//[^@/]*@", f"//{role}@", postgres_url))
            assert (reader.current(), reader.bundle(fingerprint(bundle()))) == (plan, bundle())
            writer = Database(re.sub(r"//[^@/]*@", f"//{role}@", postgres_url))
            for statement in (
                "UPDATE in_force SET version = 7",
                "INSERT INTO plans VALUES (9, 'f', 'd')",
                "DELETE FROM bundles",
                "SELECT * FROM audit",
                "SELECT * FROM evidence",
                "CREATE TABLE mine (x int)",
            ):
                with pytest.raises(ForbiddenError, match="permission denied"):
                    writer.write(lambda connection, said=statement: connection.execute(text(said)))
        finally:
            admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_no_call_outlasts_its_deadline_on_a_database_that_hangs_is_gone_or_is_slow(postgres_url: str) -> None:
    Registry(postgres_url)
    wire = Wire(postgres_url)
    try:
        database = Database(wire.url, deadline_s=0.4)
        assert database.read(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1
        for name, call in (("slow", "SELECT pg_sleep(5)"), ("frozen", "SELECT 1"), ("refused", "SELECT 1")):
            if name != "slow":
                wire.freeze() if name == "frozen" else wire.refuse()
            start = time.monotonic()
            with pytest.raises(UnreachableError):
                database.read(lambda connection, said=call: connection.execute(text(said)))
            assert time.monotonic() - start < 1.2, name
        wire.restore()
        assert database.read(lambda connection: connection.execute(text("SELECT 2")).scalar()) == 2
    finally:
        wire.close()
