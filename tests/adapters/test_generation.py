"""Adapters of generation: the file, its scores, completions, a plain checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import tiny
from tests.helpers.tuned import tuned, tuning
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

import d90
from d90.adapters import Adapter, from_bytes, load_adapter
from d90.adapters.adapter import GENERATION, _metadata
from d90.adapters.arithmetic import combine
from d90.adapters.fingerprint import fingerprint
from d90.adapters.generate import generate, prompt_ids
from d90.adapters.merge import merge
from d90.adapters.predict import evaluate, predict_outputs
from d90.errors import D90Error
from d90.models import loading
from d90.tasks.kinds import Generation
from d90.training import TrainConfig

LOADER = Generation().model_options
RUN: dict[str, Any] = {
    "d": 200,
    "rate": 0.1,
    "projection": "onehot",
    "training": TrainConfig(epochs=5, batch_size=8, precision="no"),
}

every_family = pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])

Made = tuple[str, Adapter]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, completions: Path) -> Callable[[str], Made]:
    """The folder of a family's model, and the adapter of a fine-tune of it."""

    @cache
    def of(family: str) -> Made:
        folder = tmp_path_factory.mktemp("models") / family
        tiny.write_language_model(folder, family)
        return str(folder), tuned(folder, completions, **RUN)

    return of


@every_family
def test_the_file(family: str, made: Callable[[str], Made]) -> None:
    folder, adapter = made(family)
    again = from_bytes(adapter.to_bytes())
    assert replace(again.task, metric_value=adapter.task.metric_value) == adapter.task
    assert (adapter.task.kind, adapter.task.labels, adapter.task.options) == (GENERATION, (), {})
    metadata = _metadata(adapter)
    assert metadata["kind"] == "generation" and "labels" not in metadata
    assert metadata["task"] == "completions prompt"
    model, _ = loading.load(folder, **LOADER)
    # A tied table counts once, and no head is added.
    assert adapter.base.fingerprint == fingerprint(model)
    assert sum(p.numel() for p in model.parameters()) == adapter.base.D
    assert Generation.name == GENERATION


@every_family
def test_evaluation_is_that_of_training(
    family: str, made: Callable[[str], Made], completions: Path
) -> None:
    folder, adapter = made(family)
    model = d90.load(folder, adapter)
    found = evaluate(model, d90.load_task(completions))["validation"]
    assert found.rows == 64
    assert set(found.metrics) == {"token_accuracy", "exact_match"}
    assert found.metrics["token_accuracy"] == pytest.approx(adapter.task.metric_value)
    base = loading.load(folder, **LOADER)[0]
    alone = evaluate(d90.load(folder, moved(adapter, 0)), d90.load_task(completions))["validation"]
    assert torch.equal(next(base.parameters()), next(model.switch(None).parameters()))
    # The reference is the model itself at z = 0.
    assert alone.majority == alone.metrics["token_accuracy"] == found.majority
    assert found.losses["nll"] < 0.8 * alone.losses["nll"]
    assert found.metrics["token_accuracy"] > found.majority


def moved(adapter: Adapter, scale: float) -> Adapter:
    return d90.adapters.new_adapter(
        adapter.parameters * scale, adapter.subspace, adapter.base, adapter.task
    )


@every_family
def test_generate_uses_the_cache_and_gives_the_same_tokens(
    family: str, made: Callable[[str], Made]
) -> None:
    folder, adapter = made(family)
    model: Any = d90.load(folder, adapter)
    assert model.config.use_cache and model.can_generate()
    ids = prompt_ids(model, "good word1")
    lengths: list[int] = []
    table = model.get_decoder().get_input_embeddings()
    hook = table.register_forward_hook(lambda _, given, __: lengths.append(given[0].shape[1]))
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "eos_token_id": []}
    cached = model.generate(ids, **options)
    # After the first pass, one token each.
    assert len(lengths) == 8 and lengths[1:] == [1] * 7
    hook.remove()
    assert torch.equal(cached, model.generate(ids, **options, use_cache=False))
    apart = model.config.is_encoder_decoder
    step = ids
    for position in range(8):
        inputs = {"input_ids": ids, "decoder_input_ids": cached[:, : position + 1]} if apart else {
            "input_ids": cached[:, : ids.shape[1] + position]
        }  # fmt: skip
        step = model(**inputs).logits[:, -1].argmax(-1)
        assert step.item() == cached[0, position + (1 if apart else ids.shape[1])]


