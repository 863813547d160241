"""Folders that load where this project is not installed: the encoder's code is put beside its weights.

Whoever loads such a folder must say `trust_remote_code=True`, as for any model that brings its code; bertpress itself
never does, it has the code.
"""

import json
import shutil
from pathlib import Path

from compression.architecture import encoder
from compression.architecture.encoder.configuration_bertpress import MODEL_TYPE
from compression.architecture.registration import AUTO_CLASSES
from compression.errors import CheckpointError


def add_code(folder: Path) -> list[Path]:
    """Put the encoder's code into a saved model folder, and name it in `config.json`.

    Args:
        folder: folder of a bertpress model.

    Returns:
        The files that were added.

    Raises:
        CheckpointError: the folder holds no bertpress model; plain ones load everywhere as they are.
    """
    path = folder / "config.json"
    try:
        declared = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if declared.get("model_type") != MODEL_TYPE:
        raise CheckpointError(f"{folder} holds a {declared.get('model_type')!r} model, which needs no code of ours")
    source = Path(encoder.__file__).parent
    files = [shutil.copyfile(file, folder / file.name) for file in sorted(source.glob("*_bertpress.py"))]
    classes = {name: f"modeling_bertpress.{model.__name__}" for name, (_, model) in AUTO_CLASSES.items()}
    declared["auto_map"] = {"AutoConfig": "configuration_bertpress.BertpressConfig", **classes}
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(declared, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    aside.replace(path)
    return files
