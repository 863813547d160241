"""Factorisation of a trained model: truncated singular value decomposition of its embedding and linear maps."""

from typing import TypeVar

from torch import Tensor

from compression.architecture.checkpoint import count_parameters
from compression.architecture.conversion import shape_of_model
from compression.architecture.editing import prefix_of, rebuilt
from compression.architecture.encoder.modeling_bertpress import BertpressForMaskedLM, BertpressPreTrainedModel
from compression.control import Control
from compression.data.encoding import Encoded
from compression.errors import UserError
from compression.factorization import embedding, linear
from compression.factorization.config import FactorizeConfig
from compression.factorization.low_rank import Decomposition, decompose, relative_error
from compression.factorization.report import FactorizationReport, MatrixReport
from compression.factorization.shape import EMBEDDING, Target, targets, with_ranks
from compression.factorization.weighting import activation_weights, frequency_weights
from compression.runtime import Runtime

Model = TypeVar("Model", bound=BertpressPreTrainedModel)


def apply(
    model: Model,
    config: FactorizeConfig,
    rows: Encoded | None = None,
    *,
    runtime: Runtime | None = None,
    control: Control | None = None,
) -> tuple[Model, FactorizationReport]:
    """Replace matrices of a trained model by products of two thin ones.

    Each is the best approximation of its rank (Eckart and Young 1936), in a weighted norm where that is asked for. A
    matrix that factors would not make smaller is left as it is; the report says why.

    Args:
        model: the model; left as it is.
        config: which matrices, and how thin.
        rows: train rows of the task, for `weighting`.
        runtime: where activations are computed; the CPU by default.
        control: where to report progress, and whether to stop.

    Returns:
        The new model, in evaluation mode on the CPU, and what was done.

    Raises:
        UserError: a matrix cannot be factorised; a weighting was asked for without rows; an output map that is not tied
            to the embedding. See also `shape.targets`.
        Interrupted: a stop was asked for.

    Example:
        >>> from compression.architecture.encoder.configuration_bertpress import BertpressConfig
        >>> from compression.architecture.encoder.modeling_bertpress import BertpressModel
        >>> small = BertpressModel(BertpressConfig.regular(layers=1, hidden_size=8, heads=2, intermediate_size=16))
        >>> factorised, report = apply(small, FactorizeConfig(embedding={"rank": 2}))
        >>> tuple(factorised.embeddings.word_embeddings.weight.shape), report.matrices[0].parameters_after
        ((30522, 2), 61060)
    """
    control = control or Control()
    shape = shape_of_model(model)
    found = targets(config, shape)
    if config.embedding is not None:
        _refuse_untied_output(model)
    weightings = _weightings(model, config, found, rows, runtime or Runtime(), control)
    weights, prefix = dict(model.state_dict()), prefix_of(model)
    reports: list[MatrixReport] = []
    ranks: dict[str, int] = {}
    control.progress.start("singular values", len(found), unit="matrix")
    for target in found:
        control.check()
        dense = _dense(weights, prefix, target)
        decomposition = decompose(dense, weightings.get(target.name))
        rank = target.asked_rank or decomposition.rank_for(target.choice.energy or 1.0)
        refusal = target.refusal(rank)
        if refusal is None:
            ranks[target.name] = rank
            weights = _replaced(weights, prefix, target, *decomposition.factors(rank))
        now = _dense(weights, prefix, target)
        weighting = weightings.get(target.name)
        reports.append(_report(target, decomposition, now, weighting, ranks.get(target.name), refusal))
        control.progress.advance()
    control.progress.finish()
    made = rebuilt(model, with_ranks(shape, ranks), weights).eval()
    return made, FactorizationReport(tuple(reports), count_parameters(model), count_parameters(made))


def _dense(weights: dict[str, Tensor], prefix: str, target: Target) -> Tensor:
    """The matrix (outputs × inputs) that a target is at present."""
    if target.name == EMBEDDING:
        return embedding.table(weights, prefix).T
    return linear.matrix(weights, prefix + target.name)


def _replaced(weights: dict[str, Tensor], prefix: str, target: Target, up: Tensor, down: Tensor) -> dict[str, Tensor]:
    if target.name == EMBEDDING:
        return embedding.with_factors(weights, prefix, up, down)
    return linear.with_factors(weights, prefix + target.name, up, down)


def _refuse_untied_output(model: BertpressPreTrainedModel) -> None:
    if isinstance(model, BertpressForMaskedLM) and not model.config.tie_word_embeddings:
        raise UserError(
            "the masked-LM head has an output map of its own (tie_word_embeddings is false), which the embedding's "
            "factors cannot express"
        )


def _weightings(
    model: BertpressPreTrainedModel,
    config: FactorizeConfig,
    found: list[Target],
    rows: Encoded | None,
    runtime: Runtime,
    control: Control,
) -> dict[str, Tensor]:
    if not config.reads_data:
        return {}
    if rows is None:
        raise UserError("a `weighting` looks at train rows of a task, and there are none")
    weightings: dict[str, Tensor] = {}
    if config.embedding is not None and config.embedding.weighting == "frequency":
        weightings[EMBEDDING] = frequency_weights(rows, model.config.vocab_size)
    if config.linear is not None and config.linear.weighting == "activations":
        names = [target.name for target in found if target.name != EMBEDDING]
        weightings |= activation_weights(model.to(runtime.device), names, rows, config.linear.sample, control)
        model.to("cpu")
    return weightings


def _report(
    target: Target,
    decomposition: Decomposition,
    now: Tensor,
    weights: Tensor | None,
    rank: int | None,
    refusal: str | None,
) -> MatrixReport:
    before = decomposition.matrix
    return MatrixReport(
        name=target.name,
        outputs=target.outputs,
        inputs=target.inputs,
        rank=target.rank if rank is None else rank,
        parameters_before=target.parameters,
        parameters_after=target.parameters_at(target.rank if rank is None else rank),
        norm=float(before.norm()),
        relative_error=relative_error(before, now),
        tail=0.0 if rank is None else decomposition.tail(rank),
        weighted_error=None if weights is None else relative_error(before, now, weights),
        kept_because=refusal or "",
    )
