"""A model with an adapter is a normal model; it switches adapters and back bit for bit."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers.tuned import tuned, tuning
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    PreTrainedModel,
    pipeline,
)

import d90
from d90 import adapters
from d90.adapters import Adapter, BaseModelInfo, Float16Codec
from d90.adapters.fingerprint import fingerprint
from d90.adapters.merge import merge
from d90.errors import D90Error
from d90.models import loading
from d90.search.subspace_config import METHODS, PROJECTIONS, SCALES

Maker = Callable[..., Adapter]


@pytest.fixture(scope="module")
def make(ready_folder: Path, toy_folder: Path) -> Maker:
    def new(**options: object) -> Adapter:
        return tuned(ready_folder, toy_folder, **options)

    return new


@pytest.fixture(scope="module")
def file(make: Maker) -> Adapter:
    return make(seed=1)


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> Path:
    """The toy task with a third class."""
    folder = tmp_path_factory.mktemp("tasks") / "three"
    folder.mkdir()
    for path in toy_folder.iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for number, row in enumerate(rows):
            if number % 5 == 0:
                row["label"] = 2
        (folder / path.name).write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


def inputs() -> dict[str, Tensor]:
    return {"input_ids": torch.tensor([[2, 5, 9, 3], [2, 6, 8, 3]])}


def logits_of(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(**inputs()).logits


def state(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", SCALES)
def test_theta_is_that_of_the_trained_model(
    ready_folder: Path, toy_folder: Path, method: str, scale: str
) -> None:
    run = tuning(ready_folder, toy_folder, method=method, scale=scale, groups="module")
    file = run.train()
    run.set_parameters(file.parameters)
    model = d90.load(str(ready_folder), file)
    assert torch.equal(logits_of(model), logits_of(run.model.eval()))
    assert type(model).__name__ == "BertForSequenceClassification"
    assert isinstance(model, BertForSequenceClassification)
    assert all(isinstance(p, torch.nn.Parameter) for p in model.parameters())


def test_switching_and_back_to_the_base(make: Maker, file: Adapter, ready_folder: Path) -> None:
    base, _ = loading.load(str(ready_folder), num_labels=2, head_seed=3)
    model = d90.load(str(ready_folder), file)
    first = state(model)
    other = make(seed=2, method="said", scale="vectors", projection="onehot")
    assert not same(state(model.switch(other)), first)
    assert same(state(model), state(d90.load(str(ready_folder), other)))
    assert model.adapter is other
    assert same(state(model.switch(None)), state(base))
    assert model.adapter is None
    assert same(state(model.switch(file)), first)


def test_switching_to_another_head_seed_and_other_classes(
    make: Maker, file: Adapter, ready_folder: Path, three_classes: Path
) -> None:
    model = d90.load(str(ready_folder), file)
    first = state(model)
    other = make(head_seed=9)
    assert same(state(model.switch(other)), state(d90.load(str(ready_folder), other)))
    three = tuned(ready_folder, three_classes)
    assert same(state(model.switch(three)), state(d90.load(str(ready_folder), three)))
    assert logits_of(model).shape == (2, 3)
    assert (model.num_labels, model.config.num_labels) == (3, 3)
    assert model.config.id2label == {0: "0", 1: "1", 2: "2"}
    assert same(state(model.switch(file)), first)
    assert (model.num_labels, model.config.id2label) == (2, {0: "0", 1: "1"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: replace(f, base=BaseModelInfo("roberta-base", "abc", "12" * 32, D=9)),
            r"its base model is 'roberta-base' at revision abc with the fingerprint 121212121212, "
            r"and '.*tiny model' has .* as base",
        ),
        (lambda f: replace(f, base=replace(f.base, head_seed=4)), "fingerprint"),
        (lambda f: replace(f, base=replace(f.base, D=f.base.D + 1)), "it is for D = "),
        (lambda f: replace(f, base=replace(f.base, dtype="int4")), "dtype 'int4': unknown"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_touched(
    file: Adapter, ready_folder: Path, change: Callable[[Adapter], Adapter], message: str
) -> None:
    wrong = change(file)
    with pytest.raises(D90Error, match=message):
        d90.load(str(ready_folder), wrong)
    model = d90.load(str(ready_folder), file)
    before = state(model)
    with pytest.raises(D90Error):
        model.switch(wrong)
    assert same(state(model), before)
    assert model.adapter is file


def test_the_base_is_found_by_the_adapter(
    file: Adapter, ready_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.save(tmp_path / "x.safetensors")
    with pytest.raises(
        D90Error, match=r"'tiny model' cannot be found .*: give its folder"
    ) as error:
        d90.load(None, tmp_path / "x.safetensors")
    assert "\n" not in str(error.value)
    monkeypatch.chdir(ready_folder.parent)
    model = d90.load(None, tmp_path / "x.safetensors")
    assert torch.equal(logits_of(model), logits_of(d90.load(str(ready_folder), file)))


def test_an_adapter_of_local_folders_names_no_path(
    make: Maker, ready_folder: Path, toy_folder: Path
) -> None:
    content = make(d=200).with_codec(Float16Codec()).to_bytes()
    assert len(content) < 800
    for folder in (ready_folder, toy_folder):
        assert str(folder.parent).encode() not in content
    assert adapters.from_bytes(content).base.name == ready_folder.name


def test_public_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b@c").mkdir()
    monkeypatch.chdir(tmp_path)
    assert (
        adapters.public_name(str(tmp_path / "a b@c")) == adapters.public_name("./a b@c") == "a b@c"
    )
    assert adapters.public_name("org/model@0123abc") == "org/model"
    assert adapters.public_name("minilm-l6") == "minilm-l6"
    (tmp_path / "a.gguf").touch()
    assert adapters.public_name(str(tmp_path / "a.gguf")) == "a.gguf"


def test_pipelines_and_copies(file: Adapter, ready_folder: Path, recwarn: object) -> None:
    model = d90.load(str(ready_folder), file)
    parts: Any = {"model": model, "tokenizer": model.tokenizer}
    found = pipeline("text-classification", **parts)("good word1")
    assert found[0]["label"] in {"0", "1"}
    twin = copy.deepcopy(model)
    twin.switch(None)
    assert not torch.equal(logits_of(twin), logits_of(model))
    assert model.adapter is file


def test_merged_it_needs_no_d90(file: Adapter, ready_folder: Path, tmp_path: Path) -> None:
    file.save(tmp_path / "x.safetensors")
    merge(tmp_path / "x.safetensors", tmp_path / "a merged model", base=str(ready_folder))
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "a merged model")
    model = d90.load(str(ready_folder), file)
    torch.testing.assert_close(logits_of(plain), logits_of(model), rtol=1e-6, atol=1e-6)
    assert "d90" not in (tmp_path / "a merged model" / "config.json").read_text()
    assert plain.config.id2label == {0: "0", 1: "1"}
    with pytest.raises(D90Error, match="is there already"):
        merge(tmp_path / "x.safetensors", tmp_path / "a merged model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a merged model", "x.safetensors"]


def test_a_merge_that_fails_leaves_nothing(
    file: Adapter, ready_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("d90.adapters.model.AdapterModel.save_pretrained", full)
    file.save(tmp_path / "x.safetensors")
    with pytest.raises(D90Error, match="cannot be written: No space left on device"):
        merge(tmp_path / "x.safetensors", tmp_path / "m", base=str(ready_folder))
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_bfloat16_weights(ready_folder: Path, toy_folder: Path) -> None:
    file = tuned(ready_folder, toy_folder, dtype="bfloat16")
    assert adapters.from_bytes(file.to_bytes()).base.dtype == "bfloat16"
    model = d90.load(str(ready_folder), file)
    assert model.dtype == torch.bfloat16
    with pytest.raises(D90Error, match="fingerprint"):
        d90.load(str(ready_folder), replace(file, base=replace(file.base, dtype="float32")))


def test_a_fingerprint_sees_every_weight_and_nothing_else(ready_folder: Path) -> None:
    model, _ = loading.load(str(ready_folder), num_labels=2)
    first = fingerprint(model)
    assert fingerprint(loading.load(str(ready_folder), num_labels=2)[0]) == first
    model.config.id2label = {0: "x", 1: "y"}
    assert fingerprint(model) == first
    for _, parameter in model.named_parameters():
        kept = parameter.data.clone()
        parameter.data.view(-1)[-1] += 1
        assert fingerprint(model) != first
        parameter.data.copy_(kept)
    assert fingerprint(model) == first


SCRIPT = """
import sys, torch, d90
torch.set_num_threads(int(sys.argv[1]))
inputs = torch.tensor([[2, 5, 9, 3], [2, 6, 8, 3]])
logits = []
for path in sys.argv[3:]:
    model = d90.load(sys.argv[2], path)
    with torch.no_grad():
        logits.append(model(input_ids=inputs).logits.tolist())
