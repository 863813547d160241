"""Sharing of weights among the layers of a trained or fresh model."""

from collections.abc import Sequence
from typing import TypeVar

from compression.architecture.checkpoint import count_parameters
from compression.architecture.conversion import shape_of_model
from compression.architecture.editing import base_of, prefix_of, rebuilt
from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel
from compression.control import Control
from compression.data.encoding import Encoded
from compression.errors import UserError
from compression.runtime import Runtime
from compression.sharing.best_layer import errors_of_layers
from compression.sharing.blocks import block, distance, mean
from compression.sharing.config import ShareConfig
from compression.sharing.report import BlockReport, SharingReport
from compression.sharing.shape import KINDS, blocks_of, groups_of, shape_after

Model = TypeVar("Model", bound=BertpressPreTrainedModel)


def apply(
    model: Model,
    config: ShareConfig,
    rows: Encoded | None = None,
    *,
    runtime: Runtime | None = None,
    control: Control | None = None,
) -> tuple[Model, SharingReport]:
    """Let the layers of each group use the same weights.

    Args:
        model: the model, trained or fresh; left as it is.
        config: what is shared, among how many groups, and with which weights.
        rows: train rows of the task, for the `best` initialisation.
        runtime: where layers are compared; the CPU by default.
        control: where to report progress, and whether to stop.

    Returns:
        The new model, in evaluation mode on the CPU, and what was done. Shared weights are one parameter, with one
        gradient.

    Raises:
        UserError: see `shape.shape_after`; or `best` without rows.
        Interrupted: a stop was asked for.

    Example:
        >>> from compression.architecture.encoder.configuration_bertpress import BertpressConfig
        >>> from compression.architecture.encoder.modeling_bertpress import BertpressModel
        >>> small = BertpressModel(BertpressConfig.regular(layers=4, hidden_size=8, heads=2, intermediate_size=16))
        >>> shared, report = apply(small, ShareConfig(groups=2))
        >>> shared.config.attention_blocks, len(shared.feed_forward), len(report.blocks)
        ([0, 0, 1, 1], 2, 4)
    """
    shape = shape_of_model(model)
    after, kinds = shape_after(config, shape), KINDS[config.mode]
    groups = groups_of(config, shape) if kinds else []
    errors = _errors(model, config, groups, rows, runtime or Runtime(), control or Control())
    weights, prefix = dict(model.state_dict()), prefix_of(model)
    replaced = tuple(f"{prefix}{kind}." for kind in kinds)
    made = {name: tensor for name, tensor in weights.items() if not name.startswith(replaced)}
    reports: list[BlockReport] = []
    for kind in kinds:
        for number, group in enumerate(groups):
            own = [block(weights, f"{prefix}{kind}.{blocks_of(shape, kind)[layer]}.") for layer in group]
            place = errors[number].index(min(errors[number])) if errors else 0
            averaged = config.initialisation == "mean"
            shared = mean(own) if averaged else own[place]
            made |= {f"{prefix}{kind}.{number}.{name}": tensor for name, tensor in shared.items()}
            origin = None if averaged else group[place]
            distances = tuple(distance(shared, other) for other in own)
            reports.append(BlockReport(kind, tuple(group), origin, distances, tuple(errors[number] if errors else ())))
    shared_model = rebuilt(model, after, made).eval()
    return shared_model, SharingReport(tuple(reports), count_parameters(model), count_parameters(shared_model))


def _errors(
    model: BertpressPreTrainedModel,
    config: ShareConfig,
    groups: Sequence[range],
    rows: Encoded | None,
    runtime: Runtime,
    control: Control,
) -> list[list[float]]:
    """For each group, for each of its layers what `best` goes by; empty for other initialisations."""
    if not config.reads_data:
        return []
    if rows is None:
        raise UserError("initialisation `best` looks at train rows of a task, and there are none")
    encoder = base_of(model.to(runtime.device))
    errors = errors_of_layers(encoder, groups, KINDS[config.mode], rows, config.sample, control)
    model.to("cpu")
    return errors
