"""The registry: what is in force, who put it there, and the trail of it all. An edge: the database, the clock.

    publish -> draft -> approve -> activate -> ramp -> ...          rollback, kill, release: at any time

The rules: each operation is one transaction with its line of the audit trail in it; a version comes into force only where the version that
its author saw is still in force; kill alone takes whatever it finds, unless told otherwise. Nothing here knows HTTP or the terminal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, text, update

from paretune.errors import ConfigError, ConflictError
from paretune.policy import audit, changes, rows, states
from paretune.policy.database import CHANNEL
from paretune.policy.draft import Operating, as_next, with_control, with_exploration
from paretune.policy.outcomes import OutcomeRegister
from paretune.policy.plan import Plan
from paretune.policy.register import kept_text, named
from paretune.policy.rows import Activation
from paretune.policy.shelf import get_bundle
from paretune.policy.soundness import problems
from paretune.policy.states import State
from paretune.policy.tables import in_force, policies

_SERVING = "serving.json"  # of a bundle; holds the actions
_LONGEST_KEY = 200
_WHATEVER = -1  # in place of an expected version: what is in force when the change arrives


@dataclass(frozen=True, slots=True)
class Drafted:
    """What shall be in force, of any version."""

    plan: Plan
    evidence: str = ""  # fingerprint of what it rests on
    content_of: int = 0  # version whose content it repeats; 0 = none


Draft = Callable[[Connection, Plan | None], Drafted]
"""From what is in force to what shall be."""


@dataclass(frozen=True, slots=True)
class Change:
    """A version that came into force, or that would."""

    before: Plan | None
    plan: Plan
    lines: tuple[str, ...]  # what changes, in words
    activation: Activation | None  # None = a preview, nothing was changed
    repeated: bool = False  # the same request, with the same idempotency key, had been made before


class Registry(OutcomeRegister):
    """Everything that governs what is served."""

    def version(self) -> int:
        """Return the version in force, 0 where there is none yet."""
        return self.database.read(rows.version_in_force)

    def current(self) -> Plan | None:
        """Return the plan in force, None where there is none yet."""
        return self.database.read(rows.current_plan)

    def plan(self, version: int) -> Plan:
        """Return one version.

        Raises:
            ConfigError: there is none.
        """
        return self.database.read(lambda connection: rows.plan_of(connection, version))

    def history(self, limit: int | None = None) -> list[Activation]:
        """Return how each version came into force, the latest first."""
        return self.database.read(lambda connection: rows.activations_of(connection, limit))

    def activate(
        self,
        number: int,
        *,
        share: float,
        by: str,
        control: float | None = None,
        explore: float | None = None,
        most_per_s: float = 0.0,
        note: str = "",
        expected: int | None = None,
        key: str | None = None,
        preview: bool = False,
    ) -> Change:
        """Serve an approved policy to a share of the users.

        Args:
            number: of the policy.
            share: of users, in (0, 1].
            by: who does it.
            control: share of users kept on the static weights to compare with; None leaves it as it is.
            explore: share of requests explored over the actions of the policy's bundle; None leaves it as it is.
            most_per_s: explored requests per second and process at most; 0 = no cap.
            note: why, for people.
            expected: version that must be in force; by default the one at the time of the call.
            key: idempotency key: the same request again with the same key changes nothing and returns the first answer.
            preview: change nothing and return what would come.

        Raises:
            ForbiddenError: the policy is not approved as it is now.
            ConflictError: another version came into force meanwhile, or the policy is in force already.
        """

        def draft(connection: Connection, before: Plan | None) -> Drafted:
            policy = self._approved(connection, number)
            start = before if before is None or control is None else with_control(before, share=control)
            made = changes.activate(start, policy, number=number, share=share)
            if before is None and control is not None:
                made = with_control(made, share=control)
            return Drafted(_explored(made, policy, explore, most_per_s), policy.identity)

        asked = {"number": number, "share": share, "control": control, "explore": explore, "most_per_s": most_per_s}
        return self._change("activate", asked, draft, by=by, note=note, expected=expected, key=key, preview=preview)

    def ramp(
        self,
        number: int,
        *,
        by: str,
        share: float | None = None,
        control: float | None = None,
        explore: float | None = None,
        most_per_s: float = 0.0,
        note: str = "",
        expected: int | None = None,
        key: str | None = None,
        preview: bool = False,
    ) -> Change:
        """Serve a policy that is in force to another share; None is the next of 1, 5, 25, 50 and 100 %. Less needs no approval.

        Raises:
            ForbiddenError: more is asked for and the policy is not approved as it is now.
            ConflictError: another version came into force meanwhile, or the policy is not in force.
        """

        def draft(connection: Connection, before: Plan | None) -> Drafted:
            less = share is not None and share < changes.share_of(before, number)
            policy = None if less else self._approved(connection, number)
            start = before if before is None or control is None else with_control(before, share=control)
            made = changes.ramp(start, policy, number=number, share=share)
            if explore is not None and explore > 0 and policy is None:
                raise ConflictError("exploration is not widened while a policy is taken back", hint="ramp first, then explore")
            return Drafted(_explored(made, policy, explore, most_per_s), policy.identity if policy else "")

        asked = {"number": number, "share": share, "control": control, "explore": explore, "most_per_s": most_per_s}
        return self._change("ramp", asked, draft, by=by, note=note, expected=expected, key=key, preview=preview)

    def rollback(
        self,
        *,
        by: str,
        to: int | None = None,
        note: str = "",
        expected: int | None = None,
        key: str | None = None,
        preview: bool = False,
    ) -> Change:
        """Put the content of an earlier version in force, as a new version.

        Args:
            by: who does it.
            to: version to go back to; by default the one before, and after a rollback the one before that.
            note: why, for people.
            expected: see `activate`.
            key: see `activate`.
            preview: see `activate`.

        Raises:
            ConflictError: there is nothing to go back to, or the earlier plan serves a policy that was retired.
        """

        def draft(connection: Connection, before: Plan | None) -> Drafted:
            if before is None:
                raise ConflictError("no plan was ever in force", hint="activate a policy first")
            version = _earlier(connection, before.version) if to is None else to
            earlier = changes.rollback(before, rows.plan_of(connection, version))
            _refuse_retired(connection, earlier)
            return Drafted(earlier, content_of=rows.activation_of(connection, version).content_of)

        return self._change("rollback", {"to": to}, draft, by=by, note=note, expected=expected, key=key, preview=preview)

    def kill(self, *, by: str, note: str = "", expected: int | None = None, key: str | None = None, preview: bool = False) -> Change:
        """Serve everybody the static weights.

        Args:
            by: who does it.
            note: why, for people.
            expected: version that must be in force; by default whatever is in force when it arrives.
            key: see `activate`.
            preview: see `activate`.

        Raises:
            ConflictError: it is so already, nothing was ever in force, or another version than the expected one is.
        """
        wanted = _WHATEVER if expected is None else expected
        return self._change("kill", {}, _switched(changes.kill), by=by, note=note, expected=wanted, key=key, preview=preview)

    def release(self, *, by: str, note: str = "", expected: int | None = None, key: str | None = None, preview: bool = False) -> Change:
        """Put in force again what was killed.

        Raises:
            ConflictError: nothing is killed, or another version came into force meanwhile.
        """
        return self._change("release", {}, _switched(changes.release), by=by, note=note, expected=expected, key=key, preview=preview)

    def remark(self, version: int, what: str, detail: Mapping[str, Any], *, by: str) -> bool:
        """Note something about a version in the audit trail, once, and return whether it was new; nothing is changed by it.

        Args:
            version: of the plan.
            what: in a word.
            detail: JSON-able.
            by: who says it.

        Raises:
            NotFoundError: there is no such version.
        """
        by, subject = named(by), f"plan {version}"

        def work(connection: Connection) -> bool:
            rows.activation_of(connection, version)
            if rows.is_noted(connection, what, subject):
                return False
            self._note(connection, by, what, subject, detail)
            return True

        return not self.database.read(lambda connection: rows.is_noted(connection, what, subject)) and self.database.write(work)

    def trail_after(self, seq: int, *, limit: int) -> list[audit.Entry]:
        """Return so many entries of the audit trail that follow one, the oldest first; 0 = from the first on."""
        return self.database.read(lambda connection: rows.entries_after(connection, seq, limit))

    def trail_before(self, seq: int | None, *, limit: int) -> list[audit.Entry]:
        """Return so many entries of the audit trail that come before one, the latest first; None = the latest."""
        return self.database.read(lambda connection: rows.entries_before(connection, seq, limit))

    def audit(self) -> list[audit.Entry]:
        """Return the whole audit trail, the oldest entry first."""
        return self.database.read(lambda connection: list(rows.entries(connection)))

    def head(self) -> tuple[int, str]:
        """Return the number of entries of the audit trail, and the hash of the latest; 0 and nothing where there is none."""
        last = self.database.read(rows.last_entry)
        return (0, "") if last is None else (last.seq, last.hash)

    def verify(self, *, head: str = "") -> list[str]:
        """Return what does not hold: of the audit trail, and of what it speaks of; nothing where all is as it was written.

        Args:
            head: a hash of the trail that was noted earlier.
        """
        return self.database.read(lambda connection: problems(connection, head=head))

    def _change(
        self,
        operation: str,
        asked: Mapping[str, Any],
        draft: Draft,
        *,
        by: str,
        note: str,
        expected: int | None,
        key: str | None,
        preview: bool,
    ) -> Change:
        by, request = named(by), hashlib.sha256(json.dumps([operation, asked, by], sort_keys=True).encode()).hexdigest()
        if key is not None and not 0 < len(key) <= _LONGEST_KEY:
            raise ConfigError(f"an idempotency key of {len(key)} characters", hint=f"give 1 to {_LONGEST_KEY}")
        kept_text(note, "the note")
        kept_text(key or "", "the idempotency key")
        if preview:
            return self.database.read(lambda connection: _drafted(connection, draft, note)[0])
        wanted = self.version() if expected is None else expected

        def work(connection: Connection) -> Change:
            earlier = None if key is None else rows.activation_by_key(connection, key)
            if earlier is not None:
                return _repeated(connection, earlier, request)
            version = rows.version_in_force(connection)
            if wanted not in {version, _WHATEVER}:
                raise ConflictError(
                    f"plan {version} came into force meanwhile, where plan {wanted} was", hint="look at `paretune diff`, and try again"
                )
            change, drafted = _drafted(connection, draft, note)
            after, now_us = change.plan, self._now_us()
            content_of = drafted.content_of or after.version
            activation = Activation(after.version, version, content_of, operation, now_us, by, note, key, request)
            rows.put_plan(connection, after)
            rows.put_activation(connection, activation)
            moved = connection.execute(
                update(in_force).where(in_force.c.id == 1, in_force.c.version == version).values(version=after.version)
            )
            if moved.rowcount != 1:
                raise ConflictError("another plan came into force meanwhile", hint="look at `paretune diff`, and try again")
            detail = {**asked, "fingerprint": after.fingerprint, "previous": version, "content_of": content_of}
            detail |= {"changes": change.lines, "key": key, "note": note}
            self._note(connection, by, operation, f"plan {after.version}", detail, evidence=drafted.evidence, at_us=now_us)
            if not self.database.is_sqlite:
                connection.execute(text("SELECT pg_notify(:channel, :version)"), {"channel": CHANNEL, "version": str(after.version)})
            return Change(change.before, after, change.lines, activation)

        return self.database.write(work)

    def _approved(self, connection: Connection, number: int) -> Operating:
        """Return an approved policy as a plan needs it.

        Raises:
            ForbiddenError: it is not approved as it is now.
        """
        now_us, rules = self._now_us(), rows.rules_of(connection)
        found = rows.registered(connection, number, now_us=now_us, rules=rules)
        states.require_approval(found.standing, now_us=now_us, rules=rules)
        levels = []
        if found.policy.bundle:
            levels = json.loads(get_bundle(connection, found.policy.bundle).get(_SERVING, b"{}")).get("actions", [])
        return changes.operating(found.policy, number=number, levels=levels)


def _drafted(connection: Connection, draft: Draft, note: str) -> tuple[Change, Drafted]:
    """Return what would come into force next."""
    before = rows.current_plan(connection)
    drafted = draft(connection, before)
    after = as_next(drafted.plan, *([before] if before is not None else []), note=note)
    return Change(before, after, changes.diff(before, after), None), drafted


def _repeated(connection: Connection, earlier: Activation, request: str) -> Change:
    """Return the answer that the same request got before.

    Raises:
        ConflictError: it was another request.
    """
    if earlier.request != request:
        raise ConflictError("this idempotency key was used for another request", hint="make a new key for each thing that is asked")
    plan = rows.plan_of(connection, earlier.version)
    before = rows.plan_of(connection, earlier.previous) if earlier.previous else None
    return Change(before, plan, changes.diff(before, plan), earlier, repeated=True)


def _switched(change: Callable[[Plan], Plan]) -> Draft:
    def draft(_: Connection, before: Plan | None) -> Drafted:
        if before is None:
            raise ConflictError("no plan was ever in force", hint="everybody is served the static weights anyway")
        return Drafted(change(before))

    return draft


def _explored(plan: Plan, policy: Operating | None, share: float | None, most_per_s: float) -> Plan:
    if share is None:
        return plan
    if share > 0 and policy is not None and not policy.levels:
        raise ConflictError("fixed weights have no grid to explore", hint="explore beside a policy that has a bundle")
    return with_exploration(plan, share=share, design="uniform", levels=policy.levels if policy else (), most_per_s=most_per_s)


def _earlier(connection: Connection, version: int) -> int:
    """Return the version whose content was in force before that of a version.

    Raises:
        ConflictError: it is the first.
    """
    content = rows.activation_of(connection, version).content_of
    previous = rows.activation_of(connection, content).previous
    if previous == 0:
        raise ConflictError(f"nothing was in force before plan {content}", hint="`paretune kill` serves everybody the static weights")
    return rows.activation_of(connection, previous).content_of


def _refuse_retired(connection: Connection, plan: Plan) -> None:
    retired = set(connection.execute(select(policies.c.number).where(policies.c.state == State.RETIRED)).scalars())
    named_here = sorted(retired & set(changes.numbers_in(plan)))
    if named_here:
        raise ConflictError(
            f"plan {plan.version} serves policy {named_here[0]}, which was retired", hint="name another version with --to, or kill"
        )
