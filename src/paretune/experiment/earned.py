"""What an arm earned over its control while it was served, through every step of its ramp. An edge: reads logs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paretune.config import Config
from paretune.errors import DataError
from paretune.experiment.guarding import rewards_between
from paretune.experiment.metrics import metrics_of
from paretune.experiment.periods import Side, pooled_lifts
from paretune.experiment.reading import CONTROL
from paretune.experiment.users import Exposure, exposure
from paretune.policy.outcomes import Seen

_NINETY_FIVE = 1.959964
_DAY_S = 86_400


def seen_lifts(logs: Path, config: Config, arm: str, periods: Sequence[tuple[float, float]]) -> tuple[list[Seen], int, int]:
    """Return what an arm earned over its control in periods of constant shares, each compared over the same time, put together by user.

    Args:
        logs: joined.
        config: objectives.
        arm: name.
        periods: (from, until) in seconds since 1970.

    Returns:
        One lift per objective, with its own 95 % interval; users of both arms, each once; days in all.

    Raises:
        ConfigError: the log has no time of its requests.
        DataError: in no period both arms were seen, or the log cannot be read.
    """
    parts = []
    for begins, ends in periods:
        test = rewards_between(logs, config, int(1e6 * begins), until_us=int(1e6 * ends))
        if test is None:
            continue
        try:
            exposed = exposure(test)
        except DataError:  # nobody was in an arm
            continue
        parts.append((_side(exposed, config, CONTROL), _side(exposed, config, arm)))
    found = pooled_lifts(parts)
    low, high = (np.expm1(found.log_ratio + sign * _NINETY_FIVE * found.std_error) for sign in (-1, 1))
    seen = [
        Seen(objective.name, float(np.expm1(mean)), float(np.exp(mean) * error), float(a), float(b), objective.direction == "minimise")
        for objective, mean, error, a, b in zip(config.objectives, found.log_ratio, found.std_error, low, high, strict=True)
    ]
    return seen, found.users, max(1, round(sum(ends - begins for begins, ends in periods) / _DAY_S))


def _side(exposed: Exposure, config: Config, arm: str) -> Side:
    """Return what the users of an arm did, nobody where it was not seen."""
    ratios = [metric.ratio for metric in metrics_of(config, exposed.columns, sessions=False)]
    sums = np.stack([np.bincount(exposed.place, column, minlength=len(exposed.user)) for column in exposed.numbers.T], axis=1)
    mine = exposed.arm == (exposed.arms.index(arm) if arm in exposed.arms else -1)
    above, below = (sums[mine][:, [getattr(ratio, part) for ratio in ratios]] for part in ("numerator", "denominator"))
    return Side(exposed.user[mine], above, below)
