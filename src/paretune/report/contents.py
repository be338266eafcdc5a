"""What the report of a run says, in which order: the choice first, then what speaks for it, then whether the log can be trusted.

The rule: one function makes the sections and the pictures of a run from plain records; command line, demo and console show these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import altair as alt
import numpy as np

from paretune.config import Config
from paretune.frontier.assemble import minimised_of
from paretune.frontier.front import Front
from paretune.frontier.verdict import Refusal
from paretune.logs.checks import LogCheck
from paretune.records import Floats
from paretune.report.diagnostics import contribution_figure, log_figure, weights_figure
from paretune.report.figures import front_figure, lift_figure, picks_figure
from paretune.report.html import Section
from paretune.report.ladder import ladder_figure, ladder_table, ladder_warning
from paretune.report.tables import Outcome, Table, cohorts_table, guardrails_table, percent, picks_table, policies_table, signed


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a report may draw on; what is None was not looked at."""

    config: Config
    front: Front
    check: LogCheck | None = None
    contribution: Floats | None = None  # (m,) share of utility per head
    online: Outcome | None = None
    truth: Floats | None = None  # (P, M) true lifts, where a simulated world knows them
    scale: Floats | None = None  # (M,) turns predicted values into the relative-lift units in which the policies' alphas were swept


def report_sections(findings: Findings, *, charts: Mapping[str, alt.TopLevelMixin] | None = None) -> list[Section]:
    """Return the sections of the HTML report; `charts` are those of `report_figures`, drawn here when they are not given."""
    front, turned = findings.front, minimised_of(findings.config)
    charts = dict(report_figures(findings)) if charts is None else charts

    def drawn(*names: str) -> tuple[alt.TopLevelMixin, ...]:
        return tuple(charts[name] for name in names if name in charts)

    sections = [
        _refused(front.refusal) if front.refusal else _choice(findings, drawn(*(name for name in charts if name.startswith("front")))),
        Section("Lifts along the sweep", (), (*drawn("lifts", "picks"), policies_table(front, truth=findings.truth, minimised=turned))),
        *([] if front.refusal else _audit(front, drawn("ladder"), turned)),
    ]
    if front.by_cohort is not None and not front.refusal:
        sections.append(Section("Cohorts", (), (cohorts_table(front, minimised=turned),)))
    if "weights" in charts:
        text = "Average weights per policy, and how often each weight is chosen."
        sections.append(Section("The weights that are served", (text,), drawn("weights")))
    if findings.contribution is not None:
        text = "Share of utility under the static weights, averaged over logged candidates."
        sections.append(Section("Heads", (text,), drawn("contribution")))
    if findings.check is not None:
        sections.append(Section("The log", (), (*drawn("log"), rules_table(findings.check))))
    sections.append(Section("Configuration", (), (configuration_table(findings.config),)))
    return sections


def _choice(findings: Findings, pictures: tuple[alt.TopLevelMixin, ...]) -> Section:
    notes = tuple(f"{pick.label}: {pick.note}" for pick in findings.front.picks if pick.note)
    if findings.front.ladder is not None and (warning := ladder_warning(findings.front, findings.front.ladder)):
        notes = (warning, *notes)
    turned = minimised_of(findings.config)
    tables = [picks_table(findings.front, online=findings.online, truth=findings.truth, minimised=turned)]
    if findings.front.guarded is not None:
        tables.append(guardrails_table(findings.front))
    return Section("What to choose from", (_axes(findings.config), *notes), (*pictures, *tables))


def _refused(refusal: Refusal) -> Section:
    """Return what stands in place of a front that nobody should choose from."""
    heading = "Not enough data" if refusal.short else "No policy to choose"
    return Section(heading, tuple(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in (refusal.reason, refusal.remedy)))


def _audit(front: Front, charts: tuple[alt.TopLevelMixin, ...], minimised: frozenset[str]) -> list[Section]:
    """Return what wider and narrower pooling say of the picks."""
    if front.ladder is None:
        return []
    text = (
        "Held-out requests that were served a list like the policy's speak for it too. How much alike is fixed beforehand; here is what "
        "other choices would have said."
    )
    return [Section("Can the pooled numbers be trusted?", (text,), (*charts, ladder_table(front, front.ladder, minimised=minimised)))]


