"""The page of a readout: verdicts, split, lifts, every look, power, cohorts. An edge: writes the page and the pictures."""

from __future__ import annotations

from pathlib import Path

from paretune.experiment.readout import FIXED, Readout
from paretune.experiment.users import Exposure
from paretune.logs.parquet import day_name
from paretune.report.html import Section, save_figures, write_report
from paretune.report.readout_figures import cohort_table, forest_figure, lifts_table, power_table, sequence_figure, split_table
from paretune.report.tables import Table, percent

PAGE, FIGURES = "readout.html", "figures"


def readout_sentences(found: Readout) -> tuple[str, ...]:
    """Return what is to be said: one sentence per arm, then what it rests on; or why nothing may be said."""
    if found.blocked:
        return (f"Blocked: {found.blocked}.",)
    return (*(f"{verdict.sentence}." for verdict in found.verdicts), _sentence(basis_words(found)))


def basis_words(found: Readout) -> str:
    """Return off which intervals the verdicts are read, and why."""
    elapsed = found.days[-1] - found.days[0] + 1
    if found.basis == FIXED:
        return f"read off the bands of a fixed horizon: day {elapsed} is the planned last day"
    when = "before" if elapsed < found.planned_days else "after"
    return f"read off the always-valid intervals: day {elapsed} is {when} the planned last day, {found.planned_days}"


def readout_tables(found: Readout, exposed: Exposure) -> tuple[Table, ...]:
    """Return split, lifts, power, and cohorts where they were asked for."""
    by_cohort = cohort_table(found)
    return (split_table(found, exposed), lifts_table(found), power_table(found), *((by_cohort,) if by_cohort else ()))


def publish_readout(found: Readout, exposed: Exposure, folder: Path) -> Path:
    """Write readout.html and its pictures as PNG and SVG, and return the page's path."""
    figures = [("lifts", forest_figure(found)), *([("looks", sequence_figure(found))] if len(found.days) > 1 else [])]
    save_figures(figures, folder / FIGURES)
    split, lifts, power, *cohorts = readout_tables(found, exposed)
    days = f"{day_name(found.days[0])} to {day_name(found.days[-1])}"
    sections = [
        Section("What the test says", readout_sentences(found)),
        Section("Is the split as planned?", (), (split,)),
        Section("Lifts", (), (figures[0][1], lifts)),
        *(Section("Look by look", (), (figure,)) for _, figure in figures[1:]),
        Section("Power", (), (power,)),
        *([Section("Cohorts", (), tuple(cohorts))] if cohorts else []),
    ]
    lead = f"{found.users.sum():,.0f} users, {days}, against {found.control}; {percent(found.confidence)} for all that is said together."
    return write_report(folder / PAGE, sections, title="paretune readout", lead=lead)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
