"""Configuration of the `prune` stage."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from compression.configuration import Config
from compression.data.corpus_config import CorpusConfig
from compression.training.config import TrainingConfig

Sparsity = Annotated[float, Field(gt=0, lt=1)]
Importance = Literal["gradient", "fisher", "magnitude", "random"]
Scope = Literal["global", "layer"]
LayerStrategy = Literal["top", "bottom", "alternate", "alternate-top", "symmetric", "contribution"]

_IMPORTANCE = "What makes {units} important: gradient, the mean over examples of |∂loss/∂gate| ({paper}); fisher, the mean of its square; magnitude, the L2 norm of {weights}; random, nothing but the seed"
_SCOPE = "Remove the least important of all layers together (global), or the same share of each layer (layer)"
_SAMPLE = "Train rows, evenly spaced, that {use}"


class HeadPruning(Config):
    """Attention heads (Michel et al. 2019, arXiv:1905.10650).

    Example:
        >>> HeadPruning(sparsity=0.5).importance
        'gradient'
    """

    alternatives: ClassVar[tuple[str, ...]] = ("sparsity", "count")

    sparsity: Sparsity | None = Field(None, description="Share of the heads to remove")
    count: int | None = Field(None, ge=1, description="Heads to remove, of all layers together")
    importance: Importance = Field(
        "gradient",
        description=_IMPORTANCE.format(units="a head", paper="Michel et al., equation 2", weights="its weights"),
    )
    normalize: bool = Field(
        True, description="Divide importances by their L2 norm in each layer, as Michel et al. do; for scope global"
    )
    scope: Scope = Field("global", description=_SCOPE)
    sample: int = Field(2048, ge=1, description=_SAMPLE.format(use="gradient and fisher see"))

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if (self.sparsity is None) == (self.count is None):
            raise ValueError("either `sparsity` or `count` is needed")
        return self


class NeuronPruning(Config):
    """Neurons of the feed-forward blocks.

    Example:
        >>> NeuronPruning(sparsity=0.5, importance="fisher").scope
        'global'
    """

    sparsity: Sparsity = Field(description="Share of the neurons to remove")
    importance: Importance = Field(
        "gradient",
        description=_IMPORTANCE.format(
            units="a neuron", paper="first-order Taylor, arXiv:1611.06440", weights="its weights in and out"
        ),
    )
    normalize: bool = Field(False, description="Divide importances by their L2 norm in each layer; for scope global")
    scope: Scope = Field("global", description=_SCOPE)
    sample: int = Field(2048, ge=1, description=_SAMPLE.format(use="gradient and fisher see"))


class StructuredPruning(Config):
    """Heads and neurons together under one budget (Kwon et al. 2022, arXiv:2204.09656).

    Example:
        >>> StructuredPruning(sparsity=0.4).cost
        'macs'
    """

    sparsity: Sparsity = Field(
        description="Share of the cost of all heads and neurons to remove; embeddings, pooler and task head do not count"
    )
    cost: Literal["macs", "parameters"] = Field(
        "macs", description="What the budget is counted in: multiply-accumulates, or parameters"
    )
    length: int | None = Field(
        None,
        ge=1,
        description="Word pieces that multiply-accumulates are counted at; null for the sample's mean length",
    )
    rearrange: bool = Field(
        True,
        description="Exchange heads, and neurons, within a layer by its whole Fisher matrix, not its diagonal alone",
    )
    tune: bool = Field(
        True,
        description="Scale what is kept by least squares, so that each layer's output stays near the unpruned one's",
    )
    sample: int = Field(2048, ge=1, description=_SAMPLE.format(use="search, rearrangement and tuning see"))


class LayerPruning(Config):
    """Whole layers (Sajjad et al. 2020, arXiv:2004.03844).

    Example:
        >>> LayerPruning(count=2).strategy
        'top'
    """

    count: int = Field(ge=1, description="Layers to remove")
    strategy: LayerStrategy = Field(
        "top",
        description="Which: top, the last; bottom, the first; alternate, every other one down from the last but one; alternate-top, every other one down from the last; symmetric, the middle; contribution, those that change the first word piece's hidden state least (by cosine)",
    )
    sample: int = Field(2048, ge=1, description=_SAMPLE.format(use="contribution sees"))


class GradualTraining(TrainingConfig):
    """Training during which weights are removed little by little (Zhu and Gupta 2017, arXiv:1710.01878).

    Example:
        >>> GradualTraining(epochs=6).final_share
        0.3
    """

    initial_sparsity: float = Field(0.0, ge=0, lt=1, description="Share of zeros at the first pruning step")
    dense_share: float = Field(0.1, ge=0, lt=1, description="Share of the steps before the first pruning step")
    final_share: float = Field(
        0.3, ge=0, lt=1, description="Share of the steps at the end that train at the full sparsity"
    )

    interval: int = Field(10, ge=1, description="Steps from one choice of the removed weights to the next")

    @model_validator(mode="after")
    def _room_to_prune(self) -> Self:
        if self.dense_share + self.final_share >= 1:
            raise ValueError(
                f"dense_share {self.dense_share:g} and final_share {self.final_share:g} leave no steps to prune in: "
                "together they must be below 1"
            )
        return self


class WeightPruning(Config):
    """Single weights of the layers' matrices, which stay as zeros: neither smaller nor faster in dense arithmetic.

    Example:
        >>> WeightPruning(pattern="2:4").sparsity
        0.5
    """

    sparsity: Sparsity = Field(0.5, description="Share of the weights that become 0; of pattern 2:4 always 0.5")
    importance: Literal["magnitude", "movement"] = Field(
        "magnitude",
        description="|weight|, or how far training moves it away from 0, -Σ gradient · weight (Sanh et al. 2020, arXiv:2005.07683), which needs `training`",
    )
    pattern: Literal["unstructured", "2:4"] = Field(
        "unstructured", description="Any weights, or two of every four neighbours along a row"
    )
    scope: Scope = Field(
        "global",
        description="Remove the least important of all matrices together (global), or the same share of each (layer)",
    )
    embeddings: bool = Field(False, description="Prune the word embeddings as well")
    training: GradualTraining | None = Field(
        None, description="Train while pruning gradually; null prunes at once, without training"
    )

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise ValueError(f"pattern 2:4 makes half of the weights 0: sparsity {self.sparsity:g} must be 0.5")
        if self.importance == "movement" and self.training is None:
            raise ValueError("importance movement is learnt while training: give `training`")
        if self.training is not None and self.training.initial_sparsity >= self.sparsity:
            raise ValueError(
                f"initial_sparsity {self.training.initial_sparsity:g} must be below sparsity {self.sparsity:g}"
            )
        return self


class VocabularyPruning(Config):
    """Word pieces that the task's texts do not use.

    Special tokens and all single characters stay, so that no word becomes unknown that was not.

    Example:
        >>> VocabularyPruning().least_count
        1
    """

    least_count: int = Field(
        1,
        ge=1,
        description="Occurrences in the task's train rows from which on a word piece is kept; from 2 on rare ones are read as smaller pieces",
    )


class PruneConfig(Config):
    """Remove what contributes least: exactly one of heads, neurons, both under a budget, layers, weights, word pieces.

    Example:
        >>> PruneConfig(heads={"sparsity": 0.5}).reads_data
        True
        >>> PruneConfig(layers={"count": 2}).reads_data
        False
    """

    alternatives: ClassVar[tuple[str, ...]] = ("heads", "neurons", "structured", "layers", "weights", "vocabulary")

    heads: HeadPruning | None = Field(None, description="Attention heads")
    neurons: NeuronPruning | None = Field(None, description="Neurons of the feed-forward blocks")
    structured: StructuredPruning | None = Field(None, description="Heads and neurons together, under a budget")
    layers: LayerPruning | None = Field(None, description="Whole layers")
    weights: WeightPruning | None = Field(None, description="Single weights, which become 0")
    vocabulary: VocabularyPruning | None = Field(None, description="Word pieces that the task's texts do not use")
    corpus: CorpusConfig | None = Field(
        None, description="Texts whose word pieces are kept besides those of the task's train rows, for `vocabulary`"
    )
    iterations: int = Field(
        1, ge=1, le=100, description="Rounds in which equal parts are removed, with `recovery` between them"
    )
    recovery: TrainingConfig | None = Field(
        None, description="Training on the task between two rounds; after the last one follow stages of their own"
    )

    @model_validator(mode="after")
    def _one_method(self) -> Self:
        given = [name for name in self.alternatives if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"; given {', '.join(given)}" if given else ""
            raise ValueError(f"exactly one of {', '.join(self.alternatives)} is needed{found}")
        return self

    @model_validator(mode="after")
    def _corpus_of_the_vocabulary(self) -> Self:
        if self.corpus is not None and self.vocabulary is None:
            raise ValueError("`corpus` tells which word pieces are used: it belongs to `vocabulary`")
        return self

    @model_validator(mode="after")
    def _rounds_recover(self) -> Self:
        if (self.iterations > 1) != (self.recovery is not None):
            raise ValueError(
                "`iterations` and `recovery` belong together: several rounds need training between them, and a single "
                "one has none (a `finetune` or `task_distill` stage may follow)"
            )
        if self.iterations > 1 and (self.weights or self.vocabulary):
            kind = "weights" if self.weights else "vocabulary"
            more = "; gradual pruning is `weights.training`" if self.weights else ""
            raise ValueError(f"`{kind}` are pruned in one round{more}")
        return self

    @property
    def importance(self) -> str | None:
        """What decides what is removed, where that is a choice: of heads, neurons and weights."""
        chosen = self.heads or self.neurons or self.weights
        return None if chosen is None else chosen.importance

    @property
    def needs_gradients(self) -> bool:
        """Whether the loss on train rows decides what is removed, which only a classifier has."""
        return self.structured is not None or self.importance in ("gradient", "fisher")

    @property
    def trains(self) -> bool:
        """Whether the model is trained in the stage itself."""
        return self.recovery is not None or (self.weights is not None and self.weights.training is not None)

    @property
    def reads_data(self) -> bool:
        """Whether train rows of the task are read."""
        contribution = self.layers is not None and self.layers.strategy == "contribution"
        return self.needs_gradients or self.trains or contribution or self.vocabulary is not None

    @property
    def is_random(self) -> bool:
        """Whether the seed changes the result."""
        return self.importance == "random" or self.trains
