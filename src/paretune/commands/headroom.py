"""`paretune headroom`: is there anything to gain from exploring, as production logs tell? An edge: the terminal, logs, pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.commands.output import (
    CONFIG,
    ConfigOption,
    JsonOption,
    LogsArgument,
    configuration,
    remark,
    say,
    show_json,
    show_report_table,
)

if TYPE_CHECKING:
    from paretune.config import Config
    from paretune.monitor.headroom import Headroom
    from paretune.ports import Progress
    from paretune.records import Log
    from paretune.storage.place import Where


def headroom(
    logs: LogsArgument,
    *,
    config: ConfigOption = CONFIG,
    smallest_error: Annotated[
        float, typer.Option(min=0.001, max=5, metavar="SD", help="Error between segments worth exploring for, in log odds.")
    ] = 0.1,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw the worst segments there.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Look for something to gain, before exploring.

    Personal weights repair what the ranker gets wrong by segment. Compares what production requests earned with what the
    head scores of their served lists predicted, by categorical feature, pair of features and cohort. Needs the column
    served_scores, or candidates, on production rows; no exploration rows. Exit code 4: the rows cannot tell.

    \b
    Examples:
      paretune headroom logs/
      paretune headroom logs/ --smallest-error 0.2 --figures pictures/
      paretune headroom logs/ --json
    """
    from paretune.errors import GateError
    from paretune.progress import shown
    from paretune.report.headroom_figures import headroom_figure, segments_table, spreads_table, worst_segments
    from paretune.report.html import save_figures

    settings = configuration(config)
    with shown("headroom") as progress:
        found = look(logs, settings, smallest_error=smallest_error, progress=progress)
    if figures is not None:
        for path in save_figures([("headroom", headroom_figure(found))], figures):
            remark(f"wrote {path}")
    if as_json:
        numbers = {"rows": found.rows, "rows_needed": found.rows_needed, "headline": found.headline, "spreads": found.spreads}
        show_json({"answer": found.answer, "sentence": found.sentence, **numbers, "worst": worst_segments(found, at_most=50)})
    else:
        show_report_table(spreads_table(found))
        show_report_table(segments_table(found))
    if found.answer == "not enough rows":
        raise GateError(found.sentence, hint="log more production requests, or ask for a larger --smallest-error")
    if not as_json:
        say(found.sentence)


def look(logs: Where, config: Config, *, smallest_error: float, progress: Progress) -> Headroom:
    """Return the head-room that production rows show.

    Raises:
        ConfigError: an objective names no head.
        LogError: no production row says what the ranker predicted.
    """
    import numpy as np

    from paretune.errors import ConfigError, LogError
    from paretune.monitor.headroom import find_headroom
    from paretune.records import Log

    if config.objective_heads() is None:
        nameless = [objective.name for objective in config.objectives if objective.head is None]
        raise ConfigError(f"objectives {nameless} name no head", hint="say in paretune.toml which head predicts them: objectives.head")
    parts = [part for part in _predictions(logs, config, progress) if len(part)]
    if not parts:
        raise LogError(
            f"no production row of {logs} says what the ranker predicted of the list it served",
            hint="log the head scores of the served items, in list order, as served_scores (a few hundred bytes a row)",
        )
    log = Log.concat(parts)
    columns = {"cohort": log.cohort} if len(log.cohort.vocabulary) > 1 else {}
    columns |= log.state.categorical
    predicted = np.asarray(log.predicted)
    names = tuple(objective.name for objective in config.objectives)
    return find_headroom(log.rewards, predicted, columns, user=log.user, objectives=names, smallest_error=smallest_error)


def _predictions(logs: Where, config: Config, progress: Progress) -> Iterator[Log]:
    """Yield the production rows whose list's prediction is known, without the features that make no segments."""
    import numpy as np

    from paretune.config import Features
    from paretune.logs.files import log_files
    from paretune.logs.parquet import file_schema, scan_log
    from paretune.logs.parts import has_candidates
    from paretune.monitor.predictions import with_predictions

    schema, _ = file_schema(log_files(logs, config)[0])
    served = config.logs.columns.served_scores in schema
    replayed = not served and has_candidates(logs, config)
    if not served and not replayed:
        return
    light = config.model_copy(update={"features": Features(categorical=config.features.categorical)})
    surface, heads = config.surface.build(), config.objective_heads()
    for part in scan_log(logs, light, predicted=served, candidates=replayed, progress=progress):
        log = with_predictions(part.production(), surface, heads)
        if log.predicted is not None:
            yield log.take(np.logical_and.reduce(np.isfinite(log.predicted), axis=1))
