"""One batch of a log file as a `Log`, with the facts about each row that the rules of rules.py judge.

The rule: row i of the log is row i of the batch, also where a cell is broken; whether a row may be used is said by the rules, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.logs import decode
from paretune.logs.decisions import ARM
from paretune.logs.reward import rewards
from paretune.logs.schema import IDS_DTYPE, REASON_EXPLORE, REASON_FALLBACK, REASON_POLICY, WEIGHTS_DTYPE
from paretune.records import NO_TIME, OFF_GRID, PRODUCTION, Bools, Candidates, Categorical, Floats, Ints, Log, State
from paretune.surface.heads import Surface
from paretune.surface.lists import list_values

DAY = "__day"  # int32 day that the reader adds to a batch
ROW = "__row"  # position in the file that the reader adds to a batch


@dataclass(frozen=True, slots=True)
class Rows:
    """A decoded batch."""

    log: Log
    facts: pl.DataFrame  # (n,) a column per fact; see `decode_rows`


def decode_rows(frame: pl.DataFrame, config: Config, surface: Surface) -> Rows:
    """Return a batch decoded.

    Args:
        frame: the needed columns of n rows under the file's names, and DAY. Without candidate columns the log has none.
        config: names, layouts and transforms.
        surface: of the config, built once.

    Returns:
        The log, and the facts: `day`, `propensity`, `reason`, `action`, `explored`; `known:ID` (the id is there), `count:OBJECTIVE`,
        `sound:FEATURE` (readable, of the right length, finite); where the columns are there `weights_sound`, `weights_match`,
        `label_age_h`, `items` (candidates of the row), `sound:CANDIDATES`.
    """
    names = config.logs.columns
    n = len(frame)
    facts: dict[str, Any] = {"day": frame[DAY], "propensity": frame[names.propensity].cast(pl.Float64)}
    identity: dict[str, Ints] = {}
    for fixed in ("request_id", "user", "session"):
        column = getattr(names, fixed)
        if column in frame:
            identity[fixed], facts[f"known:{column}"] = decode.ids(frame[column])
    reason = frame[names.reason].cast(pl.String)
    explored = (reason == REASON_EXPLORE).fill_null(False).to_numpy()
    elected = ((reason == REASON_POLICY) | reason.str.starts_with(REASON_FALLBACK)).fill_null(False).to_numpy()
    action = _actions(frame, config, surface, explored, facts)
    facts |= {"reason": reason, "explored": explored, "action": action}
    counts = np.empty((n, len(config.objectives)))
    for index, objective in enumerate(config.objectives):
        count = frame[objective.column].cast(pl.Float64)
        facts[f"count:{objective.name}"] = count
        raw = count.fill_null(0).to_numpy()
        counts[:, index] = raw if objective.transform == "identity" else np.maximum(np.nan_to_num(raw), 0)
    if names.label_age_h in frame:
        facts["label_age_h"] = frame[names.label_age_h].cast(pl.Float64)
    state = _state(frame, config, facts)
    candidates = _candidates(frame, config, len(surface.heads), facts) if names.candidate_ids in frame else None
    log = Log(
        request=identity["request_id"],
        user=identity["user"],
        session=identity.get("session", identity["request_id"]),
        day=frame[DAY].cast(pl.Int32).fill_null(0).to_numpy(),
        cohort=decode.categorical(frame[names.cohort]) if names.cohort in frame else Categorical(np.zeros(n, np.int32), ("ALL",)),
        action=action,
        propensity=facts["propensity"].fill_null(float("nan")).to_numpy(),
        explored=explored,
        rewards=rewards(counts, config.objectives),
        state=state,
        candidates=candidates,
        elected=elected,
        predicted=_predicted(frame[names.served_scores], config, len(surface.heads)) if names.served_scores in frame else None,
        time_us=_times(frame[names.ts]) if names.ts in frame else None,
        arm=decode.categorical(frame[ARM]) if ARM in frame else None,
    )
    return Rows(log, pl.DataFrame(facts))


def production_twin(surface: Surface) -> int:
    """Return the grid action with production's weights, or PRODUCTION where the grid has none."""
    equal = np.isclose(surface.actions[1:], surface.static, rtol=1e-4, atol=0).all(axis=1)
    return int(equal.argmax()) + 1 if equal.any() else PRODUCTION


