"""Open Bandit Pipeline's logged bandit feedback, in and out: a dict of arrays, as its datasets give and its estimators take.

    n_rounds, n_actions, context (n, d), action (n,) from 0, position (n,) or None, reward (n,), pscore (n,), action_context (n_actions, e)

Saito et al., "Open Bandit Dataset and Pipeline" (2021). The rule: probabilities are copied, never computed. What OBP has no place for
(users, sessions, days, cohorts, several objectives) stands beside its keys, which OBP leaves alone, so that a dict of ours comes back as it
was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.errors import DataError
from paretune.exchange.drawn import ALONE, numbering, reasons
from paretune.exchange.judged import Calendar, judged
from paretune.exchange.obp_context import context_of, features_of, position_of
from paretune.exchange.taken import LINE, REFUSED, TEXT, Taken
from paretune.records import Floats, Log

NEEDED = ("n_rounds", "n_actions", "context", "action", "reward", "pscore")
_KEPT = ("request", "user", "session", "day")  # hashes and days of a log, beside OBP's own keys
_COUNTS: dict[str, Callable[[Floats], Floats]] = {  # what a reward was before its transform
    "clip": np.copy,
    "two-level": lambda r: np.where(r > 1, 2.0, r),
    "log1p": np.expm1,
    "identity": np.copy,
}


def from_obp(feedback: Mapping[str, Any], config: Config, *, actions: Sequence[int] | None = None, day: int = 0) -> Log:
    """Return bandit feedback as a log.

    Args:
        feedback: of OBP, or of `to_obp`.
        config: whose grid the actions are, and which features the context holds: numbers in their order, then vectors.
        actions: our action for each of theirs; by default theirs are the grid, in its order.
        day: days since 1970-01-01 of all rounds, where the dict does not say.

    Returns:
        The log, in float32 as all logs are. Every round is a request of a user of its own where the dict does not say whose; OBP's reward
        is the event count of the one objective.

    Raises:
        DataError: arrays are missing or do not fit each other, the configuration or the rules of a log.
        ConfigError: `actions` is no numbering.
    """
    taken = taken_feedback(feedback, config, actions=actions)
    found = judged(taken.rows, config, config.surface.build(), calendar=Calendar(day))
    if len(found.refused):
        _, reason, seen, _ = found.refused.row(0)
        raise DataError(
            f"{len(found.refused)} of {len(taken.rows)} rounds cannot be used: {reason} (seen: {seen})",
            hint="leave these rounds out, or import the dict from a file, which sets them aside: `paretune import obp`",
        )
    kept: dict[str, Any] = {name: np.asarray(feedback[name], getattr(found.log, name).dtype) for name in _KEPT if name in feedback}
    return replace(found.log, **kept)


def to_obp(log: Log, config: Config, *, objective: str | None = None, actions: Sequence[int] | None = None) -> dict[str, Any]:
    """Return the exploration rows of a log as bandit feedback.

    Args:
        log: of which the explored rows on the grid are taken.
        config: of the log.
        objective: whose reward is OBP's; by default the first. Rewards are those that paretune judges by, after their transform.
        actions: our action for each of theirs; by default theirs are the grid, in its order. Rows of other actions are left out.

    Returns:
        OBP's keys in its types: `context` in float64 (a category is a column per word), `position` where the log has a feature of this
        name, `action_context` the weights of each action. Beside them `context_names`, `counts` per objective, hashes of requests, users
        and sessions, days and cohorts.

    Raises:
        DataError: no such row, or an objective that the config does not name.
        ConfigError: `actions` is no numbering.
    """
    surface = config.surface.build()
    ours = numbering(surface, actions)
    known = [each.name for each in config.objectives]
    if objective is not None and objective not in known:
        raise DataError(f"no objective {objective!r}", hint=f"choose one of {', '.join(known)}")
    theirs = np.full(len(surface), -1, dtype=np.int64)
    theirs[ours] = np.arange(len(ours))
    rows = log.exploration()
    rows = rows.take(theirs[rows.action] >= 0)
    if not len(rows):
        raise DataError("the log has no exploration rows on the grid", hint="OBP's estimators need rows whose actions were drawn")
    context, names = context_of(rows.state)
    rewards = rows.rewards.astype(np.float64)
    return {
        "n_rounds": len(rows),
        "n_actions": len(ours),
        "context": context,
        "action_context": surface.actions[ours],
        "action": theirs[rows.action],
        "position": position_of(rows.state),
        "reward": rewards[:, known.index(objective or known[0])],
        "pscore": rows.propensity.astype(np.float64),
        "context_names": names,
        "counts": {o.name: _COUNTS[o.transform](rewards[:, j]) for j, o in enumerate(config.objectives)},
        **{name: getattr(rows, name) for name in _KEPT},
        "cohort": [None if code < 0 else rows.cohort.vocabulary[code] for code in rows.cohort.codes.tolist()],
    }


def taken_feedback(feedback: Mapping[str, Any], config: Config, *, actions: Sequence[int] | None = None, source: str = "round") -> Taken:
    """Return bandit feedback as rows of a log.

    Args:
        feedback: of OBP, or of `to_obp`.
        config: whose grid the actions are, and which features the context holds.
        actions: our action for each of theirs; by default theirs are the grid, in its order.
        source: what ids begin with.

    Raises:
        DataError: arrays are missing, or do not fit each other or the configuration.
        ConfigError: `actions` is no numbering.
    """
    missing = [key for key in NEEDED if key not in feedback]
    if missing:
        raise DataError(f"no bandit feedback: {', '.join(missing)} missing", hint=f"OBP's keys are {', '.join(NEEDED)}")
    surface, n, names = config.surface.build(), int(feedback["n_rounds"]), config.logs.columns
    ours = numbering(surface, actions)
    counts = _counts(feedback, config)
    action, pscore, context = (np.asarray(feedback[key]) for key in ("action", "pscore", "context"))
    sizes = {"action": action.shape, "pscore": pscore.shape, **{name: count.shape for name, count in counts.items()}}
    off = [f"{name} of shape {shape}" for name, shape in sizes.items() if shape != (n,)]
    if n < 1:
        raise DataError("no rounds", hint="give at least one")
    if off or context.ndim != 2 or len(context) != n:
        raise DataError(f"{n} rounds, but {', '.join(off) or f'a context of shape {context.shape}'}", hint="give one value per round")
    if int(feedback["n_actions"]) != len(ours) or not ((action >= 0) & (action < len(ours))).all():
        raise DataError(
            f"{feedback['n_actions']} actions from {action.min()} to {action.max()}, the grid has {len(ours)}",
            hint="name a configuration of this grid, or say which of our actions theirs are (actions=, --actions)",
        )
    ids = [f"{source}:{i}" for i in range(n)]
    said, notes = reasons(ours[action], pscore.astype(np.float64), surface)
    rows = pl.DataFrame(
        {
            LINE: np.arange(1, n + 1),
            TEXT: ids,
            names.request_id: _ids(feedback, "request", ids),
            names.user: _ids(feedback, "user", ids),
            **({names.session: _ids(feedback, "session", ids)} if "session" in feedback else {}),
            **({names.cohort: pl.Series(feedback["cohort"], dtype=pl.String)} if "cohort" in feedback else {}),
            **({names.day: pl.Series(feedback["day"], dtype=pl.Int32).cast(pl.Date)} if "day" in feedback else {}),
            names.action: ours[action].astype(np.int32),
            names.propensity: pscore.astype(np.float64),
            names.reason: said,
            **{objective.column: counts[objective.name] for objective in config.objectives},
            **features_of(context.astype(np.float64), feedback, config),
        }
    )
    alone = Counter({ALONE: 0 if "user" in feedback else n})
    return Taken(rows, pl.DataFrame(schema=REFUSED), frozenset(rows.columns), +(notes + alone))


def _counts(feedback: Mapping[str, Any], config: Config) -> dict[str, Floats]:
    """Return the event count of each objective; OBP's reward, where there is but one."""
    named = dict(feedback.get("counts", {}))
    if len(config.objectives) == 1:
        named.setdefault(config.objectives[0].name, feedback["reward"])
    lacking = [objective.name for objective in config.objectives if objective.name not in named]
    if lacking:
        raise DataError(
            f"OBP has one reward, and the configuration also asks for {', '.join(lacking)}",
            hint="name a configuration of one objective, or give counts = {objective: (n,)} beside OBP's keys",
        )
    return {objective.name: np.asarray(named[objective.name], dtype=np.float64) for objective in config.objectives}


def _ids(feedback: Mapping[str, Any], key: str, ids: list[str]) -> list[str]:
    return [str(each) for each in np.asarray(feedback[key]).tolist()] if key in feedback else ids
