"""Actions that somebody else's policy drew, with their probability, as rows of a log.

The rule: their actions are numbers, ours are weight vectors, so a numbering says which is which, and a line that offered another number of
actions than the numbering has is refused: its probabilities are of another choice. Rows that were drawn (propensity below 1) are EXPLORE,
which `exploration.design = "logged"` reads; certain ones, and draws of production's weights where the grid has no action with these
weights, are POLICY, which no estimate uses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.errors import ConfigError
from paretune.exchange.taken import Reading, Refusals, Taken, column_kinds, feature_names, typed
from paretune.logs.rows import production_twin
from paretune.logs.schema import REASON_EXPLORE, REASON_POLICY
from paretune.records import PRODUCTION, Floats, Ints
from paretune.surface.heads import Surface

REWARD = "reward"  # name of a draw's one reward among its values
OUTCOME = "o."  # what outcomes of a request are named after
ALONE = "lines name no user: each counts as a user of its own, so that bands are too narrow where users return"
UNSHOWN = "lines drew production's weights, which the grid does not hold: they are POLICY rows, which speak for no policy"
CERTAIN = "lines were not drawn (probability 1): they are POLICY rows, which speak for no policy"


@dataclass(frozen=True, slots=True)
class Draw:
    """A line, read: which of their actions was drawn, how probable that was, and what came of it."""

    line: int
    text: str
    request: str | None  # None = the line has no id
    time: str | None
    action: int  # of theirs, from 0
    propensity: float
    values: Mapping[str, object]  # everything else that the line says, by name


def numbering(surface: Surface, given: Sequence[int] | None = None) -> Ints:
    """Return our action for each of theirs; by default theirs are the grid, in its order: their first is our action 1.

    Args:
        surface: whose actions: 0 production, 1.. the grid.
        given: our action for each of theirs, in their order.

    Raises:
        ConfigError: an action that the surface lacks, or one that is named twice.
    """
    chosen = list(range(1, len(surface))) if given is None else list(given)
    wrong = [action for action in chosen if not 0 <= action < len(surface)]
    twice = sorted({action for action in chosen if chosen.count(action) > 1})
    if wrong or twice or not chosen:
        raise ConfigError(
            f"no numbering of actions: {wrong} are not among 0 to {len(surface) - 1}"
            if wrong
            else f"no numbering of actions: {twice} stand for two of theirs"
            if twice
            else "no numbering of actions: it is empty",
            hint="give our action (0 = production, 1.. = the grid) for each of theirs, in their order, each once",
        )
    return np.array(chosen, dtype=np.int64)


def reasons(action: Ints, propensity: Floats, surface: Surface) -> tuple[list[str], Counter[str]]:
    """Return the reason of each row, and what should be known of them.

    Args:
        action: (n,) of ours.
        propensity: (n,) as logged.
        surface: whose actions.
    """
    drawn = ~(propensity >= 1)
    shown = (action != PRODUCTION) | (production_twin(surface) != PRODUCTION)
    notes = Counter({UNSHOWN: int((drawn & ~shown).sum()), CERTAIN: int((~drawn).sum())})
    return np.where(drawn & shown, REASON_EXPLORE, REASON_POLICY).tolist(), +notes


def taken_draws(draws: Sequence[Draw], reading: Reading, refusals: Refusals) -> Taken:
    """Return draws as rows of a log.

    Args:
        draws: lines, read; their actions lie within the numbering.
        reading: names, numbering, and where columns are found among the values.
        refusals: told the lines whose values do not fit.

    Returns:
        Features, user, session and cohort are the values of the columns' names, or of `reading.fields`. The one objective is the reward;
        of several, each is the outcome `o.COLUMN` or `o.NAME`, and nothing seen is no event.
    """
    names, kinds = reading.config.logs.columns, column_kinds(reading.config)
    raw: dict[str, list[object]] = {
        names.request_id: [_named(draw, reading, names.request_id) or draw.request or f"{reading.source}:{draw.line}" for draw in draws],
        names.ts: [_named(draw, reading, names.ts) or draw.time for draw in draws],
        names.propensity: [draw.propensity for draw in draws],
        names.action: reading.numbering[np.array([draw.action for draw in draws], dtype=np.int64)].tolist(),
    }
    asked = [*feature_names(reading.config), names.user, names.session, names.cohort]
    paths = {column: (reading.fields.get(column, column),) for column in asked} | objective_paths(reading)
    raw |= {column: [_first(draw.values, at) for draw in draws] for column, at in paths.items() if column not in raw}
    found = {column for column in paths if any(value is not None for value in raw[column])}
    rows = typed(raw, kinds, [draw.line for draw in draws], [draw.text for draw in draws], refusals)
    said, notes = reasons(rows[names.action].to_numpy(), rows[names.propensity].to_numpy(), reading.surface)
    alone = rows[names.user].null_count()
    empty = {names.session, names.cohort, names.ts} & {column for column in rows.columns if rows[column].null_count() == len(rows)}
    counts = [pl.col(objective.column).fill_null(0.0) for objective in reading.config.objectives]
    rows = rows.with_columns(
        pl.Series(names.reason, said, dtype=pl.String), pl.col(names.user, names.session).fill_null(pl.col(names.request_id)), *counts
    ).drop(empty)
    return Taken(rows, refusals.frame(), frozenset(found), +(notes + Counter({ALONE: alone})))


def objective_paths(reading: Reading) -> dict[str, tuple[str, ...]]:
    """Return where the count of each objective is found among the values of a draw, likeliest first."""
    objectives, fields = reading.config.objectives, reading.fields
    if len(objectives) == 1 and objectives[0].column not in fields:
        return {objectives[0].column: (REWARD,)}
    return {o.column: (fields[o.column],) if o.column in fields else (OUTCOME + o.column, OUTCOME + o.name) for o in objectives}


def asked_columns(config: Config) -> tuple[str, ...]:
    """Return the columns that an import must have found somewhere: features and objectives."""
    return (*feature_names(config), *(objective.column for objective in config.objectives))


def whole_choice(offered: int, action: int, reading: Reading) -> tuple[str, str] | None:
    """Return why a choice is not one of the numbering's actions: the reason, and what was seen; None where it is.

    Args:
        offered: how many actions the line says there were.
        action: which was drawn, from 0.
        reading: whose numbering.
    """
    known = len(reading.numbering)
    if offered != known:
        return f"another number of actions than the {known} of the grid; --actions says which of ours theirs are", f"{offered} actions"
    return None if 0 <= action < known else ("an action that was not offered", f"action {action + 1} of {offered}")


def _first(values: Mapping[str, object], paths: Sequence[str]) -> object:
    return next((values[path] for path in paths if values.get(path) is not None), None)


def _named(draw: Draw, reading: Reading, column: str) -> object:
    """Return the value of a draw where `reading.fields` says that a column is found; None where it says nothing."""
    return draw.values.get(reading.fields[column]) if column in reading.fields else None
