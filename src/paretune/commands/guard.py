"""`paretune guard`: guardrails that act on the plan in force. An edge: the terminal, logs, the registry, the clock."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.commands.output import ConfigOption, JsonOption, MetricsOption, PathOrUrl, plain, remark, say, show_json
from paretune.commands.registered import WHERE, RegistryOption, registry_at
from paretune.storage.place import where

if TYPE_CHECKING:
    from paretune.experiment.vigil import Look
    from paretune.experiment.watch import Sight

UNSETTLED = 4  # exit code: it holds, stepped back, or cannot watch


def guard(
    logs: Annotated[
        PathOrUrl,
        typer.Argument(parser=where, metavar="LOGS", help="Joined log of what is served, with arms; fresh rows may be unripe."),
    ],
    *,
    registry: RegistryOption = WHERE,
    spool: Annotated[
        PathOrUrl,
        typer.Option(parser=where, metavar="DIR", help="Spool of the decision service: fallbacks, lateness, silence."),
    ] = None,
    config: ConfigOption = Path("paretune.toml"),
    ramp_to: Annotated[float, typer.Option(min=0, max=100, help="Ramp by itself, up to this per cent of users; 0 = never.")] = 0.0,
    every_s: Annotated[float, typer.Option(min=0, help="Look again every so many seconds; 0 = once, for cron.")] = 0.0,
    status: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write each look here, for `paretune console --guardrails FILE`.")
    ] = None,
    allow_unwatched: Annotated[
        bool, typer.Option("--allow-unwatched", help="Exit 0 also where nobody on static weights is left to compare with.")
    ] = False,
    metrics: MetricsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch the plan in force; step back when a guardrail is breached, and ramp only while all hold.

    Objectives against the control arm, guardrails of paretune.toml, fallbacks and lateness are watched by confidence sequences, so
    that looking often raises no false alarm. What a step back does is rollout.on_breach; after one, only a person goes forward
    again (`paretune release`, `ramp`, `activate`). Looks that fail count as silence: rollout.silent_min minutes without one that
    succeeds hold the ramp, twice as many step back. Give --status with cron: the time of the last success is kept there. Where nobody
    is on static weights, objectives are unwatched: that is said, and noted in the audit trail. Exits 4 where the plan is held, stepped
    back, or unwatched.

    \b
    Examples:
      paretune guard logs --spool spool
      paretune guard logs --spool spool --ramp-to 50 --every-s 300 \\
        --status guard.json
      paretune guard logs --dry-run --json
    """
    from paretune.config import load_config
    from paretune.errors import ConfigError, ParetuneError
    from paretune.experiment.vigil import Vigil

    settings, opened = load_config(config), registry_at(registry)
    vigil = Vigil(logs, settings, opened, spool, ramp_to / 100, time.time, sight=None if status is None else sight_in(status))
    while True:
        try:
            look = vigil.look(act=not dry_run)
        except ParetuneError as error:
            if not every_s or (isinstance(error, ConfigError) and not vigil.has_seen):
                raise
            remark(f"nothing is known of the plan, the next look is in {every_s:g} s: {error}")  # who watches does not stop watching
            time.sleep(every_s)
            continue
        _tell(look, told(look, silent_s=60 * settings.rollout.silent_min, every_s=every_s), status=status, metrics=metrics, as_json=as_json)
        if not every_s:
            break
        if look.failure is not None:
            remark(f"this look failed, the next is in {every_s:g} s: {look.failure}")
        time.sleep(every_s)
    opened.close()
    undone = look.step.action not in {"keep", "hold"} and not look.became and not dry_run
    if look.failure is not None and (undone or look.step.action == "keep"):
        raise look.failure
    if look.step.action not in {"keep", "ramp"} or (look.situation.unwatched and not allow_unwatched):
        raise typer.Exit(UNSETTLED)


def _tell(look: Look, summary: dict[str, Any], *, status: Path | None, metrics: Path | None, as_json: bool) -> None:
    from paretune.atomic import write_whole
    from paretune.report.textfile import write_guard

    try:
        if status is not None:
            write_whole(status, json.dumps(plain(summary), allow_nan=False).encode())
        if metrics is not None and not look.is_blind:  # the time in it is that of the last look that saw something
            write_guard(metrics, look.situation, look.step)
    except OSError as error:  # a full disk does not end the watch
        remark(f"what the look saw cannot be written: {error}")
    if as_json:
        show_json(summary)
        return
    say(look.step.sentence + (f"; plan {look.became} is in force" if look.became else ""))
    for one in look.situation.watched:
        say(f"  {one.state:9s} {one.sentence}")
    for what in look.situation.unwatched:
        say(f"  unwatched {what}")
    if look.situation.unwatched:
        remark("not all is watched: keep some users on the static weights, `paretune ramp N --static-arm 5`, or say --allow-unwatched")


def sight_in(status: Path) -> Sight | None:
    """Return when something was last seen, as an earlier guard wrote it; None where there is no such file, or it does not say."""
    from paretune.experiment.watch import Sight

    try:
        told = json.loads(status.read_bytes())
        saw_us, failed_us = int(told["saw_us"]), told["blind_since_us"]
        return Sight(min(saw_us / 1e6, time.time()), None if failed_us is None else int(failed_us) / 1e6)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        remark(f"{status} does not say when something was last seen ({type(error).__name__}): counted from now on")
        return None


def told(look: Look, *, silent_s: float, every_s: float) -> dict[str, Any]:
    """Return a look for programs.

    Args:
        look: at the plan.
        silent_s: for how long nothing may be seen before a ramp is held.
        every_s: until the next look; 0 where that is not known.
    """
    situation, sight = look.situation, look.sight
    return {
        "at_us": int(1e6 * look.at_s),
        "saw_us": int(1e6 * sight.saw_s),
        "blind_since_us": None if sight.failed_s is None else int(1e6 * sight.failed_s),
        "silent_s": silent_s,
        "every_s": every_s,
        "plan": situation.version,
        "action": look.step.action,
        "reasons": list(look.step.reasons),
        "became": look.became or None,
        "failed": None if look.failure is None else str(look.failure),
        "unwatched": list(situation.unwatched),
        "users": situation.users,
        "age_s": situation.age_s,
        "guardrails": [
            {"name": one.name, "state": one.state, "value": one.value, "low": one.low, "high": one.high, "limit": one.limit}
            for one in situation.watched
        ],
    }
