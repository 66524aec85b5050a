"""A tokenizer as its model needs it: what it pads with and on which side, and what it returns."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from d90.errors import D90Error


def fit_tokenizer(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    num_labels: int | None,
) -> None:
    """Set the padding token and side, and the names of the model's inputs.

    Args:
        name: of the model, for errors.
        model, num_labels: with this head; None is that of a language model.
        tokenizer: it is changed.

    Raises:
        D90Error: it has no token to pad with, or more tokens than the model.
    """
    _give_pad_token(name, model, tokenizer)
    tokenizer.padding_side = _padding_side(model, num_labels)
    types = ["token_type_ids"] if _reads_token_types(model) else []
    tokenizer.model_input_names = ["input_ids", *types, "attention_mask"]


def _padding_side(model: PreTrainedModel, num_labels: int | None) -> str:
    """The side on which this model pads.

    Completions end at the same position behind padding on the left, so that their logits are few.
    Of the classifiers only XLNet pools the last position. The others find the pooled token among
    padding on the right, which does not shift positions: they are counted from the left and ignore
    the mask.
    """
    if num_labels is None:
        return "right" if model.config.is_encoder_decoder else "left"
    return "left" if getattr(model.config, "summary_type", None) == "last" else "right"


def _reads_token_types(model: nn.Module) -> bool:
    """Whether the model has a table of token types.

    Its tokenizer does not say: those of ALBERT and XLNet return no token types. GPT-2 accepts them
    without a table, and would add the embedding of token 0 to every position.
    """
    return any(
        name.endswith("seg_embed") or (name.endswith("token_type_embeddings.weight") and len(p) > 1)
        for name, p in model.named_parameters()
    )


def _give_pad_token(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Decoders often have no padding token: the end-of-text token is used."""
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise D90Error(f"model '{name}': its tokenizer has no padding or end-of-text token.")
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    embeddings = model.get_input_embeddings()
    rows = embeddings.num_embeddings if isinstance(embeddings, nn.Embedding) else len(tokenizer)
    tokens = max(len(tokenizer), 1 + max(tokenizer.get_vocab().values()))
    if tokens > rows:
        raise D90Error(
            f"model '{name}': its tokenizer has {tokens} tokens and its embedding table only "
            f"{rows} rows."
        )
