"""Decisions and the events that followed them, as rows of an exploration log: one run of a join that may be run in any pieces.

The rules:
- a row is written once its label is mature, window + settling hours after its request; until then it and its events are held;
- an event counts when it happened in [request - 1 min, request + window] and was delivered before its row was written;
- every decision ends as written, waiting, duplicate or rejected, every event as counted, pending, duplicate, outside, closed, orphan,
  unknown or rejected, and both add up;
- of a request decided twice the caller's own report (FALLBACK:client) holds, since the caller knows what was served; two other answers
  that differ are both rejected, since nobody knows which one was;
- propensities and weights are copied, never computed.
Splitting, repeating or reordering the input gives the same log, as long as events come before their rows are written.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.logs import decode
from paretune.logs.decisions import DECISION_ID, conformed, decision_schema
from paretune.logs.parquet import ragged_binary
from paretune.logs.schema import IDS_DTYPE, PER_ITEM, REASON_EXPLORE, REASON_FALLBACK, REASON_POLICY, REASON_STATIC, WEIGHTS_DTYPE
from paretune.records import OFF_GRID

HOUR_US = 3_600_000_000
SKEW_US = 60_000_000  # clocks of two machines may differ by so much
SESSION_GAP_US = 30 * 60_000_000
PATIENCE_H = 24.0  # beyond window and settling, for events whose decision never came
REASON_CLIENT = f"{REASON_FALLBACK}:client"
CONFLICT = "two different decisions of one request"
SEEN = "seen_us"
WHY = "why"
EVENT_SCHEMA: dict[str, pl.DataType] = {
    "event_id": pl.String(),
    "request_id": pl.String(),
    "event": pl.String(),
    "item": pl.String(),
    "ts": pl.Datetime("us"),
    "count": pl.Float64(),
    SEEN: pl.Int64(),
}
TAIL_SCHEMA: dict[str, pl.DataType] = {"user": pl.String(), "first": pl.Int64(), "last": pl.Int64(), "session": pl.String()}
REFUSED_SCHEMA: dict[str, pl.DataType] = {"request_id": pl.String(), DECISION_ID: pl.String(), WHY: pl.String()}


def list_schema(config: Config) -> dict[str, pl.DataType]:
    """Return the columns of the lists that a ranker may send after a decision."""
    names = config.logs.columns
    cells = (names.candidate_ids, names.candidate_scores, names.served_scores, PER_ITEM[0])
    return {"request_id": pl.String(), **dict.fromkeys(cells, pl.Binary()), SEEN: pl.Int64()}


@dataclass(frozen=True, slots=True)
class Held:
    """What one run leaves to the next."""

    waiting: pl.DataFrame  # decisions whose label is not mature
    events: pl.DataFrame  # EVENT_SCHEMA, of requests that wait or have not come
    lists: pl.DataFrame  # list_schema
    tails: pl.DataFrame  # TAIL_SCHEMA: sessions that may go on
    refused: pl.DataFrame  # REFUSED_SCHEMA: decisions rejected before

    @staticmethod
    def nothing(config: Config) -> Held:
        """Return what the first run begins with."""
        schemas = (decision_schema(config), EVENT_SCHEMA, list_schema(config), TAIL_SCHEMA, REFUSED_SCHEMA)
        return Held(*(pl.DataFrame(schema=schema) for schema in schemas))


@dataclass(frozen=True, slots=True)
class Clock:
    """When rewards are read, and how long labels ripen."""

    now_us: int
    settle_h: float = 1.0  # after the reward window, for events on their way
    immature: bool = False  # write unripe rows too; `check` names them


@dataclass(frozen=True, slots=True)
class Joined:
    """One run."""

    log: pl.DataFrame  # rows to write, columns of the log
    held: Held
    rejected: pl.DataFrame  # decisions, with the reason in WHY
    rejected_events: pl.DataFrame
    decisions: Counter[str]  # read, carried; written, waiting, duplicate, rejected
    events: Counter[str]  # read, carried; counted, pending, duplicate, outside, closed, orphan, unknown, rejected


def join(
    decisions: pl.DataFrame, events: pl.DataFrame, lists: pl.DataFrame, held: Held, *, written: pl.Series, config: Config, clock: Clock
) -> Joined:
    """Return the rows that have become ready, and what is held for the next run.

    Args:
        decisions: of decision_schema.
        events: of EVENT_SCHEMA.
        lists: of list_schema.
        held: of the run before.
        written: ids of requests that the log already has, on the days of these decisions and events.
        config: names, objectives, reward window.
        clock: the time of this run.
    """
    names = config.logs.columns
    ripe_us = int((config.logs.reward_window_h + clock.settle_h) * HOUR_US)
    kept, rejected, tally = _judged(decisions, held, written, config)
    kept = _with_sessions(kept, held.tails, config)
    time = pl.col(names.ts).dt.epoch("us")
    mature = pl.lit(clock.immature) | (time <= clock.now_us - ripe_us)
    ready, waiting = kept.filter(mature), kept.filter(~mature)
    sorted_events, event_tally = _sorted_events(events, held, ready, waiting, written, config, clock, ripe_us)
    counted = sorted_events.filter(pl.col(WHY) == "counted")
    every = (
        pl.concat([held.lists, lists.with_columns(pl.lit(clock.now_us).alias(SEEN))])
        .sort(pl.all())
        .unique("request_id", keep="first", maintain_order=True)
    )
    log = _rows(ready, counted, every, config, clock.now_us)
    tally.update(written=len(log), waiting=len(waiting))
    mine = every.join(kept.select(pl.col(names.request_id).alias("request_id")), on="request_id", how="semi")
    late = every.filter(
        ~pl.col("request_id").is_in(written.implode()) & (pl.col(SEEN) >= clock.now_us - ripe_us - int(PATIENCE_H * HOUR_US))
    )
    open_lists = (
        pl.concat([mine, late])
        .unique("request_id")
        .join(ready.select(pl.col(names.request_id).alias("request_id")), on="request_id", how="anti")
    )
    refused = pl.concat([held.refused, rejected.select(pl.col(names.request_id).alias("request_id"), DECISION_ID, WHY)])
    next_held = Held(
        conformed(waiting.with_columns(pl.col("__given").alias(names.session)), decision_schema(config)),
        sorted_events.filter(pl.col(WHY) == "pending").drop(WHY),
        open_lists,
        _tails(ready, held.tails, config, clock.now_us - ripe_us - int(PATIENCE_H * HOUR_US)),
        refused,
    )
    return Joined(log, next_held, rejected, sorted_events.filter(pl.col(WHY) == "rejected"), tally, event_tally)


def event_names(config: Config) -> dict[str, tuple[tuple[int, ...], int | None]]:
    """Return event name -> objectives that count it, and the head it is an event of; names are columns, objectives or heads."""
    heads = [head.name for head in config.surface.heads]
    found: dict[str, tuple[tuple[int, ...], int | None]] = {}
    for event in {*heads, *(o.name for o in config.objectives), *(o.column for o in config.objectives)}:
        own = [j for j, o in enumerate(config.objectives) if event in {o.column, o.name}]
        counting = own or [j for j, o in enumerate(config.objectives) if o.head == event]
        by = [o.head for o in (config.objectives[j] for j in own) if o.head is not None]
        found[event] = tuple(counting), heads.index(event) if event in heads else heads.index(by[0]) if by else None
    return found


def _judged(decisions: pl.DataFrame, held: Held, written: pl.Series, config: Config) -> tuple[pl.DataFrame, pl.DataFrame, Counter[str]]:
    """Return the rows that stand, each request once; those rejected; and the counts so far."""
    names = config.logs.columns
    request, content = pl.col(names.request_id), (names.action, names.weights, names.propensity, names.reason)
    known = set(held.refused[DECISION_ID].drop_nulls().to_list())
    again = pl.col(DECISION_ID).is_in(known)
    judged = decisions.with_columns(_why(decisions, config).alias(WHY))
    broken = judged.filter(pl.col(WHY).is_not_null())
    sound = pl.concat([held.waiting, judged.filter(pl.col(WHY).is_null()).drop(WHY)])
    fresh = sound.filter(~request.is_in(written.implode()))
    client = pl.col(names.reason) == REASON_CLIENT
    conflicts = set(held.refused.filter(pl.col(WHY) == CONFLICT)["request_id"].to_list())
    marked = fresh.with_columns(
        pl.struct(content).hash().alias("__content"), client.alias("__client"), client.any().over(names.request_id).alias("__reported")
    ).with_columns(
        (
            (pl.col("__content").filter(pl.col("__client") | ~pl.col("__reported")).n_unique().over(names.request_id) > 1)
            | request.is_in(conflicts)
        ).alias("__conflict")
    )
    order = [~pl.col("__client"), names.ts, DECISION_ID, *(name for name in decision_schema(config) if name not in {names.ts, DECISION_ID})]
    helpers = ("__content", "__client", "__reported", "__conflict")
    stand = marked.filter(~pl.col("__conflict")).sort(order).unique(names.request_id, keep="first", maintain_order=True).drop(helpers)
    clash = marked.filter(pl.col("__conflict")).drop(helpers).with_columns(pl.lit(CONFLICT).alias(WHY))
    refused = pl.concat([broken, clash])
    first = refused.filter(~again.fill_null(False)).sort(DECISION_ID)
    once = pl.concat(
        [first.filter(pl.col(DECISION_ID).is_null()), first.filter(pl.col(DECISION_ID).is_not_null()).unique(DECISION_ID, keep="first")]
    )
    gone = len(decisions) + len(held.waiting) - len(stand) - len(once)
    return stand, once, Counter(read=len(decisions), carried=len(held.waiting), duplicate=gone, rejected=len(once))


def _why(frame: pl.DataFrame, config: Config) -> pl.Series:
    """Return what is wrong with each decision, null where nothing is."""
    names, surface = config.logs.columns, config.surface.build()
    weights, whole = decode.vector(frame[names.weights], len(surface.heads), WEIGHTS_DTYPE)
    sound = pl.Series(whole & np.isfinite(weights).all(axis=1), dtype=pl.Boolean)
    p, reason, action = pl.col(names.propensity), pl.col(names.reason), pl.col(names.action)
    rules = {
        "no request id": pl.col(names.request_id).is_not_null(),
        "no user": pl.col(names.user).is_not_null(),
        "no time": pl.col(names.ts).dt.year().is_between(2000, 2200),
        "no propensity in (0, 1]": p.is_not_nan() & (p > 0) & (p <= 1),
        "unknown reason": reason.is_in([REASON_EXPLORE, REASON_POLICY, REASON_STATIC]) | reason.str.starts_with(REASON_FALLBACK),
        "no such action": action.is_null() | action.is_between(OFF_GRID, len(surface) - 1),
        f"not {len(surface.heads)} finite weights": pl.lit(sound) if len(frame) else pl.lit(True),
    }
    broken = [pl.when(keeps.fill_null(False)).then(None).otherwise(pl.lit(why)) for why, keeps in rules.items()]
    return frame.select(pl.coalesce(broken).cast(pl.String).alias(WHY))[WHY] if len(frame) else pl.Series(WHY, [], dtype=pl.String)


def _with_sessions(kept: pl.DataFrame, tails: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Return the rows with a session each: the given one (kept in __given), else a chain of the user's without a gap of 30 minutes."""
    names = config.logs.columns
    given = kept.with_columns(pl.col(names.session).alias("__given"))
    bare = given.filter(pl.col("__given").is_null())
    mine = bare.select(
        pl.col(names.user).alias("user"), pl.col(names.ts).dt.epoch("us").alias("first"), pl.col(names.request_id).alias("__request")
    )
    mine = mine.with_columns(pl.col("first").alias("last"), pl.lit(None, dtype=pl.String).alias("session"))
    old = tails.with_columns(pl.lit(None, dtype=pl.String).alias("__request")).select(mine.columns)
    chain = pl.concat([mine, old]).sort("user", "first", "__request", nulls_last=False)
    chain = chain.with_columns(pl.col("last").cum_max().shift(1).over("user").alias("__reach"))
    apart = (pl.col("first") - pl.col("__reach") > SESSION_GAP_US).fill_null(True)
    chain = chain.with_columns(apart.cum_sum().over("user").alias("__chain"))
    name = pl.col("user").first() + "@" + pl.col("first").min().cast(pl.String)
    chain = chain.with_columns(pl.coalesce(pl.col("session").drop_nulls().first(), name).over("user", "__chain").alias("__derived"))
    found = chain.filter(pl.col("__request").is_not_null()).select(pl.col("__request").alias(names.request_id), "__derived")
    joined = given.join(found, on=names.request_id, how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("__given", "__derived").alias(names.session)).drop("__derived")


