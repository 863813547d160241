"""Cache records: which artifact a key stands for. Prefect writes them; this reads them without importing Prefect."""

import json

from pydantic import ValidationError

from tasks.artifact_store import ArtifactReference, ArtifactStore, DamagedArtifactError
from tasks.settings import Settings


def read_record(settings: Settings, key: str) -> ArtifactReference | None:
    """The artifact recorded under a key, not yet verified.

    Args:
        settings: where records are.
        key: the cache key.

    Returns:
        The reference; None when there is no record or it is torn.
    """
    try:
        record = json.loads((settings.record_folder / key).read_text())
        return ArtifactReference.model_validate_json(record["result"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None


def lookup(settings: Settings, key: str) -> tuple[ArtifactReference | None, str]:
    """What running a stage under this key would do.

    Args:
        settings: where records and artifacts are.
        key: the cache key.

    Returns:
        The verified reference and an empty reason; or None and why the stage must run.
    """
    reference = read_record(settings, key)
    if reference is None:
        return None, "never computed"
    try:
        ArtifactStore(settings.store_folder).verify(reference.digest)
    except DamagedArtifactError as error:
        return None, f"damaged: {error}"
    return reference, ""
