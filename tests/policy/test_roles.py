"""The logins of deploy/postgres/roles.sql on a running PostgreSQL: each can do its work, and nothing else."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from fake_scorer import HEADS, STATIC, load_fake
from registries import ANNA, BERT, POSTGRES, bundle, document, postgres_schema, published
from sqlalchemy import text

from paretune.cli import main
from paretune.console.accounts import Accounts
from paretune.errors import ForbiddenError
from paretune.experiment.watch import AUTOMAT
from paretune.policy.database import Database
from paretune.policy.reader import READS
from paretune.policy.registry import Registry
from paretune.policy.tables import metadata
from paretune.serving.decide import Request
from paretune.serving.registry_source import RegistryFollower, registry_runtime

SCRIPT = Path(__file__).parents[2] / "deploy" / "postgres" / "roles.sql"
NAMES = ("service", "console", "guard")
ADDED_TO = {"bundles", "bundle_files", "fronts", "evidence", "plans", "activations", "audit", "outcomes"}


@dataclass(frozen=True)
class Logins:
    """A registry in a schema of its own, and the address of each login."""

    owner: str
    service: str
    console: str
    guard: str
    schema: str

    def role(self, name: str) -> str:
        return f"{name}_{self.schema}"


@pytest.fixture(scope="module")
def logins() -> Iterator[Logins]:
    if shutil.which("psql") is None:
        pytest.skip("no psql: install Debian's package `postgresql-client`")
    with postgres_schema() as url:
        schema = url.rsplit("%3D", 1)[1]
        assert main(["migrate", "--registry", url]) == 0
        command = ["psql", POSTGRES, "-qX", "-v", f"schema={schema}", "-f", str(SCRIPT)]
        for name in NAMES:
            command += ["-v", f"{name}={name}_{schema}"]
        passwords = {f"PARETUNE_{name.upper()}_PASSWORD": f"a secret's of {name}" for name in NAMES}
        try:
            for _ in range(2):  # it may be run again
                ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | passwords)
                assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
            yield Logins(url, *(re.sub(r"//[^@/]*@", f"//{name}_{schema}@", url) for name in NAMES), schema)
        finally:
            with psycopg.connect(POSTGRES, autocommit=True) as admin:
                for name in NAMES:
                    admin.execute(f"DROP OWNED BY {name}_{schema}; DROP ROLE {name}_{schema}")


def granted(logins: Logins, name: str) -> dict[str, set[str]]:
    """Privilege -> tables, of a login."""
    query = "SELECT relname, p FROM pg_class c, unnest(ARRAY['SELECT','INSERT','UPDATE','DELETE','TRUNCATE','TRIGGER','REFERENCES']) p "
    query += "WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'r' AND has_table_privilege(%s, c.oid, p)"
    found: dict[str, set[str]] = {}
    with psycopg.connect(POSTGRES) as admin:
        for table, privilege in admin.execute(query, (logins.schema, logins.role(name))):
            found.setdefault(privilege, set()).add(table)
    return found


def test_each_login_has_what_is_written_here_and_nothing_else(logins: Logins) -> None:
    everything = set(metadata.tables)
    access = {"accounts", "sessions", "tokens"}
    assert granted(logins, "service") == {"SELECT": set(READS)}
    assert granted(logins, "guard") == {
        "SELECT": everything - access - {"fronts", "outcomes"} | {"alembic_version"},
        "INSERT": {"plans", "activations", "audit"},
        "UPDATE": {"in_force"},
    }
    assert granted(logins, "console") == {
        "SELECT": everything | {"alembic_version"},
        "INSERT": everything - {"in_force", "rules"},
        "UPDATE": everything - ADDED_TO,
        "DELETE": {"sessions", "tokens"},
    }


def test_passwords_are_those_of_the_environment(logins: Logins) -> None:
    with psycopg.connect(POSTGRES) as admin:
        kept = dict(admin.execute("SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE %s", (f"%_{logins.schema}",)).fetchall())
    assert set(kept) == {logins.role(name) for name in NAMES}
    assert all(stored.startswith("SCRAM-SHA-256$") for stored in kept.values())
    assert len(set(kept.values())) == 3


def test_the_reader_serves_and_is_told_of_plans_and_cannot_write(logins: Logins, tmp_path: Path) -> None:
    owner = Registry(logins.owner)
    owner.publish(document(None), by=ANNA)
    owner.approve(1, by=BERT)
    owner.activate(1, share=1.0, by=ANNA)
    runtime, source = registry_runtime(logins.service, tmp_path, static=(HEADS, STATIC), load=load_fake)
    assert runtime.decide(Request(1, 1)).weights == (80.0, 9.1, -4.0)
    follower = RegistryFollower(runtime, source, every_s=1000)
    assert follower._listener is not None
    assert follower._listener.listening.wait(10)
    owner.kill(by=ANNA)
    for _ in range(500):
        if runtime.plan is not None and runtime.plan.killed:
            break
        follower._follower._stop.wait(0.02)
    assert runtime.plan is not None
    assert runtime.plan.killed, "told by NOTIFY: the next look of its own is in a quarter of an hour"
    follower.stop()
    refused = ["UPDATE in_force SET version = 7", "INSERT INTO plans VALUES (9, 'f', 'd')", "DELETE FROM bundles", "TRUNCATE plans"]
    refused += [f"SELECT * FROM {table}" for table in sorted(set(metadata.tables) - set(READS))]  # noqa: S608
    refused += ["CREATE TABLE mine (x int)"]
    for options in ("", "%20-cdefault_transaction_read_only%3Doff"):
        database = Database(logins.service + options)
        for statement in refused:
            with pytest.raises(ForbiddenError, match=r"permission denied|read-only"):
                database.write(lambda connection, said=statement: connection.execute(text(said)))
    assert owner.version() == 2
    assert owner.verify() == []


def test_the_guard_steps_back_and_reads_no_account(logins: Logins) -> None:
    guard = Registry(logins.guard)
    before = guard.version()
    guard.release(by=ANNA)
    guard.kill(by=AUTOMAT, note="breached")
    assert guard.version() == before + 2
    assert Registry(logins.owner).audit()[-1].who == AUTOMAT
    for statement in (
        "SELECT * FROM accounts",
        "UPDATE audit SET who = 'me'",
        "DELETE FROM plans",
        "UPDATE policies SET state = 'approved'",
    ):
        with pytest.raises(ForbiddenError, match="permission denied"):
            guard.database.write(lambda connection, said=statement: connection.execute(text(said)))


def test_the_console_does_everything_that_people_do_and_alters_no_record(logins: Logins) -> None:
    registry = Registry(logins.console)
    accounts = Accounts(registry.database)
    accounts.set_up("root", "correct horse battery")
    number = published(registry, "of the console")
    registry.activate(number, share=0.05, by=ANNA, control=0.05)
    registry.ramp(number, by=ANNA)
    registry.rollback(by=ANNA)
    assert registry.bundle(registry.policy(number).policy.bundle) == bundle("of the console")
    assert registry.verify() == []
    for table in sorted(ADDED_TO):
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}", f"ALTER TABLE {table} DISABLE TRIGGER ALL"):  # noqa: S608
            with pytest.raises(ForbiddenError, match=r"permission denied|must be owner"):
                registry.database.write(lambda connection, said=statement: connection.execute(text(said)))


def test_migrate_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for changed in (True, False):
        assert main(["migrate", "--registry", str(tmp_path / "r.db"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["changed"] is changed
    assert Registry(tmp_path / "r.db").version() == 0
