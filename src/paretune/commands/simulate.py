"""`paretune simulate`: a world's traffic as logs, exactly as production would write them. An edge: the terminal, files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paretune.commands.init import write_text
from paretune.commands.output import JsonOption, SeedOption, remark, say, show_json


def simulate(
    logs: Annotated[Path, typer.Argument(metavar="LOGS", help="Folder to write; new or empty.")],
    *,
    world: Annotated[str, typer.Option(help="homefeed, or kuairand with --data.")] = "homefeed",
    setting: Annotated[str, typer.Option(help="homefeed: demo, paper or perfect-ranker.")] = "",
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Your download of KuaiRand-Pure.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days of traffic.")] = 21,
    requests: Annotated[int, typer.Option(min=1, help="Requests per day.")] = 50_000,
    explore: Annotated[float, typer.Option(min=0, max=1, help="Share of requests explored; the paper's is 0.0125.")] = 0.3,
    candidates: Annotated[bool, typer.Option(help="Log the candidates that can reach a list on exploration rows.")] = True,
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="Where to write; else beside LOGS.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing configuration.")] = False,
    drift: Annotated[
        str, typer.Option(metavar="KIND", help="What changes: rescale (scores of the first tuned head), relearn (ranker errors) or season.")
    ] = "",
    drift_day: Annotated[int, typer.Option(min=0, metavar="DAY", help="From which day on, counted from 0.")] = 14,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Write the logs of a simulated feed.

    They look as production would write them; the paretune.toml that reads them is written too.

    \b
    Examples:
      paretune simulate logs/
      paretune simulate logs/ --setting paper --requests 100000 --explore 0.0125
      paretune simulate logs/ --world kuairand --data KuaiRand-Pure/
      paretune simulate logs/ --drift rescale --drift-day 14
    """
    from paretune.errors import ConfigError
    from paretune.progress import shown
    from paretune.sim import open_world
    from paretune.sim.drifting import disturbance, open_drifting
    from paretune.sim.traffic import write_logs
    from paretune.template import render_config

    target = logs.absolute().parent / "paretune.toml" if config is None else config
    if logs.is_dir() and any(logs.rglob("*.parquet")):
        raise ConfigError(f"{logs} already holds Parquet files", hint="name a new folder, so that two simulations do not mix")
    opened = open_world(world, setting=setting, seed=seed, data=data)
    if drift:
        head = opened.surface.names[opened.surface.tuned[0]]
        opened = open_drifting(world, disturbance(drift, from_day=drift_day, head=head), setting=setting, seed=seed, data=data)
    text = render_config(opened.config())
    if target.exists() and not force and target.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{target} exists", hint="name another file with --config, or overwrite it with --force")
    with shown("simulate") as progress:
        rows = write_logs(
            opened,
            logs,
            days=range(days),
            requests_per_day=requests,
            explore_share=explore,
            candidates=candidates,
            seed=seed,
            progress=progress,
        )
    write_text(target, text)
    if as_json:
        show_json({"logs": logs, "config": target, "world": opened.name, "setting": opened.setting, "rows": rows, "days": days})
        return
    say(f"wrote {rows:,} rows on {days} days to {logs}, and {target}")
    remark(f"next: paretune check {logs} --config {target}")
