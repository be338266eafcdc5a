"""Where to write labels beside points so that nothing lies on anything else.

The rule: deterministic, and no label on a label where there is room. Every label takes its cheapest place, the first label first; then each
moves again, given all the others. A place is dear when it is far, covers marks or lines, lies nearer to another labelled point than to its
own, or has a leader (from the label to its point, drawn where they are apart) that runs through another label, or across another leader.
Coordinates are pixels, origin bottom left.
"""

from __future__ import annotations

import numpy as np

from paretune.records import Bools, Floats

LINE_HEIGHT = 17.0
APART = 14.0  # px between a label and its point from which on a leader is drawn
_FAULT = 1e5  # a label on a label, or outside the plot, is worse than any number of covered points
_CROSSED, _ASTRAY, _POINT, _LINE = 400.0, 60.0, 25.0, 9.0  # px of distance that each fault weighs as much as
_DISTANCES = (9.0, 18.0, 32.0, 50.0, 75.0, 105.0, 140.0, 180.0)
_ANGLES = np.arange(16) * np.pi / 8
_DIRECTIONS = np.round(np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1), 6)  # (16, 2)
_ROUNDS = 4


def text_width(text: str) -> float:
    """Return the approximate width of a 12.5 px semibold label."""
    return 7.2 * len(text) + 4


def place_labels(
    anchors: Floats, widths: Floats, *, size: tuple[float, float], points: Floats, lines: Floats, taken: Floats | None = None
) -> Floats:
    """Return the centre of each label.

    Args:
        anchors: (n, 2) points that are labelled.
        widths: (n,) label widths.
        size: width and height of the plot; labels stay inside it when they can.
        points: (p, 2) marks that labels should not cover.
        lines: (q, 2) points along lines, which labels cover only when there is no better place.
        taken: (t, 4) boxes (left, bottom, right, top) of other text.

    Returns:
        (n, 2) centres.
    """
    fixed = np.empty((0, 4)) if taken is None else np.asarray(taken)
    choices = [_choices(anchor, width) for anchor, width in zip(anchors, widths, strict=True)]
    costs = [_alone(boxes, i, anchors, size=size, points=points, lines=lines, taken=fixed) for i, boxes in enumerate(choices)]
    chosen: dict[int, Floats] = {}
    for _ in range(_ROUNDS):
        for i, boxes in enumerate(choices):
            others = [j for j in chosen if j != i]
            cost = costs[i] + sum((_beside(boxes, anchors[i], chosen[j], anchors[j]) for j in others), np.zeros(len(boxes)))
            chosen[i] = boxes[int(cost.argmin())]
    placed = np.array([chosen[i] for i in range(len(anchors))]).reshape(-1, 4)
    return (placed[:, :2] + placed[:, 2:]) / 2


def touching(anchors: Floats, boxes: Floats) -> Floats:
    """Return the point of each box that is nearest to its anchor, where a leader starts.

    Args:
        anchors: (..., 2).
        boxes: (..., 4).
    """
    return np.clip(anchors, boxes[..., :2], boxes[..., 2:])


def label_boxes(centres: Floats, widths: Floats) -> Floats:
    """Return (n, 4) left, bottom, right and top of labels.

    Args:
        centres: (n, 2).
        widths: (n,).
    """
    half = np.stack([np.asarray(widths) / 2, np.full(len(widths), LINE_HEIGHT / 2)], axis=1)
    return np.concatenate([centres - half, centres + half], axis=1)


def _choices(anchor: Floats, width: float) -> Floats:
    """Return (c, 4) the boxes that a label may take, the nearest first."""
    steps = np.array(_DISTANCES)[:, None, None] * _DIRECTIONS + np.sign(_DIRECTIONS) * np.array([width, LINE_HEIGHT]) / 2
    centres = anchor + steps.reshape(-1, 2)
    return label_boxes(centres, np.full(len(centres), width))


def _alone(boxes: Floats, own: int, anchors: Floats, *, size: tuple[float, float], points: Floats, lines: Floats, taken: Floats) -> Floats:
    """Return (c,) what each box costs by itself."""
    outside = np.maximum(-boxes[:, :2], 0).sum(axis=1) + np.maximum(boxes[:, 2:] - size, 0).sum(axis=1)
    faults = outside + sum((_overlap(boxes, other) for other in taken), np.zeros(len(boxes)))
    gap = np.linalg.norm(anchors[:, None] - touching(anchors[:, None], boxes), axis=2)  # (n, c)
    astray = (gap <= gap[own]).sum(axis=0) - 1
    cost = gap[own] + _FAULT * (faults > 0) + 3 * faults + _ASTRAY * astray
    return cost + _POINT * _covered(boxes, points) + _LINE * _covered(boxes, lines)


def _beside(boxes: Floats, anchor: Floats, other: Floats, other_anchor: Floats) -> Floats:
    """Return (c,) what each box costs beside another label that is already placed: overlap, and leaders that get in the way."""
    overlap = _overlap(boxes, other)
    start, end = touching(anchor, boxes), touching(other_anchor, other)
    mine = np.linalg.norm(anchor - start, axis=1) > APART
    theirs = bool(np.linalg.norm(other_anchor - end) > APART)
    through = mine & _runs_through(start, anchor, other[None]) | theirs & _runs_through(end[None], other_anchor, boxes)
    across = mine & theirs & _crosses(start, anchor, end, other_anchor)
    return _FAULT * (overlap > 0) + 3 * overlap + _CROSSED * through + _CROSSED / 2 * across


def _overlap(boxes: Floats, other: Floats) -> Floats:
    """Return (c,) the area that each box shares with another."""
    shared = np.minimum(boxes[:, 2:], other[2:]) - np.maximum(boxes[:, :2], other[:2])
    return np.maximum(shared, 0).prod(axis=1)


def _covered(boxes: Floats, points: Floats) -> Floats:
    """Return (c,) how many points lie in each box or touch it."""
    if not len(points):
        return np.zeros(len(boxes))
    room = np.array([5.0, 4.0])
    inside = (points > boxes[:, None, :2] - room) & (points < boxes[:, None, 2:] + room)
    return inside.all(axis=2).sum(axis=1).astype(np.float64)


def _runs_through(starts: Floats, end: Floats, boxes: Floats) -> Bools:
    """Mark the straight lines from starts (c or 1, 2) to an end that run through boxes (c or 1, 4)."""
    along_it = np.linspace(0, 1, 25)[:, None, None]
    spots = starts + along_it * (end - starts)  # (25, c, 2)
    return ((spots > boxes[:, :2]) & (spots < boxes[:, 2:])).all(axis=2).any(axis=0)


def _crosses(starts: Floats, end: Floats, start: Floats, stop: Floats) -> Bools:
    """Mark the lines from starts (c, 2) to an end that cross the line from start to stop."""

    def side(a: Floats, b: Floats, p: Floats) -> Floats:
        return np.sign((b - a)[..., 0] * (p - a)[..., 1] - (b - a)[..., 1] * (p - a)[..., 0])

    return (side(starts, end, start) != side(starts, end, stop)) & (side(start, stop, starts) != side(start, stop, end))


def along(start: Floats, end: Floats, *, step: float = 8.0) -> Floats:
    """Return (q, 2) points about every `step` pixels from start to end."""
    n = 2 + int(np.hypot(*(end - start)) / step)
    return start + np.linspace(0, 1, n)[:, None] * (end - start)
