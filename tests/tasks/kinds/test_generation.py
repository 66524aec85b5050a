"""Generation: columns, tokens, the loss by transformers itself, and greedy decoding."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import tiny
from torch import Tensor
from transformers import LlamaConfig, LlamaModel, PreTrainedModel, PreTrainedTokenizerFast

from d90.errors import D90Error
from d90.executors import TrialRunner
from d90.experiments.problem import count_parameters, load_problem
from d90.models import loading
from d90.search.trial import Trial
from d90.subspace import attach
from d90.tasks import Split, Task, kind_of, load_task
from d90.tasks.kinds import Generation, Predictions
from d90.tasks.tokens import encode_pieces
from d90.training import TrainConfig
from d90.training.data import TokenizedTask, tokenize

CPU = torch.device("cpu")
LOADER = Generation().model_options

every_family = pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])

Opened = tuple[Any, PreTrainedTokenizerFast, TokenizedTask]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def of(family: str) -> Path:
        path = tmp_path_factory.mktemp("models") / family
        tiny.write_language_model(path, family)
        return path

    return of


@pytest.fixture
def opened(folder: Callable[[str], Path]) -> Callable[[str], Opened]:
    def of(family: str) -> Opened:
        model, tokenizer = loading.load(str(folder(family)), **LOADER)
        assert isinstance(tokenizer, PreTrainedTokenizerFast)
        task = tiny.toy_generation()
        return model, tokenizer, tokenize(task, tokenizer, kind=kind_of(task).on(model))

    return of


def pieces(data: TokenizedTask, row: int) -> tuple[Tensor, Tensor]:
    """The tokens of a prompt and of its completion, shape (1, tokens)."""
    split = data.train
    ids = split.columns["input_ids"][split.offsets[row] : split.offsets[row + 1]].long()[None]
    cut = ids.shape[1] - int(split.labels[row])
    return ids[:, :cut], ids[:, cut:]


def step(data: TokenizedTask, model: PreTrainedModel, rows: Sequence[int]) -> Tensor:
    return data.kind.loss(model, *data.kind.collate(data, data.train, rows, CPU))


@every_family
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_loss_is_that_of_transformers_on_each_example(
    family: str, side: str, opened: Callable[[str], Opened]
) -> None:
    model, _, data = opened(family)
    assert data.padding_side == ("right" if family == "t5" else "left")
    data, rows = replace(data, padding_side=side), list(range(16))
    expected = 0.0
    for row in rows:
        prompt, target = pieces(data, row)
        if family == "t5":
            loss = model(input_ids=prompt, labels=target).loss
        else:
            labels = torch.cat([torch.full_like(prompt, -100), target], 1)
            loss = model(input_ids=torch.cat([prompt, target], 1), labels=labels).loss
        expected += loss.item() * target.shape[1]
    assert len({int(data.train.lengths[row]) for row in rows}) > 3
    assert step(data, model, rows).item() == pytest.approx(expected, rel=1e-5)
    assert data.kind.count(data.train, rows) == sum(pieces(data, r)[1].shape[1] for r in rows)


@every_family
def test_only_completions_have_logits(family: str, opened: Callable[[str], Opened]) -> None:
    model, _, data = opened(family)
    shapes: list[tuple[int, ...]] = []
    head: Any = model.get_output_embeddings()
    head.register_forward_hook(lambda _, __, logits: shapes.append(tuple(logits.shape)))
    step(data, model, range(16))
    longest = int(data.train.labels[:16].max())
    assert shapes == [(16, longest + (family != "t5"), 14)]


@every_family
def test_greedy_decoding_gives_the_completions_that_match(
    family: str, opened: Callable[[str], Opened]
) -> None:
    model, _, data = opened(family)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    rows = list(range(48, 96))
    inputs, counts = data.kind.collate(data, data.train, rows, CPU)
    for _ in range(40):
        optimizer.zero_grad()
        step(data, model, range(48)).div(100).backward()
        optimizer.step()
        with torch.no_grad():
            found = data.kind.predict(model, inputs, counts).values
        assert torch.equal(found & 1, (found >> 2 == counts).long())
        found >>= 2
        if 0 < int((found == counts).sum()) < len(rows):
            break
    decoded = []
    for row in rows:
        prompt, target = pieces(data, row)
        generated: Any = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=target.shape[1],
            do_sample=False,
            use_cache=True,
            pad_token_id=0,
        )
        generated = generated[:, 1:] if family == "t5" else generated[:, prompt.shape[1] :]
        decoded.append(generated.tolist() == target.tolist())
    assert (found == counts).tolist() == decoded
    assert 0 < sum(decoded) < len(rows)


@every_family
def test_exactly_d_parameters_train_and_tied_tables_count_once(
    family: str, folder: Callable[[str], Path], opened: Callable[[str], Opened]
) -> None:
    model, _, data = opened(family)
    distinct = {p.data_ptr(): p.numel() for p in model.parameters()}
    D, _ = count_parameters(str(folder(family)), LOADER, "layer", "tensor")
    assert sum(distinct.values()) == D
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert (table.weight is head.weight) == (family != "llama")
    before = step(data, model, range(8)).item()
    attach(model, d=30)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 30
    assert step(data, model, range(8)).item() == before


@every_family
def test_a_run_is_measured_from_the_pretrained_model(
    family: str, folder: Callable[[str], Path]
) -> None:
    config = TrainConfig(epochs=2, batch_size=8, precision="no")
    runner = TrialRunner(str(folder(family)), tiny.toy_generation(), config, max_length=16)
    kind = runner.measured_data.kind
    assert isinstance(kind, Generation) and kind.is_encoder_decoder == (family == "t5")
    result = runner.run(Trial(200, 0.02))
    nll = result.metrics["validation/nll"]
    assert 0 < nll < kind.initial["nll"]
    assert 1 - nll / kind.initial["nll"] <= result.skills["nll"] + 1e-9
    assert result.skills["nll"] == max(epoch["nll"] for epoch in result.history)
    assert set(kind.initial_scores) == {*kind.available_metrics, "nll"}
    assert runner.data.kind != kind and runner.measured_data is runner.measured_data


def test_a_problem_has_the_floor_of_the_pretrained_model(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = zip(tiny.toy_generation().train.texts, tiny.toy_generation().train.labels, strict=True)
    path = write(tmp_path, [{"prompt": text, "completion": label} for (text,), label in rows])
    problem = load_problem(str(folder("gpt2")), path, criterion="nll", max_length=16)
    kind = problem.runner.measured_data.kind
    assert isinstance(kind, Generation) and problem.kind is kind
    words = [word for label in problem.task.train.labels for word in f"{label} [SEP]".split()]
    share = max(words.count(word) for word in set(words)) / len(words)
    assert problem.majority == share > kind.initial["token_accuracy"]
    assert (problem.reference, problem.floor_reference) == ("majority token", "pretrained model")
    assert (problem.floor, problem.criterion) == (0.0, "nll")
    by_metric = replace(problem, criterion="token_accuracy")
    assert (by_metric.floor, by_metric.floor_reference) == (share, "majority token")


def test_the_floor_is_the_better_of_the_pretrained_model_and_a_constant() -> None:
    split = encode_pieces([[9, 4, 3], [9, 5, 5, 3], [4, 3]], [2, 3, 2])
    kind = Generation().from_initial(split, [2, 3, 2], Predictions([4, 4, 0], {"nll": 2.0}))
    assert kind.initial == {"token_accuracy": 2 / 7, "exact_match": 0.0, "nll": 2.0}
    shares = {"exact_match": 2 / 3, "choice_accuracy": 2 / 3}
    assert kind.constants == {"token_accuracy": 3 / 7, **shares}
    assert kind.constant_score("token_accuracy", ()) == 3 / 7
    assert kind.reference_of("token_accuracy") == "majority token"
    assert kind.reference_of("exact_match") == "majority completion"
    assert kind.has_collapsed([0, 15, 0], 3 / 7) and not kind.has_collapsed([9, 8, 0], 4 / 7)
    assert kind.skills([2, 3, 2], Predictions([4, 4, 0], {"nll": 0.5})) == {"nll": 0.75}
    better = Generation().from_initial(split, [2, 3, 2], Predictions([4, 13, 4], {"nll": 2.0}))
    assert better.constant_score("token_accuracy", ()) == 5 / 7
    assert better.reference_of("token_accuracy") == "pretrained model"
    assert better.reference_of("exact_match") == "majority completion"
    assert better.initial["exact_match"] == 1 / 3
    assert better.has_collapsed([9, 13, 0], 5 / 7) and not better.has_collapsed([9, 13, 4], 6 / 7)
    assert Generation().skills([2], Predictions([1], {"nll": 0.5})) == {}
    with pytest.raises(D90Error, match="has not been scored"):
        Generation().constant_score("exact_match", ())


def write(path: Path, rows: Sequence[Mapping[str, Any]], validation: Any = None) -> Path:
    for name, of in (("train", rows), ("validation", rows if validation is None else validation)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of))
    return path


def chat(*contents: str, role: str = "assistant") -> dict[str, Any]:
    roles = [*("user", "assistant") * 3][: len(contents) - 1]
    pairs = zip([*roles, role], contents, strict=True)
    return {"messages": [{"role": r, "content": content} for r, content in pairs]}


PROMPTS = [{"prompt": "good", "completion": "great"}, {"prompt": "bad", "completion": "awful"}]
CHATS = [chat("good", "great"), chat("bad", "awful", "bad", "good")]


def test_columns_are_found(tmp_path: Path) -> None:
    task = load_task(write(tmp_path, PROMPTS))
    assert (task.kind, task.text_columns, task.metric) == (
        "generation",
        ("prompt",),
        "token_accuracy",
    )
    assert (task.train.texts, task.train.labels) == ((("good",), ("bad",)), ("great", "awful"))
    task = load_task(write(tmp_path, CHATS))
    assert task.kind == "generation"
    assert task.train.texts[1] == ("user", "bad", "assistant", "awful", "user", "bad")
    assert task.train.labels == ("great", "good")
    task = load_task(write(tmp_path, [{"text": "good bad"}, {"text": "bad"}]))
    assert (task.kind, task.train.texts) == ("generation", ((), ()))
    other = [{"q": "good", "a": "great"}, {"q": "bad", "a": "awful"}]
    options: dict[str, Any] = {"text_columns": ["q"], "label_column": "a"}
    task = load_task(write(tmp_path, other), task_kind="generation", **options)
    assert task.train == load_task(write(tmp_path, PROMPTS)).train


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        ([{"text": "a", "lable": "b"}], {}, "no column 'label' in"),
        ([{"text": "a", "lable": "b"}], {}, "generation needs the columns prompt and completion"),
        ([{"words": "a"}], {}, "no text column found by name in"),
        ([{"words": "a"}], {"task_kind": "generation"}, "no columns prompt and completion"),
        ([{**row, "text": "a", "label": i} for i, row in enumerate(PROMPTS)], {},
         "fits classification and generation"),
        ([{"prompt": "a", "completion": ""}], {}, "row 1: empty completion in column 'completion'"),
        ([PROMPTS[0], {"prompt": "a"}], {}, "row 2: empty completion"),
        ([PROMPTS[0], {"prompt": "a", "completion": 5}], {}, "row 2: 5 is no text"),
        ([PROMPTS[0], {"prompt": None, "completion": "b"}], {}, "row 2: no text in column"),
        ([PROMPTS[0], PROMPTS[0]], {}, "every completion in column 'completion' is the same"),
        ([CHATS[0], chat("a", "b", role="user")], {}, "the last one the assistant's"),
        ([CHATS[0], chat("b")], {}, "expected two messages or more"),
        ([CHATS[0], {"messages": ["a", "b"]}], {}, "a message has a role (system, user"),
        ([CHATS[0], {"messages": 5}], {}, "row 2: 5 is no text"),
        (PROMPTS, {"metric": "accuracy"}, "unknown metric 'accuracy'"),
        (PROMPTS, {"task_kind": "generation", "text_columns": ["prompt", "completion"]},
         "must name one column of prompts"),
    ],
)  # fmt: skip
def test_data_of_no_kind(
    tmp_path: Path, rows: Sequence[Mapping[str, Any]], options: Any, expected: str
) -> None:
    with pytest.raises(D90Error) as raised:
        load_task(write(tmp_path, rows), **options)
    assert expected in str(raised.value) and "\n" not in str(raised.value)


def task_of(texts: tuple[str, ...], completion: str) -> Task:
    split = Split([texts], [completion])
    return replace(tiny.toy_generation(), train=split, evaluation={"validation": split})


@pytest.mark.parametrize(
    ("texts", "completion", "tokens", "count"),
    [
        # The numbers of tiny.tokenizer: 2 begins a text, 3 ends it, 4 and 5 are good and great.
        (("good",), "great", [2, 4, 5, 3], 2),
        ((), "good great", [2, 4, 5, 3], 3),
        (("user", "good"), "great good", [1, 4, 1, 5, 4], 2),
        (("good [SEP]",), "great", [2, 4, 1, 1, 1, 5, 3], 2),
    ],
)
def test_tokens(texts: tuple[str, ...], completion: str, tokens: list[int], count: int) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "[SEP]"
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}assistant {% endif %}"
    )
    data = tokenize(task_of(texts, completion), tokenizer)
    assert data.train.columns["input_ids"].tolist() == tokens
    assert data.train.labels.tolist() == [count]


@pytest.mark.parametrize(
    ("texts", "completion", "expected"),
    [
        (("good " * 9,), "bad", "row 0: 10 tokens of prompt and 2 of completion, above max_length"),
        (("user", "good"), "bad", "has no chat template"),
        (("good",), " ", "its completion has no token"),
    ],
)
def test_what_cannot_be_tokenized(texts: tuple[str, ...], completion: str, expected: str) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "[SEP]"
    with pytest.raises(D90Error, match=expected):
        tokenize(task_of(texts, completion), tokenizer, max_length=11)


def test_what_is_no_language_model(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(D90Error, match=r"is an encoder \(bert\), which generates no text"):
        loading.load(str(tiny_folder), **LOADER)
    tiny.write_language_model(tmp_path, "llama")
    shape = LlamaConfig.from_pretrained(tmp_path)
    LlamaModel(shape).save_pretrained(tmp_path)
    with pytest.raises(D90Error, match="1 tensors of the language model are missing"):
        loading.load(str(tmp_path), **LOADER)


TEMPLATE = "{% for m in messages %}{{ m.content }} {% endfor %}"


def test_a_chat_template_takes_the_place_of_the_tokenizers(tmp_path: Path) -> None:
    path, tokenizer = write(tmp_path, CHATS), tiny.tokenizer()
    file = tmp_path / "chat.jinja"
    file.write_text(TEMPLATE)
    task, plain = load_task(path, chat_template=str(file)), load_task(path)
    assert task.options == load_task(path, chat_template=TEMPLATE).options
    assert task.digest() != plain.digest() and task.metric == plain.metric
    assert tokenize(task, tokenizer).train.columns["input_ids"].tolist() == [4, 5, 6, 7, 6, 4]
    both = load_task(path, chat_template=TEMPLATE, metric="choice_accuracy")
    assert both.options == {"chat_template": TEMPLATE, "choices": "train"}


@pytest.mark.parametrize(
    ("rows", "template", "expected"),
    [
        (CHATS, "{% for", "chat_template cannot be rendered"),
        (CHATS, "{{ messages[9].content.x }}", "chat_template cannot be rendered"),
        (PROMPTS, TEMPLATE, "chat_template: for conversations, in the column messages"),
        (CHATS, "nowhere.jinja", "nowhere.jinja"),
    ],
)
def test_chat_templates_that_are_refused(
    tmp_path: Path, rows: Sequence[Mapping[str, Any]], template: str, expected: str
) -> None:
    with pytest.raises(D90Error) as raised:
        tokenize(load_task(write(tmp_path, rows), chat_template=template), tiny.tokenizer())
    assert expected in str(raised.value) and "\n" not in str(raised.value)
