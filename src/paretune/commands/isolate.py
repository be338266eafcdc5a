"""`paretune isolate`: what each group of features is good for. An edge: the terminal, model folders, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.commands.output import (
    CONFIG,
    ConfigOption,
    JsonOption,
    LogsArgument,
    SeedOption,
    configuration,
    say,
    show_json,
    show_report_table,
)
from paretune.commands.train import ModelOption

if TYPE_CHECKING:
    from paretune.frontier.isolation import Isolation

GroupOption = Annotated[
    list[str] | None,
    typer.Option("--group", metavar="NAME=A,B", help="A group and its features, in place of features.groups; may be repeated."),
]


def isolate(
    logs: LogsArgument,
    *,
    config: ConfigOption = CONFIG,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for models and pictures.")] = Path("runs/isolation"),
    group: GroupOption = None,
    model: ModelOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare what each feature group is worth.

    Trains with all features, then with each group alone (by default numbers, embeddings and cohort are `user`, action sequences
    `sequence`, other categoricals `context`), and evaluates all on the same held-out days.
    Models that fit are reused.

    \b
    Examples:
      paretune isolate logs/
      paretune isolate logs/ --model ridge --group place=country \\
        --group taste=basket_value,user_vector
    """
    from paretune.frontier.evaluate import sweep_sums
    from paretune.frontier.isolation import isolate as compare
    from paretune.ports import part_of
    from paretune.progress import shown
    from paretune.report.html import save_figures
    from paretune.report.learning_figures import isolation_figure
    from paretune.report.learning_tables import isolation_table
    from paretune.run import anchor_of, held_out_rows, train_or_reuse, window, with_model
    from paretune.seeds import stream
    from paretune.value.feature_groups import EVERYTHING, feature_groups, only, with_groups

    settings = with_model(configuration(config), model)
    settings = settings if not group else with_groups(settings, dict(parsed(text) for text in group))
    days = window(logs, settings)
    groups = feature_groups(settings)
    visible = {EVERYTHING: settings, **{name: only(settings, members) for name, members in groups.items()}}
    sums = {}
    with shown("isolate") as progress:
        anchor = anchor_of(logs, settings, days=days.train, progress=part_of(progress, 0, 0.1))
        for i, (name, seen) in enumerate(visible.items()):
            share = (0.1 + 0.9 * i / len(visible), 0.1 + 0.9 * (i + 0.8) / len(visible))
            fitted = train_or_reuse(logs, seen, output / f"model-{i}", days=days, seed=seed, progress=part_of(progress, *share))
            sums[name] = sweep_sums(fitted, held_out_rows(logs, settings, days), settings, anchor=anchor)
    found = compare(sums, settings, rng=stream(seed, "bootstrap"))
    pictures = save_figures([("isolation", isolation_figure(found))], output) if len(settings.objectives) > 1 else ()
    if as_json:
        show_json({"groups": summary(found, {EVERYTHING: (), **groups}), "estimator": found.lifts.estimator, "pictures": pictures})
        return
    show_report_table(isolation_table(found, groups))
    for picture in pictures:
        say(f"picture: {picture}")


def parsed(text: str) -> tuple[str, list[str]]:
    """Return the name and the features of a group written as NAME=A,B.

    Raises:
        ConfigError: it is written otherwise.
    """
    from paretune.errors import ConfigError

    name, sign, members = text.partition("=")
    if not (name and sign and members):
        raise ConfigError(f"--group {text!r} is no group", hint="write --group NAME=FEATURE,FEATURE")
    return name.strip(), [member.strip() for member in members.split(",")]


def summary(found: Isolation, groups: dict[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """Return each group's numbers, for programs."""
    size, lifts = len(found.scalarisations), found.lifts
    rows = []
    for g, name in enumerate(found.groups):
        p = g * size + found.knees[g]
        at_knee = {
            objective: {"lift": lifts.estimate[p, j], "band_low": lifts.band_low[p, j], "band_high": lifts.band_high[p, j]}
            for j, objective in enumerate(lifts.objectives)
        }
        gains = {"gain": found.gain[g], "std_error": found.std_error[g], "gap": found.gap[g], "gap_std_error": found.gap_std_error[g]}
        rows.append({"group": name, "features": groups[name], **gains, "knee": at_knee, "front": found.points(g)})
    return rows
