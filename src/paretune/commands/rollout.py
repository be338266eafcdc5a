"""`paretune activate`, `ramp`, `rollback`, `kill` and `release`: what is in force. An edge: the terminal, the registry."""

from __future__ import annotations

from typing import Annotated

import typer

from paretune.commands.output import JsonOption
from paretune.commands.registered import (
    WHERE,
    AsOption,
    KeyOption,
    NoteOption,
    NumberArgument,
    RegistryOption,
    YesOption,
    change_traffic,
)

ControlOption = Annotated[
    float | None, typer.Option("--static-arm", min=0, max=100, help="Per cent of users kept on static weights to compare with.")
]
ExploreOption = Annotated[float | None, typer.Option(min=0, max=100, help="Per cent of requests explored; 0 ends exploration.")]
CapOption = Annotated[float, typer.Option(min=0, help="Explored requests per second and process at most; 0 = no cap.")]


def activate(
    number: NumberArgument,
    *,
    share: Annotated[float, typer.Option(min=0, max=100, help="Per cent of users who are served it.")] = 5.0,
    static_arm: ControlOption = None,
    explore_share: ExploreOption = None,
    most_per_s: CapOption = 0.0,
    registry: RegistryOption = WHERE,
    user: AsOption = "",
    note: NoteOption = "",
    key: KeyOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Serve an approved policy to a share of users.

    Where there is no room for it, the other policies give way in proportion. Services that follow the registry switch within
    two seconds, on PostgreSQL at once. Shows what changes and asks first.

    \b
    Examples:
      paretune activate 1 --share 5
      paretune activate 1 --share 5 --static-arm 5 --explore-share 1.25 --yes
      paretune activate 2 --share 1 --key deploy-117 --yes --json
    """
    change_traffic(
        registry,
        lambda opened, options: opened.activate(
            number, share=share / 100, control=_part(static_arm), explore=_part(explore_share), most_per_s=most_per_s, **options
        ),
        user=user,
        note=note,
        key=key,
        yes=yes,
        as_json=as_json,
    )


def ramp(
    number: NumberArgument,
    *,
    share: Annotated[
        float | None, typer.Option(min=0, max=100, help="Per cent of users; by default the next of 1, 5, 25, 50, 100; 0 takes it out.")
    ] = None,
    static_arm: ControlOption = None,
    explore_share: ExploreOption = None,
    most_per_s: CapOption = 0.0,
    registry: RegistryOption = WHERE,
    user: AsOption = "",
    note: NoteOption = "",
    key: KeyOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Serve a policy in force to another share of users.

    More needs an approval that still counts, less does not. A policy whose evidence was renewed comes into force as it is now.

    \b
    Examples:
      paretune ramp 1
      paretune ramp 1 --share 25 --yes
      paretune ramp 1 --share 0 --note "taken out" --json
    """
    change_traffic(
        registry,
        lambda opened, options: opened.ramp(
            number, share=_part(share), control=_part(static_arm), explore=_part(explore_share), most_per_s=most_per_s, **options
        ),
        user=user,
        note=note,
        key=key,
        yes=yes,
        as_json=as_json,
    )


def rollback(
    *,
    to: Annotated[int | None, typer.Option(metavar="VERSION", min=1, help="Plan to go back to; by default the one before.")] = None,
    registry: RegistryOption = WHERE,
    user: AsOption = "",
    note: NoteOption = "",
    key: KeyOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go back to what was in force before.

    The earlier content comes into force as a new version, since versions only go up. A second rollback goes one further back.

    \b
    Examples:
      paretune rollback
      paretune rollback --yes --note "hides are up"
      paretune rollback --to 12 --json
    """
    change_traffic(
        registry, lambda opened, options: opened.rollback(to=to, **options), user=user, note=note, key=key, yes=yes, as_json=as_json
    )


def kill(
    *,
    registry: RegistryOption = WHERE,
    user: AsOption = "",
    note: NoteOption = "",
    key: KeyOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Serve everybody the static weights, now.

    No arm is served and nobody is explored until `paretune release`. Takes effect whatever else is changed at the same time.

    \b
    Examples:
      paretune kill --yes
      paretune kill --note "ranker incident" --json
    """
    change_traffic(
        registry,
        lambda opened, options: opened.kill(**{name: value for name, value in options.items() if name != "expected"}),
        user=user,
        note=note,
        key=key,
        yes=yes,
        as_json=as_json,
    )


def release(
    *,
    registry: RegistryOption = WHERE,
    user: AsOption = "",
    note: NoteOption = "",
    key: KeyOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put in force again what was killed.

    \b
    Examples:
      paretune release
      paretune release --yes --note "incident over" --json
    """
    change_traffic(registry, lambda opened, options: opened.release(**options), user=user, note=note, key=key, yes=yes, as_json=as_json)


def _part(per_cent: float | None) -> float | None:
    return None if per_cent is None else per_cent / 100
