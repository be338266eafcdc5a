"""`paretune readout`: what the arms of a plan did to users, and what may be said of it now.

An edge: the terminal, logs, plans, the registry. The rule: shares come from what was in force (a plan file, the registry, or words), never
from what was seen: a split is only known to be right if it is known what it should be.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from paretune.commands.output import (
    CONFIG,
    ConfigOption,
    JsonOption,
    LogsArgument,
    configuration,
    remark,
    say,
    show_json,
    show_report_table,
)
from paretune.commands.registered import WHERE, AsOption, RegistryOption

if TYPE_CHECKING:
    from paretune.experiment.readout import Readout
    from paretune.experiment.users import Exposure

PLAN = Path("plan.json")


def readout(
    logs: LogsArgument,
    *,
    config: ConfigOption = CONFIG,
    plan: Annotated[Path | None, typer.Option(metavar="FILE", help="Plan in force; by default plan.json, else the registry's.")] = None,
    registry: RegistryOption = WHERE,
    version: Annotated[int, typer.Option(min=0, metavar="N", help="Version of the registry's plan; 0 = the one in force.")] = 0,
    shares: Annotated[str, typer.Option(metavar="ARM=S,..", help="Planned shares, instead of a plan: control=0.5,new=0.5.")] = "",
    control: Annotated[str, typer.Option(metavar="ARM", help="Arm to compare with; by default control, else static.")] = "",
    days: Annotated[str, typer.Option(metavar="A:B", help="Days of the test: dates, or days of the log from 1.")] = "",
    pre_days: Annotated[str, typer.Option(metavar="A:B", help="Days before it, to narrow the intervals (CUPED).")] = "",
    planned_days: Annotated[int, typer.Option(min=1, metavar="N", help="Days the test was planned for; the fixed horizon.")] = 14,
    margin: Annotated[list[str] | None, typer.Option(metavar="METRIC=PCT", help="What may be lost of a metric; may be repeated.")] = None,
    unit: Annotated[Literal["user", "session", "request"], typer.Option(help="What was assigned to arms.")] = "user",
    by: Annotated[Literal["", "cohort"], typer.Option(metavar="cohort", help="Tell the cohorts apart too.")] = "",
    output: Annotated[Path | None, typer.Option("--output", "--out", "-o", metavar="DIR", help="Write a page and pictures there.")] = None,
    record: Annotated[bool, typer.Option("--record", help="Store what was seen beside what the registry's policies promised.")] = False,
    user: AsOption = "",
    as_json: JsonOption = False,
) -> None:
    """Read out a test with users.

    By user: the sample ratio first (if the split is not the planned one, nothing is said of any arm), then each arm's lift
    over the control in every objective and in successful sessions, with intervals that hold for all of them at once: of the
    fixed horizon on the planned last day, always-valid ones on any other. Ends in one sentence per arm: ships, harms, not
    inferior, or cannot tell and how many users it needs. Exit code 4: the split failed, or nothing can be told of any arm.
    With --record, what was seen of each policy goes into the registry beside what was promised of it, for `paretune ledger`.

    \b
    Examples:
      paretune readout logs/ --plan plan.json
      paretune readout logs/ --pre-days 1:7 --days 8:21 --margin hide=0.5 \\
        --out readout/
      paretune readout logs/ --shares control=0.5,knee=0.5 --by cohort --json
      paretune readout logs/ --registry postgresql://db/paretune --version 7 \\
        --record
    """
    from paretune.errors import GateError
    from paretune.experiment.reading import Asked, read_test
    from paretune.progress import shown
    from paretune.report.readout import publish_readout, readout_sentences, readout_tables

    settings = configuration(config)
    if record:
        version, planned = recorded_shares(plan, shares, registry, version)
    else:
        planned = parse_shares(shares) if shares else planned_shares(plan, registry, version)
    asked = Asked(
        shares=planned,
        control=control,
        days=days,
        pre_days=pre_days,
        planned_days=planned_days,
        unit=unit,
        margins=parse_margins(margin or ()),
        by_cohort=by == "cohort",
    )
    with shown("readout") as progress:
        found, exposed = read_test(logs, settings, asked, progress=progress)
    page = None if output is None else publish_readout(found, exposed, output)
    sentences = readout_sentences(found)
    summary = readout_summary(found, exposed)
    outcomes = []
    if record and not found.blocked:
        from paretune.commands.recorded import record as recorded

        outcomes = recorded(found, summary, registry=registry, version=version, user=user)
        remark(f"recorded in {registry}: {len(outcomes)} outcomes of plan {version}; see `paretune ledger`")
    if as_json:
        show_json({**summary, "report": page, **({"recorded": outcomes} if record else {})})
    else:
        for table in readout_tables(found, exposed):
            show_report_table(table)
        if page is not None:
            remark(f"report: {page}")
    if not found.told:
        hint = "find out what split or logged the users otherwise" if found.blocked else "go on, or ask for larger margins with --margin"
        raise GateError("\n".join(sentences), hint=hint)
    if not as_json:
        for sentence in sentences:
            say(sentence)


def recorded_shares(plan: Path | None, shares: str, registry: str, version: int) -> tuple[int, dict[str, float]]:
    """Return the version that was tested, and the share of users that each arm should have, as the registry knows both.

    Raises:
        ConfigError: shares come from elsewhere, or the registry has no such plan, or no policy in it.
    """
    from paretune.commands.recorded import registry_shares
    from paretune.errors import ConfigError

    if plan is not None or shares:
        raise ConfigError("--record takes the shares of the registry's plan", hint="leave out --plan and --shares; name its --version")
    return registry_shares(registry, version)


def planned_shares(plan: Path | None, registry: str, version: int) -> dict[str, float]:
    """Return the share of users that each arm should have.

    Raises:
        ConfigError: there is no plan, or it is killed.
        UnreachableError: the registry does not answer.
    """
    from paretune.errors import ConfigError
    from paretune.experiment.sample_ratio import plan_shares
    from paretune.serving.sources import read_plan

    if plan is not None or (version == 0 and registry == WHERE and PLAN.exists()):
        return plan_shares(read_plan(plan or PLAN))
    if registry == WHERE and not Path(WHERE).exists():
        raise ConfigError(
            "the planned shares of the arms are not known", hint="name a plan with --plan, a --registry, or --shares arm=0.5,.."
        )
    from paretune.commands.registered import registry_at

    known = registry_at(registry)
    found = known.plan(version) if version else known.current()
    if found is None:
        raise ConfigError(f"{registry} has no plan in force", hint="name its --version, or give --shares")
    return plan_shares(found)


def parse_shares(words: str) -> dict[str, float]:
    """Return shares by arm, written control=0.5,new=0.5 or control=50%,new=50%.

    Raises:
        ConfigError: they are not written so, or an arm is named twice.
    """
    from paretune.errors import ConfigError

    found: dict[str, float] = {}
    for name, value, pct in _pairs(words.split(","), hint="write --shares control=0.5,new=0.5"):
        if name in found:
            raise ConfigError(f"arm {name!r} has two shares", hint="name each arm once")
        found[name] = value / 100 if pct else value
    return found


def parse_margins(words: Iterable[str]) -> dict[str, float]:
    """Return relative margins by metric, as fractions, written hide=0.5 or hide=0.5%, in per cent.

    Raises:
        ConfigError: they are not written so.
    """
    split = [part for word in words for part in word.split(",")]
    return {name: value / 100 for name, value, _ in _pairs(split, hint="write --margin METRIC=PER_CENT, e.g. hide=0.5")}


def readout_summary(found: Readout, exposed: Exposure) -> dict[str, Any]:
    """Return the readout for programs; lifts are fractions."""
    from paretune.logs.parquet import day_name
    from paretune.report.readout import readout_sentences

    ratio = found.ratio
    arms = {}
    for a, arm in enumerate(found.arms):
        verdict = found.verdicts[a]
        metrics = {}
        for m, metric in enumerate(found.metrics):
            metrics[metric.name] = {
                "lift": found.lift[a, m],
                "interval": [found.low[a, m], found.high[a, m]],
                "band": [found.band_low[a, m], found.band_high[a, m]],
                "always_valid": [found.watched_low[-1, a, m], found.watched_high[-1, a, m]],
                "p_value": found.p_value[a, m],
                "std_error_log": found.std_error[a, m],
                "value": found.value[a + 1, m],
                "control": found.value[0, m],
                "margin": metric.margin,
                "says": verdict.findings[m],
                "lift_seen_with_80_power": found.detectable[a, m],
                "users_needed": found.needed[a, m],
            }
        arms[arm] = {"answer": verdict.answer, "sentence": verdict.sentence, "users": found.users[a + 1], "metrics": metrics}
        arms[arm]["more_users"] = verdict.more_users
    looks = {
        "days": [day_name(day) for day in found.days],
        "lift": found.seen_lift,
        "low": found.watched_low,
        "high": found.watched_high,
    }
    cohorts = found.by_cohort
    return {
        "sentences": readout_sentences(found),
        "control": found.control,
        "basis": found.basis,
        "blocked": found.blocked,
        "confidence": found.confidence,
        "planned_days": found.planned_days,
        "sample_ratio": {
            "p_value": ratio.p_value,
            "failed": ratio.failed,
            "unit": ratio.unit,
            "seen": dict(zip(ratio.arms, ratio.seen.tolist(), strict=True)),
            "expected": dict(zip(ratio.arms, ratio.expected.tolist(), strict=True)),
            "explored": exposed.explored,
            "users_whose_arm_changed": exposed.moved,
            "requests_of_no_arm": exposed.armless,
        },
        "users_of_control": found.users[0],
        "variance_explained_by_before": {metric.name: found.explained[m] for m, metric in enumerate(found.metrics)},
        "arms": arms,
        "looks": looks,
        "cohorts": cohorts
        and {"names": cohorts.cohorts, "users": cohorts.users, "lift": cohorts.lift, "low": cohorts.low, "high": cohorts.high},
    }


def _pairs(words: Iterable[str], *, hint: str) -> Iterable[tuple[str, float, bool]]:
    from paretune.errors import ConfigError

    for word in words:
        name, equals, number = word.rpartition("=")
        value = number.strip().removesuffix("%").strip()
        try:
            yield name.strip(), float(value), number.strip().endswith("%")
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise ConfigError(f"{word!r} is no name with a number", hint=hint)
