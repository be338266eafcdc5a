"""Where plans and bundles come from, and the copy that a start falls back to. An edge: plan files, bundle folders, the clock, a thread.

The rules: a plan is written whole or not at all (temporary name, fsync, rename); one that cannot be read changes nothing but what `state`
says; a bundle is known by its fingerprint, never by its name. The last known good copy holds its bundles before it holds the plan that
needs them, so that a kill at any moment leaves a plan with all its bundles.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from paretune.atomic import write_folder, write_whole
from paretune.errors import ArtefactError, ConfigError, ParetuneError
from paretune.policy.plan import Plan, checked, decode_plan, encode_plan
from paretune.serving.scoring import Scorer
from paretune.value.bundle import SUMS, verified_files

if TYPE_CHECKING:
    from paretune.serving.runtime import Runtime

_LARGEST: Final = 16 * 2**20  # bytes of a plan; more is another file by mistake


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan, checked, in place of an earlier one; a reader sees the one or the other.

    Raises:
        ConfigError: the plan breaks a rule.
        OSError: the disk says no; the earlier one is then still there.
    """
    write_whole(path, encode_plan(checked(plan)))


def read_plan(path: Path) -> Plan:
    """Return the plan in a file.

    Raises:
        ConfigError: it is missing, torn, or no plan.
    """
    return decode_plan(_content(path), source=str(path))


class PlanFile:
    """A plan in a file that somebody else writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""  # why the file as it is now is not used; empty = it is
        self.subject, self.switching = f"read {path}", f"switch to {path}"  # what problems are noted under
        self._stamp: tuple[int, ...] = ()
        self._digest = b""

    def poll(self) -> Plan | None:
        """Return the plan where the file holds another than at the last call, None where it does not or cannot be read.

        A file that was rewritten with the same content is no change, and neither is one of the same size and time as when it was read at
        least two seconds after it was written.
        """
        try:
            stamp = _stamp(self.path)
            if stamp and stamp == self._stamp:
                return None
            content = _content(self.path)
            digest = hashlib.sha256(content).digest()
            changed = digest != self._digest
            plan = decode_plan(content, source=str(self.path)) if changed else None
        except ConfigError as error:
            self.problem, self._stamp = str(error.args[0]), ()
            return None
        self.problem, self._stamp, self._digest = "", stamp, digest
        return plan


class BundleFolder:
    """Bundles on disk, found by fingerprint: the folder itself is one, or its folders are."""

    def __init__(self, folder: Path, *, load: Callable[[Path], Scorer] | None = None) -> None:
        self.folder = folder
        self._load = load or _load_bundle

    def __call__(self, fingerprint: str) -> Scorer:
        """Return the loaded bundle.

        Raises:
            ArtefactError: it is not here, or not whole.
        """
        scorer = self._load(place_of(fingerprint, self.folder))
        if scorer.fingerprint != fingerprint:
            raise ArtefactError(f"{self.folder} changed while bundle {fingerprint[:12]} was read", hint="switch again")
        return scorer


class BundleFolders:
    """Several places of bundles; the first that has one whole is taken."""

    def __init__(self, *places: BundleFolder) -> None:
        self.places = places

    def __call__(self, fingerprint: str) -> Scorer:
        """Return the loaded bundle.

        Raises:
            ArtefactError: no place has it whole.
        """
        problems = []
        for place in self.places:
            try:
                return place(fingerprint)
            except ParetuneError as error:
                problems.append(str(error.args[0]))
        raise ArtefactError("; ".join(problems), hint="copy the bundle again, or go back to the plan before")

    def bring(self, plan: Plan, loaded: dict[str, Scorer]) -> list[str]:
        """Load the bundles that a plan needs into `loaded`, and return what went wrong."""
        failed = []
        for fingerprint in () if plan.killed else plan.bundles:
            if fingerprint not in loaded:
                try:
                    loaded[fingerprint] = self(fingerprint)
                except ArtefactError as error:
                    failed.append(f"plan {plan.version}: {error.args[0]}")
        return failed


def fingerprint_of(folder: Path) -> str:
    """Return what plans name a bundle by: the SHA-256 of its checksums.

    Raises:
        ArtefactError: the folder has none.
    """
    try:
        return hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()
    except OSError as error:
        raise ArtefactError(f"{folder} is no bundle: {error}", hint="export one with `paretune export`") from None


def place_of(fingerprint: str, folder: Path) -> Path:
    """Return where the bundle lies: the folder itself, or one in it.

    Raises:
        ArtefactError: nowhere here.
    """
    try:
        inside = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError:
        inside = []
    for each in (folder, *inside):
        if (each / SUMS).is_file() and fingerprint_of(each) == fingerprint:
            return each
    raise ArtefactError(f"no bundle {fingerprint[:12]} in {folder}", hint="copy the exported folder there, or mend its checksums")


class LastKnownGood:
    """The plan that came into force last, with its bundles, on this machine's own disk."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = folder
        self.source = source  # of bundles
        self.bundles = folder / "bundles"
        self.file = folder / "plan.json"

    def plan(self) -> Plan | None:
        """Return the plan that was kept, None where none can be read."""
        try:
            return read_plan(self.file)
        except ConfigError:
            return None

    def keep(self, plan: Plan) -> None:
        """Copy a plan and its bundles, in place of the ones before.

        Raises:
            ArtefactError: a bundle is not whole any more; the copy before is kept.
            OSError: the disk says no; the copy before is kept.
        """
        needed = () if plan.killed else plan.bundles
        for fingerprint in needed:
            if not self._has(fingerprint):
                self._copy(fingerprint)
        if self.plan() != plan:
            write_plan(plan, self.file)
        if not plan.killed and self.bundles.is_dir():  # a killed plan keeps the bundles of the one before, for the way back
            for each in self.bundles.iterdir():
                if each.name not in needed:
                    shutil.rmtree(each, ignore_errors=True)
        for each in self.folder.glob(".*.tmp"):
            each.unlink(missing_ok=True)

    def _has(self, fingerprint: str) -> bool:
        try:
            verified_files(self.bundles / fingerprint)
            return fingerprint_of(self.bundles / fingerprint) == fingerprint
        except ArtefactError:
            return False

    def _copy(self, fingerprint: str) -> None:
        origin = place_of(fingerprint, self.source)
        files, sums = verified_files(origin), (origin / SUMS).read_bytes()
        if hashlib.sha256(sums).hexdigest() != fingerprint:
            raise ArtefactError(f"{origin} changed while it was copied", hint="it is copied again at the next switch")
        write_folder(self.bundles / fingerprint, files | {SUMS: sums})


