"""Operating policies in the registry: published, approved, retired. An edge: the database, the clock.

The rule: each operation is one transaction with its line of the audit trail in it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, func, insert, select, update

from paretune.errors import ConfigError, ConflictError, NotFoundError
from paretune.policy import rows, states
from paretune.policy.changes import numbers_in
from paretune.policy.database import DEADLINE_S, Database
from paretune.policy.operating import OperatingPolicy, decode_operating, sibling
from paretune.policy.rows import Registered
from paretune.policy.shelf import Files, StoredFront, get_bundle, get_front, published_from, put_bundle, put_front, stored_fronts
from paretune.policy.states import Rules, Standing, State
from paretune.policy.tables import evidence, policies
from paretune.policy.tables import rules as rules_table

_LONGEST_NAME = 200  # characters of who acts
_BRINGS = "`paretune publish RUN POLICY` brings the model"


class PolicyRegister:
    """Policies with their evidence, and who approved them; for any number of threads and processes."""

    _origin = ""

    def __init__(
        self, where: str | Path, *, deadline_s: float = DEADLINE_S, clock: Callable[[], float] = time.time, create: bool = True
    ) -> None:
        """Open a registry; its tables are made or brought up to date.

        Args:
            where: an SQLite file, or the URL of a PostgreSQL database.
            deadline_s: of each call.
            clock: seconds since 1970.
            create: make it where there is none.

        Raises:
            ConfigError: it cannot be a registry, or there is none.
            UnreachableError: the database does not answer.
        """
        self.database = Database(where, deadline_s=deadline_s)
        self._clock = clock
        if not create and self.database.is_sqlite and not Path(str(self.database.url.database)).exists():
            raise ConfigError(f"there is no registry at {self.database.name}", hint="make one with `paretune publish RUN POLICY`")
        self.database.migrate()

    def asked_from(self, origin: str) -> Self:
        """Return this registry, as it notes in the trail that what is asked of it comes from an address."""
        other = copy(self)
        other._origin = origin
        return other

    @property
    def name(self) -> str:
        """Where it lies, for people."""
        return self.database.name

    def close(self) -> None:
        """Give back all connections."""
        self.database.close()

    def publish(
        self,
        document: bytes,
        files: Files | None = None,
        *,
        by: str,
        renews: int | None = None,
        front: bytes | None = None,
        report: bytes | None = None,
        note: str = "",
    ) -> Registered:
        """Store an operating policy as a draft, or new evidence for one, and return it.

        Args:
            document: operating.json of `paretune export`.
            files: of its bundle; None of fixed weights, or where the registry has the bundle.
            by: who publishes.
            renews: number of the policy that this is new evidence for; its approval is void from now on.
            front: front.json of the run it was chosen from.
            report: report.html of that run.
            note: why, for people.

        Raises:
            ArtefactError: the policy or its bundle was altered, or they do not belong together.
            ConflictError: it is published already, or cannot be renewed.
        """
        policy, by, note = decode_operating(document), named(by), kept_text(note, "the note")
        kept_text(policy.policy, "the policy's name")

        def work(connection: Connection) -> Registered:
            now_us, rules = self._now_us(), rows.rules_of(connection)
            _refuse_twice(connection, policy.fingerprint)
            if files is not None and policy.bundle:
                put_bundle(connection, files, by=by, at_us=now_us)
            if policy.bundle:
                get_bundle(connection, policy.bundle)  # refused where it is another one
            kept = None if front is None else put_front(connection, front, report, by=by, at_us=now_us)
            if renews is None:
                number, revision = 1 + (connection.execute(select(func.max(policies.c.number))).scalar() or 0), 1
                empty = {"approved": "", "approved_by": "", "approved_us": 0}
                connection.execute(insert(policies).values(number=number, state=State.DRAFT, **empty))
            else:
                old = rows.registered(connection, renews, now_us=now_us, rules=rules)
                if old.state is State.RETIRED:
                    raise ConflictError(f"policy {renews} is retired", hint="publish it as a new policy")
                if (old.policy.heads, old.policy.static) != (policy.heads, policy.static):
                    raise ConflictError(f"policy {renews} is of another surface", hint="publish this one as a new policy")
                number, revision = renews, old.revision + 1
            written = {"number": number, "revision": revision, "fingerprint": policy.fingerprint, "document": document}
            about = {"bundle": policy.bundle or None, "front": kept, "at_us": now_us, "by": by, "note": note}
            connection.execute(insert(evidence).values(**written, **about))
            self._note(
                connection,
                by,
                "publish" if renews is None else "renew",
                f"policy {number}",
                {"policy": policy.policy, "bundle": policy.bundle, "revision": revision, "front": kept or "", "note": note},
                evidence=policy.fingerprint,
                at_us=now_us,
            )
            return rows.registered(connection, number, now_us=now_us, rules=rules)

        return self.database.write(work)

    def approve(self, number: int, *, by: str, note: str = "", fingerprint: str | None = None) -> Registered:
        """Approve a policy with its evidence as they are now, and return it.

        Args:
            number: of the policy.
            by: who approves.
            note: why, for people.
            fingerprint: of what the approver saw; refused where it is another by now.

        Raises:
            ForbiddenError: it is one's own, or the evidence is too old.
            ConflictError: it is approved or retired already, or was changed meanwhile.
        """

        def change(found: Registered, now_us: int, rules: Rules) -> Standing:
            if fingerprint is not None and fingerprint != found.policy.fingerprint:
                raise ConflictError(f"the evidence of policy {number} was changed meanwhile", hint="look at it again")
            return states.approve(found.standing, by=named(by), now_us=now_us, rules=rules)

        return self._restate(number, change, by=named(by), what="approve", note=note)

    def retire(self, number: int, *, by: str, note: str = "") -> Registered:
        """Take a policy out of use for good, and return it.

        Raises:
            ConflictError: it is in force, or retired already.
        """
        return self._restate(number, lambda found, *_: states.retire(found.standing), by=named(by), what="retire", note=note)

    def policy(self, number: int) -> Registered:
        """Return one policy.

        Raises:
            ConfigError: there is none.
        """
        now_us = self._now_us()
        return self.database.read(lambda connection: rows.registered(connection, number, now_us=now_us, rules=rows.rules_of(connection)))

    def policies(self) -> list[Registered]:
        """Return all policies, by number."""
        now_us = self._now_us()

        def work(connection: Connection) -> list[Registered]:
            rules = rows.rules_of(connection)
            return [rows.registered(connection, number, now_us=now_us, rules=rules) for number in rows.numbers_of(connection)]

        return self.database.read(work)

    def fronts(self) -> list[StoredFront]:
        """Return the fronts that policies were chosen from, the latest first."""
        return self.database.read(stored_fronts)

    def beside(self, front: str) -> OperatingPolicy:
        """Return a policy that was published from a front: with a model where one was, not retired where one is not, else the newest.

        Raises:
            NotFoundError: there is none.
        """
        return decode_operating(self.database.read(lambda connection: published_from(connection, front))[0])

    def choose(self, front: str, policy: int, *, by: str, note: str = "") -> Registered:
        """Draft another policy of a front that is here, over the model of those that were published from it, and return it.

        Args:
            front: fingerprint.
            policy: index into the front's policies.
            by: who chooses.
            note: why, for people.

        Raises:
            NotFoundError: no policy was published from such a front.
            ArtefactError: the front, or the policy beside it, was altered.
            ConfigError: there is no such policy, or it cannot be served as an arm of a plan.
            ConflictError: it is published already, or every policy with the front's model was retired.
        """
        from paretune.frontier.archive import decode_front  # brings numba and scipy, which nothing else here needs

        document, is_retired = self.database.read(lambda connection: published_from(connection, front))
        beside, (document, _) = decode_operating(document), self.front(front)
        decoded = decode_front(document, source=f"front {front[:12]}")
        written = sibling(beside, decoded, policy)
        if decoded.policies[policy].weights is None and not beside.bundle:
            raise NotFoundError(f"no policy with a model was published from front {front[:12]}", hint=_BRINGS)
        if written["bundle"] and is_retired:
            raise ConflictError(f"every policy with the model of front {front[:12]} was retired", hint=_BRINGS)
        return self.publish(json.dumps(written, indent=1, ensure_ascii=False, allow_nan=False).encode(), by=by, front=document, note=note)

    def rules(self) -> Rules:
        """Return what approvals must keep."""
        return self.database.read(rows.rules_of)

    def set_rules(self, rules: Rules, *, by: str, note: str = "") -> Rules:
        """Change what approvals must keep; noted in the audit trail."""
        kept_text(note, "the note")
        values = {"self_approval": rules.self_approval, "evidence_days": rules.evidence_days}

        def work(connection: Connection) -> Rules:
            connection.execute(update(rules_table).where(rules_table.c.id == 1).values(**values))
            self._note(connection, named(by), "rules", "registry", {**values, "note": note})
            return rules

        return self.database.write(work)

    def bundle(self, fingerprint: str) -> dict[str, bytes]:
        """Return the files of a bundle, each equal to its checksum.

        Raises:
            ArtefactError: it is not here, or was altered.
        """
        return self.database.read(lambda connection: get_bundle(connection, fingerprint))

    def front(self, fingerprint: str) -> tuple[bytes, bytes | None]:
        """Return front.json and report.html of a front.

        Raises:
            ArtefactError: it is not here, or was altered.
        """
        return self.database.read(lambda connection: get_front(connection, fingerprint))

    def _restate(self, number: int, change: Callable[[Registered, int, Rules], Standing], *, by: str, what: str, note: str) -> Registered:
        kept_text(note, "the note")

        def work(connection: Connection) -> Registered:
            now_us, rules = self._now_us(), rows.rules_of(connection)
            found = rows.registered(connection, number, now_us=now_us, rules=rules)
            after = change(found, now_us, rules)
            in_force = rows.current_plan(connection)
            if after.state is State.RETIRED and number in numbers_in(in_force):
                raise ConflictError(
                    f"policy {number} is in force", hint=f"take it out first: `paretune ramp {number} --share 0`, or roll back"
                )
            approval = {"approved": after.approved, "approved_by": after.approved_by, "approved_us": after.approved_us}
            connection.execute(update(policies).where(policies.c.number == number).values(state=after.state, **approval))
            detail = {"policy": found.policy.policy, "revision": found.revision, "note": note}
            self._note(connection, by, what, f"policy {number}", detail, evidence=found.policy.fingerprint, at_us=now_us)
            return rows.registered(connection, number, now_us=now_us, rules=rules)

        return self.database.write(work)

    def _note(
        self,
        connection: Connection,
        who: str,
        what: str,
        subject: str,
        detail: Mapping[str, Any],
        *,
        evidence: str = "",
        at_us: int | None = None,
    ) -> None:
        now_us = self._now_us() if at_us is None else at_us
        detail = {**detail, "from": self._origin} if self._origin else detail
        rows.note_down(connection, at_us=now_us, who=who, what=what, subject=subject, detail=detail, evidence=evidence)

    def _now_us(self) -> int:
        return int(self._clock() * 1e6)


def named(by: str) -> str:
    """Return who acts.

    Raises:
        ConfigError: nobody is named.
    """
    if not by.strip() or len(by) > _LONGEST_NAME:
        raise ConfigError("nobody is named as acting", hint="say who you are with --as USER")
    return kept_text(by.strip(), "the name of who acts")


def kept_text(text: str, what: str) -> str:
    """Return a text that every database can keep.

    Raises:
        ConfigError: it holds a NUL, or half of a character.
    """
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"{what} holds a character that is none: {ascii(text)[:60]}", hint="write it in plain text, as UTF-8")
    return text


def _refuse_twice(connection: Connection, fingerprint: str) -> None:
    chosen = select(policies.c.number).join(evidence, evidence.c.number == policies.c.number)
    known = connection.execute(chosen.where(evidence.c.fingerprint == fingerprint, policies.c.state != State.RETIRED)).scalars().first()
    if known is not None:
        raise ConflictError(f"this is policy {known} already, with the same evidence", hint=f"`paretune approve {known}`, or sweep again")
