"""Vowpal Wabbit's decision-service JSON (`--dsjson`), a line per decision, as rows of a log.

`_labelIndex` (from 0) says which of `c._multi` was drawn, `_label_probability` how probable that was, `-_label_cost` what it earned; `a`
and `p` are the ranking and its probabilities, `o` the observations, `EventId` and `Timestamp` the request.

The rule: what VW would not learn from is refused with its reason (no label, `_skipLearn`, slots), as is a label that contradicts itself.
`pdrop` is the probability with which lines like this one were left out of the log; VW weighs the line by 1 / (1 - pdrop). A log of ours has
no row weights, so all lines must stand for the same share of the traffic: one pdrop for all is taken as it is (it changes no average),
different ones are refused, or thinned to the smallest share by a hash of the request (`share_of`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

import msgspec
import numpy as np

from paretune.errors import LogError
from paretune.exchange.drawn import OUTCOME, REWARD, Draw, taken_draws, whole_choice
from paretune.exchange.taken import Reading, Refusals, Taken, Unusable, whole_text
from paretune.logs.hashing import hash_texts, salted

PDROP = "pdrop"
_TOLERANCE = 1e-4  # VW writes float32
_SALT = "pdrop"


class _Dropped(msgspec.Struct):
    """The one key of a line that decides how lines are weighed."""

    pdrop: float = 0.0


def pdrops(lines: Iterable[str]) -> set[float]:
    """Return every `pdrop` in [0, 1) that lines name; 0 for those that name none, nothing for those that are no JSON."""
    decoder = msgspec.json.Decoder(_Dropped)
    found = set()
    for line in lines:
        try:
            dropped = decoder.decode(line).pdrop
        except (msgspec.MsgspecError, UnicodeError):
            continue  # refused with its reason when the line is read
        if 0 <= dropped < 1:
            found.add(dropped)
    return found


def share_of(found: set[float], *, thin: bool) -> float:
    """Return the share of the traffic that each line is to stand for.

    Args:
        found: from `pdrops`.
        thin: leave lines out until all stand for the same share.

    Raises:
        LogError: lines stand for different shares, and thinning was not asked for.
    """
    if len(found) > 1 and not thin:
        raise LogError(
            f"lines were left out of this log with different probabilities: pdrop is {', '.join(f'{p:g}' for p in sorted(found)[:5])}",
            hint="rows of a log have no weights; import with --thin, which leaves more lines out until all stand for the same share",
        )
    return 1 - max(found, default=0.0)


def taken(lines: Iterable[tuple[int, str]], reading: Reading) -> Taken:
    """Return lines of dsjson as rows of a log.

    Args:
        lines: their number, from 1, and their text.
        reading: what the log is to hold; `keep` from `share_of`.
    """
    refusals, draws, thinned = Refusals(), [], 0
    for number, text in lines:
        if not text.strip():
            continue
        try:
            draw, dropped = decision(number, text, reading)
        except Unusable as why:
            refusals.add(number, text, why)
            continue
        if _left_out(draw, 1 - dropped, reading.keep):
            thinned += 1
        else:
            draws.append(draw)
    found = taken_draws(draws, reading, refusals)
    return Taken(found.rows, found.refused, found.found, found.notes, thinned)


def decision(number: int, text: str, reading: Reading) -> tuple[Draw, float]:
    """Return a line as a draw, and its `pdrop`.

    Raises:
        Unusable: it is no decision that can be learned from.
    """
    whole_text(text)
    try:
        line = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unusable("no JSON", error) from None
    if not isinstance(line, dict):
        raise Unusable("no JSON object", type(line).__name__)
    context = line.get("c")
    if "_outcomes" in line or (isinstance(context, dict) and "_slots" in context):
        raise Unusable("a decision over slots (CCB), not over one set of actions")
    if not isinstance(context, dict) or not isinstance(context.get("_multi"), list):
        raise Unusable("no decision: c._multi, the actions, is missing", ", ".join(list(line)[:6]))
    if line.get("_skipLearn") is True:
        raise Unusable("_skipLearn: VW learns nothing from the line", "true")
    index, cost, propensity = _label(line)
    wrong = whole_choice(len(context["_multi"]), index, reading)
    if wrong is not None:
        raise Unusable(*wrong)
    _agree(line, index, propensity)
    dropped = line.get(PDROP, 0.0)
    if not isinstance(dropped, int | float) or not 0 <= dropped < 1:
        raise Unusable("pdrop is not in [0, 1)", dropped)
    try:
        values = leaves(context) | outcomes(line.get("o"))
    except RecursionError as error:
        raise Unusable("no JSON", error) from None
    request, time = line.get("EventId"), line.get("Timestamp")
    return Draw(number, text, _id(request), _id(time), index, propensity, values | {REWARD: 0.0 - cost}), float(dropped)


def leaves(context: Mapping[str, Any]) -> dict[str, object]:
    """Return what a context says: by dotted path, and by its last name where an earlier one has not taken that.

    Actions are left out; a key "colour=red" of value 1, VW's way to write a category, also says "red" of "colour".
    """
    found: dict[str, object] = {}
    _walk(context, "", found)
    return found


def outcomes(observations: object) -> dict[str, object]:
    """Return what was observed after a decision, added up: `o.NAME` for each name that an observation's value holds."""
    total: dict[str, float] = {}
    for each in observations if isinstance(observations, list) else []:
        value = each.get("v") if isinstance(each, dict) else None
        for name, count in (value if isinstance(value, dict) else {}).items():
            if isinstance(count, int | float):
                total[OUTCOME + name] = total.get(OUTCOME + name, 0.0) + float(count)
    return dict(total)


