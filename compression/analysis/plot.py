"""Score against latency and size, with the Pareto front."""

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compression.analysis.labels import Anchor, Box, place
from compression.analysis.pareto import efficient, staircase
from compression.analysis.results import AblationTable, Column, Latency
from compression.analysis.wording import metric_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of Okabe & Ito, told apart by colour-blind eyes; shape and grey level say the same.
_FRONT, _TEACHER, _DOMINATED, _INK = "#0072B2", "#D55E00", "#C4C4C4", "#333333"
_LARGEST, _SMALLEST = 620.0, 16.0
_LONGEST_LABEL = 28


@dataclass(frozen=True)
class Point:
    """One variant in one panel.

    Attributes:
        name: label.
        score: mean × 100.
        std: standard deviation × 100; None with one seed.
        latency: milliseconds.
        bytes: size of the model files; None when unknown.
        teacher: whether it is the teacher.
        front: whether no other variant is at least as good in score, latency and size.
    """

    name: str
    score: float
    std: float | None
    latency: Latency
    bytes: int | None
    teacher: bool
    front: bool


def points(table: AblationTable, column: Column) -> list[Point]:
    """What a panel shows.

    Args:
        table: the table.
        column: the task and metric on the vertical axis.

    Returns:
        One point for every variant that has both a score and a latency.
    """
    shown = [
        (row, score, row.efficiency.latency)
        for row in table.rows
        if (score := row.scores[table.columns.index(column)]) is not None and row.efficiency.latency is not None
    ]
    if not shown:
        return []
    gains = np.array([score.mean for _, score, _ in shown])
    costs = np.array([[latency.median, float(row.efficiency.bytes or 0)] for row, _, latency in shown])
    if any(row.efficiency.bytes is None for row, _, _ in shown):
        costs = costs[:, :1]  # a size that is unknown can neither win nor lose
    return [
        Point(
            name=_name(row.variant, baseline=row.variant == table.baseline),
            score=100 * score.mean,
            std=None if score.std is None else 100 * score.std,
            latency=latency,
            bytes=row.efficiency.bytes,
            teacher=row.variant == table.teacher,
            front=bool(front),
        )
        for (row, score, latency), front in zip(shown, efficient(gains, costs), strict=True)
    ]


def _name(variant: str, *, baseline: bool) -> str:
    name = variant if len(variant) <= _LONGEST_LABEL else f"{variant[: _LONGEST_LABEL - 1]}…"
    return f"{name} (baseline)" if baseline else name


