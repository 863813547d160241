"""Where to write the names of points so that none covers another name or a point."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Box:
    """A rectangle with sides parallel to the axes; any unit."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """Area that two boxes share.

        Args:
            other: the other box.

        Returns:
            Square units; 0 when they do not touch.

        Example:
            >>> Box(0, 0, 2, 2).overlap(Box(1, 1, 3, 3))
            1.0
        """
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return float(max(0.0, width) * max(0.0, height))

    def inside(self, other: "Box") -> bool:
        """Whether this box lies within another.

        Args:
            other: the other box.

        Returns:
            True also when they share an edge.

        Example:
            >>> Box(0, 0, 1, 1).inside(Box(0, 0, 2, 2))
            True
        """
        return (
            self.left >= other.left
            and self.bottom >= other.bottom
            and self.right <= other.right
            and self.top <= other.top
        )


@dataclass(frozen=True)
class Anchor:
    """A point that wants a label.

    Attributes:
        x: centre.
        y: centre.
        radius: of its marker.
        width: of its label.
        height: of its label.
    """

    x: float
    y: float
    radius: float
    width: float
    height: float


# In order of preference: right, left, above, below, then the corners.
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_RINGS = 8


def place(anchors: Sequence[Anchor], frame: Box, obstacles: Sequence[Box] = (), *, gap: float = 3.0) -> list[Box]:
    """Choose a box for every label, greedily and always the same.

    Each label takes the free place nearest to its point: beside it in one of eight directions, on rings of growing
    distance, else anywhere in the frame. Points with the fewest free places nearby choose first.

    Args:
        anchors: the points; all markers are obstacles to all labels.
        frame: no label leaves it.
        obstacles: other things to keep clear of, for example error bars.
        gap: space around labels, same unit.

    Returns:
        One box an anchor, in their order. When the frame is too crowded, a label takes the place that covers least.

    Example:
        >>> boxes = place([Anchor(50, 50, 2, 30, 8), Anchor(52, 50, 2, 30, 8)], Box(0, 0, 100, 100))
        >>> boxes[0].overlap(boxes[1])
        0.0
    """
    markers = [Box(a.x - a.radius, a.y - a.radius, a.x + a.radius, a.y + a.radius) for a in anchors]
    fixed = [*markers, *obstacles]
    places = [[box for box in _places(anchor, frame, gap) if box.inside(frame)] for anchor in anchors]
    free = [sum(_covered(box, fixed) == 0 for box in boxes[: len(_DIRECTIONS)]) for boxes in places]
    taken: dict[int, Box] = {}
    for index in sorted(range(len(anchors)), key=lambda index: (free[index], index)):
        best, least = _beside(anchors[index], gap), float("inf")
        for box in places[index]:
            covered = _covered(box, [*fixed, *taken.values()])
            if covered < least:
                best, least = box, covered
            if covered == 0:
                break
        taken[index] = best
    return [taken[index] for index in range(len(anchors))]


def _covered(box: Box, others: Sequence[Box]) -> float:
    return sum(box.overlap(other) for other in others)


def _places(anchor: Anchor, frame: Box, gap: float) -> list[Box]:
    """Candidate boxes, the most preferred first: rings around the point, then a lattice over the frame."""
    boxes = []
    for ring in range(_RINGS):
        reach = anchor.radius + gap + ring * (anchor.height / 2 + gap)
        for right, up in _DIRECTIONS:
            diagonal = 0.8 if right and up else 1.0
            x = anchor.x + right * (anchor.width / 2 + reach * diagonal)
            y = anchor.y + up * (anchor.height / 2 + reach * diagonal)
            boxes.append(_around(x, y, anchor))
    columns = np.arange(frame.left + anchor.width / 2, frame.right, anchor.width / 4 + gap)
    lines = np.arange(frame.bottom + anchor.height / 2, frame.top, anchor.height / 2 + gap)
    lattice = sorted(
        ((float(x), float(y)) for x in columns for y in lines),
        key=lambda spot: (math.hypot(spot[0] - anchor.x, spot[1] - anchor.y), spot),
    )
    return boxes + [_around(x, y, anchor) for x, y in lattice]


def _around(x: float, y: float, anchor: Anchor) -> Box:
    return Box(x - anchor.width / 2, y - anchor.height / 2, x + anchor.width / 2, y + anchor.height / 2)


def _beside(anchor: Anchor, gap: float) -> Box:
    return _around(anchor.x + anchor.width / 2 + anchor.radius + gap, anchor.y, anchor)