class PlanSource(Protocol):
    """Where a follower looks for plans."""

    problem: str  # why what is there now is not used; empty = it is
    subject: str  # what that problem is noted under
    switching: str  # what problems of a switch are noted under

    def poll(self) -> Plan | None:
        """Return a plan where there is another than at the last call; never raises for what is wrong with the source."""
        ...


class Follower:
    """A thread that looks at a plan's source and switches a runtime when it changes."""

    def __init__(self, runtime: Runtime, source: PlanSource, *, every_s: float) -> None:
        self._runtime, self._source, self._every_s = runtime, source, every_s
        self.heard_s = 0.0  # when the source last answered without a problem, seconds since 1970; 0 = not yet
        self._pending: Plan | None = None
        self._stop, self._woken = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="paretune-plan", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Look once: a new plan comes into force, or `state` says why not. A plan whose bundle is missing is tried again each time."""
        self._pending = self._source.poll() or self._pending
        self._runtime.note(self._source.subject, self._source.problem)
        if not self._source.problem:
            self.heard_s = time.time()
        if self._pending is None:
            return
        subject = self._source.switching
        try:
            self._runtime.switch(self._pending)
        except ConfigError as error:
            self._runtime.note(subject, str(error.args[0]))
            self._pending = None  # it stays wrong until the file changes
        except (ParetuneError, OSError) as error:
            self._runtime.note(subject, f"plan {self._pending.version} waits: {error.args[0]}")
        else:
            self._runtime.note(subject, "")
            self._pending = None

    def wake(self) -> None:
        """Have the thread look now instead of at its next turn."""
        self._woken.set()

    def stop(self) -> None:
        """End the thread; what is in force stays in force."""
        self._stop.set()
        self._woken.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._woken.wait(self._every_s)
            self._woken.clear()
            if self._stop.is_set():
                return
            try:
                self.look()
            except Exception as error:  # noqa: BLE001  (broad: whatever a plan's source does, the next look may be better)
                self._runtime.note("follower", f"looking for a plan failed: {type(error).__name__}: {error}")


def follow(runtime: Runtime, source: PlanSource, *, every_s: float = 1.0) -> Follower:
    """Return a started thread that keeps the runtime at the source's plan."""
    return Follower(runtime, source, every_s=every_s)


def _load_bundle(folder: Path) -> Scorer:
    from paretune.serving.bundle import load_bundle

    return load_bundle(folder)


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes when the file does; empty where it was written too lately to tell by its time."""
    try:
        about = path.stat()
    except OSError:
        return ()
    if time.time() - about.st_mtime < 2:
        return ()
    return about.st_mtime_ns, about.st_size, about.st_ino, about.st_ctime_ns


def _content(path: Path) -> bytes:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST:
            raise ConfigError(f"{path} is no plan: not a plain file, or too large", hint="name the file that `paretune plan` wrote")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}", hint="put the plan back; the one in force stays") from None
