"""The `augment` stage: more training rows for the stages that train after it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from compression.augmentation.config import CHAIN, AugmentConfig
from compression.data.config import TaskConfig
from tasks import keys
from tasks.artifact_store import file_digest
from tasks.model_source import model_digest
from tasks.source_fingerprint import module_hashes
from tasks.stages.base import External, Product, Split, Stage, StageRequest
from tasks.stages.shared_folder import shared_folder
from tasks.stages.training import load_data

if TYPE_CHECKING:
    from compression.augmentation.augment import Folders, Sources

# The configuration that candidates depend on: augmentations that differ elsewhere share them.
_FOR_CANDIDATES = {"method", "candidates", "masked_input", "exclude_original", "stop_words"}
_CANDIDATES, _VECTORS = "compression.augmentation.candidates", "compression.augmentation.vectors"
_LIBRARIES = ("torch", "transformers", "tokenizers")


class Augment(Stage):
    """Makes training rows out of a task's training rows; the chain's model flows past it."""

    kind = "augment"
    config_model = AugmentConfig
    accepts: ClassVar[frozenset[Product]] = frozenset({"encoder", "classifier"})
    produces = "data"
    splits: ClassVar[tuple[Split, ...]] = ("train",)
    uses_seed = True
    takes_rows = True
    resource = "training"

    def roles(self, config: AugmentConfig) -> tuple[str, ...]:
        """The teacher, when it judges or labels; and the masked LM, when the study or the chain has it."""
        teacher = ("teacher",) if config.asks_teacher else ()
        if not config.uses_masked_lm or config.masked_lm not in (None, CHAIN):
            return teacher
        return (*teacher, "encoder" if config.masked_lm is None else "model")

    def external(self, config: AugmentConfig) -> Mapping[str, External]:
        """Masked LM, word vectors and texts that the configuration names."""
        found: dict[str, External] = {}
        if config.uses_masked_lm and config.masked_lm not in (None, CHAIN):
            found["masked_lm"] = External("model", str(config.masked_lm), config.masked_lm_revision)
        if config.uses_vectors:
            found["vectors"] = External("file", config.vectors.file)
            if config.vectors.vocabulary is not None:
                found["vocabulary"] = External("file", config.vectors.vocabulary)
        if config.unlabelled is not None:
            found["unlabelled"] = External("file", config.unlabelled.file)
        return found

    def is_random(self, config: AugmentConfig) -> bool:
        """Whether copies are drawn anew for each seed; see `Stage.is_random`."""
        return config.seed is None and config.method not in ("none", "unlabelled") and config.copies != 0

    def for_task(self, config: AugmentConfig, task: TaskConfig) -> AugmentConfig:
        """The configuration with the task's own number of copies; see `Stage.for_task`."""
        return config.for_task(task)

    def run(self, request: StageRequest) -> dict[str, Any]:
        """Augment the rows; see `Stage.run`."""
        from compression.augmentation import augment

        config: AugmentConfig = request.config
        given = request.inputs
        sources = augment.Sources(
            masked_lm=next((given[role] for role in ("masked_lm", "encoder", "model") if role in given), None),
            vectors=given.get("vectors"),
            vocabulary=given.get("vocabulary"),
            teacher=given.get("teacher"),
            unlabelled=given.get("unlabelled"),
        )
        quality = augment.apply(
            load_data(request),
            config,
            sources,
            _folders(request, sources),
            seed=request.seed if config.seed is None else config.seed,
            runtime=request.runtime,
            control=request.control,
        )
        return {"quality": quality}


def _folders(request: StageRequest, sources: "Sources") -> "Folders":
    """Where things are kept. What other augmentations can use too is named by all that it depends on."""
    from compression.augmentation.augment import Folders

    inputs = {name: file_digest(path) for name, path in vars(sources).items() if path is not None and path.is_file()}
    if sources.masked_lm is not None:
        inputs["masked_lm"] = model_digest(sources.masked_lm)
    candidates = {
        "code": module_hashes(_CANDIDATES),
        "environment": [request.runtime.device, request.runtime.precision, *map(keys.library_version, _LIBRARIES)],
        "inputs": inputs,
        "config": request.config.model_dump(mode="json", include=_FOR_CANDIDATES),
        "limit": request.config.vectors.limit,
    }
    converted = {"code": module_hashes(_VECTORS), "file": inputs.get("vectors")}
    return Folders(
        work=request.work / "shards",
        candidates=shared_folder(request, "candidates", candidates),
        converted=shared_folder(request, "vectors", converted),
        output=request.output,
    )
