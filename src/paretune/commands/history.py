"""`paretune history`, `diff` and `audit`: what was in force, and who did what. An edge: the terminal, the registry."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from paretune.commands.output import JsonOption, remark, say, show_json, show_table
from paretune.commands.registered import WHERE, RegistryOption, activation_summary, policy_summary, registry_at, when


def history(
    *,
    limit: Annotated[int, typer.Option(min=1, help="Versions shown, the latest first.")] = 20,
    registry: RegistryOption = WHERE,
    as_json: JsonOption = False,
) -> None:
    """List policies, and what was in force when.

    \b
    Examples:
      paretune history
      paretune history --limit 100 --json
    """
    from paretune.policy.changes import share_of

    opened = registry_at(registry)
    policies, activations, current = opened.policies(), opened.history(limit), opened.current()
    if as_json:
        told = {"policies": [policy_summary(each) for each in policies], "versions": [activation_summary(each) for each in activations]}
        show_json({"registry": opened.name, "in_force": current.version if current else None, **told})
        return
    rows = [
        [
            str(each.number),
            each.policy.label,
            f"{each.state}{' (void)' if each.void else ''}",
            f"{100 * share_of(current, each.number):g} %" if share_of(current, each.number) else "",
            each.standing.authors[0],
            each.standing.approved_by,
            each.void or each.note,
        ]
        for each in policies
    ]
    show_table("policies", ("no", "policy", "state", "users", "published by", "approved by", "note"), rows)
    versions = [
        [
            str(each.version),
            when(each.at_us),
            each.by,
            each.operation + ("" if each.content_of == each.version else f" to {each.content_of}"),
            each.note,
        ]
        for each in activations
    ]
    killed = ", killed: everybody is served the static weights" if current and current.killed else ""
    show_table(
        f"plans; in force: {current.version if current else 'none'}{killed}", ("plan", "since (UTC)", "by", "operation", "note"), versions
    )


def diff(
    before: Annotated[int | None, typer.Argument(metavar="A", min=1, help="A version; by default the one before.")] = None,
    after: Annotated[int | None, typer.Argument(metavar="B", min=1, help="Another; by default the one in force.")] = None,
    *,
    registry: RegistryOption = WHERE,
    as_json: JsonOption = False,
) -> None:
    """Say what differs between two versions of the plan.

    \b
    Examples:
      paretune diff
      paretune diff 3 5
      paretune diff 3 --json
    """
    from paretune.errors import ConfigError
    from paretune.policy.changes import diff as difference

    opened = registry_at(registry)
    b = opened.version() if after is None else after
    if b == 0:
        raise ConfigError("no plan was ever in force", hint="activate a policy first")
    a = b - 1 if before is None else before
    lines = difference(opened.plan(a) if a else None, opened.plan(b))
    if as_json:
        show_json({"before": a, "after": b, "changes": lines})
        return
    say(f"plan {a} -> plan {b}" if a else f"plan {b}, the first")
    for line in lines or ("  nothing",):
        say(f"  {line}")


def audit(
    action: Annotated[Literal["verify", "show"], typer.Argument(metavar="verify|show", help="Check the trail, or list it.")] = "verify",
    *,
    head: Annotated[str, typer.Option(metavar="HASH", help="A head noted earlier, which must still be in the trail.")] = "",
    registry: RegistryOption = WHERE,
    as_json: JsonOption = False,
) -> None:
    """Check or list who did what, on which evidence.

    Each entry holds the hash of the one before. `verify` hashes all entries, plans, policies and bundles again and exits 3 when one is
    not what the trail says. Note the head it prints somewhere else: with --head, a trail whose end was cut off is found too.

    \b
    Examples:
      paretune audit verify
      paretune audit verify --head 5f2c...
      paretune audit show --json
    """
    from paretune.errors import ArtefactError

    opened = registry_at(registry)
    if action == "show":
        entries = opened.audit()
        if as_json:
            show_json({"entries": entries})
            return
        rows = [[str(e.seq), when(e.at_us), e.who, e.what, e.subject, e.evidence[:12], e.hash[:12]] for e in entries]
        show_table("audit trail", ("no", "when (UTC)", "who", "what", "subject", "evidence", "hash"), rows)
        return
    problems = opened.verify(head=head)
    count, last = opened.head()
    if as_json:
        show_json({"entries": count, "head": last, "problems": problems})
    for problem in problems:
        remark(problem)
    if problems:
        raise ArtefactError(problems[0], hint="find out who could write to the database, and restore a backup")
    if not as_json:
        say(f"{count} entries, each as it was written; so are all plans, policies and bundles")
        say(f"head: {last}")
