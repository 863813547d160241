"""Which layer's weights, used in all layers of a group, change the hidden states least."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask

from compression.architecture.encoder.modeling_bertpress import BertpressModel
from compression.control import Control
from compression.data.encoding import Encoded
from compression.data.sample import evenly_spaced
from compression.training.predict import batches_for


def errors_of_layers(
    encoder: BertpressModel,
    groups: Sequence[range],
    kinds: Sequence[str],
    rows: Encoded,
    sample: int,
    control: Control,
) -> list[list[float]]:
    """Mean squared error of a group's hidden states for each layer whose blocks all layers of the group might use.

    A group is given the hidden states that the original encoder gives it, so that groups are judged apart. The error is
    taken against the original hidden states after every layer of the group, over real word pieces.

    Args:
        encoder: the encoder, on the device to compute on.
        groups: layers of each group.
        kinds: kinds of block that would be shared; the others stay each layer's own.
        rows: encoded rows.
        sample: rows to take, evenly spaced.
        control: where to report progress, and whether to stop.

    Returns:
        For each group, for each of its layers the error.

    Raises:
        Interrupted: a stop was asked for.
    """
    sums = [[0.0] * len(group) for group in groups]
    chosen = evenly_spaced(len(rows), sample)
    numbers = 0
    control.progress.start("best layers", len(chosen), unit="row")
    with torch.inference_mode():
        for part, batch in batches_for(encoder, rows, pad_token_id=0, control=control, chosen=chosen):
            real = batch["attention_mask"].bool()
            states = encoder(**batch, output_hidden_states=True).hidden_states
            mask = create_bidirectional_mask(
                config=encoder.config, inputs_embeds=states[0], attention_mask=batch["attention_mask"]
            )
            for number, group in enumerate(groups):
                for place, layer in enumerate(group):
                    control.check()
                    sums[number][place] += _squared_error(encoder, group, layer, kinds, states, mask, real)
            numbers += int(real.sum()) * encoder.config.hidden_size
            control.progress.advance(len(part), tokens=int(real.sum()))
    control.progress.finish()
    return [[total / (numbers * len(group)) for total in totals] for group, totals in zip(groups, sums, strict=True)]


def _squared_error(
    encoder: BertpressModel,
    group: range,
    candidate: int,
    kinds: Sequence[str],
    states: Sequence[Tensor],
    mask: Tensor | None,
    real: Tensor,
) -> float:
    """Sum of squared differences that a group's layers make with the blocks of one of them."""
    config, total = encoder.config, 0.0
    hidden = states[group[0]]
    for layer in group:
        attention = config.attention_blocks[candidate if "attention" in kinds else layer]
        feed_forward = config.feed_forward_blocks[candidate if "feed_forward" in kinds else layer]
        hidden = encoder.feed_forward[feed_forward](encoder.attention[attention](hidden, mask))
        total += float((hidden - states[layer + 1])[real].float().square().sum())
    return total
