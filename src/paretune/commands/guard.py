"""`paretune guard`: guardrails that act on the plan in force. An edge: the terminal, logs, the registry, the clock."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.commands.output import ConfigOption, JsonOption, plain, remark, say, show_json
from paretune.commands.registered import WHERE, RegistryOption, registry_at
from paretune.storage.place import where

if TYPE_CHECKING:
    from paretune.experiment.watch import Situation, Step

UNSETTLED = 4  # exit code: it holds, or stepped back


def guard(
    logs: Annotated[
        Any,
        typer.Argument(parser=where, metavar="LOGS", help="Joined log of what is served, with arms; fresh rows may be unripe."),
    ],
    *,
    registry: RegistryOption = WHERE,
    spool: Annotated[
        Any,
        typer.Option(parser=where, metavar="DIR", help="Spool of the decision service: fallbacks, lateness, silence."),
    ] = None,
    config: ConfigOption = Path("paretune.toml"),
    ramp_to: Annotated[float, typer.Option(min=0, max=100, help="Ramp by itself, up to this per cent of users; 0 = never.")] = 0.0,
    every_s: Annotated[float, typer.Option(min=0, help="Look again every so many seconds; 0 = once, for cron.")] = 0.0,
    status: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write each look here, for `paretune console --guardrails FILE`.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch the plan in force; step back when a guardrail is breached, and ramp only while all hold.

    Objectives against the control arm, guardrails of paretune.toml, fallbacks and lateness are watched by confidence sequences, so
    that looking often raises no false alarm. What a step back does is rollout.on_breach; after one, only a person goes forward
    again (`paretune release`, `ramp`, `activate`). Exits 4 where the plan is held or stepped back.

    \b
    Examples:
      paretune guard logs --spool spool
      paretune guard logs --spool spool --ramp-to 50 --every-s 300 --status guard.json
      paretune guard logs --dry-run --json
    """
    import polars as pl

    from paretune.config import load_config
    from paretune.errors import ParetuneError
    from paretune.experiment.guarding import Memory
    from paretune.experiment.stepping import acted, looked
    from paretune.report.html import write_whole

    settings, opened = load_config(config), registry_at(registry)
    memory = Memory()
    while True:
        try:
            situation, number, step = looked(logs, settings, opened, spool=spool, ramp_to=ramp_to / 100, now_s=time.time(), memory=memory)
            version = 0 if dry_run else acted(opened, step, number=number, situation=situation)
        except (ParetuneError, OSError, pl.exceptions.PolarsError) as error:
            if not every_s:
                raise
            remark(f"this look failed, the next is in {every_s:g} s: {error}")  # who watches does not stop watching
            time.sleep(every_s)
            continue
        look = {**told(situation, step), "became": version or None}
        if status is not None:
            write_whole(status, json.dumps(plain(look), allow_nan=False).encode())
        if as_json:
            show_json(look)
        else:
            say(step.sentence + (f"; plan {version} is in force" if version else ""))
            for one in situation.watched:
                say(f"  {one.state:9s} {one.sentence}")
        if not every_s:
            break
        time.sleep(every_s)
    opened.close()
    if step.action not in {"keep", "ramp"}:
        raise typer.Exit(UNSETTLED)


def told(situation: Situation, step: Step) -> dict[str, Any]:
    """Return both for programs."""
    return {
        "at_us": int(1e6 * time.time()),
        "plan": situation.version,
        "action": step.action,
        "reasons": list(step.reasons),
        "users": situation.users,
        "age_s": situation.age_s,
        "guardrails": [
            {"name": one.name, "state": one.state, "value": one.value, "low": one.low, "high": one.high, "limit": one.limit}
            for one in situation.watched
        ],
    }
