"""What a plan of exploration says: tables, sentences, numbers for programs, and one page.

An edge: `publish_plan` writes files. The rule: every number says which estimator and how many days it supposes; what the log cannot say is
called unknown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paretune.explore.planner import ESTIMATORS, Estimator, Option, Plan
from paretune.report.html import Section, save_figures, write_report
from paretune.report.planner_figures import count_words, plan_figure, short_percent, time_words
from paretune.report.tables import Table, signed, with_error

PAGE, FIGURES = "plan.html", "figures"


def plan_tables(plan: Plan) -> tuple[Table, ...]:
    """Return grids and shares, then estimators, then the cost where a log says it."""
    return (grids_table(plan), estimators_table(plan), *((cost_table(plan),) if plan.cost is not None else ()))


def grids_table(plan: Plan) -> Table:
    """Return the rows and days of each grid at each share."""
    columns = ["grid", "actions", "rows", "decided by", *(f"at {short_percent(share)}" for share in plan.shares)]
    rows = []
    by_share = [plan.options(share=share) for share in plan.shares]
    for options in zip(*by_share, strict=True):
        one = options[0]
        name = f"{one.grid.name} (asked)" if one.grid == plan.grid else one.grid.name
        decided = plan.rates[one.hardest].objective
        rows.append((name, f"{one.grid.actions}", count_words(one.needed), decided, *(time_words(option.days) for option in options)))
    note = (
        f"Held-out exploration rows, and the days they take, until a lift of {short_percent(plan.aim.lift)} is seen with "
        f"{short_percent(plan.aim.power)} power by: {plan.estimator.title}. Rows that train come on top."
    )
    return Table(f"Exploration for a {short_percent(plan.aim.lift)} lift", tuple(columns), tuple(rows), note)


def estimators_table(plan: Plan) -> Table:
    """Return what each estimator makes of the grid and share that were asked for."""
    rows = []
    for estimator in _estimators(plan):
        option = plan.asked(estimator)
        gain = f"{estimator.gain_on(plan.grid.actions):.3g}"
        rows.append((estimator.title, gain, count_words(option.needed), time_words(option.days), short_percent(plan.resolved(estimator))))
    columns = ("estimator", "gain", "rows", "time", f"resolved in {plan.days:g} days")
    note = (
        "Gain: how many times smaller the squared error of a lift is than the paper's on the same rows, as measured in simulated worlds "
        "on 49 actions; a finer or coarser grid shares the rows of neighbours alike, so pooled estimators need about as many rows on it."
    )
    return Table(f"Estimators on {plan.grid.name} at {short_percent(plan.share)}", columns, tuple(rows), note)


def cost_table(plan: Plan) -> Table:
    """Return what exploring the logged grid uniformly costs: per explored request, and of all traffic."""
    rows = []
    if plan.cost is not None:
        for rate, lift, error in zip(plan.rates, plan.cost.relative.tolist(), plan.cost.std_error.tolist(), strict=True):
            rows.append((rate.objective, with_error(lift, error), signed(lift * plan.share, 3)))
    columns = ("objective", "explored request against production (95 %)", f"all traffic at {short_percent(plan.share)}")
    return Table("Cost of exploring", columns, tuple(rows), "Mean logged reward of exploration rows over that of production rows.")


def plan_sentences(plan: Plan) -> tuple[str, ...]:
    """Return the answer in sentences: what was asked, what would be enough, what exploring costs."""
    asked, lift = plan.asked(), short_percent(plan.aim.lift)
    said = [_can(plan, asked) + "."]
    judged = f"These rows are held out to judge one policy, named beforehand, against production ({short_percent(plan.aim.power)} power)"
    said.append(
        f"{judged}; rows that train come on top. `paretune sweep` and `paretune worth` answer other questions and name other numbers."
    )
    if asked.days > plan.days:
        if plan.resolved() == plan.resolved():
            said.append(f"In {plan.days:g} days that resolves {short_percent(plan.resolved())}.")
        best = plan.enough()
        if best is not None:
            said.append(f"Enough within {plan.days:g} days: {best.grid.name} and {short_percent(best.share)} ({time_words(best.days)}).")
        else:
            need = min(plan.options(share=plan.share), key=lambda option: (option.needed, -option.grid.actions))
            share = need.needed / (plan.requests_per_day * plan.days)
            verb = f"takes {need.grid.name} and {short_percent(share)} explored" if share <= 1 else "takes more than all traffic"
            said.append(f"To resolve {lift} within {plan.days:g} days {verb}: plan more days, or a larger lift.")
    elif asked.days != asked.days:
        said.append("The traffic is not known, so days are not: give --traffic, or a log.")
    if plan.strays:
        far = "far more" if plan.logged_share > plan.share else "far less"
        said.append(
            f"The log explores {short_percent(plan.logged_share)} of its rows, {far} than the {short_percent(plan.share)} planned with: "
            "days are for the latter (--share, else exploration.share)."
        )
    if plan.cost is None:
        said.append("What exploring costs is unknown: it takes a log with exploration and production rows.")
    return tuple(said)


def _can(plan: Plan, option: Option) -> str:
    rows = f"{count_words(option.needed)} held-out exploration rows"
    takes = f"in {time_words(option.days)} ({rows})" if option.days == option.days else f"with {rows}"
    what = f"{short_percent(plan.aim.lift)} of {plan.rates[option.hardest].objective}"
    how = f"{option.grid.name} and {short_percent(option.share)} explored"
    return f"With {how} you can resolve {what} {takes}; estimator: {plan.estimator.title}"


def plan_summary(plan: Plan) -> dict[str, Any]:
    """Return the plan for programs; lifts, shares and rates are fractions."""
    names = [rate.objective for rate in plan.rates]

    def option(each: Option) -> dict[str, Any]:
        rows = dict(zip(names, each.rows.tolist(), strict=True))
        return {"grid": each.grid.name, "actions": each.grid.actions, "share": each.share, "rows": rows, "days": each.days}

    best, cost = plan.enough(), plan.cost
    known = (
        {}
        if cost is None
        else {
            name: {"per_explored_request": a, "std_error": b, "of_all_traffic": a * plan.share}
            for name, a, b in zip(names, cost.relative.tolist(), cost.std_error.tolist(), strict=True)
        }
    )
    return {
        "lift": plan.aim.lift,
        "power": plan.aim.power,
        "confidence": plan.aim.confidence,
        "estimator": plan.estimator.name,
        "requests_per_day": plan.requests_per_day,
        "logged_share": plan.logged_share,
        "days": plan.days,
        "rates": {rate.objective: rate.mean for rate in plan.rates},
        "asked": {**option(plan.asked()), "resolved_in_days": plan.resolved()},
        "enough": None if best is None else option(best),
        "options": [option(each) for each in plan.options()],
        "estimators": {e.name: {"gain": e.gain_on(plan.grid.actions), **option(plan.asked(e))} for e in _estimators(plan)},
        "cost": known or None,
        "sentences": plan_sentences(plan),
    }


def publish_plan(plan: Plan, folder: Path) -> Path:
    """Write plan.html and the picture as PNG and SVG, and return the page's path."""
    drawn = [plan.estimator, *(ESTIMATORS[name] for name in ("paper",) if plan.estimator.name != name)]
    figure = plan_figure(
        plan.aim,
        plan.rates,
        grids=plan.grids,
        asked=plan.grid,
        share=plan.share,
        estimators=drawn,
        requests_per_day=plan.requests_per_day,
        days=plan.days,
    )
    save_figures([("plan", figure)], folder / FIGURES)
    section = Section("How much exploration it takes", plan_sentences(plan), (figure, *plan_tables(plan)))
    rates = ", ".join(f"{rate.objective} {short_percent(rate.mean)}" for rate in plan.rates)
    return write_report(folder / PAGE, [section], title="paretune exploration plan", lead=f"Rates under production: {rates}.")


def _estimators(plan: Plan) -> list[Estimator]:
    others = [estimator for name, estimator in ESTIMATORS.items() if name != plan.estimator.name]
    return sorted([*others, plan.estimator], key=lambda each: each.gain)
