import io
import itertools

import numpy as np
import pytest
from matplotlib import image
from matplotlib.collections import PathCollection

from compression.analysis import plot
from compression.analysis.cells import Cell
from compression.analysis.table import table


def _cell(name, score, milliseconds, size, seed=0, task="rte"):
    timing = {"median": milliseconds, "q1": 0.97 * milliseconds, "q3": 1.03 * milliseconds}
    return Cell(name, task, seed, {"accuracy": score + seed / 100}, {"bytes": size, "latency_ms": timing})


def _table(cells, **more):
    return table(
        cells,
        variants=list(dict.fromkeys(cell.variant for cell in cells)),
        tasks=list(dict.fromkeys(cell.task for cell in cells)),
        **more,
    )


SMALL = _table(
    [_cell("teacher", 0.9, 20, 400_000_000), _cell("small", 0.8, 5, 100_000_000), _cell("beaten", 0.7, 8, 100_000_000)],
    teacher="teacher",
)


def test_the_front_counts_score_latency_and_size():
    cells = [_cell("a", 0.9, 10, 100), _cell("b", 0.8, 11, 100), _cell("c", 0.8, 11, 50)]
    result = _table(cells)
    assert {point.name: point.front for point in plot.points(result, result.columns[0])} == {
        "a": True,
        "b": False,
        "c": True,
    }


def test_a_variant_of_unknown_size_cannot_win_by_it():
    cells = [_cell("a", 0.9, 10, 100), Cell("b", "rte", 0, {"accuracy": 0.8}, {"latency_ms": {"median": 11.0}})]
    result = _table(cells)
    assert [point.front for point in plot.points(result, result.columns[0])] == [True, False]


def test_the_same_table_gives_the_same_bytes():
    once, twice = plot.render(SMALL), plot.render(SMALL)
    assert once == twice
    assert once["svg"].startswith(b"<?xml")
    assert once["png"].startswith(b"\x89PNG")
    assert b"dc:date" not in once["svg"]


def test_what_differs_does_not_differ_by_colour_alone():
    """In grey, the three kinds of marker stay apart by shape or by lightness."""
    grey = {
        name: np.dot([int(colour[i : i + 2], 16) for i in (1, 3, 5)], [0.299, 0.587, 0.114])
        for name, colour in (("front", plot._FRONT), ("dominated", plot._DOMINATED))
    }
    assert grey["dominated"] - grey["front"] > 80
    teacher = next(point for point in plot.points(SMALL, SMALL.columns[0]) if point.teacher)
    assert teacher.front
    figure = plot.draw(SMALL)
    vertices = {
        len(collection.get_paths()[0].vertices)
        for collection in figure.axes[0].collections
        if isinstance(collection, PathCollection)
    }
    assert len(vertices) == 2  # squares and circles


@pytest.mark.parametrize("variants", [2, 9, 16])
def test_labels_stay_apart_on_the_figure(variants):
    rng = np.random.default_rng(variants)
    cells = [
        _cell(
            f"variant-with-a-name-{index}",
            0.8 + 0.02 * rng.random(),
            5 * 1.3 ** rng.normal(),
            int(1e8 * (0.2 + rng.random())),
            seed,
        )
        for index in range(variants)
        for seed in (0, 1)
    ]
    figure = plot.draw(_table(cells))
    axis = figure.axes[0]
    extents = [text.get_window_extent() for text in axis.texts]
    assert len(extents) == variants
    assert all(not left.overlaps(right) for left, right in itertools.combinations(extents, 2))
    assert all(axis.bbox.padded(1).contains(*corner) for extent in extents for corner in extent.corners()[[0, 3]])


@pytest.mark.parametrize("name", ["$\\frac{1}{0$", "<b>&amp;</b>", "--><script>", "x" * 200, "_", "%d{0}", "学生"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_any_name_can_be_drawn(name):
    result = _table([_cell(name, 0.9, 20, 400), _cell("other", 0.8, 5, 100)])
    drawn = plot.render(result, ["svg"])["svg"].decode()
    assert "<script" not in drawn
    assert drawn.rstrip().endswith("</svg>")


def test_one_panel_a_task_and_one_point_alone():
    figure = plot.draw(_table([_cell("a", 0.9, 10, 100, task=task) for task in ("rte", "sst2", "cola")]))
    assert len(figure.axes) == 3
    assert figure.axes[0].get_xscale() == "log"


def test_bars_show_the_deviation_over_seeds():
    cells = [_cell("a", 0.8, 10, 100, seed) for seed in (0, 1, 2)]
    (bars, _) = plot.draw(_table(cells)).axes[0].collections[1:3]
    heights = [np.ptp(segment[:, 1]) for collection in (bars, _) for segment in collection.get_segments()]
    assert max(heights) == pytest.approx(2 * 1.0)


def test_nothing_to_draw():
    assert plot.render(_table([Cell("a", "rte", 0, {"accuracy": 0.9})])) == {}
    assert plot.render(table([], variants=["a"], tasks=["rte"])) == {}


def test_the_picture_is_not_empty():
    pixels = image.imread(io.BytesIO(plot.render(SMALL, ["png"])["png"]))[..., :3]
    assert 0.01 < (pixels.min(axis=2) < 0.9).mean() < 0.4
