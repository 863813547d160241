import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from compression.analysis.labels import Anchor, Box, place

FRAME = Box(0, 0, 500, 300)
anchors = st.builds(
    Anchor,
    x=st.floats(20, 480),
    y=st.floats(20, 280),
    radius=st.floats(2, 15),
    width=st.floats(20, 110),
    height=st.just(11.0),
)


@given(st.lists(anchors, min_size=1, max_size=14))
@settings(max_examples=40, deadline=None)
def test_labels_never_cover_each_other_or_leave_the_frame(points):
    boxes = place(points, FRAME)
    assert all(box.inside(FRAME) for box in boxes)
    for left, right in itertools.combinations(boxes, 2):
        assert left.overlap(right) == 0


@given(st.lists(anchors, min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
def test_placing_is_deterministic(points):
    assert place(points, FRAME) == place(points, FRAME)


def test_points_on_one_spot_get_separate_labels():
    points = [Anchor(250, 150, 10, 90, 11)] * 12
    boxes = place(points, FRAME)
    marker = Box(240, 140, 260, 160)
    assert all(box.overlap(marker) == 0 for box in boxes)
    assert all(left.overlap(right) == 0 for left, right in itertools.combinations(boxes, 2))


def test_an_obstacle_is_avoided():
    bar = Box(100, 90, 300, 110)
    (box,) = place([Anchor(100, 100, 3, 60, 11)], FRAME, [bar])
    assert box.overlap(bar) == 0


def test_a_label_wider_than_the_frame_still_gets_a_place():
    (box,) = place([Anchor(10, 10, 3, 600, 11)], FRAME)
    assert box.right - box.left == 600
