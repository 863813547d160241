"""One stage of one study, ready to run: everything its product depends on, and the cache key made of it."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import Field

from compression.configuration import Config
from compression.data.config import TaskConfig
from compression.data.corpus_config import without_places
from compression.runtime import Runtime
from tasks import keys
from tasks.artifact_store import ArtifactReference, ArtifactStore
from tasks.source_fingerprint import PACKAGES, module_hashes
from tasks.stages.base import Stage

# Libraries whose releases change numbers.
_LIBRARIES = ("torch", "transformers")


class Input(Config):
    """One input of a stage: an artifact of the store, or a model folder or file from outside.

    Example:
        >>> Input(digest="ab" * 32).folder is None
        True
    """

    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="Digest of its content")
    folder: Path | None = Field(
        None, description="Where a model or file from outside lies; absent for an artifact of the store"
    )

    @classmethod
    def of(cls, reference: ArtifactReference) -> "Input":
        """Use an artifact as input.

        Args:
            reference: the artifact.

        Returns:
            The input.
        """
        return cls(digest=reference.digest)

    def locate(self, store: ArtifactStore) -> Path:
        """Folder to read from, verified when it is an artifact.

        Args:
            store: the artifact store.

        Returns:
            The folder.

        Raises:
            DamagedArtifactError: the artifact is missing or changed.
        """
        return self.folder or store.verify(self.digest)


class StageInvocation(Config):
    """A stage with its configuration and inputs. `label`, `roots` and the places of data have no part in the key."""

    implementation: str = Field(description="`module:Class` of the stage")
    config: dict[str, Any] = Field(description="Resolved configuration with every default")
    inputs: dict[str, Input] = Field(default_factory=dict, description="role -> input")
    task: TaskConfig | None = Field(None, description="The task, for stages that read data")
    data: str | None = Field(None, description="Fingerprint of the rows that the stage reads")
    corpus: str | None = Field(None, description="Fingerprint of the corpus that the stage reads")
    seed: int | None = Field(None, description="Seed, for stages that make random choices")
    roots: tuple[Path, ...] = Field((), description="Folders that relative data files may lie in")
    label: str = Field("", description="Name for people")

    @property
    def stage(self) -> Stage:
        """The stage's implementation."""
        return load_stage(self.implementation)

    def key_parts(self, runtime: Runtime) -> dict[str, Any]:
        """Everything that the product depends on, by name.

        Args:
            runtime: device and precision that the stage would run with.

        Returns:
            JSON values; `explain` compares two of these.
        """
        stage = self.stage
        return {
            "stage": stage.kind,
            "version": stage.version,
            "code": _code(self.implementation),
            "config": keys.canonical(self._config_in_key()),
            "inputs": {role: given.digest for role, given in sorted(self.inputs.items())},
            "data": self.data,
            "corpus": self.corpus,
            "seed": self.seed,
            "environment": {
                **{name: keys.library_version(name) for name in _LIBRARIES},
                "device": runtime.device,
                "precision": runtime.precision,
                **stage.environment(runtime),
            },
        }

    def _config_in_key(self) -> dict[str, Any]:
        """The configuration; a corpus counts by its content, and where it lies does not."""
        if self.corpus is None:
            return self.config
        return {**self.config, "corpus": without_places(self.config["corpus"])}


def key_of(parts: Mapping[str, Any]) -> str:
    """Cache key of key parts.

    Args:
        parts: what `StageInvocation.key_parts` gives.

    Returns:
        `<stage>-<sha256>`.

    Example:
        >>> key_of({"stage": "finetune", "seed": 0}).partition("-")[0]
        'finetune'
    """
    return f"{parts['stage']}-{keys.digest(parts)}"


def implementation_of(stage: Stage) -> str:
    """Import path of a stage, by which another process finds it.

    Args:
        stage: the stage.

    Returns:
        `module:Class`.
    """
    return f"{type(stage).__module__}:{type(stage).__qualname__}"


@cache
def load_stage(implementation: str) -> Stage:
    """Import a stage.

    Args:
        implementation: `module:Class`.

    Returns:
        An instance.
    """
    module, _, name = implementation.partition(":")
    stage: Stage = getattr(import_module(module), name)()
    return stage


@cache
def _code(implementation: str) -> dict[str, str]:
    """Source fingerprint of a stage; one reading a process, as code in memory does not change either."""
    module = implementation.partition(":")[0]
    return module_hashes(module, (*PACKAGES, module.partition(".")[0]))
