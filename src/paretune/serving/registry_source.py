"""The plan in force in a registry, as a service follows it. An edge: the database, bundle folders, threads.

    registry ── every second, or told by NOTIFY ──▶ folder: plan.json, bundles/FINGERPRINT ──▶ runtime

The rules: a database that is down, frozen or cut off holds up nobody but the thread that asks it, and that one for its deadline; bundles
are in the folder before the plan that needs them, and are brought again where the folder lost one; a registry that returns with an older
version, or with another plan under the version that was seen, is not followed and `problem` says so. The folder alone is enough to start
from.
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
from paretune.policy.shelf import check_files, read_folder, write_bundle
from paretune.serving.runtime import Runtime
from paretune.serving.sources import Follower, PlanFile, follow, read_plan, write_plan
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
        self._whole = False  # whether the plan's bundles were looked at since the start

    def poll(self) -> Plan | None:
        """Return the plan in force where there is something to switch to, its bundles in the folder; else None.

        That is a later version than was seen before, or the same one where the folder had lost a bundle of it.
        """
        seen = self._plan.version if self._plan else 0
        try:
            version, plan = self.reader.later(seen, self._plan.fingerprint if self._plan else "")
            if self._plan is not None and not self._whole and version <= seen:
                brought, self._whole = self._bring(self._plan), True
                plan = self._plan if brought and plan is None else plan
            self.problem = self._strange(version, plan)
            if self.problem:
                return None
            if plan is not None and version > seen:
                self._keep(plan)
        except ParetuneError as error:
            self.problem = str(error.args[0])
            return None
        except OSError as error:
            self.problem = f"{self.file.parent} cannot be written: {error}"
            return None
        return plan

    def _strange(self, version: int, plan: Plan | None) -> str:
        """Return why what the registry says cannot be what followed on the plan that was seen; empty where it can."""
        seen, name = self._plan, self.reader.database.name
        if seen is None or version > seen.version:
            return ""
        if version < seen.version:
            return f"{name} says plan {version}, older than plan {seen.version}, which was in force"
        if plan is not None and plan != seen:
            return f"{name} says another plan {version} than the one that was in force here; it was restored or begun anew"
        return ""

    def _keep(self, plan: Plan) -> None:
        """Bring the plan's bundles, then the plan, and take away what neither it nor the one before needs."""
        before = self._plan
        self._bring(plan)
        write_plan(plan, self.file)
        self._plan, self._whole = plan, True
        needed = {*plan.bundles, *(before.bundles if before else ())}
        for each in self.bundles.iterdir() if self.bundles.is_dir() else ():
            if each.name not in needed and not each.name.startswith("."):
                shutil.rmtree(each, ignore_errors=True)

    def _bring(self, plan: Plan) -> bool:
        """Bring the bundles of a plan that are not whole in the folder, and return whether there were any."""
        missing = [fingerprint for fingerprint in (() if plan.killed else plan.bundles) if not self._has(fingerprint)]
        for fingerprint in missing:
            write_bundle(self.reader.bundle(fingerprint), self.bundles)
        return bool(missing)

    def _has(self, fingerprint: str) -> bool:
        if not (self.bundles / fingerprint / SUMS).is_file():
            return False
        try:
            return bool(check_files(read_folder(self.bundles / fingerprint), source=fingerprint, fingerprint=fingerprint))
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

    @property
    def heard_s(self) -> float:
        """When the registry last answered without a problem, seconds since 1970; 0 = not yet."""
        return self._follower.heard_s

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
    if not source.problem and not source.file.exists():  # the registry has no plan yet, which is no fault of the copy
        runtime.note(PlanFile(source.file).subject, "")
    return runtime, source


def _kept(file: Path) -> Plan | None:
    try:
        return read_plan(file)
    except ConfigError:
        return None
