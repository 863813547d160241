"""Configuration of the `quantize` stage."""

from typing import Literal, Self

from pydantic import Field, model_validator

from compression.configuration import Config
from compression.quantization.qat_config import QatConfig

Scheme = Literal[
    "int8-dynamic", "int8-static", "int8-qat", "int8-weight", "int4-weight", "fp8-e4m3", "fp8-e5m2", "bf16", "fp16"
]

Observer = Literal["min-max", "percentile", "entropy", "mse"]


class CalibrationConfig(Config):
    """How the ranges of activations are found, on rows of the task's training split.

    Example:
        >>> CalibrationConfig(observer="min-max").rows
        256
    """

    observer: Observer = Field(
        "mse",
        description="Range of a layer's inputs: what costs least (mse: mean squared error, entropy: KL divergence), all of it (min-max), or all but the tails (percentile), which may cut off the few large features that encoders rely on",
    )
    percentile: float = Field(
        99.99, gt=50, le=100, description="Inputs, in per cent, that neither end of the range cuts off"
    )
    rows: int = Field(256, ge=1, description="Training rows that are looked at, evenly spaced")


class MixedConfig(Config):
    """A finer format for the layers whose rounding changes the outputs most, found on the task's selection split.

    Example:
        >>> MixedConfig(fallback="int8-dynamic").tolerance
        0.01
    """

    fallback: Literal["int8-dynamic", "int8-static", "int8-weight", "fp8-e4m3", "fp32"] = Field(
        "fp32", description="Format of those layers"
    )
    tolerance: float = Field(
        0.01,
        gt=0,
        description="How far the outputs may be from those of the fp32 model: mean KL divergence in nats, and for regression half the squared difference in units of the variance",
    )
    rows: int = Field(256, ge=1, description="Selection rows that are looked at, evenly spaced")


class QuantizeConfig(Config):
    """Number format of the weights and of the arithmetic.

    Example:
        >>> QuantizeConfig().scheme
        'int8-dynamic'
        >>> QuantizeConfig(scheme="int4-weight", group_size=32, exclude=["pooler.*"]).exclude
        ('pooler.*',)
    """

    scheme: Scheme = Field(
        "int8-dynamic",
        description="int8-dynamic: int8 products, activations coded as they come; int8-static: by ranges fixed beforehand; int8-qat: the same, trained with the rounding; int8-weight, int4-weight: weights alone, a scale a group; fp8-e4m3, fp8-e5m2: weights stored as 8-bit floats; bf16, fp16: everything cast",
    )
    backend: Literal["torch", "onnxruntime"] = Field(
        "torch", description="What runs the model: torch, or ONNX Runtime for int8-dynamic, int8-static and int8-qat"
    )
    embeddings: bool = Field(
        True, description="Store the embedding tables in the smaller format too: they are most of a small model"
    )
    exclude: tuple[str, ...] = Field(
        (), description="Layers of the encoder that stay fp32, by name; `*` and `?` stand for any characters"
    )
    group_size: int = Field(
        64,
        ge=2,
        le=4096,
        description="Neighbouring weights of a row that share a scale, in int8-weight and int4-weight",
    )
    fake_activations: bool = Field(
        False,
        description="With fp8, round the inputs of linear layers to fp8 as well, a scale a token: to study accuracy, it makes nothing faster",
    )

    calibration: CalibrationConfig = Field(
        default_factory=CalibrationConfig, description="Ranges of the activations, with int8-static"
    )

    qat: QatConfig = Field(default_factory=QatConfig, description="How to train, with int8-qat")
    mixed: MixedConfig | None = Field(
        None, description="Mixed precision: a finer format for sensitive layers; null stores all layers by the scheme"
    )

    @property
    def calibrates(self) -> bool:
        """Whether ranges of activations are found on training rows."""
        return self.scheme == "int8-static" or (self.mixed is not None and self.mixed.fallback == "int8-static")

    @model_validator(mode="after")
    def _fits_the_scheme(self) -> Self:
        if self.fake_activations and not self.scheme.startswith("fp8"):
            raise ValueError("fake_activations is for fp8-e4m3 and fp8-e5m2 alone")
        if self.backend != "torch" and (self.mixed or self.scheme not in ("int8-dynamic", "int8-static", "int8-qat")):
            raise ValueError(f"backend {self.backend} runs int8-dynamic, int8-static and int8-qat, without `mixed`")
        if self.scheme in ("bf16", "fp16") and (self.exclude or not self.embeddings):
            raise ValueError(f"{self.scheme} casts the whole model: it takes neither `exclude` nor `embeddings: false`")
        if self.mixed is not None and self.scheme in ("int8-qat", "bf16", "fp16"):
            raise ValueError(
                f"mixed precision is for schemes that round layers one by one, which {self.scheme} does not"
            )
        return self
