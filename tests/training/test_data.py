"""Tokenized splits, batches of like length, dynamic padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from d90.errors import D90Error
from d90.tasks import Split, Task
from d90.tasks.tokens import collate
from d90.training.data import evaluation_batches, tokenize, training_batches

CPU = torch.device("cpu")


def test_collate_gives_what_the_tokenizer_pads(
    toy_task: Task, tiny_tokenizer: PreTrainedTokenizerFast
):
    data = tokenize(toy_task, tiny_tokenizer)
    rows = [5, 0, 17]
    inputs, labels = collate(data, data.train, rows, CPU)
    texts = [toy_task.train.texts[row][0] for row in rows]
    expected = tiny_tokenizer(texts, padding=True, return_tensors="pt")
    assert inputs.keys() == expected.keys()
    assert all(torch.equal(inputs[name], expected[name]) for name in expected)
    assert labels.tolist() == [toy_task.train.labels[row] for row in rows]


def test_pairs_have_token_types_and_left_padding_works(
    toy_task: Task, tiny_tokenizer: PreTrainedTokenizerFast
):
    pairs = Split([("good word1", "bad"), ("word2", "word3 word4 great")], [1, 0])
    data = tokenize(replace(toy_task, train=pairs), tiny_tokenizer)
    inputs, _ = collate(replace(data, padding_side="left"), data.train, [0, 1], CPU)
    assert inputs["input_ids"][0].tolist()[0] == tiny_tokenizer.pad_token_id
    assert inputs["attention_mask"].tolist() == [[0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]]
    assert inputs["token_type_ids"][1].tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_the_columns_are_in_one_order_in_every_process(
    toy_task: Task, tiny_tokenizer: PreTrainedTokenizerFast
):
    columns = list(tokenize(toy_task, tiny_tokenizer).train.columns)
    assert len(columns) > 1
    assert columns == sorted(columns)


def test_texts_are_cut(toy_task: Task, tiny_tokenizer: PreTrainedTokenizerFast):
    assert int(tokenize(toy_task, tiny_tokenizer, max_length=5).train.lengths.max()) == 5


@pytest.mark.parametrize("options", [{"max_length": 2}, {"max_train_eval_samples": 0}])
def test_limits_that_leave_nothing(
    toy_task: Task, tiny_tokenizer: PreTrainedTokenizerFast, options: Any
):
    with pytest.raises(D90Error, match=next(iter(options))):
        tokenize(toy_task, tiny_tokenizer, **options)


def test_text_without_a_token(toy_task: Task, tiny_tokenizer: PreTrainedTokenizerFast):
    bare = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer.backend_tokenizer, pad_token="[PAD]"
    )
    bare.backend_tokenizer.post_processor = None  # pyright: ignore[reportAttributeAccessIssue]
    task = replace(toy_task, train=Split([("good",), (" ",)], [1, 0]))
    with pytest.raises(D90Error, match="split 'train', row 1: its text has no token"):
        tokenize(task, bare)


def test_probe_is_the_same_part_of_the_training_split(
    toy_task: Task, tiny_tokenizer: PreTrainedTokenizerFast
):
    data = tokenize(toy_task, tiny_tokenizer)
    assert len(data.train_eval_subset) == len(toy_task.evaluation["validation"])
    few, more = (
        tokenize(toy_task, tiny_tokenizer, max_train_eval_samples=limit).train_eval_subset
        for limit in (10, 20)
    )
    assert more.subset(range(10)).columns["input_ids"].equal(few.columns["input_ids"])
    assert (
        len(tokenize(toy_task, tiny_tokenizer, max_train_eval_samples=10**6).train_eval_subset)
        == 96
    )


def test_training_batches_have_every_row_once():
    lengths = torch.arange(1000) % 37 + 3
    batches = training_batches(lengths, 16, seed=1, epoch=0)
    assert sorted(row for batch in batches for row in batch) == list(range(1000))
    assert len(batches) == 63


def test_training_batches_group_by_length():
    lengths = torch.arange(4096) % 61 + 3
    batches = training_batches(lengths, 32, seed=1, epoch=0)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert padded < 1.05 * int(lengths.sum())
    widths = [int(lengths[batch].max()) for batch in batches]
    assert widths != sorted(widths)


def test_order_is_a_function_of_seed_and_epoch():
    lengths = torch.arange(200) % 7
    torch.manual_seed(1)
    first = training_batches(lengths, 8, seed=1, epoch=3)
    torch.manual_seed(2)
    assert training_batches(lengths, 8, seed=1, epoch=3) == first
    assert training_batches(lengths, 8, seed=1, epoch=4) != first
    assert training_batches(lengths, 8, seed=2, epoch=3) != first


def test_evaluation_batches_are_sorted_by_length():
    lengths = torch.tensor([5, 3, 9, 3, 1])
    assert evaluation_batches(lengths, 2) == [[4, 1], [3, 0], [2]]
