"""A masked-language training step with the head at masked positions alone: `python -m benchmarks.masked_lm_head`.

Beside it the usual way, which scores the whole vocabulary at every position and ignores most of the scores. Forward
pass, loss, backward pass and AdamW; CPU time on one thread; both ways take turns, and the median of the rounds counts.
"""

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM

from compression.architecture.masked_lm import MaskedLanguageModel
from compression.architecture.presets import PRESETS
from compression.runtime import Runtime
from compression.training.config import TrainingConfig
from compression.training.optimizer import build_optimizer
from compression.training.precision import DTYPES, torch_threads, training_attention

_VOCABULARY = 30_522
_MASKED = 0.15


def measure(preset: str, precision: str, *, batch: int, length: int, rounds: int) -> tuple[float, float]:
    """CPU seconds of a step with the whole head and with the head at masked positions.

    Args:
        preset: shape of the encoder.
        precision: fp32, or bf16 for autocast.
        batch: sequences.
        length: word pieces of each.
        rounds: measurements of each way.

    Returns:
        Both medians.
    """
    shape = PRESETS[preset]
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=_VOCABULARY,
            num_hidden_layers=shape.layers,
            hidden_size=shape.hidden_size,
            num_attention_heads=shape.heads,
            intermediate_size=shape.intermediate_size,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    ).train()
    optimizer = build_optimizer(model, TrainingConfig())
    gathered = MaskedLanguageModel(model)
    pieces = torch.randint(1000, _VOCABULARY, (batch, length))
    positions = torch.randperm(batch * length)[: int(_MASKED * batch * length)].sort().values
    targets = pieces.flatten()[positions]
    labels = torch.full_like(pieces, -100).flatten()
    labels[positions] = targets
    inputs = {"input_ids": pieces, "attention_mask": torch.ones_like(pieces)}

    def whole() -> Tensor:
        return functional.cross_entropy(model(**inputs).logits.float().flatten(0, 1), labels)

    def at_masked_positions() -> Tensor:
        return functional.cross_entropy(gathered(positions, **inputs)[0].float(), targets)

    def seconds(loss: Callable[[], Tensor]) -> float:
        started = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", DTYPES[precision], enabled=precision != "fp32"):
            value = loss()
        value.backward()
        optimizer.step()
        return time.process_time() - started

    with training_attention(model, Runtime()):
        measured = [[seconds(way) for way in (whole, at_masked_positions)] for _ in range(rounds + 1)]
    first, second = zip(*measured[1:], strict=True)  # the first round warms up
    return median(first), median(second)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=["bert-tiny", "tinybert-4l-312", "minilm-6l-384", "bert-base"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    sys.stdout.write(f"{'':18}{'':6}whole head   masked positions   ratio\n")
    with torch_threads(1):
        for preset in given.presets:
            for precision in given.precisions:
                sizes = {"batch": given.batch, "length": given.length, "rounds": given.rounds}
                before, after = measure(preset, precision, **sizes)
                rates = [given.batch * given.length / seconds for seconds in (before, after)]
                sys.stdout.write(
                    f"{preset:18}{precision:6}{rates[0]:7.0f}/s   {rates[1]:13.0f}/s   {before / after:5.2f}\n"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
