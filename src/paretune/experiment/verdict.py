"""One sentence about an arm: it ships, it harms something, it is not inferior, or the test cannot tell yet and how many users it needs.

    good = sign x lift.   worse: high < 0 and low <= -margin.   kept: low > -margin.   better: low > 0.
    any worse -> harms;  all kept and some better -> ships;  all kept -> not inferior;  else -> cannot tell

The rule: the intervals are those that hold for all arms and metrics at once, so that all sentences hold at the test's confidence; a loss
that is shown to be smaller than its margin is tolerated, one that is not is a harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paretune.experiment.metrics import Metric
from paretune.experiment.power import POWER, users_needed
from paretune.records import Floats

SHIPS, HARMS, NOT_INFERIOR, CANNOT_TELL, BLOCKED = "ships", "harms", "not inferior", "cannot tell", "blocked"
BETTER, WORSE, KEPT, OPEN = "better", "worse", "not inferior", "open"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of one arm."""

    arm: str
    answer: str
    sentence: str
    findings: tuple[str, ...]  # (M,) better, worse, not inferior or open
    more_users: float  # that the test needs, NaN where it can tell


def finding(low: float, high: float, metric: Metric) -> str:
    """Return what the interval of a lift says of its metric."""
    worst, best = (low, high) if metric.sign > 0 else (-high, -low)
    if not (np.isfinite(worst) and np.isfinite(best)):
        return OPEN
    if worst > 0:
        return BETTER
    if worst > -metric.margin:
        return KEPT
    return WORSE if best < 0 else OPEN


def verdict_of(
    arm: str,
    metrics: Sequence[Metric],
    *,
    lift: Floats,
    low: Floats,
    high: Floats,
    std_error: Floats,
    critical: Floats,
    users: float,
    smallest: float,
) -> Verdict:
    """Return the verdict on one arm.

    Args:
        arm: its name.
        metrics: (M,).
        lift: (M,) relative, as are `low` and `high`, the ends of intervals that hold together.
        low: (M,).
        high: (M,).
        std_error: (M,) of the log ratios.
        critical: (M,) standard errors that such intervals are wide to each side at the end of the test.
        users: of the whole test.
        smallest: lift worth having, to be seen where nothing may be lost.
    """
    findings = tuple(finding(low[m], high[m], metric) for m, metric in enumerate(metrics))
    told = [f"{metric.name} {_percent(lift[m])} ({_percent(low[m], unit='')} … {_percent(high[m])})" for m, metric in enumerate(metrics)]

    def those(wanted: str) -> str:
        return ", ".join(text for text, found in zip(told, findings, strict=True) if found == wanted)

    if WORSE in findings:
        return Verdict(arm, HARMS, f"{arm}: harms {those(WORSE)}", findings, np.nan)
    if OPEN not in findings and BETTER in findings:
        return Verdict(arm, SHIPS, f"{arm}: ships; {those(BETTER)}, and nothing is lost beyond its margin", findings, np.nan)
    if OPEN not in findings:
        return Verdict(arm, NOT_INFERIOR, f"{arm}: not inferior; nothing is lost beyond its margin, and no gain is shown", findings, np.nan)
    still = [
        (metric, _more(metric, lift=lift[m], std_error=std_error[m], critical=critical[m], users=users, smallest=smallest))
        for m, (metric, found) in enumerate(zip(metrics, findings, strict=True))
        if found == OPEN
    ]
    unknown = [metric.name for metric, need in still if not np.isfinite(need)]
    if unknown:
        sentence = f"{arm}: cannot tell; too few users or events of {', '.join(unknown)} to say anything"
        return Verdict(arm, CANNOT_TELL, sentence, findings, np.nan)
    hardest, more = max(still, key=lambda pair: pair[1])
    limit = f"more than {100 * hardest.margin:.2g} %" if hardest.margin > 0 else "something"
    verb = "lose" if hardest.sign > 0 else "rise by"
    sentence = f"{arm}: cannot tell; {hardest.name} may still {verb} {limit}; needs about {_round(more)} more users"
    return Verdict(arm, CANNOT_TELL, sentence, findings, more)


def _more(metric: Metric, *, lift: float, std_error: float, critical: float, users: float, smallest: float) -> float:
    """Return the users that an open metric needs: if the truth is no lift; or, where those are there, if it is what was seen."""
    if not (np.isfinite(std_error) and np.isfinite(critical) and np.isfinite(lift)):
        return np.nan
    limit = -metric.sign * (metric.margin or smallest)
    needed = float(users_needed(users, std_error, lift=limit, critical=critical, power=POWER))
    if needed <= users:
        distance = abs(np.log1p(lift) - np.log1p(-metric.sign * metric.margin))
        needed = float(users * np.square(std_error * critical / max(distance, std_error / 10)))
    return max(needed - users, 0.05 * users)


def _percent(value: float, *, unit: str = " %") -> str:
    return f"{100 * value:+.2f}".replace("-", "−") + unit if np.isfinite(value) else "–"


def _round(users: float) -> str:
    digits = max(0, int(np.floor(np.log10(max(users, 1)))) - 1)
    return f"{int(np.ceil(users / 10**digits) * 10**digits):,}"