def _label(line: Mapping[str, Any]) -> tuple[int, float, float]:
    index, cost, propensity = line.get("_labelIndex"), line.get("_label_cost"), line.get("_label_probability")
    if index is None or cost is None or propensity is None:
        missing = [key for key in ("_labelIndex", "_label_cost", "_label_probability") if line.get(key) is None]
        raise Unusable("no label: nothing was observed of the decision", f"without {', '.join(missing)}")
    numbers = all(isinstance(value, int | float) and isfinite(value) for value in (cost, propensity))
    if not isinstance(index, int) or isinstance(index, bool) or not numbers:
        raise Unusable("the label is no index, cost and probability", f"{index!r}, {cost!r}, {propensity!r}")
    if line.get("_label_Action", index + 1) != index + 1:
        raise Unusable("_label_Action is not _labelIndex + 1", f"{line['_label_Action']!r} and {index}")
    return index, float(cost), float(propensity)


def _agree(line: Mapping[str, Any], index: int, propensity: float) -> None:
    """Refuse a label whose probability is not the one that the ranking gives its action."""
    ranked, chances = line.get("a"), line.get("p")
    if not isinstance(ranked, list) or not isinstance(chances, list) or index + 1 not in ranked[: len(chances)] or 0 in ranked:
        return  # another layout (actions from 0, or not all of them); the label alone is what VW reads
    chance = chances[ranked.index(index + 1)]
    if not isinstance(chance, int | float) or abs(chance - propensity) > _TOLERANCE * max(propensity, _TOLERANCE):
        raise Unusable("_label_probability is not what p says of the action", f"{propensity!r} and {chance!r}")


def _walk(node: object, path: str, found: dict[str, object]) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key != "_multi":
                _walk(value, f"{path}.{key}" if path else str(key), found)
        return
    if isinstance(node, list) and any(isinstance(item, dict) for item in node):
        for item in node:  # a namespace written as a list of objects
            _walk(item, path, found)
        return
    last = path.rpartition(".")[2]
    found.setdefault(path, node)
    found.setdefault(last, node)
    name, equals, word = last.partition("=")
    if equals and node == 1:
        found.setdefault(name, word)


def _id(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and str(value) else None


def _left_out(draw: Draw, kept: float, keep: float) -> bool:
    """Whether a line is one too many: lines that stand for more of the traffic are kept with probability keep / kept."""
    if kept <= keep:
        return False
    coin = salted(hash_texts([(draw.request or draw.text).encode("utf-8", "surrogatepass")]), _SALT)
    return bool((coin >> np.uint64(11)).astype(np.float64)[0] * 2.0**-53 >= keep / kept)
