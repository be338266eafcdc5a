"""Tables of what was learned and how well: model selection, calibration, feature groups, distilled policies.

The rule of `tables` holds: plain text cells, a dash where a number does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paretune.frontier.calibration import Calibration
from paretune.frontier.continuous import Continuous
from paretune.frontier.given import PolicyComparison
from paretune.frontier.isolation import Isolation
from paretune.report.tables import MISSING, Table, interval, percent, signed, worded
from paretune.value.selection import RLoss


def selection_table(judged: Sequence[RLoss]) -> Table:
    """Return the kinds of model by held-out R-loss, best first.

    Args:
        judged: as `r_losses` returns them.
    """
    rows = [
        (one.name, f"{one.loss:.5f}", f"{one.difference:+.5f} ± {one.std_error:.5f}".replace("-", "−"), "✓ kept" if i == 0 else "")
        for i, one in enumerate(judged)
    ]
    note = "Squared error of predicted effects on held-out users, in relative units; below zero against 'no effect' is better than nothing."
    if judged and not judged[0].helps:
        note += " No model is: expect nothing of personal weights until there are more rows."
    return Table("Models by held-out R-loss", ("model", "R-loss", "against no effect", ""), tuple(rows), note)


def isolation_table(found: Isolation, groups: Mapping[str, tuple[str, ...]]) -> Table:
    """Return what each group of features is good for, one row per group.

    Args:
        found: the comparison; its first group sees all features.
        groups: the features of each group.
    """
    size, lifts = len(found.scalarisations), found.lifts
    rows = []
    for g, name in enumerate(found.groups):
        p = g * size + found.knees[g]
        gap = f"{signed(found.gap[g])} ± {percent(found.gap_std_error[g], 2)}" if g else MISSING
        bands = [interval(lifts.estimate[p, j], lifts.band_low[p, j], lifts.band_high[p, j]) for j in range(len(lifts.objectives))]
        seen = ", ".join(groups.get(name, ())) or "all"
        rows.append((name, seen, f"{signed(found.gain[g])} ± {percent(found.std_error[g], 2)}", gap, *bands))
    columns = ("group", "features", "gain", f"against {found.groups[0]}", *(f"{name} at the knee (band)" for name in lifts.objectives))
    note = (
        "Gain: held-out lift, objectives weighted as each trade-off weights them, averaged over the whole sweep, ± one standard error; "
        f"differences are paired. Estimator: {lifts.estimator}; {lifts.n_rows:,} requests of {lifts.n_users:,} users. Knees were picked "
        "for being large: they overstate, the gains do not."
    )
    return Table("What each group of features is good for", columns, tuple(rows), note)


def comparison_table(found: PolicyComparison) -> Table:
    """Return policies beside the one they stand in for, one row per policy and objective.

    Args:
        found: the comparison; differences are to its first policy.
    """
    rows = []
    for p, name in enumerate(found.policies):
        for j, objective in enumerate(found.objectives):
            half, apart = found.quantile * found.std_error[p, j], found.quantile * found.gap_std_error[p, j]
            lift, gap = found.estimate[p, j], found.gap[p, j]
            first = j == 0
            rows.append(
                (
                    name if first else "",
                    percent(found.agreement[p]) if first else "",
                    f"{int(found.hits[p]):,}" if first else "",
                    objective,
                    interval(lift, lift - half, lift + half),
                    interval(gap, gap - apart, gap + apart) if p else MISSING,
                )
            )
        if p:
            score, apart = found.score_gap[p], found.quantile * found.score_gap_std_error[p]
            rows.append(("", "", "", "all, as weighted", signed(found.score[p]), interval(score, score - apart, score + apart)))
    columns = (
        "policy",
        "same action",
        "rows that speak",
        "objective",
        "held-out lift (interval)",
        f"against {found.policies[0]} (interval)",
    )
    note = f"Differences are paired: all policies on the same {found.n_rows:,} held-out requests. Estimator: {found.estimator}."
    return Table("What the rules lose", columns, tuple(rows), note)


def calibration_table(found: Calibration, *, policy: str) -> Table:
    """Return predicted and held-out gains by decile, and over all.

    Args:
        found: of one policy.
        policy: its name.
    """
    rows = [
        (f"{d + 1}", signed(found.predicted[d]), _give_or_take(found.measured[d], found.std_error[d]), f"{int(found.hits[d]):,}")
        for d in range(len(found.hits))
    ]
    whole = _give_or_take(found.mean_measured, found.mean_std_error)
    rows.append(("all", signed(found.mean_predicted), whole, f"{int(found.hits.sum()):,}"))
    note = (
        f"Slope of held-out on predicted gain: {found.slope:.2f} ± {found.slope_std_error:.2f} (one standard error), weighted by hits. "
        "1: calibrated; below 1: too bold; near 0: the model cannot tell who gains."
    )
    return Table(f"Do predicted gains of {policy} come true?", ("decile", "predicted gain", "held-out gain", "hits"), tuple(rows), note)


def _give_or_take(value: float, error: float) -> str:
    return f"{signed(value)} ± {percent(error, 2)}"


def continuous_table(found: Continuous, labels: tuple[str, ...], *, minimised: frozenset[str] = frozenset()) -> Table:
    """Return what weights between the levels gain over production and over the grid's, one row per pick and objective.

    Args:
        found: of P trade-offs.
        labels: (P,) names of their picks.
        minimised: objectives of which less is better; they say so.
    """
    rows = []
    for p, label in enumerate(labels):
        for j, name in enumerate(found.objectives):
            cells = [interval(found.estimate[i, p, j], found.low[i, p, j], found.high[i, p, j]) for i in range(3)]
            spoken, off = (f"{int(found.effective[0, p]):,}", percent(found.off_grid[p])) if j == 0 else ("", "")
            rows.append((label if j == 0 else "", worded(name, minimised), *cells, spoken, off))
    note = (
        f"Lifts over production with bands that hold for all of them at once, at {percent(found.confidence)}; {found.n_rows:,} held-out "
        f"rows, estimator: {found.estimator}. The kernel blurs weights that are near each other: it tells what a region is worth."
    )
    columns = ("pick", "objective", "between the levels", "from the grid", "difference", "rows that speak", "off the grid")
    return Table("Weights between the levels of the grid", columns, tuple(rows), note)
