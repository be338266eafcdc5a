"""Placing labels: inside the plot, on nothing, the same every time."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.report.labels import APART, LINE_HEIGHT, along, label_boxes, place_labels, text_width, touching

SIZE = (570.0, 440.0)
NOTHING = np.empty((0, 2))


def overlap(a: np.ndarray, b: np.ndarray, widths: tuple[float, float]) -> bool:
    return abs(a[0] - b[0]) < sum(widths) / 2 - 1e-6 and abs(a[1] - b[1]) < LINE_HEIGHT - 1e-6


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 570), st.floats(0, 440)), min_size=1, max_size=5), st.integers(3, 18))
def test_a_few_labels_never_overlap_and_stay_inside(points: list[tuple[float, float]], letters: int) -> None:
    anchors = np.array(points)
    widths = np.full(len(anchors), text_width("x" * letters))
    centres = place_labels(anchors, widths, size=SIZE, points=NOTHING, lines=NOTHING)
    for i in range(len(anchors)):
        assert widths[i] / 2 - 1e-6 <= centres[i, 0] <= SIZE[0] - widths[i] / 2 + 1e-6
        assert LINE_HEIGHT / 2 - 1e-6 <= centres[i, 1] <= SIZE[1] - LINE_HEIGHT / 2 + 1e-6
        assert not any(overlap(centres[i], centres[j], (widths[i], widths[j])) for j in range(i))


def test_a_label_moves_away_from_points_and_lines() -> None:
    anchor, width = np.array([[200.0, 200.0]]), np.array([60.0])
    free = place_labels(anchor, width, size=SIZE, points=NOTHING, lines=NOTHING)[0]
    blocked = place_labels(anchor, width, size=SIZE, points=free[None], lines=NOTHING)[0]
    crossed = place_labels(anchor, width, size=SIZE, points=NOTHING, lines=along(np.array([0.0, free[1]]), np.array([570.0, free[1]])))[0]
    assert abs(blocked - free).max() > LINE_HEIGHT / 2
    assert abs(crossed[1] - free[1]) > LINE_HEIGHT / 2


def test_where_points_crowd_no_label_or_leader_lies_on_another_label() -> None:
    # the picks, production and static weights of a demo's front, and its family, which bends sharply where they are
    named = np.array([[475, 350], [490, 313], [495, 301], [476, 345], [474, 294], [405, 354], [462, 312], [471, 300]], float)
    widths = np.array([134.0, 62, 191, 83, 76, 162, 292, 90])
    family = np.array([[46, 407], [169, 402], [273, 397], [382, 385], [425, 372], [457, 360], [475, 350], [485, 332], [490, 313],
                       [498, 288], [504, 268], [506, 244], [513, 209], [518, 145], [523, 34]], float)  # fmt: skip
    lines = np.concatenate([along(a, b) for a, b in pairwise(family)])
    words = np.array([480.0, 383, 570, 440])
    marks = np.concatenate([family, named])
    centres = place_labels(named, widths, size=SIZE, points=marks, lines=lines, taken=words[None])
    boxes = label_boxes(centres, widths)
    starts = touching(named, boxes)
    for i, box in enumerate(boxes):
        assert (box[:2] >= 0).all()
        assert (box[2:] <= SIZE).all()
        for other in (*boxes[:i], words):
            assert not ((box[:2] < other[2:] - 1e-6) & (other[:2] < box[2:] - 1e-6)).all()
        leader = along(starts[i], named[i], step=2.0)
        if np.hypot(*(named[i] - starts[i])) > APART:
            for other in np.delete(boxes, i, axis=0):
                assert not ((leader > other[:2] + 1) & (leader < other[2:] - 1)).all(axis=1).any()


def test_a_label_stays_nearer_to_its_own_point_than_to_another_labelled_one() -> None:
    named = np.array([[200.0, 200.0], [212.0, 200.0]])
    boxes = label_boxes(place_labels(named, np.full(2, 60.0), size=SIZE, points=named, lines=NOTHING), np.full(2, 60.0))
    gap = np.linalg.norm(touching(named[:, None], boxes) - named[:, None], axis=2)
    assert gap[0, 0] < gap[1, 0]
    assert gap[1, 1] < gap[0, 1]


def test_points_along_a_line_start_and_end_with_it_and_are_close_together() -> None:
    points = along(np.array([0.0, 0.0]), np.array([30.0, 40.0]), step=5)
    np.testing.assert_allclose(points[[0, -1]], [[0, 0], [30, 40]])
    assert np.hypot(*np.diff(points, axis=0).T).max() <= 5
