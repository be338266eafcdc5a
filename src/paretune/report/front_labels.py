"""The labels of the front's picture: picks, static weights, production, the estimate and the truth, each beside its point.

The rule: points that coincide share one label; no label lies on another, or on the words in the corner. Lifts are in per cent.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import altair as alt
import numpy as np

from paretune.frontier.front import Front
from paretune.frontier.references import MATCHED
from paretune.records import Floats, Ints
from paretune.report.labels import APART, LINE_HEIGHT, along, label_boxes, place_labels, text_width, touching
from paretune.report.theme import inline

BETTER = "both better than production"
Domain = tuple[list[float], list[float]]


def pick_labels(front: Front) -> dict[int, str]:
    """Return the label of each picked policy; a policy picked twice carries both."""
    return {policy: " = ".join(labels) for policy, labels in front.labels().items()}


def reference_labels(front: Front, xy: Floats, references: Ints) -> dict[int, str]:
    """Return the label of each reference, without its weights (they stand in the tooltip); those that coincide share the first one's.

    Args:
        front: whose policies they are.
        xy: (P, 2) where they are drawn.
        references: policies to be named.
    """
    labels: dict[int, str] = {}
    for p in references.tolist():
        name = front.policies[p].name.split(" (")[0]
        same = next((q for q in labels if (xy[q] == xy[p]).all()), None)
        if same is None:
            labels[p] = name
        else:
            labels[same] += f" = {name.removeprefix(MATCHED) if labels[same].startswith(MATCHED) else name}"
    return labels


def better_lines(domain: Domain, size: tuple[float, float]) -> list[str]:
    """Return the words for the corner where both objectives are better, in as many lines as its width asks for.

    Args:
        domain: limits across and up, in per cent.
        size: of the plot, in pixels.
    """
    width = size[0] * abs(domain[0][1]) / abs(domain[0][1] - domain[0][0])
    lines = [""]
    for word in BETTER.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if not lines[-1] or text_width(longer) <= width else [*lines, word]
    return lines


def label_layers(
    front: Front,
    xy: Floats,
    bands: Floats,
    actual: Floats | None,
    *,
    swept: Ints,
    references: Ints,
    picked: list[int],
    domain: Domain,
    size: tuple[float, float],
    x: alt.X,
    y: alt.Y,
) -> list[Any]:
    """Return the labels as layers, and the leaders of those that stand apart from their points.

    Args:
        front: whose policies are drawn.
        xy: (P, 2) estimates.
        bands: (P, 2, 2) ends of their bands: low and high, across and up.
        actual: (P, 2) the truth, where it is drawn.
        swept: policies of the family, in order.
        references: static policies.
        picked: policies with a label of their own.
        domain: limits across and up; reversed where less is better.
        size: of the plot, in pixels.
        x: across.
        y: up.
    """
    names = pick_labels(front)
    entries = [(names[p], xy[p], "label") for p in picked] + [("production", np.zeros(2), "label")]
    entries += [(name, xy[p], "label") for p, name in reference_labels(front, xy, references).items()]
    paths = [xy[swept]]
    if actual is not None and len(swept):
        entries += [("truth", actual[swept[0]], "note"), ("estimate", xy[swept[0]], "note")]
        paths.append(actual[swept])
    low, span = np.array([d[0] for d in domain]), np.array([d[1] - d[0] for d in domain])

    def pixels(at: Floats) -> Floats:
        return (np.asarray(at) - low) / span * size

    strokes = [(a, b) for path in paths for a, b in pairwise(path)] + [
        ((low[0], 0.0), (low[0] + span[0], 0.0)),
        ((0.0, low[1]), (0.0, low[1] + span[1])),
    ]
    for p in (*picked, *references):
        strokes += [((bands[p, 0, 0], xy[p, 1]), (bands[p, 1, 0], xy[p, 1])), ((xy[p, 0], bands[p, 0, 1]), (xy[p, 0], bands[p, 1, 1]))]
    lines = np.concatenate([along(pixels(a), pixels(b)) for a, b in strokes if np.isfinite([*a, *b]).all()])
    anchors = pixels(np.array([at for _, at, _ in entries]))
    widths = np.array([text_width(text) for text, _, _ in entries])
    marks = pixels(np.concatenate([*paths, xy[picked], xy[references], np.zeros((1, 2))]))
    said = better_lines(domain, size)
    corner = [[size[0] - 6 - max(map(text_width, said)), size[1] - 6 - LINE_HEIGHT * len(said), size[0], size[1]]]
    centres = place_labels(anchors, widths, size=size, points=marks, lines=lines, taken=np.array(corner))
    touch = touching(anchors, label_boxes(centres, widths))
    ends = [spot / size * span + low for spot in (centres, touch, anchors)]
    far = np.hypot(*(touch - anchors).T) > APART
    rows = [
        {"text": text, "style": style, "x": c[0], "y": c[1], "u": t[0], "v": t[1], "u2": a[0], "v2": a[1], "far": apart}
        for (text, _, style), c, t, a, apart in zip(entries, *ends, far, strict=True)
    ]
    leader = alt.Chart(inline([row for row in rows if row["far"]])).mark_rule(style="leader")
    layers: list[Any] = [leader.encode(alt.X("u:Q"), alt.Y("v:Q"), alt.X2("u2:Q"), alt.Y2("v2:Q"))]
    for style in ("label", "note"):
        text = alt.Chart().encode(x, y, text="text:N")
        halo, ink = text.mark_text(style=[style, "halo"]), text.mark_text(style=style)
        layers.append(alt.layer(halo, ink, data=inline([row for row in rows if row["style"] == style])))
    return layers
