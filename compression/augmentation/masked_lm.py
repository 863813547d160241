"""Masked language models as augmentation needs them: trained ones."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForMaskedLM

from compression.architecture.checkpoint import check_report, check_weights, load_encoder_config, quiet_transformers
from compression.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_trained_masked_lm(folder: Path) -> "PreTrainedModel":
    """Load a masked language model in fp32, of any architecture, whose head is in the folder.

    Args:
        folder: model folder with safetensors weights.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: the folder is missing, truncated, foreign or pickle-only, or holds no masked-LM head.
    """
    config = load_encoder_config(folder)
    check_weights(folder)
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            model, report = AutoModelForMaskedLM.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # judged below, name by name
                output_loading_info=True,
            )
    except Exception as error:
        raise CheckpointError(f"{folder} cannot be loaded as a masked language model: {error}") from error
    try:
        check_report(folder, model, report, fresh_head_allowed=False)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; `augment.masked_lm` names a model that was trained to fill masks") from None
    return model.eval()
