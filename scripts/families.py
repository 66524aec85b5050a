"""Print the model families that d90 is tested on: their SAID groups, D and m.

    python scripts/families.py

Two tables for `docs/families.md`: the modules in each group of a tiny random classifier, and D and
m of this classifier and of two published shapes. Nothing is downloaded and no large model is built:
published shapes are instantiated on the meta device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from d90.subspace.grouping import EMBEDDINGS, HEAD
from d90.subspace.layout import Group, Layout, build_layout, find_params

LAYERS, LABELS, PUBLISHED_LABELS = 2, 3, 2
END = 2
"""The last token of each example of `batch`, where BART and T5 pool."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a model.

    Attributes:
        hidden: width of the residual stream.
        layers: blocks; in an encoder-decoder, of encoder and decoder each.
        heads: attention heads per block.
        ffn: width inside the feed-forward network.
        vocabulary: rows of the token embedding.
        positions: rows of the position embedding, if there is one.
        types: rows of the token type embedding, if there is one.
        embedding: width of the embeddings, if it differs from `hidden`.
        kv_heads: key and value heads, if they differ from `heads`.
        head_size: width of a head, if it is not `hidden / heads`.
    """

    hidden: int
    layers: int
    heads: int
    ffn: int
    vocabulary: int
    positions: int | None = None
    types: int | None = None
    embedding: int | None = None
    kv_heads: int | None = None
    head_size: int | None = None


@dataclass(frozen=True)
class Family:
    """Models of one architecture.

    Attributes:
        kind: prefix of its class names in Transformers.
        pretraining: suffix of the class name of its published checkpoints.
        tiny: the shape used in tests.
        published: hub ids and their shapes, smallest first.
        tokens: special tokens and other configuration values shared by all sizes.
    """

    kind: str
    pretraining: str
    tiny: Shape
    published: Mapping[str, Shape]
    tokens: Mapping[str, object] = field(default_factory=dict)


_ENCODER = {
    "hidden": ("hidden_size",),
    "layers": ("num_hidden_layers",),
    "heads": ("num_attention_heads",),
    "ffn": ("intermediate_size",),
    "vocabulary": ("vocab_size",),
    "positions": ("max_position_embeddings",),
    "types": ("type_vocab_size",),
    "embedding": ("embedding_size",),
    "kv_heads": ("num_key_value_heads",),
}
_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "Bert": _ENCODER,
    "Roberta": _ENCODER,
    "XLMRoberta": _ENCODER,
    "Albert": _ENCODER,
    "Electra": _ENCODER,
    "Llama": _ENCODER,
    "Bart": {
        "hidden": ("d_model",),
        "layers": ("encoder_layers", "decoder_layers"),
        "heads": ("encoder_attention_heads", "decoder_attention_heads"),
        "ffn": ("encoder_ffn_dim", "decoder_ffn_dim"),
        "vocabulary": ("vocab_size",),
        "positions": ("max_position_embeddings",),
    },
    "T5": {
        "hidden": ("d_model",),
        "layers": ("num_layers", "num_decoder_layers"),
        "heads": ("num_heads",),
        "ffn": ("d_ff",),
        "vocabulary": ("vocab_size",),
        "head_size": ("d_kv",),
    },
    "XLNet": {
        "hidden": ("d_model",),
        "layers": ("n_layer",),
        "heads": ("n_head",),
        "ffn": ("d_inner",),
        "vocabulary": ("vocab_size",),
    },
    "GPT2": {
        "hidden": ("n_embd",),
        "layers": ("n_layer",),
        "heads": ("n_head",),
        "ffn": ("n_inner",),
        "vocabulary": ("vocab_size",),
        "positions": ("n_positions",),
    },
}

FAMILIES: dict[str, Family] = {
    "Bert": Family(
        kind="Bert",
        pretraining="ForPreTraining",
        tiny=Shape(16, LAYERS, 2, 32, 60, positions=32, types=2),
        published={
            "bert-base-uncased": Shape(768, 12, 12, 3072, 30522, positions=512, types=2),
            "bert-large-uncased": Shape(1024, 24, 16, 4096, 30522, positions=512, types=2),
        },
        tokens={"pad_token_id": 0},
    ),
    "Roberta": Family(
        kind="Roberta",
        pretraining="ForMaskedLM",
        tiny=Shape(16, LAYERS, 2, 32, 60, positions=32, types=1),
        published={
            "roberta-base": Shape(768, 12, 12, 3072, 50265, positions=514, types=1),
            "roberta-large": Shape(1024, 24, 16, 4096, 50265, positions=514, types=1),
        },
        tokens={"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2},
    ),
    "XLMRoberta": Family(
        kind="XLMRoberta",
        pretraining="ForMaskedLM",
        tiny=Shape(16, LAYERS, 2, 32, 60, positions=32, types=1),
        published={
            "xlm-roberta-base": Shape(768, 12, 12, 3072, 250002, positions=514, types=1),
            "xlm-roberta-large": Shape(1024, 24, 16, 4096, 250002, positions=514, types=1),
        },
        tokens={"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2},
    ),
    "Albert": Family(
        kind="Albert",
        pretraining="ForPreTraining",
        tiny=Shape(16, LAYERS, 2, 32, 60, positions=32, types=2, embedding=8),
        published={
            "albert-base-v2": Shape(
                768, 12, 12, 3072, 30000, positions=512, types=2, embedding=128
            ),
            "albert-large-v2": Shape(
                1024, 24, 16, 4096, 30000, positions=512, types=2, embedding=128
            ),
        },
        tokens={"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3},
    ),
    "Electra": Family(
        kind="Electra",
        pretraining="ForPreTraining",
        tiny=Shape(16, LAYERS, 2, 32, 60, positions=32, types=2, embedding=8),
        published={
            "google/electra-base-discriminator": Shape(
                768, 12, 12, 3072, 30522, positions=512, types=2, embedding=768
            ),
            "google/electra-large-discriminator": Shape(
                1024, 24, 16, 4096, 30522, positions=512, types=2, embedding=1024
            ),
        },
        tokens={"pad_token_id": 0},
    ),
    "XLNet": Family(
        kind="XLNet",
        pretraining="LMHeadModel",
        tiny=Shape(16, LAYERS, 2, 32, 60),
        published={
            "xlnet-base-cased": Shape(768, 12, 12, 3072, 32000),
            "xlnet-large-cased": Shape(1024, 24, 16, 4096, 32000),
        },
        tokens={"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 5, "summary_type": "last"},
    ),
    "Bart": Family(
        kind="Bart",
        pretraining="ForConditionalGeneration",
        tiny=Shape(16, LAYERS, 2, 32, 60, positions=32),
        published={
            "facebook/bart-base": Shape(768, 6, 12, 3072, 50265, positions=1024),
            "facebook/bart-large": Shape(1024, 12, 16, 4096, 50265, positions=1024),
        },
        tokens={
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
        },
    ),
    "T5": Family(
        kind="T5",
        pretraining="ForConditionalGeneration",
        tiny=Shape(16, LAYERS, 2, 32, 60, head_size=8),
        published={
            "t5-base": Shape(768, 12, 12, 3072, 32128, head_size=64),
            "t5-large": Shape(1024, 24, 16, 4096, 32128, head_size=64),
        },
        tokens={"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
    ),
    "GPT2": Family(
        kind="GPT2",
        pretraining="LMHeadModel",
        tiny=Shape(16, LAYERS, 2, 64, 60, positions=32),
        published={
            "gpt2": Shape(768, 12, 12, 3072, 50257, positions=1024),
            "gpt2-large": Shape(1280, 36, 20, 5120, 50257, positions=1024),
        },
        tokens={"bos_token_id": 0, "eos_token_id": 0},
    ),
    "Llama": Family(
        kind="Llama",
        pretraining="ForCausalLM",
        tiny=Shape(16, LAYERS, 2, 32, 60, kv_heads=2),
        published={
            "meta-llama/Llama-3.2-1B": Shape(2048, 16, 32, 8192, 128256, kv_heads=8),
            "meta-llama/Llama-2-7b-hf": Shape(4096, 32, 32, 11008, 32000, kv_heads=32),
        },
        tokens={"bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False},
    ),
    "SmolLM2": Family(
        kind="Llama",
        pretraining="ForCausalLM",
        tiny=Shape(16, LAYERS, 4, 32, 60, kv_heads=2),
        published={
            "HuggingFaceTB/SmolLM2-135M": Shape(576, 30, 9, 1536, 49152, kv_heads=3),
            "HuggingFaceTB/SmolLM2-360M": Shape(960, 32, 15, 2560, 49152, kv_heads=5),
        },
        tokens={"bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": True},
    ),
}


def configuration(family: str, shape: Shape, **options: object) -> PreTrainedConfig:
    """The configuration of a model of a given shape, without dropout."""
    model = FAMILIES[family]
    sizes = {
        name: size
        for part, size in asdict(shape).items()
        if size is not None
        for name in _NAMES[model.kind][part]
    }
    config = getattr(transformers, f"{model.kind}Config")(**sizes, **model.tokens)
    for name in list(vars(config)):
        if "dropout" in name or name.endswith("pdrop"):
            setattr(config, name, 0.0)
    for name, value in options.items():
        setattr(config, name, value)
    return config


def tiny(family: str, *, head: str = "ForSequenceClassification", **options: object) -> nn.Module:
    """A random model of a family, always the same: a classifier unless `head` names another class.

    It pads with token 0 if the family has no padding token.
    """
    options = {"num_labels": LABELS, "eos_token_id": END, **options}
    config = configuration(family, FAMILIES[family].tiny, **options)
    if config.pad_token_id is None and "pad_token_id" not in options:
        config.pad_token_id = 0
    torch.manual_seed(0)
    return getattr(transformers, f"{FAMILIES[family].kind}{head}")(config).eval()


def batch(rows: int = 3, length: int = 7) -> dict[str, Tensor]:
    """Random tokens and labels; the only special token is the `END` of each example."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(6, 60, (rows, length), generator=generator)
    tokens[:, -1] = END
    labels = torch.arange(rows) % LABELS
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}


