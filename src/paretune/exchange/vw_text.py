"""Vowpal Wabbit's text format of contextual bandits, `--cb` and `--cb_adf`, as rows of a log.

`--cb`: a line per decision, `ACTION:COST:PROBABILITY tag|namespace feature:value ...`, actions from 1; other actions that were possible may
stand beside the label, as numbers alone. `--cb_adf`: a block of lines per decision, a blank line after it; `shared |...` holds the
context, then a line per action, of which one begins with a label. The action is the place of that line, whatever number the label has.

The rule: as VW reads them. A tag is what touches the bar, or begins with a quote; a feature without a value is 1; `colour=red` is a
category. The text has no time and no observations, only the cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import Literal

from paretune.exchange.drawn import REWARD, Draw, taken_draws, whole_choice
from paretune.exchange.taken import Reading, Refusals, Taken, Unusable, whole_text

Form = Literal["dsjson", "cb", "adf"]
Line = tuple[int, str]  # number, from 1, and text
_SHARED = "shared"


def form_of(lines: Sequence[str]) -> Form:
    """Return which of VW's formats the first lines of a log are in."""
    present = [line for line in lines if line.strip()]
    if present and present[0].lstrip().startswith("{"):
        return "dsjson"
    inner = [index for index, line in enumerate(lines) if not line.strip() and index < len(lines) - 1]
    blocks = any(line.startswith(_SHARED) or line.partition("|")[0].strip().startswith("0:") for line in present)
    return "adf" if inner or blocks else "cb"


def blocks_of(lines: Iterable[Line], form: Form) -> Iterator[list[Line]]:
    """Yield the lines of each decision: one under `cb`, those between blank lines under `adf`."""
    block: list[Line] = []
    for line in lines:
        if line[1].strip():
            block.append(line)
        if block and (form == "cb" or not line[1].strip()):
            yield block
            block = []
    if block:
        yield block


def taken(blocks: Iterable[Sequence[Line]], reading: Reading, form: Form) -> Taken:
    """Return decisions as rows of a log.

    Args:
        blocks: from `blocks_of`.
        reading: what the log is to hold.
        form: `cb` or `adf`.
    """
    refusals, draws = Refusals(), []
    for block in blocks:
        number, text = block[0][0], "\n".join(line for _, line in block)
        try:
            whole_text(text)
            draws.append(_together(block, text, reading) if form == "adf" else _alone(number, text, reading))
        except Unusable as why:
            refusals.add(number, text, why)
    return taken_draws(draws, reading, refusals)


def _alone(number: int, text: str, reading: Reading) -> Draw:
    labels, tag = _label(text)
    known = [part.split(":") for part in labels]
    label = [parts for parts in known if len(parts) == 3]
    if len(label) != 1:
        raise Unusable("no label: one ACTION:COST:PROBABILITY is needed", " ".join(labels) or text[:40])
    action, cost, propensity = _numbers(label[0])
    offered = len(known) if len(known) > 1 else len(reading.numbering)  # a lone label does not say how many actions there were
    wrong = whole_choice(offered, action - 1, reading)
    if wrong is not None:
        raise Unusable(*wrong)
    return Draw(number, text, tag, None, action - 1, propensity, features(text) | {REWARD: 0.0 - cost})


def _together(block: Sequence[Line], text: str, reading: Reading) -> Draw:
    heads = [_label(line) for _, line in block]
    shared = bool(heads[0][0]) and heads[0][0][0] == _SHARED
    labelled = [(place, labels[0].split(":")) for place, (labels, _) in enumerate(heads[shared:]) if labels]
    if len(labelled) != 1 or len(labelled[0][1]) != 3:
        raise Unusable("no label: one line with 0:COST:PROBABILITY is needed", f"{len(labelled)} lines with labels")
    place, parts = labelled[0]
    _, cost, propensity = _numbers(parts)
    wrong = whole_choice(len(block) - shared, place, reading)
    if wrong is not None:
        raise Unusable(*wrong)
    context = features(block[0][1]) if shared else {}
    tag = next((tag for _, tag in heads if tag), None)
    return Draw(block[0][0], text, tag, None, place, propensity, context | {REWARD: 0.0 - cost})


def features(line: str) -> dict[str, object]:
    """Return the features of a line: by `namespace.name`, and by their name where an earlier one has not taken that."""
    found: dict[str, object] = {}
    for part in line.split("|")[1:]:
        words = part.split()
        space = words.pop(0).partition(":")[0] if words and not part[0].isspace() else ""
        for word in words:
            name, colon, number = word.rpartition(":")
            name, value = (name, number) if colon else (word, "1")
            for key in (f"{space}.{name}", name) if space else (name,):
                found.setdefault(key, value)
            category, equals, what = name.partition("=")
            if equals:
                found.setdefault(category, what)
                found.setdefault(f"{space}.{category}", what)
    return found


def _label(line: str) -> tuple[list[str], str | None]:
    """Return the words before the first bar, and the tag among them."""
    before, bar, _ = line.partition("|")
    words = before.split()
    if words and (words[-1].startswith("'") or (bar and not before[-1].isspace())):
        return words[:-1], words[-1].lstrip("'") or None
    return words, None


def _numbers(parts: Sequence[str]) -> tuple[int, float, float]:
    try:
        action, cost, propensity = int(parts[0]), float(parts[1]), float(parts[2])
    except ValueError:
        raise Unusable("the label is no action, cost and probability", ":".join(parts)) from None
    if not (isfinite(cost) and isfinite(propensity)):
        raise Unusable("the label is no action, cost and probability", ":".join(parts))
    return action, cost, propensity
