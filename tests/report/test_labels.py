"""Placing labels: inside the plot, on nothing, the same every time."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.report.labels import LINE_HEIGHT, along, place_labels, text_width

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


def test_points_along_a_line_start_and_end_with_it_and_are_close_together() -> None:
    points = along(np.array([0.0, 0.0]), np.array([30.0, 40.0]), step=5)
    np.testing.assert_allclose(points[[0, -1]], [[0, 0], [30, 40]])
    assert np.hypot(*np.diff(points, axis=0).T).max() <= 5
