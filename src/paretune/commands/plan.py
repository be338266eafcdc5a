"""`paretune plan`: the next version of what is in force. An edge: the terminal, bundles and plan files.

The rule: a plan is written whole or not at all, and always as a later version than the file held.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from paretune.commands.output import JsonOption, say, show_json, show_table

if TYPE_CHECKING:
    from paretune.policy.draft import Operating
    from paretune.policy.plan import Plan

OPERATING, SERVING = "operating.json", "serving.json"


def plan(
    *,
    bundle: Annotated[Path | None, typer.Option(metavar="DIR", help="Exported policy to serve, from `paretune export`.")] = None,
    arm: Annotated[str, typer.Option(metavar="NAME", help="Name of its arm; by default the policy's.")] = "",
    share: Annotated[float, typer.Option(min=0, max=100, help="Per cent of users who are served it; 0 takes the arm away.")] = 5.0,
    static_arm: Annotated[
        float | None, typer.Option(min=0, max=100, help="Per cent of users kept on static weights to compare with (arm `control`).")
    ] = None,
    explore_share: Annotated[float | None, typer.Option(min=0, max=100, help="Per cent of requests explored; 0 ends exploration.")] = None,
    design: Annotated[Literal["uniform", "blocked"], typer.Option(help="How explored actions are drawn.")] = "uniform",
    most_per_s: Annotated[float, typer.Option(min=0, help="Explored requests per second and process at most; 0 = no cap.")] = 0.0,
    previous: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plan to go on from; by default the output. An older one is the way back.")
    ] = None,
    kill: Annotated[bool | None, typer.Option("--kill/--revive", help="Serve everybody the static weights, or no longer.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the plan and write nothing.")] = False,
    note: Annotated[str, typer.Option(help="Why; kept in the plan.")] = "",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Plan file that services follow.")] = Path("plan.json"),
    as_json: JsonOption = False,
) -> None:
    """Write the next version of what is in force.

    Arms, exploration and default of the previous version stay unless an option changes them. Services that follow the file
    switch between two requests. Going back is `--previous OLD`: the older content as a new version, since versions only go up.

    \b
    Examples:
      paretune plan --bundle bundles/knee --share 5 --explore-share 1.25
      paretune plan --bundle bundles/knee --share 5 --static-arm 5
      paretune plan --bundle bundles/knee --share 25
      paretune plan --kill --note "hides are up"
      paretune plan --previous plans/17.json --note "back to 17"
      paretune plan --show --json
    """
    from msgspec.structs import replace

    from paretune.errors import ConfigError
    from paretune.policy.draft import as_next, with_control, with_exploration, with_policy
    from paretune.serving.sources import read_plan, write_plan

    if show:
        _tell(read_plan(previous or output), previous or output, as_json=as_json)
        return
    changes = bundle is not None or static_arm is not None or explore_share is not None
    if kill and changes:
        raise ConfigError("--kill changes nothing else", hint="kill first; --revive ends it with all as it was")
    if previous is None and not changes and kill is None:
        raise ConfigError(
            "nothing to change", hint="give --bundle, --static-arm, --explore-share, --kill or --previous; --show shows the plan"
        )
    current = read_plan(output) if output.exists() else None
    made = before = current if previous is None else read_plan(previous)
    policy = None if bundle is None else operating_policy(bundle)
    if policy is not None:
        made = with_policy(made, policy, arm=arm, share=share / 100)
    if made is None:
        raise ConfigError(
            f"there is no plan to go on from: {output} is missing", hint="begin with --bundle DIR, or name one with --previous"
        )
    if static_arm is not None:
        made = with_control(made, share=static_arm / 100)
    if explore_share is not None:
        levels = policy.levels if policy is not None else ()
        made = with_exploration(made, share=explore_share / 100, design=design, levels=levels, most_per_s=most_per_s)
    if kill is not None:
        made = replace(made, killed=kill)
    made = as_next(made, *(known for known in (before, current) if known is not None), note=note)
    write_plan(made, output)
    _tell(made, output, as_json=as_json)


def operating_policy(folder: Path) -> Operating:
    """Return the policy that `paretune export` wrote.

    Raises:
        ArtefactError: a file is missing or altered, or is not of this bundle.
    """
    from paretune.errors import ArtefactError, in_words
    from paretune.policy.draft import Operating
    from paretune.policy.operating import decode_operating
    from paretune.serving.sources import fingerprint_of

    try:
        policy = decode_operating((folder / OPERATING).read_bytes(), source=str(folder / OPERATING))
        levels = json.loads((folder / SERVING).read_text(encoding="utf-8"))["actions"] if policy.bundle else []
        found = Operating(
            name=policy.policy,
            heads=policy.heads,
            static=policy.static,
            fingerprint=policy.bundle,
            levels=tuple(tuple(map(float, row)) for row in levels),
            scalarisation=policy.scalarisation,
            cohorts=policy.cohorts,
            weights=policy.weights,
            identity=policy.fingerprint,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(
            f"{folder} holds no operating policy: {in_words(error)}", hint="export one with `paretune export RUN POLICY`"
        ) from error
    if found.fingerprint and found.fingerprint != fingerprint_of(folder):
        raise ArtefactError(f"{folder / OPERATING} is of another bundle than the one beside it", hint="export the policy again")
    return found


def _tell(made: Plan, path: Path, *, as_json: bool) -> None:
    import msgspec

    if as_json:
        told: dict[str, Any] = {"plan": path, "fingerprint": made.fingerprint, **msgspec.to_builtins(made)}
        show_json(told)
        return
    taken = sum(arm.share for arm in made.arms)
    rows = [[arm.name, f"{100 * arm.share:g} %", _what(arm.bundle, arm.policy, bool(arm.weights))] for arm in made.arms]
    rest = [made.default, f"{100 * (1 - taken):g} %", "all who are in no arm"]
    show_table(f"{path}: version {made.version}{', killed' if made.killed else ''}", ("arm", "users", "served"), [*rows, rest])
    exploration = made.exploration
    if made.killed:
        say("killed: everybody is served the static weights and nobody is explored")
    elif exploration.share > 0:
        cap = f", at most {exploration.most_per_s:g} a second" if exploration.most_per_s else ""
        say(f"explored: {100 * exploration.share:g} % of requests, {exploration.design}, {len(exploration.levels) - 1} actions{cap}")
    if made.note:
        say(f"note: {made.note}")


def _what(bundle: str, policy: str, own: bool) -> str:
    if bundle:
        return f"policy {policy or '?'}, bundle {bundle[:12]}"
    return "weights of its own" if own else "the static weights"
