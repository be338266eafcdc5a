"""A ledger as tables and one picture: each promise beside its outcome, and how far both lie from the line on which they are the same.

The rule: a panel's axes have the same scale, so that the line of kept promises is the diagonal; intervals are drawn both ways, each alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from paretune.errors import DataError
from paretune.experiment.ledger import FEWEST, TOO_FEW, Account, Entry, Ledger, Lift, Told, covered
from paretune.experiment.lines import Line
from paretune.report.tables import EXPECTED, MISSING, NORMAL_95, Table, interval, percent, signed, worded
from paretune.report.theme import ESTIMATE, FAINT, ONLINE, WIDTH, finished, inline

Expected = tuple[str, str, Lift, Lift, Account | None]
"""Policy, objective, promise, what to expect of it, and the account whose slope says so."""

_ABREAST = 2  # panels of a row
_NAMED = 8  # points of a panel, above which they have no names
_LONGEST = 22  # characters of a name


def entries_table(ledger: Ledger) -> Table:
    """Return every promise beside its outcome."""
    rows = []
    for entry in ledger.entries:
        inside = covered(entry, confidence=ledger.confidence)
        rows.append((
            entry.release,
            worded(entry.objective, frozenset({entry.objective}) if entry.minimised else frozenset()),
            _told(entry.predicted),
            _told(entry.seen),
            _points(entry.seen.estimate - entry.predicted.estimate),
            MISSING if inside is None else "✓ yes" if inside else "✗ no",
        ))  # fmt: skip
    note = f"Relative lifts. Covered: the difference is within {percent(ledger.confidence)} of the errors of both."
    return Table("Promised and seen", ("release", "objective", "promised", "seen", "difference", "covered"), tuple(rows), note)


def accounts_table(ledger: Ledger) -> Table:
    """Return how promises and outcomes agree, one row per objective and one together."""
    accounts = ledger.accounts if len(ledger.accounts) == 1 else (*ledger.accounts, ledger.together)
    rows = []
    for account in accounts:
        mark = {True: "✗ ", False: ""}[account in ledger.against]
        rows.append((
            account.name,
            str(account.outcomes),
            _number(account.correlation),
            _slope(account.slope),
            _slope(account.line),
            _level(account.level),
            _share(account.coverage),
            f"{mark}{account.answer}",
        ))  # fmt: skip
    note = (
        f"Slopes allow for errors of both sides. Intervals are {percent(ledger.confidence)} each alone; what is said holds for all rows "
        "at once. Together, objectives of which less is better are turned."
    )
    if not all(np.isfinite([entry.predicted.std_error, entry.seen.std_error]).all() for entry in ledger.entries):
        note += " Where errors are unknown, both sides' are taken as equal, and nothing is said of coverage."
    if any(0 < account.tests < min(FEWEST, account.outcomes) for account in accounts):
        note += " Outcomes of one test share a control: intervals of a row that rests on fewer than three tests are too narrow."
    columns = ("objective", "outcomes", "correlation", "slope", "slope beside a level", "level error", "covered", "says of promises")
    return Table("How promises turn out", columns, tuple(rows), note)


def expected_table(expected: Sequence[Expected]) -> Table:
    """Return what to expect of promises that were not tested yet."""
    rows = [
        (policy, objective, _told(promise), _told(then), MISSING if account is None else f"{account.slope.slope:.2f} of {account.name}")
        for policy, objective, promise, then, account in expected
    ]
    note = "A promise is multiplied by the slope where the slope's upper end is below 1; its error then holds that of the slope."
    return Table("Not tested yet", ("policy", "objective", "promised", EXPECTED, "times the slope"), tuple(rows), note)


def promises_figure(ledger: Ledger, *, title: str) -> alt.TopLevelMixin:
    """Return one panel per objective: what was seen against what was promised, with intervals both ways and the slope.

    Args:
        ledger: with at least one entry.
        title: what is to be seen.

    Raises:
        DataError: there is no entry.
    """
    if not ledger.entries:
        raise DataError("an empty ledger has no picture", hint="record an outcome first: `paretune readout --record`")
    columns = min(len(ledger.accounts), _ABREAST)
    side = WIDTH // columns - 70 if columns > 1 else 380
    charts = [
        _panel(account, [entry for entry in ledger.entries if entry.objective == account.name], side=side) for account in ledger.accounts
    ]
    how = [
        "Dashed: seen as promised. Above it, a test saw more than was promised; below it, less.",
        f"Bars: {percent(ledger.confidence)} of each number alone, where known. Green: the slope through the origin, with its interval.",
    ]
    return finished(alt.concat(*charts, columns=columns, spacing=22), title=title, subtitle=how)


def _panel(account: Account, entries: Sequence[Entry], *, side: int) -> Any:
    rows = [_row(entry) for entry in entries]
    ends = np.array([[row[name] for name in ("x", "y", "xlow", "xhigh", "ylow", "yhigh")] for row in rows], dtype=np.float64)
    low, high = min(float(np.nanmin(ends)), 0.0), max(float(np.nanmax(ends)), 0.0)
    room = 0.08 * (high - low) or 1.0
    domain = [low - room, high + room]
    scale = alt.Scale(domain=domain, nice=False)
    x = alt.X("x:Q", title="promised (%)", scale=scale, axis=alt.Axis(tickCount=5))
    y = alt.Y("y:Q", title="seen (%)", scale=scale, axis=alt.Axis(tickCount=5))
    once = alt.Chart(inline([{}]))
    layers: list[alt.Chart] = [once.mark_rule(style="zero").encode(x=alt.datum(0)), once.mark_rule(style="zero").encode(y=alt.datum(0))]
    slope = account.slope
    if np.isfinite(slope.slope):
        if np.isfinite([slope.low, slope.high]).all():
            wedge = [{"x": at, "y": slope.low * at, "y2": slope.high * at} for at in (domain[0], 0.0, domain[1])]
            layers.append(alt.Chart(inline(wedge)).mark_area(color=ONLINE, opacity=0.14, clip=True).encode(x, y, alt.Y2("y2:Q")))
        line = [{"x": at, "y": slope.slope * at} for at in domain]
        layers.append(alt.Chart(inline(line)).mark_line(color=ONLINE, strokeWidth=2, clip=True).encode(x, y))
    same = [{"x": at, "y": at} for at in domain]
    layers.append(alt.Chart(inline(same)).mark_line(color=FAINT, strokeDash=[5, 4], strokeWidth=1.4, clip=True).encode(x, y))
    base = alt.Chart(inline(rows))
    bar = base.mark_rule(color=ESTIMATE, opacity=0.45, clip=True)
    layers.append(bar.encode(alt.X("xlow:Q"), y, alt.X2("xhigh:Q")))
    layers.append(bar.encode(x, alt.Y("ylow:Q"), alt.Y2("yhigh:Q")))
    tips = [
        alt.Tooltip("release:N"),
        alt.Tooltip("x:Q", title="promised, %", format=".2f"),
        alt.Tooltip("y:Q", title="seen, %", format=".2f"),
    ]
    layers.append(base.mark_point(filled=True, size=65, color=ESTIMATE, opacity=1).encode(x, y, tooltip=tips))
    if len(rows) <= _NAMED:
        layers += [_named(rows, domain, style).encode(x, y, text="name:N") for style in (["label", "halo"], ["label"])]
    named = worded(account.name, frozenset({account.name}) if entries[0].minimised else frozenset())
    heading = alt.TitleParams([named, _said(account)], fontSize=12.5, fontWeight=500, anchor="middle", frame="group", offset=6)
    return alt.layer(*layers).properties(width=side, height=side, title=heading)


def _named(rows: list[dict[str, Any]], domain: list[float], style: list[str]) -> alt.Chart:
    """Return the names of the points, each towards the middle of the panel."""
    right = f"datum.x > {sum(domain) / 2}"
    align = {"expr": f"{right} ? 'right' : 'left'"}
    return alt.Chart(inline(rows)).mark_text(align=align, dx={"expr": f"{right} ? -10 : 10"}, dy=12, fontSize=11.5, style=style)


def _row(entry: Entry) -> dict[str, Any]:
    (x, xlow, xhigh), (y, ylow, yhigh) = ([100 * number for number in _ends(lift)] for lift in (entry.predicted, entry.seen))
    name = entry.release if len(entry.release) <= _LONGEST else entry.release[: _LONGEST - 1] + "…"
    return {"release": entry.release, "name": name, "x": x, "y": y, "xlow": xlow, "xhigh": xhigh, "ylow": ylow, "yhigh": yhigh}


def _ends(lift: Lift) -> tuple[float, float, float]:
    """Return a lift with its interval; by its error where no interval came with it."""
    if np.isfinite([lift.low, lift.high]).all():
        return lift.estimate, lift.low, lift.high
    half = NORMAL_95 * lift.std_error
    return lift.estimate, lift.estimate - half, lift.estimate + half


def _said(account: Account) -> str:
    if account.answer == TOO_FEW:
        return f"{account.outcomes} outcome{'' if account.outcomes == 1 else 's'}: too few for a slope"
    return f"slope {_slope(account.slope)}, r {account.correlation.value:.3f}".replace("-", "−")


def _told(lift: Lift) -> str:
    return interval(*_ends(lift))


def _number(told: Told) -> str:
    return _spelled(told.value, told.low, told.high, digits=3)


def _slope(line: Line) -> str:
    return _spelled(line.slope, line.low, line.high, digits=2)


def _level(told: Told) -> str:
    if not np.isfinite(told.value):
        return MISSING
    ends = [_points(end).removesuffix(" points") for end in (told.low, told.high)]
    return _points(told.value).replace(" points", f" points ({ends[0]} … {ends[1]})" if np.isfinite(told.low) else " points")


def _share(told: Told) -> str:
    return f"{percent(told.value)} ({percent(told.low).removesuffix(' %')} … {percent(told.high)})" if np.isfinite(told.value) else MISSING


def _points(difference: float) -> str:
    return signed(difference).replace(" %", " points")


def _spelled(value: float, low: float, high: float, *, digits: int) -> str:
    """Return a number with its interval; ends that there are not are ±∞, and unknown ones left out."""
    if not np.isfinite(value):
        return MISSING
    number = f"{value:.{digits}f}"
    if np.isnan(low):
        return number.replace("-", "−")
    ends = (f"{end:.{digits}f}" if np.isfinite(end) else f"{'-' if end < 0 else ''}∞" for end in (low, high))
    return f"{number} ({' … '.join(ends)})".replace("-", "−")
