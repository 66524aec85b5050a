"""A RoBERTa with new weights, and its loss at the masked tokens."""

from __future__ import annotations

from dataclasses import fields as fields_of
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import RobertaConfig, RobertaForMaskedLM

from d90.errors import D90Error, single_line, unknown_name
from d90.models.heads import initialize
from d90.pretraining.masking import MaskedBatch
from d90.pretraining.model_sizes import ROBERTA, Fields
from d90.pretraining.tokenizer import Vocabulary

IGNORED = ("architectures", "model_type", "dtype", "torch_dtype", "transformers_version")
"""Fields of a config.json that do not determine the model."""


SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)


def complete(fields: Fields, max_length: int) -> dict[str, Any]:
    """Every field that determines the model; RoBERTa's defaults where `fields` has none.

    Raises:
        D90Error: an unknown field of `RobertaConfig`, a value of the wrong type, a number of heads
            that does not divide the hidden size, fewer positions than `max_length` needs.
    """
    known = {field.name for field in fields_of(RobertaConfig)}
    given = {name: value for name, value in fields.items() if name not in IGNORED}
    for name in given:
        if name not in known:
            raise unknown_name("field of RobertaConfig", name, known)
    try:
        config = RobertaConfig(**{**ROBERTA, **given})
    except Exception as error:  # huggingface_hub's, which is not a ValueError
        raise D90Error(f"model config: {single_line(error)[:200]}.") from error
    for name in SIZES:
        if not 1 <= getattr(config, name) < 2**31:
            raise D90Error(f"model config: {name} is {getattr(config, name)}: expected 1 or more.")
    if config.hidden_size % config.num_attention_heads:
        raise D90Error(
            f"model config: num_attention_heads {config.num_attention_heads} does not divide "
            f"hidden_size {config.hidden_size}."
        )
    _check_positions(config, max_length)
    names = {*given, *ROBERTA} | {
        *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
        *("intermediate_size", "max_position_embeddings", "hidden_act"),
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range"),
    }
    return {name: getattr(config, name) for name in sorted(names)}


def _check_positions(config: RobertaConfig, max_length: int) -> None:
    """RoBERTa counts positions from the id of the padding token plus one."""
    spare = 1 + (config.pad_token_id or 0)
    if max_length + spare > config.max_position_embeddings:
        raise D90Error(
            f"max_length {max_length} needs max_position_embeddings of {max_length + spare} at "
            f"least, and the model has {config.max_position_embeddings}."
        )


def new_model(
    fields: Fields, vocabulary: Vocabulary, max_length: int, seed: int
) -> RobertaForMaskedLM:
    """A masked language model whose weights are a function of `seed` and their names alone.

    Matrices are normal with standard deviation `initializer_range`, biases 0, norm weights 1, and
    padding rows 0, as in transformers.
    """
    config = RobertaConfig(
        **{
            **fields,
            "vocab_size": vocabulary.size,
            "bos_token_id": vocabulary.start,
            "eos_token_id": vocabulary.end,
            "pad_token_id": vocabulary.pad,
        }
    )
    _check_positions(config, max_length)
    model = RobertaForMaskedLM(config)
    initialize(model, {name for name, _ in model.named_parameters()}, seed)
    embeddings = model.roberta.embeddings
    for table in (embeddings.word_embeddings, embeddings.position_embeddings):
        table.weight.data[table.padding_idx] = 0
    return model


def masked_losses(model: RobertaForMaskedLM, masked: MaskedBatch) -> Tensor:
    """The cross-entropy of each masked token, in nats: float32, shape (chosen tokens,).

    Only masked tokens go through the decoder, whose product with the vocabulary otherwise takes
    most of the time of a small model.
    """
    hidden = model.roberta(input_ids=masked.inputs).last_hidden_state
    logits = model.lm_head(hidden[masked.chosen])
    return cross_entropy(logits.float(), masked.targets, reduction="none")
