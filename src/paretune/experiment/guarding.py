"""What guardrails see of a plan in force, read out of logs and spooled decisions. An edge: reads logs.

The rules: a step is judged by what came after it began, arm against control over the same time. A sequence begins with the step and another
with each day of it, so that what goes wrong on the twentieth day is not drowned in nineteen good ones. Rewards come from the joined log;
what the service did (fallbacks, lateness, silence) from its spool where that is at hand. What nobody can compare is said to be unwatched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from paretune.config import Config, Features
from paretune.errors import ConfigError, DataError
from paretune.experiment.guardrails import Spending, Watched, watch_lifts, worst_of
from paretune.experiment.metrics import metrics_of
from paretune.experiment.reading import CONTROL, STATIC
from paretune.experiment.sample_ratio import plan_shares, sample_ratio
from paretune.experiment.service import DAY_US, logged, silence_in, spooled, watch_service
from paretune.experiment.silence import Silence
from paretune.experiment.users import Counted, Exposure, counted, exposure, total_of
from paretune.logs.files import log_files
from paretune.logs.parquet import log_days, scan_log
from paretune.policy.plan import Arm, Plan
from paretune.records import NO_TIME
from paretune.storage.place import Where


@dataclass
class Memory:
    """What was counted of whole days, so that who looks every minute does not count everything again; of each day only the latest files."""

    days: dict[int, tuple[tuple[tuple[str, int | str], ...], Counted]] = field(default_factory=dict)  # day -> its files, stamped; counts


@dataclass(frozen=True, slots=True)
class Ramp:
    """How far the ramp of an arm has come."""

    began_us: int  # when the arm was first served, microseconds since 1970
    step: int  # of the ramp, from 1: a version since then that may have changed what is compared


@dataclass(frozen=True, slots=True)
class StepSeen:
    """What was seen of a step."""

    watched: tuple[Watched, ...]
    unwatched: tuple[str, ...]  # what nobody can watch under this plan, however long one waits
    doubts: tuple[str, ...]  # what stands against a step forward although nothing is breached
    users: int  # of the smaller of arm and control; 0 where one is missing
    silence: Silence


def seen_of(
    logs: Where,
    config: Config,
    plan: Plan,
    *,
    since_us: int,
    now_us: int,
    ramps: Mapping[str, Ramp],
    spool: Where | None = None,
    memory: Memory | None = None,
) -> StepSeen:
    """Return what guardrails see of every policy arm of a plan.

    Args:
        logs: joined, with arms.
        config: objectives, guardrails, rollout.
        plan: in force.
        since_us: when it came into force, microseconds since 1970.
        now_us: when is asked.
        ramps: of every policy arm, by its name.
        spool: of the decision service; None takes what the log says of fallbacks and lateness, and nothing of silence.
        memory: of earlier looks at the same log; None remembers nothing.

    Raises:
        ConfigError: the log has no time of its requests.
        LogError: the log cannot be read, or has no arms.
    """
    arms = policy_arms(plan)
    test = rewards_between(logs, config, since_us, memory=memory)
    decisions = logged(logs, config, since_us) if spool is None else spooled(spool, config, since_us)
    silence = silence_in(decisions, config, plan, since_us=since_us, now_us=now_us)
    watched: list[Watched] = []
    unwatched: list[str] = []
    doubts: list[str] = []
    users: list[int] = []
    statements = len(arms) * (len(config.objectives) + 3)  # sessions, fallbacks and lateness beside the objectives
    for arm in arms:
        named = f"{arm.name}, " if len(arms) > 1 else ""
        begins = ramps[arm.name].step - ramps[arm.name].began_us // DAY_US
        spent = Spending((1 - config.evaluation.confidence) / statements, begins, config.rollout.planned_days)
        lifts, doubt, count = _lifts(test, config, plan, arm, spent)
        service = watch_service(decisions, config, arm, spent)
        if not control_of(plan):
            doubt = []  # none that time could settle
            unwatched.append(f"the objectives of {arm.name}: nobody is served the static weights, so there is nobody to compare with")
        if spool is not None and not service:
            doubt = [*doubt, f"no decision of {arm.name} in the spool: fallbacks are not seen"]
        watched += [replace(one, name=f"{named}{one.name}") for one in (*lifts, *service)]
        doubts += doubt
        users.append(count)
    if silence.ahead:
        doubts.append(f"{silence.ahead:,} rows are from the future, by up to {silence.ahead_s / 60:,.0f} minutes: some clock is wrong")
    silence = silence if spool is not None else replace(silence, silent_s=0.0, arm="")
    return StepSeen(tuple(watched), tuple(unwatched), tuple(doubts), min(users, default=0), silence)


def policy_arms(plan: Plan) -> list[Arm]:
    """Return the arms of a plan that serve other than the static weights."""
    return [arm for arm in plan.arms if arm.is_policy or arm.weights]


def control_of(plan: Plan) -> str:
    """Return the arm of static weights that a plan's policies are compared with; empty where nobody is in one."""
    planned = plan_shares(plan)
    return next((name for name in (CONTROL, STATIC) if planned.get(name, 0.0) > 0), "")


def _lifts(test: Counted | None, config: Config, plan: Plan, arm: Arm, spent: Spending) -> tuple[tuple[Watched, ...], list[str], int]:
    """Return the metrics of an arm against its control, what is doubtful about the comparison, and the users of the smaller side."""
    if test is None:
        return (), ["no rows since the step began"], 0
    try:
        exposed = exposure(test)
    except DataError:
        return (), ["no request of an arm since the step began"], 0
    planned = plan_shares(plan)  # a service that still follows the plan before may log arms that this one does not have
    control = next((name for name in (CONTROL, STATIC) if name in exposed.units and planned.get(name, 0.0) > 0), "")
    if not control or arm.name not in exposed.units:
        return (), [f"nobody in {arm.name if control else 'an arm of static weights to compare with'}"], 0
    place = np.array([exposed.arms.index(control), exposed.arms.index(arm.name)])
    metrics = metrics_of(config, exposed.columns, sessions=test.whole)
    watched = worst_of(
        watch_lifts(exposed.moments(since=day).of_arms(place), metrics, alpha=spent.on(day), planned_users=config.rollout.planned_users)
        for day in exposed.days
    )
    return watched, _split(exposed, planned, control, arm), min(exposed.units[control], exposed.units[arm.name])


def _split(exposed: Exposure, shares: Mapping[str, float], control: str, arm: Arm) -> list[str]:
    seen = {name: exposed.units[name] for name in (control, arm.name)}
    planned = {name: shares[name] / (shares[control] + shares[arm.name]) for name in seen}
    ratio = sample_ratio(seen, planned, unit="users")
    return [f"the split of users is not the planned one (p = {ratio.p_value:.1g})"] if ratio.failed else []


def rewards_between(
    logs: Where, config: Config, since_us: int, *, until_us: int | None = None, memory: Memory | None = None
) -> Counted | None:
    """Return what users did since a moment, and until another where one is given; None where there is no row.

    Args:
        logs: joined, with arms.
        config: names of columns, objectives.
        since_us: microseconds since 1970.
        until_us: the same; None = until the log's end.
        memory: of earlier looks at the same log; None remembers nothing.

    Raises:
        ConfigError: the log has no time of its requests.
        LogError: the log cannot be read, or has no arms.
    """
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
