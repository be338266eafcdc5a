"""Where to write labels beside points so that nothing lies on anything else.

The rule: greedy and deterministic; the first label gets the best place. Coordinates are pixels, origin bottom left.
"""

from __future__ import annotations

import numpy as np

from paretune.records import Floats

LINE_HEIGHT = 17.0
_FAULT = 1e5  # a label on a label, or outside the plot, is worse than any number of covered points
_DISTANCES = (9.0, 18.0, 32.0, 50.0, 75.0, 105.0)
_DIRECTIONS = tuple((float(np.cos(t)), float(np.sin(t))) for t in np.arange(16) * np.pi / 8)


def text_width(text: str) -> float:
    """Return the approximate width of a 12.5 px semibold label."""
    return 7.2 * len(text) + 4


def place_labels(anchors: Floats, widths: Floats, *, size: tuple[float, float], points: Floats, lines: Floats) -> Floats:
    """Return the centre of each label.

    Args:
        anchors: (n, 2) points that are labelled.
        widths: (n,) label widths.
        size: width and height of the plot; labels stay inside it when they can.
        points: (p, 2) marks that labels should not cover.
        lines: (q, 2) points along lines, which labels cover only when there is no better place.

    Returns:
        (n, 2) centres.
    """
    placed: list[tuple[float, float, float, float]] = []
    centres = np.empty((len(anchors), 2))
    for i, (anchor, width) in enumerate(zip(anchors, widths, strict=True)):
        best = np.inf
        for distance in _DISTANCES:
            for dx, dy in _DIRECTIONS:
                x = anchor[0] + distance * dx + np.sign(round(dx, 6)) * width / 2
                y = anchor[1] + distance * dy + np.sign(round(dy, 6)) * LINE_HEIGHT / 2
                box = (x - width / 2, y - LINE_HEIGHT / 2, x + width / 2, y + LINE_HEIGHT / 2)
                faults = _overlap(box, placed) + _outside(box, size)
                cost = distance + _FAULT * (faults > 0) + 3 * faults + 25 * _covered(box, points) + 4 * _covered(box, lines)
                if cost < best:
                    best, centres[i], kept = cost, (x, y), box
        placed.append(kept)
    return centres


def _overlap(box: tuple[float, float, float, float], others: list[tuple[float, float, float, float]]) -> float:
    area = 0.0
    for other in others:
        across = min(box[2], other[2]) - max(box[0], other[0])
        down = min(box[3], other[3]) - max(box[1], other[1])
        area += max(across, 0.0) * max(down, 0.0)
    return area


def _covered(box: tuple[float, float, float, float], points: Floats) -> float:
    inside = (points[:, 0] > box[0] - 5) & (points[:, 0] < box[2] + 5) & (points[:, 1] > box[1] - 4) & (points[:, 1] < box[3] + 4)
    return float(inside.sum())


def _outside(box: tuple[float, float, float, float], size: tuple[float, float]) -> float:
    return max(-box[0], 0.0) + max(-box[1], 0.0) + max(box[2] - size[0], 0.0) + max(box[3] - size[1], 0.0)


def along(start: Floats, end: Floats, *, step: float = 8.0) -> Floats:
    """Return (q, 2) points about every `step` pixels from start to end."""
    n = 2 + int(np.hypot(*(end - start)) / step)
    return start + np.linspace(0, 1, n)[:, None] * (end - start)