def _tails(ready: pl.DataFrame, tails: pl.DataFrame, config: Config, oldest_us: int) -> pl.DataFrame:
    names = config.logs.columns
    time = pl.col(names.ts).dt.epoch("us")
    derived = ready.filter(pl.col("__given").is_null())
    new = derived.select(pl.col(names.user).alias("user"), time.alias("first"), time.alias("last"), pl.col(names.session).alias("session"))
    merged = pl.concat([tails, new]).group_by("user", "session").agg(pl.col("first").min(), pl.col("last").max())
    return merged.filter(pl.col("last") >= oldest_us).select(TAIL_SCHEMA.keys()).sort("user", "first")


def _sorted_events(
    events: pl.DataFrame,
    held: Held,
    ready: pl.DataFrame,
    waiting: pl.DataFrame,
    written: pl.Series,
    config: Config,
    clock: Clock,
    ripe_us: int,
) -> tuple[pl.DataFrame, Counter[str]]:
    """Return the events, each once, with what becomes of it in WHY; and the counts."""
    names = config.logs.columns
    identity = [objective.column for objective in config.objectives if objective.transform == "identity"]
    every = pl.concat([held.events, events.with_columns(pl.lit(clock.now_us).alias(SEEN), pl.col("count").fill_null(1.0))])
    # without an id, an event is the same as another of its request when item, name and time are
    plain = pl.concat_str(["item", "event", pl.col("ts").cast(pl.Int64)], separator="\x1f", ignore_nulls=False)
    loose = pl.concat_str([pl.col("event"), pl.col("ts").cast(pl.Int64).cast(pl.String)], separator="\x1f")
    every = every.with_columns(pl.coalesce("\x1e" + pl.col("event_id"), plain, loose).alias("__key"))
    sound = (
        pl.all_horizontal(pl.col("request_id", "event", "ts").is_not_null())
        & pl.col("count").is_finite()
        & ((pl.col("count") >= 0) | pl.lit(bool(identity)))
    )
    bad = every.filter(~sound.fill_null(False))
    good = every.filter(sound.fill_null(False)).sort("request_id", "__key", "ts", "event", "item", "count", SEEN)
    once = good.unique(["request_id", "__key"], keep="first", maintain_order=True)
    here = pl.concat(
        [
            frame.select(pl.col(names.request_id).alias("request_id"), pl.col(names.ts).alias("__asked"), pl.lit(state).alias("__state"))
            for frame, state in ((ready, "ready"), (waiting, "waiting"))
        ]
    )
    known = once.join(here, on="request_id", how="left", maintain_order="left")
    delay = pl.col("ts").dt.epoch("us") - pl.col("__asked").dt.epoch("us")
    inside = delay.is_between(-SKEW_US, int(config.logs.reward_window_h * HOUR_US))
    why = (
        pl.when(~pl.col("event").is_in(list(event_names(config)))).then(pl.lit("unknown"))
        .when(pl.col("__state") == "waiting").then(pl.lit("pending"))
        .when((pl.col("__state") == "ready") & inside).then(pl.lit("counted"))
        .when(pl.col("__state") == "ready").then(pl.lit("outside"))
        .when(pl.col("request_id").is_in(written.implode())).then(pl.lit("closed"))
        .when(pl.col(SEEN) < clock.now_us - ripe_us - int(PATIENCE_H * HOUR_US)).then(pl.lit("orphan"))
        .otherwise(pl.lit("pending"))
    )  # fmt: skip
    labelled = pl.concat(
        [
            known.with_columns(why.alias(WHY)).select(*EVENT_SCHEMA, WHY),
            bad.with_columns(pl.lit("rejected").alias(WHY)).select(*EVENT_SCHEMA, WHY),
        ]
    )
    tally = Counter(labelled[WHY].to_list())
    tally.update(read=len(events), carried=len(held.events), duplicate=len(every) - len(labelled))
    return labelled, tally


