"""`paretune continuous`: weights between the levels of the grid, judged against the grid's. An edge: the terminal, run folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paretune.commands.output import JsonOption, SeedOption, show_json, show_report_table
from paretune.commands.picked import BundleOption, RunArgument, SweptArgument, swept_configuration

if TYPE_CHECKING:
    from paretune.ports import ValueModel


def continuous(
    run: RunArgument,
    logs: SweptArgument,
    *,
    bundle: BundleOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Judge weights between the levels of the grid.

    For the trade-off of every pick, each request gets its own best point of the explored box on the model's surface. The held-out days
    say what that gains over production and over the grid's weights, by the kernel over weights. Needs a model that is smooth in
    the weights: `smooth`, `ridge`, or `replay` with training.student = "smooth".

    \b
    Examples:
      paretune continuous runs/latest logs/
      paretune continuous runs/latest logs/ --bundle runs/smooth --json
    """
    import numpy as np

    from paretune.frontier.archive import load_front
    from paretune.frontier.assemble import minimised_of, signs_of
    from paretune.frontier.continuous import judge_continuous
    from paretune.logs.parquet import scan_log
    from paretune.ports import part_of
    from paretune.progress import shown
    from paretune.report.archive import CONFIG, MODEL
    from paretune.report.learning_tables import continuous_table
    from paretune.run import anchor_of, checked_bundle, window
    from paretune.seeds import stream

    settings, front = swept_configuration(run / CONFIG), load_front(run)
    labels = {p: named for p, named in front.labels().items() if front.policies[p].scalarisation}
    days = window(logs, settings)
    model = checked_bundle(bundle or run / MODEL, settings, days)
    refuse_mixed(model)
    with shown("continuous") as progress:
        anchor = anchor_of(logs, settings, days=days.train, progress=part_of(progress, 0, 0.2))
        held_out = scan_log(logs, settings, days=days.hold_out, progress=lambda share, _: progress(0.2 + 0.8 * share, "judging"))
        found = judge_continuous(
            model,
            held_out,
            settings,
            anchor=anchor,
            scalarisations=np.array([front.policies[p].scalarisation for p in labels]),
            scale=signs_of(settings) / anchor.value,
            rng=stream(seed, "bootstrap"),
        )
    names = tuple(", ".join(said) for said in labels.values())
    if as_json:
        show_json({"picks": names, "policies": [front.policies[p].name for p in labels], "continuous": found})
        return
    show_report_table(continuous_table(found, names, minimised=minimised_of(settings)))


def refuse_mixed(model: ValueModel) -> None:
    """Refuse a model whose best weights are always on the grid, because between its levels it mixes its neighbours.

    Raises:
        ConfigError: it is one.
    """
    from paretune.errors import ConfigError
    from paretune.run import origin_of

    one = model
    while hasattr(one, "members"):
        one = one.members[0]
    if one.name == "replay" and origin_of(model).config.training.student != "smooth":
        raise ConfigError(
            "this replay model mixes its neighbours between the levels of the grid, so its best weights are always on the grid",
            hint='set training.student = "smooth" in paretune.toml and sweep again, or name a smooth model with --bundle',
        )
