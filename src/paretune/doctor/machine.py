"""What runs here: versions, optional parts, cores, memory, clock, disks, who may read which file.

An edge: the system, files, the clock.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib import metadata
from pathlib import Path

from paretune.config import Config, load_config
from paretune.doctor.finding import NOTE, OK, WARNING, WRONG, Finding, failed
from paretune.errors import ParetuneError
from paretune.extras import EXTRAS, Extra

SMALL_BYTES, SMALL_SHARE = 2**30, 0.05  # of a disk: less is worth a warning
_GIB = 2**30
_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+")


def versions() -> Iterator[Finding]:
    """Yield the versions of paretune, Python and the libraries that it needs; missing ones are wrong."""
    yield Finding("versions", "paretune", OK, metadata.version("paretune"))
    yield Finding("versions", "python", OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    numbers = {name: version_of(name) for name in _needed()}
    lost = [name for name, number in numbers.items() if number is None]
    yield Finding("versions", "libraries", OK, ", ".join(f"{name} {number}" for name, number in numbers.items() if number))
    if lost:
        yield Finding("versions", "libraries", WRONG, f"not installed: {', '.join(lost)}", "pip install paretune", 2)


def version_of(name: str) -> str | None:
    """Return the version of an installed library, None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def parts() -> Iterator[Finding]:
    """Yield which extras are installed, and for the others the command that brings them."""
    yield from map(_part, EXTRAS.values())


def machine() -> Iterator[Finding]:
    """Yield cores, memory and what torch sees beside them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    yield Finding("machine", "cores", OK, f"{cores} for this process" + (f", OMP_NUM_THREADS={threads}" if threads else ""))
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        yield Finding("machine", "memory", OK, f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / _GIB:.1f} GiB")
    yield Finding("machine", "accelerators", OK, _accelerators())


def clock() -> Iterator[Finding]:
    """Yield the time here, in the local zone and in UTC, in which days of logs are counted."""
    local = datetime.now().astimezone()
    yield Finding("clock", "here", OK, f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()} (UTC{local:%z}); days of logs are UTC's")


def clock_against(part: str, name: str, there_s: float, *, most_s: float = 2.0) -> Finding:
    """Return how far a server's clock is from ours.

    Args:
        part: of the list.
        name: of the server.
        there_s: what its clock says, seconds since 1970.
        most_s: what may pass between its answer and our look; more is a difference.
    """
    ahead = there_s - time.time()
    if abs(ahead) <= most_s:
        return Finding(part, name, OK, "agrees with the clock here")
    way = "ahead of" if ahead > 0 else "behind"
    hint = "let both follow a time server: ages of evidence and days of logs are read off these clocks"
    return Finding(part, name, WARNING, f"{abs(ahead):.0f} s {way} the clock here", hint)


def disks(folders: Iterable[Path]) -> Iterator[Finding]:
    """Yield how much room the disks of some folders have, each disk once, and which folders nobody may write to."""
    seen: set[int] = set()
    for folder in folders:
        place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
        if not os.access(place, os.W_OK):
            yield Finding("disk", str(folder), WARNING, "may not be written to", "write to another folder, or as another user")
        if place.stat().st_dev in seen:
            continue
        seen.add(place.stat().st_dev)
        usage = shutil.disk_usage(place)
        small = usage.free < max(SMALL_BYTES, SMALL_SHARE * usage.total)
        said = f"{usage.free / _GIB:.1f} of {usage.total / _GIB:.1f} GiB free"
        hint = "make room: a spool on a full disk drops decisions, and a registry takes no changes" if small else ""
        yield Finding("disk", str(folder), WARNING if small else OK, said, hint)


def permissions(database: Path) -> Iterator[Finding]:
    """Yield who may read and write the file of a registry."""
    mode = stat.S_IMODE(database.stat().st_mode)
    name = str(database)
    if not os.access(database, os.R_OK):
        yield Finding("registry", name, WARNING, "may not be read", "run as the user it belongs to")
    elif not os.access(database, os.W_OK) or not os.access(database.absolute().parent, os.W_OK):
        yield Finding("registry", name, NOTE, "may be read and not be changed", "run as the user it belongs to, to change what is in force")
    if mode & 0o022:
        hint = f"chmod go-w {name}: whoever may write the file may change what is served, past every approval"
        yield Finding("registry", name, WARNING, f"others may write to it (mode {mode:03o})", hint)
    elif mode & 0o044:
        yield Finding("registry", name, NOTE, f"others may read it (mode {mode:03o}), with the hashes of passwords", f"chmod go-r {name}")
    else:
        yield Finding("registry", name, OK, f"only its owner may read it (mode {mode:03o})")


def configuration(path: Path, *, named: bool) -> tuple[Config | None, Finding]:
    """Return the configuration, None where there is none that can be used, and how it is.

    Args:
        path: of the file.
        named: somebody named it, so that it has to be there.
    """
    if not named and not path.exists():
        return None, Finding("configuration", str(path), NOTE, "there is none yet", "write one with `paretune init WEIGHTS`")
    try:
        config = load_config(path)
        surface = config.surface.build()
    except ParetuneError as error:
        return None, failed("configuration", str(path), error)
    objectives = ", ".join(objective.name for objective in config.objectives)
    return config, Finding("configuration", str(path), OK, f"{len(surface)} actions over {', '.join(surface.names)}; rewards {objectives}")


def _needed() -> list[str]:
    """Return the libraries that paretune needs without any extra and on this system."""
    required = (text for text in metadata.requires("paretune") or () if "extra ==" not in text)
    here = (text for text in required if "win32" not in text or platform.system() != "Windows")
    return [match[0] for text in here if (match := _REQUIREMENT.match(text))]


def _part(extra: Extra) -> Finding:
    absent = extra.absent()
    if not absent:
        return Finding("parts", extra.name, OK, ", ".join(f"{module} {version_of(module) or ''}".strip() for module in extra.modules))
    return Finding("parts", extra.name, NOTE, f"no {', '.join(absent)}: {extra.without}", f"{extra.command}  # {extra.brings}")


def _accelerators() -> str:
    if "torch" in EXTRAS["train"].absent():
        return "not looked for: torch is not installed"
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("Apple's GPU")
    return ", ".join(names) or "none; none is needed"
