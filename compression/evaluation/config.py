"""Configuration of the `evaluate` stage."""

from pydantic import Field

from compression.configuration import Config


class EvaluateConfig(Config):
    """What is measured on a checkpoint besides the task's own metrics.

    Example:
        >>> EvaluateConfig(latency_repeats=50).latency_length
        32
    """

    latency_length: int = Field(32, ge=4, description="Word pieces of the sequence that latency is measured on")
    latency_warmup: int = Field(10, ge=1, description="Forward passes before timing starts")
    latency_repeats: int = Field(100, ge=5, description="Timed forward passes at batch 1")
    latency_threads: int = Field(1, ge=1, description="Threads while timing")
