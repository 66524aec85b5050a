"""Tiny pretrained models in folders, as published checkpoints are."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from scripts.families import FAMILIES, tiny
from tests.helpers.tiny_tokenizers import TOKENIZERS
from transformers import PreTrainedModel


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny pretrained model, saved as its published checkpoints are."""

    @cache
    def folder(family: str) -> Path:
        path = tmp_path_factory.mktemp(family) / "model"
        pretrained(family).save_pretrained(path)
        TOKENIZERS[family]().save_pretrained(path)
        return path

    return folder


def pretrained(family: str) -> PreTrainedModel:
    tokenizer = TOKENIZERS[family]()
    model = tiny(
        family,
        head=FAMILIES[family].pretraining,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    assert isinstance(model, PreTrainedModel)
    with torch.no_grad():
        for matrix in (p for p in model.parameters() if p.ndim > 1):
            matrix.mul_(10)  # As it is, attention is even and a text hardly reaches the head.
    return model
