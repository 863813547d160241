"""Cells of the table from the products of the graph's evaluate stages."""

from collections.abc import Mapping

from compression.analysis.cells import Cell
from flows.graph import Graph
from flows.run_record import cell_name
from tasks.artifact_store import ArtifactReference, ArtifactStore

PREDICTIONS = "predictions.parquet"


def cells_of(
    graph: Graph,
    products: Mapping[str, ArtifactReference],
    store: ArtifactStore,
    *,
    links: Mapping[str, str],
    computed: frozenset[str] = frozenset(),
) -> list[Cell]:
    """Collect what has been measured; cells whose chain is not complete are left out.

    Args:
        graph: the study's graph.
        products: node id -> product.
        store: where predictions lie.
        links: cell name (see `run_record.cell_name`) -> address of its MLflow run.
        computed: nodes that this run computed; a cell none of whose nodes is among them was reused.

    Returns:
        The cells, in the graph's order.
    """
    cells = []
    for cell in graph.cells:
        reference = products.get(cell.chain[-1])
        if reference is None:
            continue
        link = links.get(cell_name(cell.variant, cell.task, cell.seed))
        predictions = store.folder(reference.digest) / PREDICTIONS
        cells.append(
            Cell(
                variant=cell.variant,
                task=cell.task,
                seed=cell.seed,
                metrics=reference.meta["metrics"],
                efficiency=reference.meta.get("efficiency", {}),
                predictions=predictions if predictions.is_file() else None,
                examples=reference.meta.get("examples", {}),
                cached=not computed.intersection(cell.chain),
                links={"run": link} if link else {},
            )
        )
    return cells
