"""What a decision service did of a step: fallbacks, lateness, and whether it fell silent. An edge: reads spools and logs.

The rule: decisions are read from the service's spool where that is at hand, since they are there before their rewards; else from the joined
log, which is late, so that nothing is said of silence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.experiment.guardrails import Limit, Spending, Watched, watch_shares, worst_of
from paretune.experiment.lifts import Ratio
from paretune.experiment.moments import Moments, user_moments
from paretune.experiment.sample_ratio import plan_shares
from paretune.experiment.silence import Silence, silence_of
from paretune.logs.decisions import ARM, ELAPSED
from paretune.logs.files import log_files
from paretune.logs.schema import REASON_FALLBACK
from paretune.policy.plan import Arm, Plan
from paretune.storage.objects import answered, parquet_below, scanned
from paretune.storage.place import Where

DAY_US = 86_400_000_000
FALLBACKS, LATE = "fallbacks", "late decisions"


def watch_service(decisions: pl.DataFrame, config: Config, arm: Arm, spent: Spending) -> tuple[Watched, ...]:
    """Return the shares of an arm's requests that fell back or were late, against their limits; nothing where it has none.

    Args:
        decisions: since the step began, see `spooled`.
        config: names of columns, rollout.
        arm: of the plan.
        spent: alpha of each limit.
    """
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
    return worst_of(watch_shares(since(first), chosen, alpha=spent.on(first), planned_users=rollout.planned_users) for first in days)


def silence_in(decisions: pl.DataFrame, config: Config, plan: Plan, *, since_us: int, now_us: int) -> Silence:
    """Return for how long nothing was seen of a plan's arms.

    Args:
        decisions: since the step began, see `spooled`.
        config: names of columns.
        plan: in force, not killed.
        since_us: when it came into force.
        now_us: when is asked.
    """
    names, arms = config.logs.columns, plan_shares(plan)
    code = {arm: index for index, arm in enumerate(arms)}
    return silence_of(
        decisions[names.ts].dt.epoch("us").to_numpy(),
        decisions[ARM].replace_strict(code, default=len(code), return_dtype=pl.Int64).to_numpy(),
        decisions[names.user].hash().to_numpy(),
        arms=arms,
        since_us=since_us,
        now_us=now_us,
    )


def logged(logs: Where, config: Config, since_us: int) -> pl.DataFrame:
    """Return the decisions of a joined log since a moment, as `spooled` does."""
    files = [file.path for file in log_files(logs, config) if file.day is None or (file.day + 1) * DAY_US > since_us]
    return _told(files, config, since_us)


def spooled(spool: Where, config: Config, since_us: int) -> pl.DataFrame:
    """Return who was served by which arm, when, for which reason and how fast, since a moment: a row for each decision of a spool.

    Args:
        spool: folder; nothing where there is none.
        config: names of columns.
        since_us: microseconds since 1970.
    """
    return _told([file for file in parquet_below(spool) if not file.name.startswith(".")], config, since_us)


def _told(files: Sequence[Where], config: Config, since_us: int) -> pl.DataFrame:
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
