"""`paretune demo`: the whole loop on a simulated feed, with the truth beside every estimate. An edge: the terminal, run folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.commands.output import JsonOption, SeedOption, remark, say, show_json, show_report_table
from paretune.commands.train import ModelOption

if TYPE_CHECKING:
    from paretune.demo import Demo

RUN = Path("runs/demo")


def demo(
    *,
    world: Annotated[str, typer.Option(help="homefeed, or kuairand with --data.")] = "homefeed",
    setting: Annotated[str, typer.Option(help="homefeed: demo, paper or perfect-ranker.")] = "",
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Your download of KuaiRand-Pure.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the run; an earlier demo there is replaced.")
    ] = RUN,
    model: ModelOption = None,
    objectives: Annotated[int, typer.Option(min=2, max=3, help="3 adds a guardrail: homefeed's hides, kuairand's comments.")] = 2,
    quick: Annotated[bool, typer.Option("--quick", help="Little traffic: see that it runs, not what it can do.")] = False,
    console: Annotated[
        bool, typer.Option("--console", help="Then open the console on the demo's front, with a decision service and simulated visitors.")
    ] = False,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Run the whole loop on a simulated feed.

    Simulates 21 days, checks the log, trains on 14, sweeps the front on the other 7, A/B tests the picks against
    production, and puts the truth beside every estimate. A run that was killed goes on where it stopped.

    \b
    Examples:
      paretune demo
      paretune demo --setting perfect-ranker --output runs/perfect
      paretune demo --world kuairand --data KuaiRand-Pure/
      paretune demo --objectives 3
      paretune demo --console
      paretune demo --quick --json
    """
    from paretune.commands.tour import tour
    from paretune.demo import FULL, QUICK, outcome_table, run_demo
    from paretune.progress import shown

    sizes = QUICK if quick else FULL
    with shown("demo") as progress:
        found = run_demo(
            output, world=world, setting=setting, seed=seed, data=data, model=model, objectives=objectives, sizes=sizes, progress=progress
        )
    if as_json:
        show_json({"report": found.report, **summary(found)})
        if console:
            tour(output, world=world, setting=setting, seed=seed, data=data, objectives=objectives)
        return
    show_report_table(outcome_table(found))
    if found.findings.front.refusal is not None:
        say(f"verdict: {found.findings.front.refusal.reason}")
    for stage in found.stages:
        remark(f"{stage.name}: {stage.wall_s:.0f} s ({stage.cpu_s:.0f} s of CPU), peak memory {stage.peak_gib:.1f} GiB")
    say(f"report: {found.report}")
    if console:
        tour(output, world=world, setting=setting, seed=seed, data=data, objectives=objectives)


def summary(found: Demo) -> dict[str, Any]:
    """Return the tested policies with their offline, online and true lifts, for programs."""
    from paretune.commands.sweep import summary as of_front

    front, readout = found.findings.front, found.readout
    tested = []
    for arm, (name, p) in enumerate(zip(readout.arms, found.tested, strict=True)):
        online = {
            m: {"lift": readout.lift[arm, j], "low": readout.low[arm, j], "high": readout.high[arm, j]}
            for j, m in enumerate(readout.metrics)
        }
        offline = dict(zip(front.lifts.objectives, front.lifts.estimate[p], strict=True))
        true = dict(zip(front.lifts.objectives, found.truth.lift[p], strict=True))
        tested.append({"arm": name, "policy": front.policies[p].name, "offline": offline, "online": online, "truth": true})
    return {**of_front(front), "tested": tested, "stages": found.stages}
