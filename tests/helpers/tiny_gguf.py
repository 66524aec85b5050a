"""A tiny random Llama in a GGUF file, written as llama.cpp's converter does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

HEADS, KEY_HEADS, LAYERS = 4, 2, 2
SPECIAL = ["<|end|>", "<|start|>"]
MERGES = ["g o", "go o", "goo d", "Ġ good", "b a", "ba d", "Ġ bad"]
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
TOKENS = [*SPECIAL, *bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in MERGES)]

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tiny_llama(*, tied: bool = True) -> LlamaForCausalLM:
    """A random Llama of width 32, in evaluation mode."""
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64}
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        initializer_range=0.2,
        tie_word_embeddings=tied,
        **sizes,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
        for parameter in model.parameters():
            if parameter.ndim == 1:  # The norms are all ones.
                parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


def write_gguf(path: Path, model: LlamaForCausalLM, kind: str = "F32", **values: Any) -> None:
    """Write a model.

    Args:
        path: of the file.
        model: as `tiny_llama`.
        kind: of gguf's quantization types, such as `Q8_0`, for the matrices.
        values: metadata to add or replace, with `__` for a dot; None to leave out.
    """
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    writer = gguf.GGUFWriter(path, "llama")
    config: Any = model.config
    metadata = {
        "general.name": "tiny",
        "llama.block_count": config.num_hidden_layers,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "llama.rope.freq_base": 10_000.0,
        "llama.vocab_size": config.vocab_size,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3 if token in SPECIAL else 1 for token in TOKENS],
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
    } | {key.replace("__", "."): value for key, value in values.items()}
    add: dict[type, Any] = {
        str: writer.add_string, int: writer.add_uint32, float: writer.add_float32,
        list: writer.add_array, bool: writer.add_bool,
    }  # fmt: skip
    for key, value in metadata.items():
        if value is not None:
            add[type(value)](key, value)
    quantized = gguf.GGMLQuantizationType[kind]
    for name, tensor in model.named_parameters():
        data = _rotary(name, tensor.detach()).numpy()
        is_matrix = data.ndim == 2 and kind != "F32"
        data = gguf.quants.quantize(data, quantized) if is_matrix else data.astype(np.float32)
        writer.add_tensor(_gguf_name(name), data, raw_dtype=quantized if is_matrix else None)
    for write in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{write}_to_file")()
    writer.close()


def _gguf_name(name: str) -> str:
    stem, _, ending = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, layer, stem = stem.split(".", 3)
        return f"blk.{layer}.{NAMES[stem]}.{ending}"
    return f"{NAMES[stem]}.{ending}"


def _rotary(name: str, weight: Tensor) -> Tensor:
    """llama.cpp pairs neighboring rows of queries and keys, transformers the halves of a head."""
    heads = HEADS if ".q_proj" in name else KEY_HEADS if ".k_proj" in name else 0
    if not heads:
        return weight
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
