"""The encoder of any shape against transformers' BertModel at equal weights: `python -m benchmarks.architecture`.

Forward passes, and training steps' forward and backward, in turn in one process, one thread. A ratio of 1.000x is equal
speed, above it the encoder of any shape is faster; the aim is no slower than 1.03 times, a ratio of 0.971x.
"""

import argparse
from collections.abc import Callable

import torch
from torch import nn
from transformers import BertConfig, BertModel

from benchmarks.interleaved import interleaved
from compression.architecture.conversion import to_bertpress
from compression.architecture.presets import PRESETS

SHAPES = {"minilm-6l-384": [(1, 32), (8, 128)], "bert-base": [(1, 32), (4, 128)]}


def plain(preset: str) -> BertModel:
    """A BertModel with random weights.

    Args:
        preset: its shape.

    Returns:
        The model.
    """
    shape = PRESETS[preset].shape()
    config = BertConfig(
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.attention_heads[0],
        intermediate_size=shape.intermediate_sizes[0],
    )
    torch.manual_seed(0)
    return BertModel(config)


def forward(model: nn.Module, batch: dict[str, torch.Tensor]) -> Callable[[], object]:
    """A forward pass in evaluation mode."""

    def call() -> object:
        with torch.inference_mode():
            return model(**batch)

    return call


def step(model: nn.Module, batch: dict[str, torch.Tensor]) -> Callable[[], object]:
    """A forward and a backward pass in training mode."""

    def call() -> object:
        model.zero_grad()
        return model(**batch).last_hidden_state.square().mean().backward()

    return call


def batch_of(size: int, length: int) -> dict[str, torch.Tensor]:
    """Random word pieces, a quarter of the last sequence padded."""
    mask = torch.ones(size, length, dtype=torch.long)
    mask[-1, 3 * length // 4 :] = 0
    return {"input_ids": torch.randint(1000, 20000, (size, length)), "attention_mask": mask}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for preset, sizes in SHAPES.items():
        theirs = plain(preset)
        ours = to_bertpress(theirs)
        for size, length in sizes:
            batch = batch_of(size, length)
            for implementation, timed in (("sdpa", forward), ("eager", forward), ("eager", step)):
                for model in (theirs, ours):
                    model.set_attn_implementation(implementation)
                    model.train(timed is step)
                found = interleaved(
                    {"transformers": timed(theirs, batch), "bertpress": timed(ours, batch)}, rounds=rounds
                )
                what = "forward and backward" if timed is step else "forward"
                print(f"{preset:<14} batch {size} x {length:<4} {implementation:<5} {what:<20} {found['bertpress']}")


if __name__ == "__main__":
    main()
