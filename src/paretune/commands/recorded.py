"""What a readout saw, put beside what the registry's policies promised. An edge: the registry."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.commands.output import plain
from paretune.commands.registered import acting, registry_at

if TYPE_CHECKING:
    from paretune.experiment.readout import Readout
    from paretune.policy.outcomes import Outcome, Seen


def registry_shares(registry: str, version: int) -> tuple[int, dict[str, float]]:
    """Return the version of the plan that was tested, and the share of users that each of its arms should have.

    Args:
        registry: where it lies.
        version: 0 = the one in force.

    Raises:
        ConfigError: there is no such plan, or no policy in it.
    """
    from paretune.errors import ConfigError
    from paretune.experiment.sample_ratio import plan_shares
    from paretune.policy.changes import numbers_in

    known = registry_at(registry)
    found = known.plan(version) if version else known.current()
    if found is None:
        raise ConfigError(f"{registry} has no plan in force", hint="name its --version")
    if not numbers_in(found):
        raise ConfigError(f"plan {found.version} serves no policy", hint="name the --version that was tested, see `paretune history`")
    return found.version, plan_shares(found)


def record(found: Readout, summary: dict[str, Any], *, registry: str, version: int, user: str) -> list[Outcome]:
    """Store what a readout saw of each policy beside its promise, and return both.

    Args:
        found: a readout that is not blocked.
        summary: of it, for programs; names the readout by its hash.
        registry: where it lies.
        version: of the plan that was tested.
        user: who records.

    Raises:
        ConflictError: the plan serves no such policy, or nothing that was seen had been promised.
    """
    from paretune.policy.changes import arm_name, numbers_in

    opened = registry_at(registry)
    served = {arm_name(number): number for number in numbers_in(opened.plan(version))}
    written = json.dumps(plain(summary), sort_keys=True, ensure_ascii=False, allow_nan=False)
    readout, by = hashlib.sha256(written.encode()).hexdigest(), acting(user)
    days = found.days[-1] - found.days[0] + 1
    made = []
    for a, arm in enumerate(found.arms):
        seen = seen_of(found, a)
        if arm in served and seen:
            users = int(found.users[0] + found.users[a + 1])
            made += opened.record_outcome(served[arm], version=version, seen=seen, users=users, days=days, readout=readout, by=by)
    return made


def seen_of(found: Readout, arm: int) -> list[Seen]:
    """Return what an arm did to each metric of which the readout tells something; errors are of the lift, not of its logarithm."""
    from paretune.policy.outcomes import Seen

    told = []
    for m, metric in enumerate(found.metrics):
        lift, low, high = (float(part[arm, m]) for part in (found.lift, found.low, found.high))
        error = float((1 + lift) * found.std_error[arm, m])
        if np.isfinite([lift, low, high, error, found.band_high[arm, m]]).all():
            told.append(Seen(metric.name, lift, error, low, high, minimised=metric.sign < 0))
    return told
