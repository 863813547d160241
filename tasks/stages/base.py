"""The contract of a stage: what it is given, what it leaves behind, and what may come before it.

A stage is pure: its product depends on nothing but the request. It writes its product into `request.output`, may keep
resumable state in `request.work` (which survives a killed attempt), and returns a small summary.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from compression.architecture.shape import EncoderShape
from compression.configuration import Config
from compression.control import Control
from compression.data.config import TaskConfig
from compression.data.corpus_config import CorpusConfig
from compression.runtime import Runtime

Product = Literal["encoder", "classifier", "quantized", "evaluation"]
Split = Literal["train", "selection", "evaluation"]


@dataclass(frozen=True)
class StageRequest:
    """One execution of one stage.

    Attributes:
        config: the stage's resolved configuration.
        inputs: role -> folder of the input; `model` is the chain's own checkpoint, `encoder` the pretrained encoder,
            `teacher` the fine-tuned teacher.
        output: empty folder that becomes the artifact.
        work: folder that survives a killed attempt of the same stage; removed after success.
        task: the task, for stages that use one.
        roots: folders that relative data files may lie in.
        seed: seed of every random choice.
        runtime: device, precision and threads.
        control: progress and stop requests.
    """

    config: Any
    inputs: Mapping[str, Path]
    output: Path
    work: Path
    task: TaskConfig | None = None
    roots: tuple[Path, ...] = ()
    seed: int = 0
    runtime: Runtime = field(default_factory=Runtime)
    control: Control = field(default_factory=Control)


class Stage(ABC):
    """One kind of stage. Subclasses import torch and transformers inside `run` only: `plan` needs just the class.

    Attributes:
        kind: name in study files.
        version: raise it when the meaning of a configuration changes without its code.
        config_model: the configuration.
        accepts: products that may come directly before it in a chain.
        produces: what it leaves behind; `same` for a stage that edits the shape of whatever comes in.
        splits: data splits whose content enters the cache key, unless the configuration says otherwise (`reads`).
        uses_seed: whether the seed changes the product, unless the configuration says otherwise (`is_random`).
        needs_student: whether at the start of a chain it needs a `student`, as it cannot train the encoder itself.
        resource: `training` stages take a slot of the machine; `measurement` stages want it for themselves.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    config_model: ClassVar[type[Config]]
    accepts: ClassVar[frozenset[Product]]
    produces: ClassVar[Product | Literal["same"]]
    splits: ClassVar[tuple[Split, ...]] = ()
    uses_seed: ClassVar[bool] = False
    needs_student: ClassVar[bool] = False
    resource: ClassVar[Literal["light", "training", "measurement"]] = "light"

    def roles(self, config: Any) -> tuple[str, ...]:
        """Inputs besides the chain's own: `encoder` (pretrained encoder), `teacher` (fine-tuned teacher).

        Args:
            config: the stage's resolved configuration.

        Returns:
            Role names; `model` is always given when the chain has something before this stage.
        """
        return ()

    def reads(self, config: Any) -> tuple[Split, ...]:
        """Data splits that the stage reads; a stage that reads none is one for all tasks.

        Args:
            config: the stage's resolved configuration.

        Returns:
            The splits, whose content enters the cache key.
        """
        return self.splits

    def corpus(self, config: Any) -> CorpusConfig | None:
        """The corpus that the stage reads, whose content enters the cache key.

        Args:
            config: the stage's resolved configuration, which has the corpus as its field `corpus`.

        Returns:
            The corpus; None for a stage that reads none.
        """
        return None

    def is_random(self, config: Any) -> bool:
        """Whether the stage makes random choices; one that makes none is one for all seeds.

        Args:
            config: the stage's resolved configuration.

        Returns:
            Whether the seed changes the product.
        """
        return self.uses_seed

    def reshape(self, config: Any, shape: EncoderShape) -> EncoderShape:
        """The shape of the model that the stage leaves behind, as far as it is known before the stage runs.

        Asked before anything runs: for parameter counts, and to refuse what is impossible.

        Args:
            config: the stage's resolved configuration.
            shape: shape of the chain's model, or of the pretrained encoder for a stage that makes a student of it.

        Returns:
            The shape. Where single sizes depend on the data, any that has the right number of parameters.

        Raises:
            UserError: the stage cannot be applied to that shape; says why.
        """
        return shape

    @abstractmethod
    def run(self, request: StageRequest) -> dict[str, Any]:
        """Do the work.

        Args:
            request: inputs, configuration and folders.

        Returns:
            Summary that travels with the artifact's reference: JSON values only, a few kilobytes at most.

        Raises:
            UserError: something that the user can mend.
            Interrupted: a stop was asked for; the work folder can be resumed from.
        """