def skeleton(family: str, shape: Shape) -> PreTrainedModel:
    """A classifier of a given shape on the meta device."""
    config = configuration(family, shape, num_labels=PUBLISHED_LABELS)
    with torch.device("meta"):
        return getattr(transformers, f"{FAMILIES[family].kind}ForSequenceClassification")(config)


@cache
def published_layout(family: str, name: str) -> Layout:
    """The layout of a published shape, grouped by layer."""
    return _layout(skeleton(family, FAMILIES[family].published[name]))


def _layout(model: nn.Module) -> Layout:
    # Groups do not depend on the scale; this one needs no weight values.
    return build_layout(model, find_params(model), groups="layer", scale="model")[0]


def modules(group: Group, layout: Layout) -> list[str]:
    """The outermost modules or tensors that hold the weights of this group and no others."""
    own = [param_slice.name for param_slice in group.slices]
    others = [s.name for s in layout.slices if s not in group.slices]
    outermost: dict[str, None] = {}
    for name in own:
        parts = name.split(".")
        paths = (".".join(parts[: n + 1]) for n in range(len(parts)))
        outermost[
            next(p for p in paths if not any(f"{o}.".startswith(f"{p}.") for o in others))
        ] = None
    return list(outermost)


def group_rows() -> Iterator[list[str]]:
    """For each family, the modules of the groups of its tiny classifier."""
    yield [
        "family",
        "`embeddings`",
        "blocks, one group each",
        "others, one group each",
        "`head`",
    ]
    for family in FAMILIES:
        layout = _layout(tiny(family))
        cells: dict[str, list[str]] = {EMBEDDINGS: [], "blocks": [], "others": [], HEAD: []}
        for group in layout.groups:
            paths = modules(group, layout)
            is_block = group.name.rpartition(".")[2].isdigit()
            kind = group.name if group.name in cells else "blocks" if is_block else "others"
            cells[kind] += [group.name] if is_block else paths
        yield [family, *(", ".join(f"`{path}`" for path in cell) for cell in cells.values())]


def size_rows() -> Iterator[list[str]]:
    """For each family, D and m of the tiny classifier and of published shapes, and its tests."""
    sizes = ("published shape", "D", "m")
    yield ["family", "tiny D", "m", "tied names", *sizes, *sizes, "tests"]
    for family, models in FAMILIES.items():
        layout = _layout(tiny(family))
        row = [family, f"{layout.D:,}", str(layout.m), str(layout.ties)]
        for name in models.published:
            layout = published_layout(family, name)
            row += [f"`{name}`", f"{layout.D:,}", str(layout.m)]
        yield [*row, f'`-k "[{family}"`']


def tables() -> list[str]:
    """Both tables, as Markdown."""
    tables = []
    for rows in (group_rows(), size_rows()):
        header, *body = rows
        lines = [header, ["---"] * len(header), *body]
        tables.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return tables


if __name__ == "__main__":
    print("\n\n".join(tables()))
