"""A test read out of logs: which days, which arms, and what is compared with what. An edge: reads logs.

The rule: one pass over the days of the test and one over those before it; what users did before is only used where the arms that are
compared were not served yet, since a test must not be adjusted by what it did itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl

from paretune.config import Config, Features
from paretune.errors import ConfigError, DataError
from paretune.experiment.metrics import metrics_of
from paretune.experiment.moments import Moments
from paretune.experiment.readout import Design, Readout, read_out
from paretune.experiment.sample_ratio import sample_ratio
from paretune.experiment.users import NO_ARM, Counted, Exposure, Unit, counted, exposure, total_of
from paretune.logs.decisions import ARM
from paretune.logs.files import log_files
from paretune.logs.parquet import day_name, file_schema, log_days, scan_log
from paretune.ports import Progress, silent
from paretune.records import Ints
from paretune.storage.place import Where

STATIC, CONTROL = "static", "control"
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Asked:
    """How a test is to be read."""

    shares: Mapping[str, float]  # planned, by arm
    control: str = ""  # empty = the arm `control`, or else `static`
    days: str = ""  # A:B, days of the log from 1, or dates; empty = all that are not before
    pre_days: str = ""  # the same; empty = none
    planned_days: int = 14
    unit: Unit = "user"
    margins: Mapping[str, float] | None = None  # by metric, as fractions
    by_cohort: bool = False


def read_test(logs: Where, config: Config, asked: Asked, *, progress: Progress = silent) -> tuple[Readout, Exposure]:
    """Return the readout of a test, and the users that it rests on.

    Args:
        logs: of the days of the test, and before.
        config: objectives, guardrails, names of columns, confidence, smallest lift.
        asked: how to read it.
        progress: told the share of files read.

    Raises:
        ConfigError: days, arms, shares or margins are not what the log or the configuration knows.
        LogError: the log cannot be read, or has no arms.
        DataError: nobody is in an arm.
    """
    if asked.pre_days and asked.unit != "user":
        raise ConfigError(
            f"what users did before says nothing of {asked.unit}s", hint="leave out --pre-days: they are compared with themselves anyway"
        )
    known = log_days(logs, config)
    before = chosen_days(asked.pre_days, known) if asked.pre_days else []
    days = chosen_days(asked.days, known) if asked.days else [day for day in known if not before or day > before[-1]]
    if not days or (before and before[-1] >= days[0]):
        raise ConfigError("the days before the test do not lie before its days", hint="give --days and --pre-days that do not overlap")
    test = _counted(logs, config, days, arms=True, progress=lambda share, doing: progress(0.8 * share, doing))
    exposed = exposure(test, unit=asked.unit, arms=tuple(asked.shares))
    arms = compared(exposed.arms, exposed.units, asked)
    if before:
        earlier = _earlier(logs, config, before, arms=arms, progress=lambda share, doing: progress(0.8 + 0.1 * share, doing))
        exposed = exposure(test, before=earlier, unit=asked.unit, arms=tuple(asked.shares))
    ratio = sample_ratio(exposed.units, asked.shares, unit=f"{asked.unit}s")
    place = np.array([exposed.arms.index(arm) for arm in arms])
    progress(0.9, "looking day by day")
    looks = _stacked([exposed.moments(until=day).of_arms(place) for day in exposed.days])
    sessions = test.whole and asked.unit != "request"
    found = read_out(
        looks,
        metrics_of(config, exposed.columns, margins=asked.margins, sessions=sessions),
        Design(arms, asked.planned_days, config.evaluation.confidence, config.evaluation.smallest_lift_pct / 100),
        days=exposed.days,
        ratio=ratio,
        cohorts=_cohorts(exposed, place) if asked.by_cohort else None,
        cohort_names=exposed.cohorts if asked.by_cohort else (),
        moved=exposed.moved if asked.unit == "user" else 0,
    )
    return found, exposed


def compared(arms: Sequence[str], units: Mapping[str, int], asked: Asked) -> tuple[str, ...]:
    """Return the arms that are compared, the control first; users of `static` beside another control compare nothing.

    Raises:
        ConfigError: there is no such control, or nothing to compare with it.
    """
    control = asked.control or next((name for name in (CONTROL, STATIC) if name in units), "")
    if control not in units:
        raise ConfigError(
            f"nobody is in {f'arm {control!r}' if control else 'an arm of static weights'}; arms are {sorted(units)}",
            hint="name the arm to compare with by --control, or keep one: `paretune plan --static-arm 5`",
        )
    others = [arm for arm in arms if arm not in {control, STATIC} and arm in units]
    if not others:
        raise ConfigError(f"nobody is in an arm to compare with {control!r}; arms are {sorted(units)}", hint="check the days and the log")
    return (control, *others)


def chosen_days(span: str, known: Sequence[int]) -> list[int]:
    """Return the days of a log that a span A:B names, both ends included; an end that is left out is the log's.

    Args:
        span: A and B are dates (2026-01-31), or numbers of the log's days from 1.
        known: days of the log, increasing, since 1970-01-01.

    Raises:
        ConfigError: it is no span, or names no day of the log.
    """
    first, colon, last = span.partition(":")
    try:
        start = _day(first, known) if first else known[0]
        end = _day(last, known) if last else (known[-1] if colon else start)
    except (ValueError, IndexError):
        raise ConfigError(f"{span!r} is no span of days", hint="write 2026-01-08:2026-01-21, or 8:21 for days of the log from 1") from None
    found = [day for day in known if start <= day <= end]
    if not found:
        raise ConfigError(
            f"the log has no day in {span}; it has {day_name(known[0])} to {day_name(known[-1])}", hint="name days that are there"
        )
    return found


def _day(word: str, known: Sequence[int]) -> int:
    if word.strip().isdigit():
        place = int(word)
        if not 1 <= place <= len(known):
            raise IndexError(word)
        return known[place - 1]
    return (date.fromisoformat(word.strip()) - _EPOCH).days


def _counted(logs: Where, config: Config, days: Collection[int], *, arms: bool, progress: Progress) -> Counted:
    wanted = np.array([objective.direction == "maximise" for objective in config.objectives])
    plain = config.model_copy(update={"features": Features()})

    def parts() -> Iterator[Counted]:
        for log in scan_log(logs, plain, days=days, arms=arms, progress=progress):
            yield counted(log, arms=arms, wanted=wanted)

    return total_of(parts())


def _earlier(logs: Where, config: Config, days: Sequence[int], *, arms: Sequence[str], progress: Progress) -> Counted:
    """Return what users did before the test, over all arms.

    Raises:
        ConfigError: an arm that is compared was served then.
    """
    files = [file for file in log_files(logs, config) if file.day is None or file.day in days]
    logged = all(ARM in file_schema(file)[0] for file in files)
    found = _counted(logs, config, days, arms=logged, progress=progress)
    early = sorted(set(found.daily["arm"].unique()) & set(arms[1:]))
    if early:
        raise ConfigError(
            f"on the days before the test, users were served {early} already",
            hint="name days from before the arms, or leave out --pre-days",
        )
    return replace(found, daily=found.daily.with_columns(arm=pl.lit(NO_ARM)), sessions=found.sessions.with_columns(arm=pl.lit(NO_ARM)))


def _cohorts(exposed: Exposure, place: Ints) -> Moments:
    if len(exposed.cohorts) < 2:
        raise DataError("the log has no cohorts to tell apart", hint="leave out --by cohort, or log the cohort of each user")
    return _stacked([exposed.moments(cohort=c).of_arms(place) for c in range(len(exposed.cohorts))])


def _stacked(parts: Sequence[Moments]) -> Moments:
    return Moments(*(np.stack([getattr(part, name) for part in parts]) for name in ("users", "crossed", "total", "product")))
