"""The plan in force in a registry, as a service follows it. An edge: the database, bundle folders, threads.

    registry ── every second, or told by NOTIFY ──▶ folder: plan.json, bundles/FINGERPRINT ──▶ runtime

The rules: a database that is down, frozen or cut off holds up nobody but the thread that asks it, and that one for its deadline; bundles
are in the folder before the plan that needs them; a registry that returns with an older version is not followed. The folder alone is enough
to start from.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from paretune.errors import ConfigError, ParetuneError
from paretune.policy.database import CHANNEL, Database
from paretune.policy.plan import Plan
from paretune.policy.reader import PlanReader
from paretune.policy.shelf import read_folder, write_bundle
from paretune.serving.runtime import Runtime
from paretune.serving.sources import Follower, follow, read_plan, write_plan
from paretune.value.bundle import SUMS

POLL_S: Final = 1.0
_WAIT_S: Final = 0.25  # between looks at whether to stop
_AGAIN_S: Final = (0.25, 5.0)  # before a lost connection is made again: at first, at most


class RegistrySource:
    """What is in force in a registry, copied into a folder."""

    def __init__(self, where: str | Path, folder: Path, *, deadline_s: float = 1.0) -> None:
        """Prepare; nothing is asked yet.

        Args:
            where: the registry.
            folder: plan.json and bundles/ on this machine's own disk; made if missing.
            deadline_s: of each question to the database.
        """
        self.reader = PlanReader(where, deadline_s=deadline_s)
        self.file, self.bundles = folder / "plan.json", folder / "bundles"
        self.problem = ""
        name = self.reader.database.name
        self.subject, self.switching = f"read {name}", f"switch to {name}"
        self._plan = _kept(self.file)

    def poll(self) -> Plan | None:
        """Return the plan in force where it is a later one than was seen before, its bundles in the folder; else None."""
        seen = self._plan.version if self._plan else 0
        try:
            version, plan = self.reader.later(seen)
            if version < seen:
                self.problem = f"{self.reader.database.name} says plan {version}, older than plan {seen}, which was in force"
                return None
            if plan is not None:
                self._keep(plan)
        except ParetuneError as error:
            self.problem = str(error.args[0])
            return None
        except OSError as error:
            self.problem = f"{self.file.parent} cannot be written: {error}"
            return None
        self.problem = ""
        return plan

    def _keep(self, plan: Plan) -> None:
        """Bring the plan's bundles, then the plan, and take away what neither it nor the one before needs."""
        before = self._plan
        for fingerprint in () if plan.killed else plan.bundles:
            if not self._has(fingerprint):
                write_bundle(self.reader.bundle(fingerprint), self.bundles)
        write_plan(plan, self.file)
        self._plan = plan
        needed = {*plan.bundles, *(before.bundles if before else ())}
        for each in self.bundles.iterdir() if self.bundles.is_dir() else ():
            if each.name not in needed and not each.name.startswith("."):
                shutil.rmtree(each, ignore_errors=True)

    def _has(self, fingerprint: str) -> bool:
        if not (self.bundles / fingerprint / SUMS).is_file():
            return False
        try:
            return bool(read_folder(self.bundles / fingerprint))
        except ParetuneError:
            return False


class RegistryFollower:
    """A runtime that is kept at the plan in force in a registry."""

    def __init__(self, runtime: Runtime, source: RegistrySource, *, every_s: float = POLL_S, listen: bool = True) -> None:
        """Begin to follow.

        Args:
            runtime: to switch.
            source: the registry.
            every_s: between looks.
            listen: also be told, where the registry is PostgreSQL.
        """
        self._source = source
        self._follower: Follower = follow(runtime, source, every_s=every_s)
        database = source.reader.database
        self._listener = Listener(database, self._follower.wake) if listen and not database.is_sqlite else None

    def stop(self) -> None:
        """End the threads; what is in force stays in force."""
        if self._listener is not None:
            self._listener.stop()
        self._follower.stop()
        self._source.reader.close()


class Listener:
    """A thread that waits to be told of new plans."""

    def __init__(self, database: Database, woken: Callable[[], None]) -> None:
        self._database, self._woken = database, woken
        self._stop = threading.Event()
        self.listening = threading.Event()  # set while a connection stands
        self._thread = threading.Thread(target=self._run, name="paretune-listener", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; one that hangs in the database is left behind."""
        self._stop.set()
        self._thread.join(4 * _WAIT_S)

    def _run(self) -> None:
        pause_s = _AGAIN_S[0]
        while not self._stop.is_set():
            with suppress(Exception), self._database.listening() as connection:  # broad: polling goes on, the next one may last
                connection.execute(f"LISTEN {CHANNEL}")
                pause_s = _AGAIN_S[0]
                self.listening.set()
                self._woken()  # for what happened while nobody listened
                self._wait(connection)
            self.listening.clear()
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, _AGAIN_S[1])

    def _wait(self, connection: Any) -> None:
        while not self._stop.is_set():
            for _ in connection.notifies(timeout=_WAIT_S, stop_after=1):
                self._woken()


def registry_runtime(where: str | Path, folder: Path, *, database_s: float = 1.0, **options: Any) -> tuple[Runtime, RegistrySource]:
    """Return a runtime with the plan in force, or with the one that was in force when the registry was last reached, and its source.

    Args:
        where: the registry.
        folder: see `RegistrySource`.
        database_s: deadline of each question to the database, here and later.
        options: of `Runtime.load`; `static` is served while there is no plan.

    Raises:
        ConfigError: there is no plan, and no static weights are given.
    """
    source = RegistrySource(where, folder, deadline_s=database_s)
    source.poll()
    try:
        runtime = Runtime.load(source.bundles, source.file, **options)
    except ConfigError:
        if source.problem:
            raise ConfigError(
                f"no plan to serve: {source.problem}", hint="bring the registry up, or give static weights to start with"
            ) from None
        raise
    runtime.note(source.subject, source.problem)
    return runtime, source


def _kept(file: Path) -> Plan | None:
    try:
        return read_plan(file)
    except ConfigError:
        return None
