"""From a saved folder to logits: special tokens, padding and pooling as each family has them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from scripts.families import FAMILIES
from tests.families.conftest import pretrained
from tests.helpers.tiny_tokenizers import TOKENIZERS
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from d90.models import loading
from d90.tasks import Split, Task
from d90.tasks.tokens import collate
from d90.training.data import TokenizedTask, tokenize
from d90.utils.digest import state_digest

# The position and the token that the head sees; a decoder's is the last of the text.
_POOLED = {
    "Bert": (0, "[CLS]"),
    "Roberta": (0, "<s>"),
    "XLMRoberta": (0, "<s>"),
    "Albert": (0, "[CLS]"),
    "Electra": (0, "[CLS]"),
    "XLNet": (-1, "<cls>"),
    "Bart": (-1, "</s>"),
    "T5": (-1, "</s>"),
    "GPT2": (-1, "d"),
    "Llama": (-1, "d"),
    "SmolLM2": (-1, "d"),
}
_TOKEN_TYPES = {"Bert", "Albert", "Electra", "XLNet"}
# RoBERTa's first positions are the padding token's; relative and rotary positions have no end.
_LONGEST = {"Bert": 32, "Albert": 32, "Electra": 32, "Bart": 32, "GPT2": 32} | {
    "Roberta": 30,
    "XLMRoberta": 30,
}

every_family = pytest.mark.parametrize("family", FAMILIES)


def test_the_sweep_is_complete() -> None:
    assert set(_POOLED) == set(TOKENIZERS) == set(FAMILIES)


def tokenized(tokenizer: PreTrainedTokenizerBase, *, pairs: bool = False) -> TokenizedTask:
    """Texts of several lengths, one of which quotes the token that may end texts."""
    quoted = tokenizer.eos_token or tokenizer.sep_token
    texts = ["bad", f"good {quoted} bad", "good words then more bad"]
    rows = [(text, "word") if pairs else (text,) for text in texts]
    split = Split(rows, [0, 1, 0])
    columns = ("first", "second")[: len(rows[0])]
    task = Task("tiny", columns, ("no", "yes"), "accuracy", split, {"validation": split})
    return tokenize(task, tokenizer, max_length=30)


def classify(model: PreTrainedModel, data: TokenizedTask, rows: list[int]) -> Tensor:
    inputs, _ = collate(data, data.train, rows, torch.device("cpu"))
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
@every_family
def test_logits_do_not_depend_on_padding(family: str, pairs: bool, folders) -> None:
    model, tokenizer = loading.load(str(folders(family)), num_labels=2)
    data = tokenized(tokenizer, pairs=pairs)
    assert len(set(data.train.lengths.tolist())) == 3
    process_group = classify(model, data, [0, 1, 2])
    alone = torch.cat([classify(model, data, [row]) for row in range(3)])
    torch.testing.assert_close(process_group, alone, rtol=0, atol=1e-6)
    # So that the comparison says something: the texts are told apart.
    assert float((alone[0] - alone[2]).abs().max()) > 1e-4


@every_family
def test_the_head_sees_the_right_token(family: str, folders) -> None:
    model, tokenizer = loading.load(str(folders(family)), num_labels=2)
    data = tokenized(tokenizer)
    inputs, _ = collate(data, data.train, [0, 1, 2], torch.device("cpu"))
    states: list[Tensor] = []

    def keep(module: object, given: object, output: tuple[Tensor, ...]) -> None:
        output[0].retain_grad()
        states.append(output[0])

    model.base_model.register_forward_hook(keep)
    model(**inputs).logits[:, 0].sum().backward()
    assert states[0].grad is not None
    seen = states[0].grad.abs().sum(-1) > 0
    real = [torch.nonzero(mask).flatten() for mask in inputs["attention_mask"]]
    position, token = _POOLED[family]
    expected = [[int(places[position])] for places in real]
    assert [torch.nonzero(row).flatten().tolist() for row in seen] == expected
    assert tokenizer.convert_ids_to_tokens(inputs["input_ids"][seen].tolist()) == [token] * 3


@every_family
def test_a_saved_pretrained_model_loads_with_a_head_of_its_seed(family: str, folders) -> None:
    loaded, tokenizer = loading.load(str(folders(family)), num_labels=2, head_seed=1)
    torch.manual_seed(7)
    again, _ = loading.load(str(folders(family)), num_labels=2, head_seed=1)
    assert state_digest(loaded) == state_digest(again)
    saved = pretrained(family).base_model.state_dict()
    for name, tensor in loaded.base_model.state_dict().items():
        if "pooler" not in name:
            assert torch.equal(tensor, saved[name]), name
    longest = loading.longest_input(loaded, tokenizer)
    assert longest == _LONGEST[family] if family in _LONGEST else longest > 10**6


@every_family
def test_pairs_have_token_types_where_the_model_reads_them(family: str, folders) -> None:
    _, tokenizer = loading.load(str(folders(family)), num_labels=2)
    columns = tokenized(tokenizer, pairs=True).train.columns
    assert ("token_type_ids" in columns) == (family in _TOKEN_TYPES)
    assert family not in _TOKEN_TYPES or {0, 1} <= set(columns["token_type_ids"].tolist())


@every_family
def test_the_tokenizer_fits_the_model_whatever_was_saved(
    family: str, folders, tmp_path: Path
) -> None:
    folder = shutil.copytree(folders(family), tmp_path / "model")
    inputs = ["input_ids", "attention_mask"]
    side, other = ("left", "right") if family == "XLNet" else ("right", "left")
    if family in _TOKEN_TYPES:
        wrong, right = inputs, {*inputs, "token_type_ids"}
    else:
        wrong, right = [*inputs, "token_type_ids"], {*inputs}
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "padding_side": other, "model_input_names": wrong}))
    saved = AutoTokenizer.from_pretrained(folder)
    assert (saved.padding_side, saved.model_input_names) == (other, wrong)
    _, tokenizer = loading.load(str(folder), num_labels=2)
    assert (tokenizer.padding_side, set(tokenizer.model_input_names)) == (side, right)


@every_family
def test_special_tokens_written_in_a_text_are_text(family: str, folders) -> None:
    _, tokenizer = loading.load(str(folders(family)), num_labels=2)
    data = tokenized(tokenizer)
    ids = data.train.columns["input_ids"].split(data.train.lengths.tolist())
    special = [token for token in tokenizer.all_special_ids if token != tokenizer.unk_token_id]
    counts = [sum(token in special for token in text.tolist()) for text in ids]
    assert counts == [counts[0]] * 3