def _rows(ready: pl.DataFrame, counted: pl.DataFrame, lists: pl.DataFrame, config: Config, now_us: int) -> pl.DataFrame:
    """Return the log rows of mature decisions: counts per objective, age of the label, lists where they were sent."""
    names, meaning = config.logs.columns, event_names(config)
    age = (pl.lit(now_us) - pl.col(names.ts).dt.epoch("us")) / HOUR_US
    rows = ready.drop("__given").with_columns(age.alias(names.label_age_h)).sort(names.ts, names.request_id)
    for j, objective in enumerate(config.objectives):
        mine = [event for event, (objectives, _) in meaning.items() if j in objectives]
        sums = counted.filter(pl.col("event").is_in(mine)).group_by("request_id").agg(pl.col("count").sum().alias(objective.column))
        rows = rows.join(sums, left_on=names.request_id, right_on="request_id", how="left", maintain_order="left")
        rows = rows.with_columns(pl.col(objective.column).fill_null(0.0))
    rows = rows.join(lists.drop(SEEN), left_on=names.request_id, right_on="request_id", how="left", maintain_order="left")
    return rows.with_columns(_served_events(rows, counted, config))


def _served_events(rows: pl.DataFrame, counted: pl.DataFrame, config: Config) -> pl.Series:
    """Return a byte per served item with a bit per head; null where the list was not sent, or there are more than eight heads."""
    names = config.logs.columns
    empty = pl.Series(PER_ITEM[1], [None] * len(rows), dtype=pl.Binary)
    if not len(rows) or len(config.surface.heads) > 8:
        return empty
    offsets, flat, _ = decode.ragged(rows[PER_ITEM[0]], IDS_DTYPE)
    bit = {event: 1 << head for event, (_, head) in event_names(config).items() if head is not None}
    marks = counted.with_columns(
        pl.col("event").replace_strict(bit, default=0, return_dtype=pl.Int64).alias("bit"), pl.col("item").cast(pl.Int64, strict=False)
    )
    marks = marks.filter(pl.col("count") > 0).unique(["request_id", "item", "bit"]).group_by("request_id", "item").agg(pl.col("bit").sum())
    places = pl.DataFrame(
        {"request_id": rows[names.request_id].gather(np.repeat(np.arange(len(rows)), np.diff(offsets))), "item": flat.astype(np.int64)}
    )
    bits = places.join(marks, on=["request_id", "item"], how="left", maintain_order="left")["bit"].fill_null(0).to_numpy().astype(np.uint8)
    cells = ragged_binary(bits, offsets)
    return pl.select(pl.when(rows[PER_ITEM[0]].is_not_null()).then(cells).otherwise(empty).alias(PER_ITEM[1])).to_series()