def _axes(config: Config) -> str:
    """Return how to read the front: which way each objective is better."""
    ways = ("to the right", "upwards")
    turned, names = minimised_of(config), [objective.name for objective in config.objectives]
    said = [f"{name} {'falls' if name in turned else 'rises'} {way}" for name, way in zip(names, ways, strict=False)]
    return f"Each point is one policy; {', '.join(said)}."


def report_figures(findings: Findings) -> Iterator[tuple[str, alt.TopLevelMixin]]:
    """Yield the name and the picture of everything there is to draw; nothing to choose from where choosing is refused."""
    front, surface, truth = findings.front, findings.config.surface.build(), findings.truth
    minimised = minimised_of(findings.config)
    if not front.refusal:
        for across, up in combinations(range(len(front.lifts.objectives)), 2):
            name = "front" if (across, up) == (0, 1) else f"front_{across + 1}_{up + 1}"
            yield name, front_figure(front, axes=(across, up), truth=truth, minimised=minimised)
    if any(policy.alpha is not None for policy in front.policies):
        yield "lifts", lift_figure(front, truth=truth, minimised=minimised)
    if front.picks and not front.refusal:
        yield "picks", picks_figure(front, online=findings.online, truth=truth, minimised=minimised)
        yield "weights", weights_figure(front, surface)
        if front.ladder is not None:
            yield "ladder", ladder_figure(front, front.ladder, minimised=minimised)
    if findings.contribution is not None:
        tuned = tuple(surface.names[i] for i in surface.tuned)
        yield "contribution", contribution_figure(surface.names, findings.contribution, tuned=tuned)
    if findings.check is not None and findings.check.explored:
        yield "log", check_figure(findings.check)


def check_figure(check: LogCheck) -> alt.TopLevelMixin:
    """Return rows per day, and rows per action against the logged propensities."""
    counts = check.per_action[1:]
    served = counts > 0  # an action's expected count is n p, and its mean weight is count / (n p)
    expected = np.where(served, counts / np.where(served, check.mean_weight[1:], 1.0), counts.sum() / len(counts))
    days = np.array(check.days)
    return log_figure(days, check.explored_per_day, check.production_per_day, action_counts=counts, action_expected=expected)


def rules_table(check: LogCheck) -> Table:
    """Return what was checked about a log: ✓ kept, ! look at it, ✗ broken."""
    rows = []
    for rule in check.rules:
        mark = "✓" if rule.ok else "✗" if rule.severity == "error" else "!"
        rows.append((f"{mark} {rule.name.replace('_', ' ')}", rule.seen, rule.expected, "" if rule.ok else rule.remedy))
    note = (
        f"{check.rows:,} rows ({check.bad:,} bad, {check.quarantined:,} quarantined) of {check.users:,} users on {len(check.days)} days; "
        f"{check.explored:,} explored, {check.production:,} under production weights."
    )
    return Table("Log checks (✓ kept, ! look at it, ✗ broken)", ("rule", "seen", "expected", "remedy"), tuple(rows), note)


def configuration_table(config: Config) -> Table:
    """Return heads, objectives and the split that the numbers above are of."""
    rows = []
    for head in config.surface.heads:
        tune = head.tune
        explored = "static" if tune is None else f"{tune.low:g} to {tune.high:g}, {tune.levels} levels, {tune.spacing}"
        rows.append((f"head {head.name}", f"{head.weight:g}", explored))
    floors = {guardrail.objective: guardrail.floor_pct / 100 for guardrail in config.guardrails}
    for objective in config.objectives:
        said = f"{objective.direction} {objective.transform}({objective.column})"
        floor = ""
        if objective.name in floors:
            lowest = floors[objective.name]
            floor = f"floor {signed(lowest)}" if objective.direction == "maximise" else f"may rise by {percent(-lowest, 2)}"
        rows.append((f"objective {objective.name}", said, floor))
    evaluation = config.evaluation
    rows.append(("days", f"{evaluation.train_days} train", f"{evaluation.hold_out_days} held out"))
    return Table("Configuration", ("what", "value", "explored over, or floor"), tuple(rows))
