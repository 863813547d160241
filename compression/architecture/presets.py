"""Shapes of published encoders, by name (word-piece vocabulary and positions are the teacher's)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """Sizes of a BERT encoder (heads a layer, feed-forward width) and the paper that uses it."""

    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int
    source: str


_MINIATURES = "Turc et al. 2019, arXiv:1908.08962"

PRESETS: dict[str, Preset] = {
    "bert-tiny": Preset(2, 128, 2, 512, _MINIATURES),
    "bert-mini": Preset(4, 256, 4, 1024, _MINIATURES),
    "bert-small": Preset(4, 512, 8, 2048, _MINIATURES),
    "bert-medium": Preset(8, 512, 8, 2048, _MINIATURES),
    "bert-base": Preset(12, 768, 12, 3072, "Devlin et al. 2018, arXiv:1810.04805"),
    "distilbert-6l": Preset(6, 768, 12, 3072, "Sanh et al. 2019, arXiv:1910.01108"),
    "tinybert-4l-312": Preset(4, 312, 12, 1200, "Jiao et al. 2019, arXiv:1909.10351"),
    "tinybert-6l-768": Preset(6, 768, 12, 3072, "Jiao et al. 2019, arXiv:1909.10351"),
    "minilm-6l-384": Preset(6, 384, 12, 1536, "Wang et al. 2020, arXiv:2002.10957"),
}
