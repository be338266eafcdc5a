"""What guardrails see of a plan in force, read out of logs and spooled decisions. An edge: reads logs.

The rules: a step is judged by what came after it began, arm against control over the same time. A sequence begins with the step and another
with each day of it, so that what goes wrong on the twentieth day is not drowned in nineteen good ones. Rewards come from the joined log;
what the service did (fallbacks, lateness, silence) from its spool where that is at hand, since decisions are there before their rewards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from paretune.config import Config, Features
from paretune.errors import ConfigError, DataError
from paretune.experiment.guardrails import BREACHED, Limit, Watched, alpha_of_sequence, watch_lifts, watch_shares
from paretune.experiment.lifts import Ratio, arm_values, lifts_over
from paretune.experiment.metrics import metrics_of
from paretune.experiment.moments import Moments, user_moments
from paretune.experiment.reading import CONTROL, STATIC
from paretune.experiment.sample_ratio import sample_ratio
from paretune.experiment.users import Counted, Exposure, counted, exposure, total_of
from paretune.logs.decisions import ARM, ELAPSED
from paretune.logs.files import log_files
from paretune.logs.parquet import log_days, scan_log
from paretune.logs.schema import REASON_FALLBACK
from paretune.policy.outcomes import Seen as SeenLift
from paretune.policy.plan import Arm, Plan
from paretune.records import NO_TIME
from paretune.storage.objects import answered, parquet_below, scanned
from paretune.storage.place import Where

DAY_US = 86_400_000_000
_NINETY_FIVE = 1.959964
FALLBACKS, LATE = "fallbacks", "late decisions"


@dataclass
class Memory:
    """What was counted of whole days, so that who looks every minute does not count everything again; of each day only the latest files."""

    days: dict[int, tuple[tuple[tuple[str, int | str], ...], Counted]] = field(default_factory=dict)  # day -> its files, stamped; counts


@dataclass(frozen=True, slots=True)
class Spending:
    """How the sequences of one guardrail share its alpha: they are counted by the days and steps of the ramp that went before."""

    alpha: float
    offset: int  # to add to a day, so that the first sequence of the ramp is number 1
    horizon: int

    def on(self, day: int) -> float:
        """Return the part of the sequence that begins on a day."""
        return alpha_of_sequence(self.alpha, max(1, int(day) + self.offset), horizon=self.horizon)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a step."""

    watched: tuple[Watched, ...]
    doubts: tuple[str, ...]  # what stands against a step forward although nothing is breached
    users: int  # of the smaller of arm and control; 0 where one is missing
    newest_us: int | None  # time of the latest decision; None without a spool, or where it is empty


