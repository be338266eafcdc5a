"""`paretune rehearse`: weeks of operation on a simulated feed. An edge: the terminal, files."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.commands.output import JsonOption, SeedOption, remark, say, show_json, show_report_table

if TYPE_CHECKING:
    from paretune.policy.registry import Registry
    from paretune.policy.rows import Registered

FAILED = 4  # exit code: something that should have been noticed was not


def rehearse(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the page and the registry.")] = Path(
        "runs/rehearsal"
    ),
    calm: Annotated[bool, typer.Option("--calm", help="Nothing goes wrong: see that nothing steps back.")] = False,
    keep_logs: Annotated[bool, typer.Option("--keep-logs", help="Keep the simulated logs too.")] = False,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Rehearse weeks of operation: explore, learn, approve, serve, ramp under guardrails, an incident, and what is done about it.

    A simulated feed with three objectives; everything that decides is what production runs. Ends in a page with a timeline. Exits 4
    where an incident was not stepped back from, or something stepped back while nothing was wrong.

    \b
    Examples:
      paretune rehearse
      paretune rehearse --calm --seed 3
      paretune rehearse --json
    """
    from dataclasses import astuple, replace

    from paretune.progress import shown
    from paretune.rehearse import Script
    from paretune.rehearse import rehearse as run
    from paretune.report.html import Section, write_report
    from paretune.report.timeline import timeline_figure, timeline_table
    from paretune.sim import open_world

    world = open_world("homefeed", setting="demo", seed=seed, objectives=3)
    script = replace(Script(), incident=None) if calm else Script()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".rehearsal-", dir=output) as name, shown("rehearse") as progress:
        found = run(world, Path(name), script, publish=publish, seed=seed, progress=progress)
        for kept in ["paretune.db", *(["logs"] if keep_logs else [])]:
            target = output / kept
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            shutil.move(Path(name) / kept, target)
    events = [astuple(event) for event in found.events]
    table = timeline_table(events)
    figure = timeline_figure(events, found.days, watched=world.objectives[-1], title=found.sentence.split(";")[0])
    page = write_report(
        output / "rehearsal.html",
        [Section("Weeks of operation", (found.sentence,), (figure, table))],
        title="paretune rehearsal",
        lead=f"{world.name}, {world.setting}, seed {seed}",
    )
    if as_json:
        show_json(
            {
                "page": page,
                "sentence": found.sentence,
                "harm_share": found.harm_share,
                "false_backs": found.false_backs,
                "events": table.rows,
            }
        )
    else:
        show_report_table(table)
        say(found.sentence)
        remark(f"page: {page}")
    if found.false_backs or found.harm_share >= 1:
        raise typer.Exit(FAILED)


def publish(run: Path, label: str, registry: Registry, by: str) -> Registered:
    """Publish a pick of a run."""
    from paretune.commands.publish import published

    return published(run, label, registry, by=by)
