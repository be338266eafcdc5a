"""`paretune ledger`: what was promised of each release, what tests with users saw, and how far to trust the next promise.

An edge: the terminal, the registry, a file of promises.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.commands.output import JsonOption, plain, remark, say, show_json, show_report_table
from paretune.commands.registered import WHERE, RegistryOption, registry_at

if TYPE_CHECKING:
    from paretune.experiment.ledger import Account, Entry, Ledger
    from paretune.policy.registry import Registry
    from paretune.report.ledger_figures import Expected


def ledger(
    *,
    registry: RegistryOption = WHERE,
    source: Annotated[Path | None, typer.Option("--from", metavar="FILE", help="Promises and outcomes as CSV, not the registry's.")] = None,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of each interval.")] = 0.95,
    output: Annotated[Path | None, typer.Option("--output", "--out", "-o", metavar="DIR", help="Write a page and a picture there.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say how far promises can be trusted.

    Compares the lifts that were promised of each release with what tests with users saw of them (`paretune readout --record`),
    per objective and together: correlation, slope with errors on both sides, level error, and the share of outcomes that lie where
    they were promised to. Promises that were not tested yet are multiplied by the slope where it is surely below 1. Fewer than three
    outcomes say nothing. Exit code 4: slope or coverage says that the next promise cannot be taken as it stands.

    \b
    Examples:
      paretune ledger
      paretune ledger --registry postgresql://HOST/DATABASE --out ledger/
      paretune ledger --from examples/ledger/paper.csv --json
    """
    from paretune.errors import GateError
    from paretune.experiment.ledger import kept_ledger
    from paretune.experiment.promises import entries_in, latest_of
    from paretune.report.ledger import ledger_sentence, ledger_tables, publish_ledger

    expected: list[Expected] = []
    if source is None:
        opened = registry_at(registry)
        found = kept_ledger(latest_of(opened.outcomes()), confidence=confidence)
        expected = untested(opened, found)
    else:
        found = kept_ledger(entries_in(written_in(source), source=source.name), confidence=confidence)
    page = None if output is None else publish_ledger(found, output, expected=expected)
    sentence = ledger_sentence(found)
    if as_json:
        show_json({**ledger_summary(found, expected), "sentence": sentence, "report": page})
    else:
        for table in ledger_tables(found, expected):
            show_report_table(table)
        if page is not None:
            remark(f"report: {page}")
    if not found.trusted:
        raise GateError(sentence, hint="expect of the next promise what the slope leaves of it, and find out what the sweep does not see")
    if not as_json:
        say(sentence)


def written_in(path: Path) -> str:
    """Return the text of a file.

    Raises:
        ConfigError: there is none.
        DataError: it is no text.
    """
    from paretune.errors import ConfigError, DataError

    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="name a CSV file") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is no UTF-8 text", hint="save it as UTF-8") from None


def untested(registry: Registry, found: Ledger) -> list[Expected]:
    """Return what to expect of each promise in the registry that no test has seen yet."""
    from paretune.experiment.ledger import Lift, shrunk
    from paretune.policy.outcomes import promise_of
    from paretune.policy.states import State

    tested = {(outcome.number, outcome.revision, outcome.objective) for outcome in registry.outcomes()}
    expected: list[Expected] = []
    for each in registry.policies():
        evidence = each.policy.evidence
        for objective in evidence.objectives:
            promise = promise_of(evidence, objective)
            if each.state is State.RETIRED or promise is None or (each.number, each.revision, objective) in tested:
                continue
            lift = Lift(*(float("nan") if number is None else number for number in promise))
            expected.append((f"{each.number} {each.policy.label}", objective, lift, *shrunk(lift, found, objective=objective)))
    return expected


def ledger_summary(found: Ledger, expected: list[Expected]) -> dict[str, Any]:
    """Return a ledger for programs; lifts are fractions."""
    return {
        "trusted": found.trusted,
        "confidence": found.confidence,
        "together": _account(found.together),
        "objectives": {account.name: _account(account) for account in found.accounts},
        "entries": [_entry(entry, found.confidence) for entry in found.entries],
        "not_tested_yet": [
            {"policy": policy, "objective": objective, "promised": promise, "expected": then, "by_the_slope_of": account and account.name}
            for policy, objective, promise, then, account in expected
        ],
    }


def _account(account: Account) -> dict[str, Any]:
    return {
        "outcomes": account.outcomes,
        "tests": account.tests,
        "says": account.answer,
        "correlation": account.correlation,
        "slope": account.slope,
        "slope_beside_a_level": account.line,
        "level_error": account.level,
        "coverage": account.coverage,
    }


def _entry(entry: Entry, confidence: float) -> dict[str, Any]:
    from paretune.experiment.ledger import covered

    return {**plain(entry), "covered": covered(entry, confidence=confidence)}