def seen_of(
    logs: Where,
    config: Config,
    plan: Plan,
    *,
    since_us: int,
    ramp_us: int,
    step: int,
    spool: Where | None = None,
    memory: Memory | None = None,
) -> Seen:
    """Return what guardrails see of every policy arm of a plan.

    Args:
        logs: joined, with arms.
        config: objectives, guardrails, rollout.
        plan: in force.
        since_us: when it came into force, microseconds since 1970.
        ramp_us: when the first step of the ramp began.
        step: of the ramp, from 1.
        spool: of the decision service; None takes what the log says of fallbacks and lateness.
        memory: of earlier looks at the same log; None remembers nothing.

    Raises:
        ConfigError: the log has no time of its requests.
        LogError: the log cannot be read, or has no arms.
    """
    arms = [arm for arm in plan.arms if arm.is_policy or arm.weights]
    test = _rewards(logs, config, since_us, memory=memory)
    decisions = _decisions(spool, config, since_us) if spool is not None else _logged(logs, config, since_us)
    newest = int(decisions[config.logs.columns.ts].dt.epoch("us").to_numpy().max()) if spool is not None and len(decisions) else None
    watched: list[Watched] = []
    doubts: list[str] = []
    users: list[int] = []
    statements = len(arms) * (len(config.objectives) + 3)  # sessions, fallbacks and lateness beside the objectives
    spent = Spending((1 - config.evaluation.confidence) / max(1, statements), step - ramp_us // DAY_US, config.rollout.planned_days)
    for arm in arms:
        named = f"{arm.name}, " if len(arms) > 1 else ""
        lifts, doubt, count = _lifts(test, config, plan, arm, spent)
        service = _service(decisions, config, arm, spent)
        if spool is not None and not service:
            doubt = [*doubt, f"no decision of {arm.name} in the spool: fallbacks are not seen"]
        found = [*lifts, *service]
        watched += [Watched(f"{named}{one.name}", one.value, one.low, one.high, one.limit, one.state) for one in found]
        doubts += doubt
        users.append(count)
    return Seen(tuple(watched), tuple(doubts), min(users, default=0), newest)


def _lifts(test: Counted | None, config: Config, plan: Plan, arm: Arm, spent: Spending) -> tuple[tuple[Watched, ...], list[str], int]:
    """Return the metrics of an arm against its control, what is doubtful about the comparison, and the users of the smaller side."""
    if test is None:
        return (), ["no rows since the step began"], 0
    try:
        exposed = exposure(test)
    except DataError:
        return (), ["no request of an arm since the step began"], 0
    planned = _planned(plan)  # a service that still follows the plan before may log arms that this one does not have
    control = next((name for name in (CONTROL, STATIC) if name in exposed.units and planned.get(name, 0.0) > 0), "")
    if not control or arm.name not in exposed.units:
        return (), [f"nobody in {arm.name if control else 'an arm of static weights to compare with'}"], 0
    place = np.array([exposed.arms.index(control), exposed.arms.index(arm.name)])
    metrics = metrics_of(config, exposed.columns, sessions=test.whole)
    watched = _worst(
        watch_lifts(exposed.moments(since=day).of_arms(place), metrics, alpha=spent.on(day), planned_users=config.rollout.planned_users)
        for day in exposed.days
    )
    return watched, _split(exposed, planned, control, arm), min(exposed.units[control], exposed.units[arm.name])


def seen_lifts(logs: Where, config: Config, arm: str, periods: Sequence[tuple[float, float]]) -> tuple[list[SeenLift], int, int]:
    """Return what an arm earned over its control in periods of constant shares, each compared over the same time, put together by weight.

    Users who return in another period count there as others: with few and long periods the error is about right, with many it is too small.

    Args:
        logs: joined.
        config: objectives.
        arm: name.
        periods: (from, until) in seconds since 1970.

    Returns:
        One lift per objective, with its own 95 % interval; users of both arms in the largest period; days in all.

    Raises:
        DataError: in no period both arms were seen.
    """
    signs, parts, users = [objective.direction == "minimise" for objective in config.objectives], [], 0
    for begins, ends in periods:
        test = _rewards(logs, config, int(1e6 * begins), until_us=int(1e6 * ends))
        if test is None:
            continue
        exposed = exposure(test)
        if not {arm, CONTROL} <= set(exposed.units):
            continue
        place = np.array([exposed.arms.index(CONTROL), exposed.arms.index(arm)])
        moments, metrics = exposed.moments().of_arms(place), metrics_of(config, exposed.columns, sessions=False)
        lifts = lifts_over(arm_values(moments, [metric.ratio for metric in metrics]), 0)
        if np.isfinite(lifts.std_error).all():
            parts.append((lifts.log_ratio[0], lifts.std_error[0]))
            users = max(users, int(moments.users.sum()))
    if not parts:
        raise DataError(f"{arm} and its control were never seen together", hint="serve both, and log their arms")
    weight = np.stack([1 / np.square(error) for _, error in parts])
    mean = (weight * np.stack([ratio for ratio, _ in parts])).sum(axis=0) / weight.sum(axis=0)
    error = 1 / np.sqrt(weight.sum(axis=0))
    low, high = np.expm1(mean - _NINETY_FIVE * error), np.expm1(mean + _NINETY_FIVE * error)
    found = [
        SeenLift(objective.name, float(np.expm1(m)), float(np.exp(m) * e), float(a), float(b), minimised)
        for objective, m, e, a, b, minimised in zip(config.objectives, mean, error, low, high, signs, strict=True)
    ]
    return found, users, max(1, round(sum(ends - begins for begins, ends in periods) / 86_400))


def _planned(plan: Plan) -> dict[str, float]:
    """Return arm -> share of users, static weights for the rest among them."""
    shares = {one.name: one.share for one in plan.arms}
    return {STATIC: max(0.0, 1 - sum(shares.values())), **shares}


def _split(exposed: Exposure, shares: Mapping[str, float], control: str, arm: Arm) -> list[str]:
    seen = {name: exposed.units[name] for name in (control, arm.name)}
    planned = {name: shares[name] / (shares[control] + arm.share) for name in seen}
    ratio = sample_ratio(seen, planned, unit="users")
    return [f"the split of users is not the planned one (p = {ratio.p_value:.1g})"] if ratio.failed else []


def _service(decisions: pl.DataFrame, config: Config, arm: Arm, spent: Spending) -> tuple[Watched, ...]:
    """Return the shares of an arm's requests that fell back or were late, against their limits."""
    names, rollout = config.logs.columns, config.rollout
    mine = decisions.filter(pl.col(ARM) == arm.name)
    if not len(mine):
        return ()
    day = pl.col(names.ts).dt.epoch("d")
    per_day = mine.group_by(names.user, day.alias("day"), maintain_order=True).agg(
        pl.len().cast(pl.Float64),
        pl.col(names.reason).str.starts_with(REASON_FALLBACK).sum().cast(pl.Float64).alias(FALLBACKS),
        (pl.col(ELAPSED) > 1000 * rollout.late_ms).sum().cast(pl.Float64).alias(LATE),
    )

    def since(first: int) -> Moments:
        columns = per_day.filter(pl.col("day") >= first).group_by(names.user).agg(pl.col("len", FALLBACKS, LATE).sum())
        numbers = columns.select("len", FALLBACKS, LATE).to_numpy()
        return user_moments(np.arange(len(numbers)), np.zeros(len(numbers), np.int64), numbers, arms=1)

    limits = [Limit(FALLBACKS, Ratio(FALLBACKS, 1, 0), rollout.fallback_pct / 100), Limit(LATE, Ratio(LATE, 2, 0), rollout.late_pct / 100)]
    timed = mine[ELAPSED].is_not_null().any()
    chosen, days = limits if timed else limits[:1], sorted(per_day["day"].unique())
    return _worst(watch_shares(since(first), chosen, alpha=spent.on(first), planned_users=rollout.planned_users) for first in days)


def _worst(looks: Iterable[tuple[Watched, ...]]) -> tuple[Watched, ...]:
    """Return each guardrail as the whole step sees it, or as the first later beginning does that sees a breach."""
    by_name = zip(*looks, strict=True)
    return tuple(next((one for one in alike if one.state == BREACHED), alike[0]) for alike in by_name)


def _rewards(logs: Where, config: Config, since_us: int, *, until_us: int | None = None, memory: Memory | None = None) -> Counted | None:
    """Return what users did since a moment, and until another where one is given; None where there is no row."""
    last_us = int(np.iinfo(np.int64).max) if until_us is None else until_us
    by_day: dict[int | None, list[tuple[str, int | str]]] = {}
    for file in log_files(logs, config) if memory is not None else ():
        by_day.setdefault(file.day, []).append((str(file.path), file.stamp[1]))
    found = []
    for day in log_days(logs, config):
        begins, ends = day * DAY_US, (day + 1) * DAY_US
        if ends <= since_us or begins >= last_us:
            continue
        whole = tuple(by_day.get(day, ())) if begins >= since_us and ends <= last_us else ()
        kept = None if memory is None else memory.days.get(day)
        if kept is not None and kept[0] == whole:
            found.append(kept[1])
            continue
        parts = list(_counted(logs, config, day, since_us=since_us, last_us=last_us))
        if parts:
            found.append(total_of(parts))
            if memory is not None and whole:
                memory.days[day] = (whole, found[-1])
    return total_of(found) if found else None


def _counted(logs: Where, config: Config, day: int, *, since_us: int, last_us: int) -> Iterator[Counted]:
    wanted = np.array([objective.direction == "maximise" for objective in config.objectives])
    plain = config.model_copy(update={"features": Features()})
    for log in scan_log(logs, plain, days=[day], arms=True):
        if log.time_us is None or (log.time_us == NO_TIME).any():
            raise ConfigError("the log does not say when its requests were made", hint="name the column in logs.columns.ts")
        rows = np.flatnonzero((log.time_us >= since_us) & (log.time_us < last_us))
        if len(rows):
            yield counted(log.take(rows), wanted=wanted)


def _logged(logs: Where, config: Config, since_us: int) -> pl.DataFrame:
    files = [file.path for file in log_files(logs, config) if file.day is None or (file.day + 1) * DAY_US > since_us]
    return _told(files, config, since_us)


def _decisions(spool: Where, config: Config, since_us: int) -> pl.DataFrame:
    return _told([file for file in parquet_below(spool) if not file.name.startswith(".")], config, since_us)


def _told(files: Sequence[Where], config: Config, since_us: int) -> pl.DataFrame:
    """Return who was served by which arm, for which reason and how fast, since a moment."""
    names = config.logs.columns
    schema: dict[str, pl.DataType] = {
        names.user: pl.String(),
        ARM: pl.String(),
        names.ts: pl.Datetime("us"),
        names.reason: pl.String(),
        ELAPSED: pl.Int64(),
    }
    parts = [pl.DataFrame(schema=schema)]
    for path in files:
        with answered(path, "read"):
            rows = scanned(path)
            known = rows.collect_schema()
            if not {names.user, ARM, names.ts, names.reason} <= set(known):
                continue
            columns = [
                pl.col(name).cast(kind, strict=False) if name in known else pl.lit(None, kind).alias(name) for name, kind in schema.items()
            ]
            parts.append(rows.select(columns).filter(pl.col(names.ts).dt.epoch("us") >= since_us).collect())
    return pl.concat(parts)
