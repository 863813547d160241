"""What pruning gains in time: speed-up against the share removed, `python -m benchmarks.pruning`.

Heads, neurons and layers are removed evenly from one encoder with random weights; zeros are put into another. All of
them take forward passes in turn in one process, one thread. Speed does not depend on the weights' values, save where
arithmetic would skip zeros: dense arithmetic does not.
"""

import argparse

import numpy as np
import torch

from benchmarks.architecture import batch_of, forward, plain
from benchmarks.interleaved import interleaved
from compression.architecture.conversion import shape_of_model, to_bertpress
from compression.architecture.counts import multiply_accumulates
from compression.architecture.encoder.modeling_bertpress import BertpressPreTrainedModel
from compression.pruning.config import WeightPruning
from compression.pruning.removal import without_layers, without_units
from compression.pruning.units import units_of
from compression.pruning.weights import prune_by_magnitude

SHARES = (0.25, 0.5, 0.75)


def variants(preset: str) -> dict[str, BertpressPreTrainedModel]:
    """The whole encoder, then the pruned ones.

    Args:
        preset: shape of the whole one.

    Returns:
        Name -> model.
    """
    whole = to_bertpress(plain(preset)).eval()
    shape = shape_of_model(whole)
    found = {"whole": whole}
    for kind, what in (("attention", "heads"), ("feed_forward", "neurons")):
        for share in SHARES:
            removed = {block: range(round(share * size)) for block, size in units_of(shape, kind).items()}
            found[f"{share:.0%} of the {what} removed"] = without_units(whole, removed)
    for share in SHARES:
        gone = np.linspace(0, shape.layers - 1, round(share * shape.layers)).round().astype(int).tolist()
        found[f"{share:.0%} of the layers removed"] = without_layers(whole, gone)
    for name, config in (
        ("90% of the weights zero", WeightPruning(sparsity=0.9)),
        ("2:4", WeightPruning(pattern="2:4")),
    ):
        zeroed = without_layers(whole, [])
        prune_by_magnitude(zeroed, config)
        found[name] = zeroed
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="bert-base")
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = variants(arguments.preset)
    whole = shape_of_model(models["whole"])
    for size, length in ((1, 32), (1, 128), (8, 128)):
        print(f"\n{arguments.preset}, batch {size} x {length}")
        batch = batch_of(size, length)
        calls = {name: forward(model, batch) for name, model in models.items()}
        for name, timing in interleaved(calls, rounds=arguments.rounds).items():
            macs = multiply_accumulates(shape_of_model(models[name]), length) / multiply_accumulates(whole, length)
            print(f"{name:<32} operations {macs:5.1%} {timing}")


if __name__ == "__main__":
    main()
