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

Product = Literal["encoder", "classifier", "quantized", "data", "evaluation"]
Split = Literal["train", "selection", "evaluation"]


@dataclass(frozen=True)
class StageRequest:
    """One execution of one stage.

    Attributes:
        config: the stage's resolved configuration.
        inputs: role -> folder or file of the input; `model` is the chain's own checkpoint, `encoder` the pretrained
            encoder, `teacher` the fine-tuned teacher (`teacher@3` the one of seed 3), `data` rows in place of the
            task's own training rows; further roles as of `Stage.external`.
        output: empty folder that becomes the artifact.
        work: folder that survives a killed attempt of the same stage; removed after success.
        cache: folder that all stages share, for what is costly to derive from inputs and other stages may need too, in
            subfolders named by a digest of all that it depends on; it may vanish between stages. None where there is
            none: `work` serves.
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
    cache: Path | None = None


@dataclass(frozen=True)
class External:
    """Something from outside the study's graph that a stage reads.

    Attributes:
        kind: `model` for the folder of a pretrained model, `file` for a file of any kind.
        reference: hub name (models alone), path, or `package:NAME/PATH`.
        revision: branch, tag or commit of a hub model.
    """

    kind: Literal["model", "file"]
    reference: str
    revision: str | None = None


class Stage(ABC):
    """One kind of stage. Subclasses import torch and transformers inside `run` only: `plan` needs just the class.

    Attributes:
        kind: name in study files.
        version: raise it when the meaning of a configuration changes without its code.
        config_model: the configuration.
        accepts: products that may come directly before it in a chain. A `classifier` is an encoder with a head for a
            task, whatever the head predicts: classes, numbers or spans.
        produces: what it leaves behind; `same` for a stage that edits the shape of whatever comes in. `data` is no
            model: the model before the stage flows past it, and later stages of the chain take its rows.
        takes_rows: whether it takes the rows of a `data` stage before it, in place of the task's training rows.
        splits: data splits whose content enters the cache key, unless the configuration says otherwise (`reads`).
        uses_seed: whether the seed changes the product, unless the configuration says otherwise (`is_random`).
        several_processes: whether several processes may run it together, each with its share of every batch.
        student_of_model: whether a `student` may be given to it after other stages: one that is made of their model,
            which teaches it.
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
    several_processes: ClassVar[bool] = False
    student_of_model: ClassVar[bool] = False
    needs_student: ClassVar[bool] = False
    takes_rows: ClassVar[bool] = False
    resource: ClassVar[Literal["light", "training", "measurement"]] = "light"

    def roles(self, config: Any) -> tuple[str, ...]:
        """Inputs besides the chain's own: `encoder` (pretrained encoder), `teacher` (fine-tuned teacher).

        `teacher@3` is the teacher that is fine-tuned with seed 3, whatever the seed of the cell.

        Args:
            config: the stage's resolved configuration.

        Returns:
            Role names. `model`, what is before the stage in its chain, need not be named, unless the stage produces
            `data`: such a stage depends on the chain's model only when it says so.
        """
        return ()

    def external(self, config: Any) -> Mapping[str, External]:
        """Inputs from outside the study's graph, whose content enters the cache key.

        Args:
            config: the stage's resolved configuration.

        Returns:
            Role -> model or file; roles differ from those of `roles`.
        """
        return {}

    def for_task(self, config: Any, task: TaskConfig) -> Any:
        """The configuration as it holds for one task.

        Args:
            config: the stage's resolved configuration.
            task: a task whose rows the stage reads.

        Returns:
            The configuration that the stage runs with, and that its cache key is made of.

        Raises:
            UserError: the configuration does not fit the task.
        """
        return config

    def refuses(self, config: Any, product: Product) -> str | None:
        """Why the stage cannot take a product that it otherwise accepts, as it is configured.

        Args:
            config: the stage's resolved configuration.
            product: what comes directly before it, one of `accepts`.

        Returns:
            The reason, to follow "`prune` cannot follow the pretrained encoder: "; None when it can.
        """
        return None

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

    def environment(self, runtime: Runtime) -> Mapping[str, str]:
        """What of this machine changes the product, besides device, precision and the versions of libraries.

        Args:
            runtime: device and precision.

        Returns:
            Name -> value, which enter the cache key.
        """
        return {}

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

    def teacher_role(self, config: Any, given: tuple[str, ...]) -> str | None:
        """Which of its inputs teaches.

        Args:
            config: the stage's resolved configuration.
            given: roles of the inputs that it has.

        Returns:
            The role; the first of several teachers; None without one.
        """
        return next((role for role in given if role.startswith("teacher")), None)

    def remarks(self, config: Any, shape: EncoderShape | None, teacher: EncoderShape | None) -> tuple[str, ...]:
        """What a plan should say of the stage besides its size, such as which layers are compared.

        Args:
            config: the stage's configuration for its task.
            shape: shape of the model that the stage leaves behind; None when it is not known.
            teacher: shape of the teacher; None when it is not known, or there is none.

        Returns:
            Lines of text.

        Raises:
            UserError: the teacher cannot teach that shape in the way that is asked for; says why.
        """
        return ()

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
