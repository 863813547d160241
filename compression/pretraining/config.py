"""Configuration of the `pretrain` stage, and of masking, which general distillation shares."""

from typing import Literal, Self

from pydantic import Field, model_validator

from compression.architecture.config import StudentConfig
from compression.configuration import Config
from compression.data.corpus_config import CorpusConfig
from compression.training.config import TrainingConfig

Objective = Literal["masked_lm", "masked_lm+sentence_order", "masked_lm+next_sentence"]


class MaskingConfig(Config):
    """Which word pieces are to be predicted, and what the model sees in their place (Devlin et al. 2018, section 3.1).

    Example:
        >>> MaskingConfig(whole_words=True).probability
        0.15
    """

    probability: float = Field(0.15, gt=0, lt=1, description="Share of the word pieces to predict")
    mask_share: float = Field(0.8, ge=0, le=1, description="Share of those that is replaced by the mask token")
    random_share: float = Field(
        0.1, ge=0, le=1, description="Share of those that is replaced by a random word piece; the rest stays as it is"
    )
    whole_words: bool = Field(False, description="Choose words, all of whose pieces are predicted, not single pieces")
    choice: Literal["uniform", "frequency_smoothed"] = Field(
        "uniform",
        description="Every piece with the same probability; or rare ones rather than frequent ones, as in DistilBERT's released code: the exact share of a batch, drawn without replacement with weights count^-smoothing",
    )
    smoothing: float = Field(0.7, ge=0, description="Exponent of frequency_smoothed; 0 gives equal weights")

    @model_validator(mode="after")
    def _shares_agree(self) -> Self:
        if self.mask_share + self.random_share > 1 + 1e-9:
            total = self.mask_share + self.random_share
            raise ValueError(f"mask_share and random_share are shares of one whole, but add up to {total:g}")
        if self.whole_words and self.choice != "uniform":
            raise ValueError("whole_words chooses words and frequency_smoothed single word pieces; use one of them")
        return self


class PretrainConfig(TrainingConfig):
    """Train an encoder to predict masked word pieces of a corpus (Devlin et al. 2018, arXiv:1810.04805).

    Example:
        >>> config = PretrainConfig(corpus="wiki.txt", objective="masked_lm", masking={"whole_words": True})
        >>> config.batch_size, config.corpus.files
        (256, ('wiki.txt',))
    """

    corpus: CorpusConfig = Field(description="Texts to learn from; a bare string is a file or a data set")
    student: StudentConfig | None = Field(
        None,
        description="Model to train: a preset from scratch, or layers of the pretrained encoder; absent, the chain's own model, which is given a masked-LM head if it has none",
    )
    objective: Objective = Field(
        "masked_lm",
        description="What is learned: masked word pieces alone; also whether two consecutive segments were swapped (ALBERT); or also whether the second segment comes from another document (BERT)",
    )
    train: Literal["all", "heads"] = Field(
        "all", description="Train everything; or the heads alone, so that the encoder stays as it is, bit for bit"
    )
    max_length: int = Field(128, ge=8, le=8192, description="Longest sequence in word pieces, special tokens included")
    masking: MaskingConfig = Field(
        default_factory=MaskingConfig, description="Which word pieces are predicted, and what is seen in their place"
    )

    epochs: float = Field(
        1.0, gt=0, le=10_000, description="Passes over the corpus, with new masks in each; a fraction stops within one"
    )
    learning_rate: float = Field(1e-4, gt=0, le=1, description="Peak learning rate of AdamW")
    batch_size: int = Field(256, ge=1, description="Sequences of one optimiser step")

    @model_validator(mode="after")
    def _pairs_keep_to_documents(self) -> Self:
        if self.has_pairs and self.corpus.cross_documents:
            raise ValueError(
                f"objective {self.objective} needs sequences of one document each: set corpus.cross_documents to false"
            )
        return self

    @property
    def has_pairs(self) -> bool:
        """Whether sequences are pairs of segments."""
        return self.objective != "masked_lm"
