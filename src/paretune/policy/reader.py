"""What the decision service may see of the registry: plans and bundles, read only. An edge: the database.

The rule: it reads `in_force`, `plans`, `bundles` and `bundle_files` and nothing else, so that a login with SELECT on these four is enough.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from paretune.policy import rows
from paretune.policy.database import Database
from paretune.policy.plan import Plan
from paretune.policy.shelf import get_bundle

READS = ("in_force", "plans", "bundles", "bundle_files")


class PlanReader:
    """Reads what is in force."""

    def __init__(self, where: str | Path, *, deadline_s: float = 1.0) -> None:
        """Prepare; nothing is connected yet.

        Args:
            where: an SQLite file (opened with mode=ro), or the URL of a PostgreSQL database.
            deadline_s: of each call.
        """
        self.database = Database(where, deadline_s=deadline_s, read_only=True)

    def version(self) -> int:
        """Return the version in force, 0 where there is none yet.

        Raises:
            UnreachableError: no answer in time.
            ConfigError: it is no registry.
        """
        return self.database.read(rows.version_in_force)

    def current(self) -> Plan | None:
        """Return the plan in force, None where there is none yet.

        Raises:
            UnreachableError: no answer in time.
            ArtefactError: the plan was altered.
        """
        return self.database.read(rows.current_plan)

    def later(self, seen: int, fingerprint: str = "") -> tuple[int, Plan | None]:
        """Return the version in force, and its plan where it is not the one that was seen: a later version, or another plan of the same.

        Args:
            seen: version; 0 = none.
            fingerprint: of the plan that was seen; empty = do not ask whether the same version is another plan.

        Raises:
            UnreachableError: no answer in time.
            ArtefactError: the plan was altered.
        """

        def work(connection: Connection) -> tuple[int, Plan | None]:
            version = rows.version_in_force(connection)
            other = bool(fingerprint) and version == seen and rows.plan_fingerprint(connection, version) != fingerprint
            return version, rows.plan_of(connection, version) if version > seen or other else None

        return self.database.read(work)

    def bundle(self, fingerprint: str) -> dict[str, bytes]:
        """Return the files of a bundle, each equal to its checksum.

        Raises:
            UnreachableError: no answer in time.
            ArtefactError: it is not here, or was altered.
        """
        return self.database.read(lambda connection: get_bundle(connection, fingerprint))

    def close(self) -> None:
        """Give back all connections."""
        self.database.close()
