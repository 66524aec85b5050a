"""D and m of published shapes: against formulas, against published sizes, and in the docs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from scripts.families import FAMILIES, PUBLISHED_LABELS, Shape, published_layout, tables

DOCS = Path(__file__).resolve().parents[2] / "docs" / "families.md"

# In millions, as their authors or the hub give them, without the head of this classifier.
_PUBLISHED = {
    "bert-base-uncased": 109.5,
    "bert-large-uncased": 335.1,
    "roberta-base": 124.6,
    "roberta-large": 355.4,
    "xlm-roberta-base": 278.0,
    "xlm-roberta-large": 559.9,
    "albert-base-v2": 11.7,
    "albert-large-v2": 17.7,
    "google/electra-base-discriminator": 109,
    "google/electra-large-discriminator": 335,
    "xlnet-base-cased": 117,
    "xlnet-large-cased": 361,
    "facebook/bart-base": 139.4,
    "facebook/bart-large": 406.3,
    "t5-base": 222.9,
    "t5-large": 737.7,
    "gpt2": 124.4,
    "gpt2-large": 774.0,
    "meta-llama/Llama-3.2-1B": 1235.8,
    "meta-llama/Llama-2-7b-hf": 6738.4 - 131.1,  # Its output layer is no part of a classifier.
    "HuggingFaceTB/SmolLM2-135M": 134.5,
    "HuggingFaceTB/SmolLM2-360M": 361.8,
}


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def head(s: Shape) -> int:
    """A dense layer (the pooler or the head's own) and the output layer."""
    return linear(s.hidden, s.hidden) + linear(s.hidden, PUBLISHED_LABELS)


def attention(s: Shape) -> int:
    return 4 * linear(s.hidden, s.hidden) + 2 * s.hidden


def feed_forward(s: Shape) -> int:
    return linear(s.hidden, s.ffn) + linear(s.ffn, s.hidden) + 2 * s.hidden


def encoder(s: Shape, *, distinct: int | None = None) -> int:
    """BERT and its kin; `distinct` blocks where they are shared."""
    width = s.embedding or s.hidden
    tables = (s.vocabulary + (s.positions or 0) + (s.types or 0)) * width + 2 * width
    # ELECTRA has a projection from the tables only where the widths differ.
    factor = linear(width, s.hidden) if width != s.hidden else 0
    blocks = (distinct or s.layers) * (attention(s) + feed_forward(s))
    return tables + factor + blocks + head(s)


def albert(s: Shape) -> int:
    return encoder(s, distinct=1)


def xlnet(s: Shape) -> int:
    tables = (s.vocabulary + 1) * s.hidden  # With the embedding of what is masked.
    # Queries, keys, values, positions, output; three biases, two segments, a norm.
    relative = 5 * s.hidden**2 + 3 * s.hidden + 2 * s.hidden + 2 * s.hidden
    return tables + s.layers * (relative + feed_forward(s)) + head(s)


def bart(s: Shape) -> int:
    assert s.positions is not None
    tables = s.vocabulary * s.hidden + 2 * ((s.positions + 2) * s.hidden + 2 * s.hidden)
    return tables + s.layers * (3 * attention(s) + 2 * feed_forward(s)) + head(s)


def t5(s: Shape) -> int:
    assert s.head_size is not None
    own = 4 * s.hidden * s.heads * s.head_size + s.hidden
    ffn = 2 * s.hidden * s.ffn + s.hidden
    buckets, last_norms = 2 * 32 * s.heads, 2 * s.hidden
    blocks = s.layers * (3 * own + 2 * ffn)
    return s.vocabulary * s.hidden + buckets + blocks + last_norms + head(s)


def gpt2(s: Shape) -> int:
    assert s.positions is not None
    tables = (s.vocabulary + s.positions) * s.hidden
    blocks = s.layers * (attention(s) + feed_forward(s))
    return tables + blocks + 2 * s.hidden + PUBLISHED_LABELS * s.hidden


def llama(s: Shape) -> int:
    assert s.kv_heads is not None
    keys_values = 2 * s.hidden * (s.hidden // s.heads) * s.kv_heads
    block = 2 * s.hidden**2 + keys_values + 3 * s.hidden * s.ffn + 2 * s.hidden
    return (s.vocabulary + 1 + PUBLISHED_LABELS) * s.hidden + s.layers * block


_D: dict[str, Callable[[Shape], int]] = {
    "Bert": encoder,
    "Roberta": encoder,
    "XLMRoberta": encoder,
    "Electra": encoder,
    "Albert": albert,
    "XLNet": xlnet,
    "Bart": bart,
    "T5": t5,
    "GPT2": gpt2,
    "Llama": llama,
    "SmolLM2": llama,
}
# Groups besides the blocks: embeddings, head and last norms.
_M: dict[str, Callable[[Shape], int]] = {
    **dict.fromkeys(FAMILIES, lambda s: s.layers + 2),
    "Albert": lambda s: 1 + 2,
    "Bart": lambda s: 2 * s.layers + 2,
    "T5": lambda s: 2 * s.layers + 2 + 2,
    "GPT2": lambda s: s.layers + 2 + 1,
    "Llama": lambda s: s.layers + 2 + 1,
    "SmolLM2": lambda s: s.layers + 2 + 1,
}
SHAPES = [(family, name) for family, models in FAMILIES.items() for name in models.published]


def test_the_sweep_is_complete() -> None:
    assert set(_D) == set(_M) == set(FAMILIES)
    assert set(_PUBLISHED) == {name for _, name in SHAPES}
    assert all(len(models.published) == 2 for models in FAMILIES.values())


@pytest.mark.parametrize(("family", "name"), SHAPES)
def test_published_shape(family: str, name: str) -> None:
    shape, layout = FAMILIES[family].published[name], published_layout(family, name)
    D, m, millions = _D[family](shape), _M[family](shape), _PUBLISHED[name]
    assert (layout.D, layout.m) == (D, m)
    assert abs(D / 1e6 - millions) < 0.006 * millions


def test_the_documentation_is_what_the_script_prints() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for table in tables():
        assert table in text
