"""Named sizes of RoBERTa, from half a million parameters to those of the paper; model configs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from d90.errors import D90Error, unknown_name
from d90.utils.reading import parse_json, parse_toml, read_text

SMALL_VOCABULARY, FULL_VOCABULARY = 4_096, 50_265
"""Vocabulary sizes of the small models, where embeddings would otherwise dominate; of RoBERTa."""

MIN_POSITIONS, FULL_POSITIONS, SPARE_POSITIONS = 130, 514, 2
"""Rows of the position table. RoBERTa counts from 2: the first two rows are never used."""

ROBERTA: Mapping[str, Any] = MappingProxyType({"type_vocab_size": 1, "layer_norm_eps": 1e-5})
"""Fields in which RoBERTa differs from the defaults of `RobertaConfig`."""

Fields = Mapping[str, Any]
"""Fields of `RobertaConfig` by name."""


@dataclass(frozen=True)
class ModelSize:
    """The shape of a model. Its feed-forward layers have four times its hidden size.

    Attributes:
        layers: number of transformer blocks.
        hidden: hidden size.
        heads: number of attention heads; it divides the hidden size.
        vocabulary: default vocabulary size.
        positions: minimum number of rows of the position table.
    """

    layers: int
    hidden: int
    heads: int
    vocabulary: int = SMALL_VOCABULARY
    positions: int = MIN_POSITIONS

    def fields(self, max_length: int) -> dict[str, Any]:
        """The fields of `RobertaConfig`, for blocks of `max_length` tokens."""
        return {
            **ROBERTA,
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.hidden,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": max(self.positions, max_length + SPARE_POSITIONS),
        }


SIZES: Mapping[str, ModelSize] = MappingProxyType(
    {
        "nano": ModelSize(4, 64, 2),
        "micro": ModelSize(4, 128, 2),
        "mini": ModelSize(4, 256, 4),
        "small": ModelSize(6, 384, 6),
        "medium": ModelSize(8, 512, 8, FULL_VOCABULARY),
        "base": ModelSize(12, 768, 12, FULL_VOCABULARY, FULL_POSITIONS),
        "large": ModelSize(24, 1024, 16, FULL_VOCABULARY, FULL_POSITIONS),
    }
)


def get_model_size(name: str) -> ModelSize:
    """The model size with this name.

    Raises:
        D90Error: unknown name.
    """
    if name not in SIZES:
        raise unknown_name("size", name, SIZES)
    return SIZES[name]


def num_parameters(fields: Fields) -> int:
    """D, the number of parameters of the masked language model, tied embeddings once.

    With V tokens, P positions, T token types, hidden size h, feed-forward size f and L layers:

        D = (V + P + T + 2) h + L (4 h^2 + 2 h f + 9 h + f) + h^2 + 3 h + V

    >>> num_parameters(SIZES["base"].fields(512))  # the published 124,697,433 of roberta-base
    124697433
    """
    tokens, width = fields["vocab_size"], fields["hidden_size"]
    wide, layers = fields["intermediate_size"], fields["num_hidden_layers"]
    rows = tokens + fields["max_position_embeddings"] + fields["type_vocab_size"] + 2
    block = 4 * width**2 + 2 * width * wide + 9 * width + wide
    return rows * width + layers * block + width**2 + 3 * width + tokens


def default_learning_rate(width: int) -> float:
    """The default peak learning rate: the paper's for base and large (Table 9), 1e-3 for small.

    >>> [default_learning_rate(width) for width in (64, 384, 512, 768, 1024)]
    [0.001, 0.001, 0.0007, 0.0006, 0.0004]
    """
    widest = {384: 1e-3, 512: 7e-4, 768: 6e-4}
    return next((rate for bound, rate in widest.items() if width <= bound), 4e-4)


def read_fields(file: Path) -> dict[str, Any]:
    """The fields of `RobertaConfig` in a TOML or JSON file, such as a model's config.json.

    Raises:
        D90Error: the file cannot be read or is not a table.
    """
    parse = parse_json if file.suffix == ".json" else parse_toml
    fields = parse(read_text(file, "model_config"), f"model_config '{file}'")
    if not isinstance(fields, dict):
        raise D90Error(f"model_config '{file}': expected fields of RobertaConfig by name.")
    return fields
