"""The page of a ledger: what may be said of the next promise, every promise beside its outcome, one picture. An edge: writes the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paretune.experiment.ledger import FEWEST, NOT_COVERED, OVERSTATED, TOGETHER, TOO_FEW, UNDERSTATED, Account, Ledger
from paretune.report.html import Section, save_figures, write_report
from paretune.report.ledger_figures import Expected, accounts_table, entries_table, expected_table, promises_figure
from paretune.report.tables import Table, percent

PAGE, FIGURES = "ledger.html", "figures"


def ledger_sentence(ledger: Ledger) -> str:
    """Return what may be said of the next promise."""
    together = ledger.together
    if together.answer == TOO_FEW:
        count = {0: "No promise was tested yet", 1: "One outcome"}.get(together.outcomes, f"{together.outcomes} outcomes")
        return f"{count}: too few to say how far the next promise may be trusted; {FEWEST} are needed."
    if ledger.against:
        return f"The next promise cannot be taken as it stands: {'; '.join(_why(account) for account in ledger.against)}."
    slope = f"slope {together.slope.slope:.2f} ({together.slope.low:.2f} … {together.slope.high:.2f})"
    share = f", {percent(together.coverage.value)} covered" if together.coverage.value >= 0 else ""
    more = "; outcomes were larger than promised" if together.answer == UNDERSTATED else ""
    return f"Nothing speaks against the next promise: {slope}{share}, of {together.outcomes} outcomes{more}.".replace("-", "−")


def ledger_tables(ledger: Ledger, expected: Sequence[Expected] = ()) -> tuple[Table, ...]:
    """Return promises with outcomes, how they agree, and what to expect of promises that were not tested yet."""
    return (entries_table(ledger), accounts_table(ledger), *([expected_table(expected)] if expected else []))


def publish_ledger(ledger: Ledger, folder: Path, *, expected: Sequence[Expected] = ()) -> Path:
    """Write ledger.html and its picture as PNG and SVG, and return the page's path; an empty ledger has no picture."""
    sentence = ledger_sentence(ledger)
    figures = [("ledger", promises_figure(ledger, title=_title(ledger)))] if ledger.entries else []
    save_figures(figures, folder / FIGURES)
    entries, accounts, *rest = ledger_tables(ledger, expected)
    sections = [
        Section("How far to trust the next promise", (sentence,), (*(figure for _, figure in figures), accounts)),
        Section("Every promise and its outcome", (), (entries,)),
        *([Section("What to expect of the next", (), tuple(rest))] if rest else []),
    ]
    lead = f"{len(ledger.entries)} outcomes of {len({entry.release for entry in ledger.entries})} releases."
    return write_report(folder / PAGE, sections, title="paretune ledger", lead=lead)


def _why(account: Account) -> str:
    name = "all objectives together" if account.name == TOGETHER else account.name
    if account.answer == OVERSTATED:
        slope = account.slope
        times = f"{slope.slope:.2f} times ({slope.low:.2f} … {slope.high:.2f})".replace("-", "−")
        return f"tests saw {times} what was promised of {name}"
    return f"only {percent(account.coverage.value)} of the outcomes of {name} lie where their promises said"


def _title(ledger: Ledger) -> str:
    """Return what the picture shows, of the objectives that it is true of."""
    for answer, said in (
        (OVERSTATED, "Promises{} were larger than what tests saw"),
        (NOT_COVERED, "Outcomes{} lie outside their promises"),
    ):
        names = [account.name for account in ledger.against if account.answer == answer]
        if names:
            return said.format("" if TOGETHER in names else f" of {' and '.join(names)}")
    return "What was promised, and what tests saw"