print(torch.get_num_threads(), logits)
"""


def test_other_threads_and_the_reference_kernel_decode_the_same(
    ready_folder: Path, toy_folder: Path, tmp_path: Path
) -> None:
    expected, paths = [], []
    for projection in PROJECTIONS:
        file = tuned(ready_folder, toy_folder, projection=projection).with_codec(Float16Codec())
        paths.append(tmp_path / f"{projection}.safetensors")
        file.save(paths[-1])
        expected.append(logits_of(d90.load(str(ready_folder), file)).numpy())
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, "2", ready_folder, *paths],
        env={**os.environ, "D90_KERNEL": "reference"},
        capture_output=True,
        text=True,
        check=True,
    )
    threads, _, logits = result.stdout.partition(" ")
    assert threads == "2"
    for actual, exact in zip(json.loads(logits), expected, strict=True):
        np.testing.assert_allclose(actual, exact, rtol=2e-6, atol=2e-6)


def test_the_base_is_loaded_at_the_revision_of_the_adapter(
    file: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading.constants, "HF_HUB_OFFLINE", True)
    base = replace(file.base, name="org/no-such-model", revision="abc123")
    with pytest.raises(D90Error, match="model 'org/no-such-model@abc123' is not a local folder"):
        d90.load(None, replace(file, base=base))