@every_family
def test_completions_are_those_that_match_exactly(
    family: str, made: Callable[[str], Made], completions: Path
) -> None:
    folder, adapter = made(family)
    model: Any = d90.load(folder, adapter)
    task = d90.load_task(completions)
    split = task.evaluation["validation"]
    pieces: list[str] = []
    right = 0
    for (prompt,), completion in zip(split.texts, split.labels, strict=True):
        pieces.clear()
        text = generate(model, prompt, on_text=pieces.append)
        assert "".join(pieces) == text
        right += text == completion
    assert right / 64 == evaluate(model, task)["validation"].metrics["exact_match"]
    assert 0 < right < 64
    model.generation_config.eos_token_id = None
    pieces.clear()
    text = generate(model, "good", max_new_tokens=6, on_text=pieces.append)
    assert len(pieces) > 1 and "".join(pieces) == text  # Word by word.


def test_the_cleaned_generation_config(made: Callable[[str], Made], tmp_path: Path) -> None:
    folder, adapter = made("gpt2")
    model, tokenizer = loading.load(folder, **LOADER)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "generation_config.json"
    greedy = generate(d90.load(folder, adapter), "good word1", max_new_tokens=8)
    given = {"num_beams": 3, "forced_bos_token_id": 7, "min_new_tokens": 6, "eos_token_id": [5, 6]}
    file.write_text(json.dumps(json.loads(file.read_text()) | given))
    loaded: Any = d90.load(str(tmp_path), adapter)
    config = loaded.generation_config
    # A conversation may end with a token of its own.
    assert (config.eos_token_id, config.num_beams) == ([3, 5, 6], None)
    loaded.generation_config.eos_token_id = [3]
    assert generate(loaded, "good word1", max_new_tokens=8) == greedy


def test_sampling_is_a_function_of_the_seed(made: Callable[[str], Made]) -> None:
    model = d90.load(*made("gpt2"))
    state = torch.random.get_rng_state()
    texts = [generate(model, "good", temperature=5.0, seed=s, max_new_tokens=9) for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert torch.equal(torch.random.get_rng_state(), state)
    cold = generate(model, "good", temperature=1e-4, max_new_tokens=9)
    assert cold == generate(model, "good", max_new_tokens=9)


def test_a_completion_stops_at_the_longest_input(made: Callable[[str], Made]) -> None:
    model: Any = d90.load(*made("gpt2"))
    model.generation_config.eos_token_id = None
    text = generate(model, "good " * 25, max_new_tokens=500)
    assert len(text.split()) <= 32 - 26
    with pytest.raises(D90Error, match=r"33 tokens and .* takes at most 32, its completion"):
        generate(model, "good " * 32)


@every_family
def test_a_plain_checkpoint_has_the_same_logits(
    family: str, made: Callable[[str], Made], tmp_path: Path
) -> None:
    folder, adapter = made(family)
    adapter.save(tmp_path / "a.st")
    auto = AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM
    assert merge(tmp_path / "a.st", tmp_path / "merged", base=folder) == auto.__name__
    plain: Any = auto.from_pretrained(tmp_path / "merged")
    model: Any = d90.load(folder, adapter)
    ids = prompt_ids(model, "good word1")
    extra = {"decoder_input_ids": ids} if family == "t5" else {}
    with torch.no_grad():
        assert torch.equal(plain(input_ids=ids, **extra).logits, model(ids, **extra).logits)
        assert torch.equal(*(each.generate(ids, max_new_tokens=9) for each in (plain, model)))
    assert plain.config.use_cache
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert tokenizer("good")["input_ids"][:2] == [2, 4]


def test_a_plain_checkpoint_has_the_chat_template_of_the_training(
    made: Callable[[str], Made], tmp_path: Path
) -> None:
    folder, adapter = made("gpt2")
    template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    task = replace(adapter.task, options={"chat_template": template})
    replace(adapter, task=task).save(tmp_path / "a.st")
    merge(tmp_path / "a.st", tmp_path / "merged", base=folder)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.chat_template == template


def test_codecs_by_token_accuracy(made: Callable[[str], Made], completions: Path) -> None:
    folder, adapter = made("gpt2")
    tuner = tuning(Path(folder), completions, **RUN)
    file = tuner.train()
    assert file.to_bytes() == adapter.to_bytes()
    # What a run is compared with, whether it has diverged or collapsed.
    assert isinstance(tuner.data.kind, Generation) and tuner.data.kind.initial
    choice = tuner.choose_codec(file, "auto", tolerance=0.02)
    assert choice.file.codec != "float32" and choice.tried[-1].kept
    assert [trial.size for trial in choice.tried] == sorted(trial.size for trial in choice.tried)
    assert choice.metric >= file.task.metric_value - 0.02
    found = evaluate(d90.load(folder, choice.file), d90.load_task(completions))["validation"]
    assert found.metrics["token_accuracy"] == pytest.approx(choice.metric)


def test_the_pattern_of_answers_is_in_the_file(
    made: Callable[[str], Made], completions: Path
) -> None:
    folder, _ = made("llama")
    options = {"answer_pattern": r"(great|bad) ?\S*", "max_new_tokens": 4}
    file = from_bytes(tuned(Path(folder), completions, **RUN, **options).to_bytes())
    assert file.task.metric == "exact_match"
    assert file.task.options == {name: str(value) for name, value in options.items()}
    found = evaluate(d90.load(folder, file), d90.load_task(completions, metric="exact_match"))
    scores = found["validation"].metrics
    assert scores["exact_match"] == pytest.approx(file.task.metric_value, abs=5e-5)
    whole = replace(file, task=replace(file.task, options={}))
    other = evaluate(d90.load(folder, whole), d90.load_task(completions))["validation"].metrics
    assert other["exact_match"] < scores["exact_match"]
    assert other["token_accuracy"] == scores["token_accuracy"]


def test_choices_are_those_of_the_training_split(
    made: Callable[[str], Made], completions: Path
) -> None:
    folder, _ = made("llama")
    file = tuned(Path(folder), completions, **RUN, metric="choice_accuracy")
    file = from_bytes(file.to_bytes())
    task = d90.load_task(completions, metric="choice_accuracy")
    scores = evaluate(d90.load(folder, file), task)["validation"]
    assert scores.metrics["choice_accuracy"] == pytest.approx(file.task.metric_value, abs=5e-5)
    assert scores.metrics["choice_accuracy"] > scores.majority


def test_a_file_at_d_200_is_under_a_kilobyte(made: Callable[[str], Made], tmp_path: Path) -> None:
    _, adapter = made("gpt2")
    size = adapter.with_codec(d90.adapters.Float16Codec()).save(tmp_path / "a.st")
    assert adapter.d == 200 and size < 1000
    assert load_adapter(tmp_path / "a.st").task.kind == GENERATION


@pytest.mark.parametrize(("columns", "rows"), [
    ("messages", {"messages": [
        {"role": "user", "content": "good"}, {"role": "assistant", "content": "great"}]}),
    ("", {"text": "good great"}),
])  # fmt: skip
def test_other_columns(
    columns: str, rows: dict[str, Any], made: Callable[[str], Made], tmp_path: Path
) -> None:
    folder, _ = made("gpt2")
    model, tokenizer = loading.load(folder, **LOADER)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}assistant {% endif %}"
    )
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    task = tmp_path / "task"
    task.mkdir()
    lines = f"{json.dumps(rows)}\n{json.dumps(rows).replace('great', 'awful')}\n"
    for name in ("train", "validation"):
        (task / f"{name}.jsonl").write_text(lines)
    adapter = from_bytes(tuned(tmp_path / "model", task).to_bytes())
    assert adapter.task.text_columns == ((columns,) if columns else ())
    model = d90.load(str(tmp_path / "model"), adapter)
    again = d90.load_task(task, task_kind=GENERATION, text_columns=adapter.task.text_columns)
    assert again == d90.load_task(task)
    assert evaluate(model, again)["validation"].rows == 2
    found = {chat: prompt_ids(model, "good", chat=chat)[0].tolist() for chat in (True, False, None)}
    # user and assistant are unknown words; a plain text begins with 2.
    assert found[True] == [1, 4, 1] and found[False] == [2, 4]
    assert found[None] == found[columns == "messages"]


