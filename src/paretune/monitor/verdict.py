"""From what moved to what to do: serve, re-anchor, collect or retrain, with reasons in words.

- serve: nothing moved that matters.
- re-anchor: heads were rescaled and rank as before; divide their weights by the factors, and the policy means what it meant.
- collect: the world moved, and there are too few exploration rows of the new kind to learn it from.
- retrain: the world moved, and there are enough.

The rule: causes come before what follows from them. New errors of the ranker or new visitors make every other number move, so they are
named first; a rescaled head moves lists, contribution shares, rewards and how these go with predictions, all of which re-anchoring takes
back; rewards that moved while neither state nor heads did mean that people answer differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, isnan, log
from typing import Literal

from paretune.monitor.drift import Drift
from paretune.monitor.finding import Finding

Answer = Literal["serve", "re-anchor", "collect", "retrain"]
Cause = Literal["nothing", "rescaled heads", "ranker errors", "visitors", "answers", "shares", "exploration", "gains"]
ENOUGH = 1 / 3  # of the reference window's exploration rows; in simulated worlds a quarter of the rows learned about three quarters as much
EXPLAINED = 1 / 3  # of a head's factor that must be seen as wrong calibration, where rewards tell


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why."""

    answer: Answer
    sentence: str
    causes: tuple[Cause, ...]  # the first one decided
    reasons: tuple[str, ...]
    exploration_rows: int  # of the current window
    enough: int  # from which retraining is advised


def judge(drift: Drift, *, enough: int | None = None) -> Verdict:
    """Return what to do about what moved.

    Args:
        drift: from `compare`.
        enough: exploration rows from which a model can be trained anew; by default a third of the reference window's.
    """
    rows = drift.current.exploration_rows
    enough = max(1, round(ENOUGH * drift.reference.exploration_rows)) if enough is None else enough
    causes = _causes(drift)
    reasons = tuple(_reasons(drift))
    if causes == ("nothing",):
        return Verdict("serve", "Serve: nothing moved beyond chance by an amount that matters.", causes, reasons, rows, enough)
    if causes[0] == "rescaled heads":
        heads = ", ".join(f"{head} by {factor:.2f}" for head, factor in drift.factors.items())
        return Verdict("re-anchor", f"Re-anchor: heads were rescaled and rank as before ({heads}).", causes, reasons, rows, enough)
    what = " and ".join(_WORDS[cause] for cause in causes if cause in _WORDS)
    what = what[:1].lower() + what[1:]
    if rows >= enough and causes[0] != "exploration":
        return Verdict("retrain", f"Retrain: {what}; {rows:,} exploration rows of the new kind are enough.", causes, reasons, rows, enough)
    lacking = (
        "mend exploration first" if causes[0] == "exploration" else f"{rows:,} exploration rows of the new kind, {enough:,} are wanted"
    )
    return Verdict("collect", f"Collect: {what}; {lacking}.", causes, reasons, rows, enough)


_WORDS: dict[Cause, str] = {
    "exploration": "exploration does not draw what its propensities say",
    "ranker errors": "the ranker's errors changed",
    "visitors": "other visitors come",
    "answers": "people answer differently",
    "shares": "heads' shares of utility moved, and the rows do not tell why",
    "gains": "predicted gains no longer come true",
    "rescaled heads": "heads were rescaled too",
}


def _causes(drift: Drift) -> tuple[Cause, ...]:
    """Return the causes, the one that decides first."""
    causes: list[Cause] = []
    if drift.moved("exploration"):
        causes.append("exploration")
    state, scale = drift.moved("state", "actions"), drift.moved("scale")
    unsettled = drift.recalibration is not None and not drift.recalibration.settled  # a new scale and new errors cannot be told apart
    if drift.moved("segments", "shape") or (drift.moved("agreement") and not scale) or (scale and unsettled):
        causes.append("ranker errors")
    if state:
        causes.append("visitors")
    unexplained = [each for each in scale if not _is_miscalibrated(drift, each)]
    if not causes and unexplained:
        causes.append("answers")
    elif not causes and not scale and drift.moved("reward", "calibration", "contribution"):
        causes.append("shares" if drift.moved("contribution") else "answers")
    if drift.moved("gain") and not (scale and not causes):
        causes.append("gains")
    if scale and len(unexplained) < len(scale):
        causes.append("rescaled heads")
    return tuple(causes) or ("nothing",)


def _is_miscalibrated(drift: Drift, scale: Finding) -> bool:
    """Say whether rewards, where they tell, did not follow a head's scale: then the head moved, not the people."""
    objectives = [name for name, head in zip(drift.reference.objectives, drift.reference.predicted_by, strict=True) if head == scale.name]
    calibration = [each for each in drift.findings if each.aspect == "calibration" and each.name in objectives]
    if not calibration:
        return True
    answered = log(calibration[0].current / calibration[0].reference)
    return -answered * log(scale.current) >= EXPLAINED * log(scale.current) ** 2


def _reasons(drift: Drift) -> list[str]:
    """Return one sentence per finding that moved, the most telling of each aspect first, and what could not be compared."""
    told: list[str] = []
    for aspect in dict.fromkeys(each.aspect for each in drift.moved()):
        moved = drift.moved(aspect)
        told += [worded_finding(each) for each in moved[:3]]
        if len(moved) > 3:
            told.append(f"{len(moved) - 3} more of {aspect}: {', '.join(each.name for each in moved[3:9])}{' …' if len(moved) > 9 else ''}")
    shares = drift.shares
    if drift.factors and shares is not None:
        left = abs(shares.reanchored - shares.reference).max()
        told.append(f"with the factors undone, no head's share of utility is off by more than {100 * left:.1f} points")
    return told


def worded_finding(each: Finding) -> str:
    """Return a finding in words."""
    match each.aspect:
        case "state" | "shape" | "actions":
            what = {
                "state": f"feature {each.name}",
                "shape": f"scores of {each.name}, scale aside",
                "actions": f"actions of the {each.name}",
            }
            return f"{what[each.aspect]}: PSI {each.current:.3f}, of which {each.reference:.3f} is chance (mark {each.threshold:g})"
        case "scale":
            return f"head {each.name}: scores are {each.current:.2f} times what they were"
        case "segments":
            return f"head {each.name}: scores moved apart between segments by {each.size:.2f} in logarithms (mark {each.threshold:g})"
        case "contribution":
            return f"head {each.name}: {100 * each.current:.1f} % of utility under the static weights, {100 * each.reference:.1f} % before"
        case "reward":
            change = f" ({100 * (each.current / each.reference - 1):+.1f} %)" if each.reference else ""
            return f"{each.name} per production request: {each.current:.4g}, {each.reference:.4g} before{change}"
        case "calibration":
            mark = exp(each.threshold)
            return f"{each.name}: observed over predicted is {each.current:.2f}, {each.reference:.2f} before (mark {mark:.2f} times)"
        case "agreement":
            return f"{each.name}: rewards rise {each.current:.2f} times as fast as the ranker predicts, {each.reference:.2f} times before"
        case "exploration":
            return f"exploration: an action is served {each.current:.2f} times as often as its propensity says (p = {each.p_value:.1g})"
        case "gain":
            before = "" if isnan(each.reference) else f", {each.reference:.2f} before"
            return f"gain: slope of measured on predicted {each.current:.2f}{before} (1 = predictions come true)"