def _actions(frame: pl.DataFrame, config: Config, surface: Surface, explored: Bools, facts: dict[str, Any]) -> Ints:
    names, n_heads = config.logs.columns, len(surface.heads)
    weights = None
    if names.weights in frame:
        weights, facts["weights_sound"] = decode.vector(frame[names.weights], n_heads, WEIGHTS_DTYPE)
        weights = np.nan_to_num(weights, posinf=0, neginf=0)  # missing weights are no action
    if names.action in frame:
        logged = frame[names.action].cast(pl.Int64)
        absent = logged.is_null().to_numpy()
        action = logged.fill_null(OFF_GRID).clip(-2, len(surface)).cast(pl.Int32).to_numpy().copy()
    else:
        absent, action = np.ones(len(frame), dtype=np.bool_), np.full(len(frame), OFF_GRID, dtype=np.int32)
    if weights is not None:
        claimed = ~absent & (action >= 0) & (action < len(surface))
        served = surface.actions[np.where(claimed, action, 0)]
        same = (np.abs(weights - served) <= 1e-4 * np.maximum(np.abs(served), 1e-12)).all(axis=1)
        found = surface.index(weights[~claimed])
        same[~claimed] = absent[~claimed] | (found == OFF_GRID)
        facts["weights_match"] = same | frame[names.weights].is_null().to_numpy()
        action[absent] = found[absent[~claimed]]
    return np.where(explored & (action == PRODUCTION), np.int32(production_twin(surface)), action)


def _predicted(column: pl.Series, config: Config, n_heads: int) -> Floats:
    """Return the ranker's own prediction of each served list's rewards (n, M); NaN where the row has no scores or unreadable ones."""
    heads, dtype = config.objective_heads(), "<f2" if config.logs.candidate_scores_dtype == "float16" else "<f4"
    if heads is None:
        return np.full((len(column), len(config.objectives)), np.nan, dtype=np.float32)
    offsets, flat, _ = decode.ragged(column, dtype, stride=n_heads)
    items, lengths = Candidates(offsets // n_heads, np.empty(0, np.int64), flat.reshape(-1, n_heads)), np.diff(offsets) // n_heads
    place = np.arange(int(lengths.max(initial=0)), dtype=np.int16)
    lists = np.where(place < lengths[:, None], place, np.int16(-1))
    values = list_values(items, lists[:, None], heads)[:, 0]
    values[lengths == 0] = np.nan
    return values


def _times(column: pl.Series) -> Ints:
    numbers = column.dt.epoch("us") if isinstance(column.dtype, pl.Datetime) else column.cast(pl.Int64, strict=False)
    return numbers.fill_null(NO_TIME).to_numpy()


def _state(frame: pl.DataFrame, config: Config, facts: dict[str, Any]) -> State:
    features = config.features
    numeric: dict[str, Floats] = {}
    embedding: dict[str, Floats] = {}
    sequence: dict[str, Ints] = {}
    for name in features.numeric:
        numeric[name], facts[f"sound:{name}"] = decode.number(frame[name])
    for e in features.embeddings:
        embedding[e.name], facts[f"sound:{e.name}"] = decode.vector(frame[e.name], e.size, "<f2" if e.dtype == "float16" else "<f4")
    for s in features.sequences:
        sequence[s.name], facts[f"sound:{s.name}"] = decode.tokens(frame[s.name], s.length)
    categorical = {name: decode.categorical(frame[name]) for name in features.categorical}
    return State(numeric, categorical, embedding, sequence)


def _candidates(frame: pl.DataFrame, config: Config, n_heads: int, facts: dict[str, Any]) -> Candidates:
    names = config.logs.columns
    dtype = "<f2" if config.logs.candidate_scores_dtype == "float16" else "<f4"
    id_offsets, item_ids, id_sound = decode.ragged(frame[names.candidate_ids], IDS_DTYPE)
    offsets, flat, score_sound = decode.ragged(frame[names.candidate_scores], dtype, stride=n_heads)
    items, scored = np.diff(id_offsets), np.diff(offsets) // n_heads
    sound = id_sound & score_sound & (items == scored)
    scores = flat.reshape(-1, n_heads)
    if not sound.all():
        item_ids, scores = item_ids[np.repeat(sound, items)], scores[np.repeat(sound, scored)]
    lengths = np.where(sound, items, 0)
    broken = np.repeat(np.arange(len(frame)), lengths)[~np.isfinite(scores).all(axis=1)]
    sound[broken] = False
    facts["items"] = lengths
    facts[f"sound:{names.candidate_scores}"] = sound
    return Candidates(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), item_ids, scores)