def draw(table: AblationTable) -> "Figure | None":
    """Draw one panel a column: score over latency, marker area in proportion to bytes.

    Vertical bars are one standard deviation over seeds, horizontal ones the quartiles of latency. The dashed line is
    the best mean score at each latency. A grey point is dominated: another variant is at least as good in score,
    latency and size, by their means.

    Args:
        table: the table.

    Returns:
        The figure; None when no variant has both a score and a latency.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [(column, shown) for column in table.columns if (shown := points(table, column))]
    if not panels:
        return None
    across = min(len(panels), 2)
    down = -(-len(panels) // across)
    figure = Figure(figsize=(7.2 if across == 1 else 5.4 * across, 4.3 * down + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    largest = max((point.bytes or 0 for _, shown in panels for point in shown), default=0)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.remove()
    _legend(figure, largest, [point for _, shown in panels for point in shown], wide=across > 1)
    for axis, (column, shown) in zip(axes, panels, strict=False):
        _panel(axis, column, shown, largest)
    figure.draw_without_rendering()  # settles the layout, which labels are placed in
    figure.set_layout_engine("none")
    for axis, (_, shown) in zip(axes, panels, strict=False):
        _label(axis, shown, largest)
    return figure


def render(table: AblationTable, formats: Iterable[str] = ("svg", "png")) -> dict[str, bytes]:
    """Draw the plot once and encode it; the same table gives the same bytes.

    Args:
        table: the table.
        formats: "svg" (text drawn as outlines, so that it looks the same everywhere) and "png".

    Returns:
        Format -> content of the file; empty when there is nothing to draw.
    """
    with _style():
        figure = draw(table)
        if figure is None:
            return {}
        files = {}
        for kind in formats:
            buffer = io.BytesIO()
            metadata = {"Date": None, "Creator": "bertpress"} if kind == "svg" else {"Software": "bertpress"}
            figure.savefig(buffer, format=kind, dpi=160 if kind == "png" else 72, metadata=metadata)
            files[kind] = buffer.getvalue()
        return files


@contextmanager
def _style() -> Iterator[None]:
    from matplotlib import rc_context

    with rc_context(
        {
            "svg.hashsalt": "bertpress",
            "svg.fonttype": "path",
            "font.family": "DejaVu Sans",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#888888",
            "axes.labelcolor": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
        }
    ):
        yield


def _area(size: int | None, largest: int) -> float:
    """Marker area in square points, in proportion to bytes but never too small to see."""
    return max(_SMALLEST, _LARGEST * size / largest) if size and largest else 60.0


def _colour(point: Point) -> str:
    return _DOMINATED if not point.front else _TEACHER if point.teacher else _FRONT


def _panel(axis: "Axes", column: Column, shown: Sequence[Point], largest: int) -> None:
    """Markers, bars and front of one task."""
    for point in sorted(shown, key=lambda point: -(point.bytes or 0)):
        axis.scatter(
            point.latency.median,
            point.score,
            s=_area(point.bytes, largest),
            marker="s" if point.teacher else "o",
            color=_colour(point),
            edgecolors="#777777" if not point.front else _INK,
            linewidths=0.8,
            alpha=0.85,
            zorder=3 if point.front else 2,
        )
        low, high = point.latency.q1 or point.latency.median, point.latency.q3 or point.latency.median
        axis.errorbar(
            point.latency.median,
            point.score,
            yerr=point.std,
            xerr=[[max(0.0, point.latency.median - low)], [max(0.0, high - point.latency.median)]],
            fmt="none",
            ecolor=_INK,
            elinewidth=0.9,
            capsize=2,
            zorder=4,
        )
    corners = staircase([point.score for point in shown], [point.latency.median for point in shown])
    axis.step(*zip(*corners, strict=True), where="post", color="#555555", linestyle=(0, (4, 3)), linewidth=1, zorder=1)
    examples = "" if column.examples is None else f" · {column.examples:,} examples"
    axis.set_title(f"{column.task}{examples}", fontsize=10, loc="left", color=_INK, parse_math=False)
    axis.set_ylabel(f"{metric_label(column.metric)} × 100", parse_math=False)
    axis.set_xlabel("latency of one input, ms (median, log scale)")
    axis.grid(color="#E6E6E6", linewidth=0.6, zorder=0)
    _scale(axis, shown)


def _scale(axis: "Axes", shown: Sequence[Point]) -> None:
    """Logarithmic latency with round ticks, and air around the outermost points."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low = min(point.latency.q1 or point.latency.median for point in shown)
    high = max(point.latency.q3 or point.latency.median for point in shown)
    air = max((high / low) ** 0.18, 1.15)
    axis.set_xscale("log")
    axis.set_xlim(low / air, high * air)
    axis.xaxis.set_major_locator(FixedLocator(round_ticks(low / air, high * air)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    tops = [point.score + (point.std or 0.0) for point in shown]
    bottoms = [point.score - (point.std or 0.0) for point in shown]
    margin = max(0.22 * (max(tops) - min(bottoms)), 0.5)
    axis.set_ylim(min(bottoms) - margin, max(tops) + margin)


def round_ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis, between three and eight where the range allows.

    Args:
        low: left end, above 0.
        high: right end.

    Returns:
        Tick positions in ascending order.

    Example:
        >>> round_ticks(0.9, 110.0)
        [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
        >>> round_ticks(4.0, 6.1)
        [4.0, 5.0, 6.0]
    """
    ticks: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7), range(1, 10), [step / 10 for step in range(10, 100)]):
        finer = [
            float(f"{step * 10.0**power:.6g}")
            for power in range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
            for step in steps
            if low <= step * 10.0**power <= high
        ]
        if len(finer) > 8:
            break
        ticks = finer
    return ticks


def _label(axis: "Axes", shown: Sequence[Point], largest: int) -> None:
    """Names beside the markers, clear of each other, of bars and of the front."""
    figure = axis.figure
    unit = figure.dpi / 72
    texts = [
        axis.text(0, 0, point.name, fontsize=8, color=_INK if point.front else "#666666", zorder=6, parse_math=False)
        for point in shown
    ]
    extents = [text.get_window_extent() for text in texts]
    spots = axis.transData.transform([(point.latency.median, point.score) for point in shown])
    anchors = [
        Anchor(x, y, (_area(point.bytes, largest) ** 0.5 / 2 + 1) * unit, extent.width, extent.height)
        for (x, y), point, extent in zip(spots, shown, extents, strict=True)
    ]
    frame = axis.get_window_extent()
    boxes = place(anchors, Box(frame.x0, frame.y0, frame.x1, frame.y1), _obstacles(axis, shown, unit), gap=3 * unit)
    back = axis.transData.inverted()
    for text, anchor, box in zip(texts, anchors, boxes, strict=True):
        text.set_position(tuple(back.transform(((box.left + box.right) / 2, (box.bottom + box.top) / 2))))
        text.set_horizontalalignment("center")
        text.set_verticalalignment("center")
        nearest = (min(max(anchor.x, box.left), box.right), min(max(anchor.y, box.bottom), box.top))
        if np.hypot(nearest[0] - anchor.x, nearest[1] - anchor.y) > anchor.radius + 8 * unit:
            ends = back.transform([(anchor.x, anchor.y), nearest])
            axis.plot(ends[:, 0], ends[:, 1], color="#999999", linewidth=0.6, zorder=1.5)


def _obstacles(axis: "Axes", shown: Sequence[Point], unit: float) -> list[Box]:
    """Error bars and the front's line, as thin boxes in pixels."""
    lines = []
    for point in shown:
        x, y, spread = point.latency.median, point.score, point.std or 0.0
        lines.append(((x, y - spread), (x, y + spread)))
        lines.append(((point.latency.q1 or x, y), (point.latency.q3 or x, y)))
    corners = staircase([point.score for point in shown], [point.latency.median for point in shown])
    for (left, lower), (right, upper) in itertools.pairwise(corners):
        lines += [((left, lower), (right, lower)), ((right, lower), (right, upper))]
    air = 2 * unit  # the caps of the bars
    boxes = []
    for ends in lines:
        (x0, y0), (x1, y1) = axis.transData.transform(ends)
        boxes.append(Box(min(x0, x1) - air, min(y0, y1) - air, max(x0, x1) + air, max(y0, y1) + air))
    return boxes


def _legend(figure: "Figure", largest: int, shown: Sequence[Point], *, wide: bool) -> None:
    """What shapes, greys and areas mean, under the panels."""
    from matplotlib.lines import Line2D

    def marker(label: str, colour: str, shape: str = "o", area: float = 60.0) -> Any:
        return Line2D(
            [], [], linestyle="", marker=shape, markersize=area**0.5, color=colour, markeredgecolor=_INK,
            markeredgewidth=0.8, label=label,
        )  # fmt: skip

    handles = [marker("not dominated", _FRONT)]
    if any(not point.front for point in shown):
        handles.append(marker("dominated", _DOMINATED))
    if any(point.teacher for point in shown):
        handles.append(marker("teacher", _TEACHER, "s"))
    handles.append(Line2D([], [], color="#555555", linestyle=(0, (4, 3)), linewidth=1, label="best at each latency"))
    handles += [
        marker(f"area: {size / 1e6:g} MB", "white", area=_area(size, largest)) for size in _round_sizes(largest)
    ]
    across = len(handles) if wide else -(-len(handles) // 2)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=across, frameon=False, fontsize=8, labelspacing=1.1
    )


def _round_sizes(largest: int) -> list[int]:
    """Two round sizes for the legend: near the largest marker and near a quarter of it."""
    sizes = []
    for target in (largest / 4, largest):
        if target >= 1:
            power = 10 ** int(np.floor(np.log10(target)))
            sizes.append(int(max(step for step in (1, 2, 5) if step * power <= target) * power))
    return sorted(set(sizes))