def test_switching(made: Callable[[str], Made]) -> None:
    folder, adapter = made("gpt2")
    model = d90.load(folder, adapter)
    before = {name: p.clone() for name, p in model.named_parameters()}
    # No tensor is of the head's seed.
    other = replace(adapter, base=replace(adapter.base, head_seed=7))
    model.switch(None).switch(other)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert combine([adapter, adapter]).task.kind == GENERATION
    model.switch(moved(adapter, 2))
    assert not any(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_another_kind_is_refused(
    made: Callable[[str], Made], ready_folder: Path, toy_folder: Path, completions: Path
) -> None:
    folder, adapter = made("gpt2")
    classifier = tuned(ready_folder, toy_folder)
    model = d90.load(str(ready_folder), classifier)
    with pytest.raises(D90Error, match="is of classification, which generates no text"):
        generate(model, "good")
    with pytest.raises(D90Error, match=r"of generation, for which .* is a model of another class"):
        model.switch(adapter)
    with pytest.raises(D90Error, match=r"of generation, which has no single .* d90 generate"):
        predict_outputs(d90.load(folder, adapter), [("good",)])
    with pytest.raises(D90Error, match=r"the adapter is of generation and .* of classification"):
        evaluate(d90.load(folder, adapter), d90.load_task(toy_folder))
    with pytest.raises(D90Error, match="temperature -1"):
        generate(model, "good", temperature=-1)


def test_plain_text_of_an_encoder_decoder(made: Callable[[str], Made]) -> None:
    folder, adapter = made("t5")
    odd = replace(adapter, task=replace(adapter.task, text_columns=()))
    with pytest.raises(D90Error, match="there is nothing to complete"):
        generate(d90.load(folder, from_bytes(odd.to_bytes())), "good")
