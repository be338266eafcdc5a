"""Bundles and fronts in the registry, found by what they contain. An edge: the database, bundle folders.

The rule: a bundle's fingerprint is the SHA-256 of its SHA256SUMS, which hold the hash of every file; both are checked on the way in and on
the way out, so that a byte that changed in between is found before anything is served.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, insert, select

from paretune.atomic import write_folder
from paretune.errors import ArtefactError, NotFoundError
from paretune.policy.states import State
from paretune.policy.tables import bundle_files, bundles, evidence, fronts, policies
from paretune.value.bundle import SUMS, verified_files

Files = Mapping[str, bytes]
"""Name -> content of all files of a bundle, its SHA256SUMS among them."""


@dataclass(frozen=True, slots=True)
class StoredFront:
    """A front in the registry."""

    fingerprint: str
    at_us: int
    by: str
    numbers: tuple[int, ...]  # of the policies that were published from it


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a bundle on disk.

    Raises:
        ArtefactError: one is missing or altered.
    """
    found = verified_files(folder)
    try:
        files = {**found, SUMS: (folder / SUMS).read_bytes()}
    except OSError as error:
        raise ArtefactError(f"{folder} changed while it was read: {error}", hint="try again") from None
    check_files(files, source=str(folder))
    return files


def check_files(files: Files, *, source: str, fingerprint: str = "") -> str:
    """Return the fingerprint of a bundle whose every file is as its checksum says.

    Args:
        files: all of them.
        source: named in errors.
        fingerprint: that it must have; empty = any.

    Raises:
        ArtefactError: a file is missing, altered or too many, or the bundle is another.
    """
    sums = files.get(SUMS, b"")
    content = {name: body for name, body in files.items() if name != SUMS}
    listed = dict(line.split("  ", 1)[::-1] for line in sums.decode("utf-8", "replace").splitlines() if "  " in line)
    hashes = {name: hashlib.sha256(body).hexdigest() for name, body in content.items()}
    wrong = sorted(name for name in {*listed, *hashes} if listed.get(name) != hashes.get(name))
    found = hashlib.sha256(sums).hexdigest()
    if wrong or not listed or sums != "".join(f"{digest}  {name}\n" for name, digest in sorted(listed.items())).encode():
        raise ArtefactError(f"{source} was altered or torn: {', '.join(wrong) or SUMS} differs from its checksum", hint=_AGAIN)
    if fingerprint and found != fingerprint:
        raise ArtefactError(f"{source} is bundle {found[:12]}, not {fingerprint[:12]}", hint=_AGAIN)
    return found


def put_bundle(connection: Connection, files: Files, *, by: str, at_us: int) -> str:
    """Store a bundle, where it is not stored yet, and return its fingerprint.

    Raises:
        ArtefactError: a file is not as its checksum says.
    """
    fingerprint = check_files(files, source="the bundle")
    if connection.execute(select(bundles.c.fingerprint).where(bundles.c.fingerprint == fingerprint)).first() is None:
        connection.execute(insert(bundles).values(fingerprint=fingerprint, at_us=at_us, by=by))
        rows = [{"fingerprint": fingerprint, "name": name, "content": content} for name, content in sorted(files.items())]
        connection.execute(insert(bundle_files), rows)
    return fingerprint


def get_bundle(connection: Connection, fingerprint: str) -> dict[str, bytes]:
    """Return the files of a bundle, checked.

    Raises:
        ArtefactError: it is not here, or a byte of it changed.
    """
    chosen = select(bundle_files.c.name, bundle_files.c.content).where(bundle_files.c.fingerprint == fingerprint)
    files = {name: bytes(content) for name, content in connection.execute(chosen)}
    if not files:
        raise ArtefactError(f"no bundle {fingerprint[:12]} in the registry", hint="publish the policy it belongs to")
    check_files(files, source=f"bundle {fingerprint[:12]} in the registry", fingerprint=fingerprint)
    return files


def write_bundle(files: Files, folder: Path) -> Path:
    """Write a bundle as FOLDER/fingerprint, whole or not at all, and return that folder.

    Raises:
        ArtefactError: a file is not as its checksum says.
        OSError: the disk says no.
    """
    place = folder / check_files(files, source="the bundle")
    write_folder(place, dict(files))
    return place


def put_front(connection: Connection, document: bytes, report: bytes | None, *, by: str, at_us: int) -> str:
    """Store a front and its page, where it is not stored yet, and return the SHA-256 of front.json."""
    fingerprint = hashlib.sha256(document).hexdigest()
    if connection.execute(select(fronts.c.fingerprint).where(fronts.c.fingerprint == fingerprint)).first() is None:
        connection.execute(insert(fronts).values(fingerprint=fingerprint, document=document, report=report, at_us=at_us, by=by))
    return fingerprint


def get_front(connection: Connection, fingerprint: str) -> tuple[bytes, bytes | None]:
    """Return front.json and the report's page.

    Raises:
        NotFoundError: it is not here.
        ArtefactError: it was altered.
    """
    row = connection.execute(select(fronts.c.document, fronts.c.report).where(fronts.c.fingerprint == fingerprint)).first()
    if row is None:
        raise NotFoundError(f"no front {fingerprint[:12]} in the registry", hint="publish a policy of it, with its run")
    if hashlib.sha256(row.document).hexdigest() != fingerprint:
        raise ArtefactError(f"no whole front {fingerprint[:12]} in the registry", hint="publish the policy again, with its run")
    return bytes(row.document), None if row.report is None else bytes(row.report)


def stored_fronts(connection: Connection) -> list[StoredFront]:
    """Return the fronts here, the latest first."""
    chosen = select(evidence.c.front, evidence.c.number).where(evidence.c.front.is_not(None)).order_by(evidence.c.number)
    numbers: dict[str, dict[int, None]] = {}
    for fingerprint, number in connection.execute(chosen):
        numbers.setdefault(fingerprint, {})[number] = None
    known = connection.execute(select(fronts.c.fingerprint, fronts.c.at_us, fronts.c.by).order_by(fronts.c.at_us.desc()))
    return [StoredFront(row.fingerprint, row.at_us, row.by, tuple(numbers.get(row.fingerprint, ()))) for row in known]


def published_from(connection: Connection, front: str) -> tuple[bytes, bool]:
    """Return the operating.json of a policy that was published from a front, and whether that was retired since.

    One with a model is taken before one of fixed weights, one that is not retired before one that is, and the newest of these.

    Raises:
        NotFoundError: there is none.
    """
    retired = policies.c.state == State.RETIRED
    chosen = select(evidence.c.document, retired.label("retired")).join(policies, policies.c.number == evidence.c.number)
    best = (evidence.c.bundle.is_(None), retired, evidence.c.number.desc(), evidence.c.revision.desc())
    row = connection.execute(chosen.where(evidence.c.front == front).order_by(*best).limit(1)).first()
    if row is None:
        raise NotFoundError(f"no policy was published from front {front[:12]}", hint="`paretune publish RUN POLICY` brings one")
    return bytes(row.document), bool(row.retired)


_AGAIN = "copy the bundle again, or publish the policy again"
