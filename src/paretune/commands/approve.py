"""`paretune approve`, `retire` and `rules`: what policies may be used. An edge: the terminal, the registry."""

from __future__ import annotations

from typing import Annotated

import typer

from paretune.commands.output import JsonOption, say, show_json
from paretune.commands.registered import (
    WHERE,
    AsOption,
    NoteOption,
    NumberArgument,
    RegistryOption,
    acting,
    lifts_lines,
    policy_summary,
    registry_at,
    show_policy,
)


def approve(
    number: NumberArgument, *, registry: RegistryOption = WHERE, user: AsOption = "", note: NoteOption = "", as_json: JsonOption = False
) -> None:
    """Approve a policy with its evidence as they are now.

    The approval is of the bundle, the trade-off and the evidence together: it is void once any of them is another, or the
    evidence is older than the rules allow. Nobody approves what they published, unless the rules say so.

    \b
    Examples:
      paretune approve 1 --as bert
      paretune approve 3 --as bert --note "bands clear the floor" --json
    """
    found = registry_at(registry).approve(number, by=acting(user), note=note)
    if as_json:
        show_json(policy_summary(found))
        return
    show_policy(found, as_json=False, said=f"approved by {found.standing.approved_by}")
    for line in lifts_lines(found):
        say(line)


def retire(
    number: NumberArgument, *, registry: RegistryOption = WHERE, user: AsOption = "", note: NoteOption = "", as_json: JsonOption = False
) -> None:
    """Take a policy out of use for good.

    A policy that is in force is first ramped to 0, or rolled back.

    \b
    Examples:
      paretune retire 1 --note "another ranker"
      paretune retire 1 --as anna --json
    """
    show_policy(registry_at(registry).retire(number, by=acting(user), note=note), as_json=as_json, said="retired")


def rules(
    *,
    self_approval: Annotated[
        bool | None, typer.Option("--self-approval/--no-self-approval", help="Whether who published may also approve.")
    ] = None,
    evidence_days: Annotated[
        float | None, typer.Option(metavar="DAYS", help="Age at which evidence no longer carries an approval.")
    ] = None,
    registry: RegistryOption = WHERE,
    user: AsOption = "",
    note: NoteOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show or change what approvals must keep.

    Changes are noted in the audit trail. Without options, the rules are shown.

    \b
    Examples:
      paretune rules
      paretune rules --self-approval --note "a team of one"
      paretune rules --evidence-days 14 --json
    """
    from dataclasses import replace

    opened = registry_at(registry, create=self_approval is not None or evidence_days is not None)
    found = opened.rules()
    changed = replace(
        found,
        self_approval=found.self_approval if self_approval is None else self_approval,
        evidence_days=found.evidence_days if evidence_days is None else evidence_days,
    )
    if changed != found:
        found = opened.set_rules(changed, by=acting(user), note=note)
    if as_json:
        show_json(found)
        return
    say(f"self-approval: {'allowed' if found.self_approval else 'refused'}")
    say(f"evidence is good for {found.evidence_days:g} days")
