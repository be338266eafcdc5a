"""`paretune surface`: which heads to tune, and over which weights, from logged head scores. An edge: the terminal, pictures on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.commands.output import CONFIG, ConfigOption, JsonOption, LogsArgument, configuration, remark, say, show_json, show_table

if TYPE_CHECKING:
    from paretune.config import Config
    from paretune.records import Floats, Log
    from paretune.surface.propose import HeadProposal


def surface(
    logs: LogsArgument,
    *,
    config: ConfigOption = CONFIG,
    requests: Annotated[int, typer.Option(min=1, help="Exploration rows to look at; a few thousand are plenty.")] = 5000,
    heads: Annotated[int, typer.Option(min=1, max=3, help="Tune no more heads than this.")] = 2,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw contributions, ranges and engagement there.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Propose heads to tune and their ranges.

    From logged head scores: a head's contribution is its share of utility under the static weights;
    a range runs from near-negligible to dominant.

    \b
    Examples:
      paretune surface logs/
      paretune surface logs/ --heads 3 --figures pictures/
      paretune surface logs/ --json
    """
    from paretune.progress import shown
    from paretune.run import sample_candidates
    from paretune.surface.propose import propose_heads

    settings = configuration(config)
    control = settings.surface.build()
    with shown("surface") as progress:
        log, scores = sample_candidates(logs, settings, requests=requests, progress=progress)
    proposals = propose_heads(scores, control.names, control.static, at_most=heads)
    if figures is not None:
        draw(log, scores, settings, proposals, figures)
    if as_json:
        show_json({"requests": len(log), "candidates": len(scores), "heads": proposals})
        return
    now = {head.name: head.tune for head in settings.surface.heads}
    rows = []
    for p in proposals:
        tune = now[p.name]
        kept = "–" if tune is None else f"{tune.low:g} to {tune.high:g}"
        proposed = f"{p.low:g} to {p.high:g}, {p.levels} levels, {p.spacing}" if p.tune else "–"
        rows.append((p.name, f"{p.weight:g}", f"{p.contribution:.1%}", kept, proposed, p.why))
    note = f"{len(scores):,} candidates of {len(log):,} exploration rows"
    show_table("Heads by contribution", ("head", "weight", "contribution", "range now", "proposed", "why"), rows, note=note)
    say("to use the proposal, write under these heads in the configuration:")
    for p in proposals:
        if p.tune:
            say(f'  {p.name}: [surface.heads.tune] low = {p.low:g}, high = {p.high:g}, levels = {p.levels}, spacing = "{p.spacing}"')


def draw(log: Log, scores: Floats, config: Config, proposals: tuple[HeadProposal, ...], folder: Path) -> None:
    """Write the pictures of App. A: contributions, weight ranges, engagement."""
    import numpy as np

    from paretune.report.diagnostics import WeightRange, contribution_figure, engagement_figure, weight_range_figure
    from paretune.report.html import save_figures
    from paretune.surface.contribution import engagement_bins, weight_range_curve

    control = config.surface.build()
    shares = {p.name: p.contribution for p in proposals}
    ranges = []
    for p in proposals:
        if p.tune:
            weights = np.geomspace(p.low / 2, p.high * 2, 40)
            curve = weight_range_curve(scores, control.static, control.names.index(p.name), weights)
            ranges.append(WeightRange(p.name, weights, curve, p.weight, p.low, p.high))
    bins = {o.name: engagement_bins(log.rewards[:, j], min(20, len(log))) for j, o in enumerate(config.objectives)}
    tuned = tuple(p.name for p in proposals if p.tune)
    charts = [
        ("contribution", contribution_figure(control.names, np.array([shares[name] for name in control.names]), tuned=tuned)),
        ("ranges", weight_range_figure(tuple(ranges))),
        ("engagement", engagement_figure(bins)),
    ]
    for path in save_figures(charts, folder):
        remark(f"wrote {path}")
