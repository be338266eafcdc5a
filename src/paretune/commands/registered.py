"""What commands about the registry do alike: which registry, who acts, and asking before live traffic changes. An edge: the terminal."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.commands.output import remark, say, show_json

if TYPE_CHECKING:
    from paretune.policy.registry import Change, Registry
    from paretune.policy.rows import Activation, Registered

WHERE = "paretune.db"
ENVIRONMENT = "PARETUNE_REGISTRY"

RegistryOption = Annotated[
    str, typer.Option("--registry", envvar=ENVIRONMENT, metavar="URL", help="SQLite file, or postgresql://HOST/DATABASE.")
]
AsOption = Annotated[str, typer.Option("--as", metavar="USER", help="Who acts; by default the login name.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Change live traffic without asking.")]
NoteOption = Annotated[str, typer.Option(help="Why; kept in the plan and the audit trail.")]
NumberArgument = Annotated[int, typer.Argument(metavar="N", min=1, help="Number of the policy, see `paretune history`.")]
KeyOption = Annotated[
    str | None, typer.Option("--key", metavar="KEY", help="Idempotency key: the same command with the same key is done once.")
]


def registry_at(where: str, *, create: bool = False) -> Registry:
    """Return the registry.

    Raises:
        ConfigError: there is none.
        UnreachableError: it does not answer.
    """
    from paretune.policy.registry import Registry

    return Registry(where, create=create)


def acting(user: str) -> str:
    """Return who acts: who was named, or the login name.

    Raises:
        ConfigError: neither, or it is the name by which the guardrails sign.
    """
    from paretune.errors import ConfigError
    from paretune.policy.audit import AUTOMAT

    try:
        name = user or getpass.getuser()
    except (OSError, KeyError, ImportError):
        raise ConfigError("nobody is logged in here", hint="say who you are with --as USER") from None
    if name.strip().casefold() == AUTOMAT:  # what a person does would pass for what was done by itself, and hold the guardrails
        raise ConfigError(f"{AUTOMAT!r} is how `paretune guard` signs", hint="say who you are with --as USER")
    return name


def change_traffic(
    where: str, change: Callable[[Registry, dict[str, Any]], Change], *, user: str, note: str, key: str | None, yes: bool, as_json: bool
) -> None:
    """Show what would change, ask, change it, and tell.

    Args:
        where: the registry.
        change: makes the change with the options it is given: by, note, key, preview, and expected where that is known.
        user: who acts.
        note: why.
        key: idempotency key.
        yes: do not ask.
        as_json: tell in JSON.

    Raises:
        ConfigError: nobody is there to be asked.
        ConflictError: what is in force changed while the question stood.
    """
    from paretune.errors import ConfigError, ConflictError

    registry, options = registry_at(where), {"by": acting(user), "note": note, "key": key}
    expected: dict[str, Any] = {}
    if not yes:
        seen = change(registry, {**options, "preview": True})
        before = seen.before.version if seen.before else 0
        expected = {"expected": before}
        for line in seen.lines:
            remark(line)
        if not sys.stdin.isatty():
            raise ConfigError("this changes live traffic, and nobody is here to be asked", hint="say --yes")
        if not typer.confirm(f"put plan {seen.plan.version} in force, after plan {before}?", err=True):
            raise ConflictError("nothing was changed: the answer was no", hint="--yes changes it without asking")
    made = change(registry, {**options, **expected})
    _tell(made, as_json=as_json)


def when(at_us: int) -> str:
    """Return a time in UTC, for people."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def show_policy(found: Registered, *, as_json: bool, said: str) -> None:
    """Tell of one policy."""
    if as_json:
        show_json(policy_summary(found))
        return
    say(f"policy {found.number} ({found.policy.label}, {found.policy.policy}): {said}")
    if found.void:
        say(f"  its approval is void: {found.void}")


def policy_summary(found: Registered) -> dict[str, Any]:
    """Return a policy for programs."""
    import msgspec

    policy, standing = found.policy, found.standing
    return {
        "number": found.number,
        "state": str(found.state),
        "label": policy.label,
        "void": found.void,
        "revision": found.revision,
        "published_by": standing.authors[0],
        "approved_by": standing.approved_by or None,
        "approved": when(standing.approved_us) if standing.approved_us else None,
        "front": found.front or None,
        "note": found.note,
        "operating": msgspec.to_builtins(policy),
    }


def activation_summary(activation: Activation) -> dict[str, Any]:
    """Return how a version came into force, for programs."""
    return {
        "version": activation.version,
        "previous": activation.previous,
        "content_of": activation.content_of,
        "operation": activation.operation,
        "at": when(activation.at_us),
        "by": activation.by,
        "note": activation.note,
    }


def lifts_lines(found: Registered) -> list[str]:
    """Return the evidence of a policy, one line per objective."""
    evidence = found.policy.evidence
    lines = []
    for j, name in enumerate(evidence.objectives):
        estimate, low, high = (_percent(evidence.lifts.get(what, ()), j) for what in ("estimate", "band_low", "band_high"))
        lines.append(f"  {name}: {estimate} (band {low} to {high})")
    return lines


def _percent(row: tuple[float | None, ...], j: int) -> str:
    value = row[j] if j < len(row) else None
    return "unknown" if value is None else f"{100 * value:+.2f} %"


def _tell(made: Change, *, as_json: bool) -> None:
    import msgspec

    if as_json:
        activation = None if made.activation is None else activation_summary(made.activation)
        show_json({"activation": activation, "changes": made.lines, "repeated": made.repeated, "plan": msgspec.to_builtins(made.plan)})
        return
    say(f"plan {made.plan.version} is in force" + (" (as answered before: same key)" if made.repeated else ""))
    for line in made.lines:
        say(f"  {line}")
