"""d90 as a method of PEFT."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from scripts.families import batch, tiny
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)

from d90.errors import D90Error
from d90.models import loading
from d90.models.heads import initialize
from d90.subspace import Subspace, attach, merge

pytest.importorskip("peft")

from peft import AutoPeftModelForSequenceClassification, LoraConfig, PeftModel, get_peft_model

from d90.peft import D90Config

# PEFT asks for it at every start.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")

METHODS = ("did", "said")
WEIGHTS = "adapter_model.safetensors"


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(**batch()).logits


def adapted(model: nn.Module | None = None, **settings: Any) -> PeftModel:
    config = D90Config(**{"d": 40, "task_type": "SEQ_CLS", **settings})
    return cast(PeftModel, get_peft_model(tiny("Bert") if model is None else model, config))


def train(model: nn.Module, **more: Tensor) -> list[float]:
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=0.02)
    losses = []
    for _ in range(8):
        loss = model(**{**batch(), **more}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def trained(model: nn.Module | None = None, **settings: Any) -> PeftModel:
    peft_model = adapted(model, **settings)
    train(peft_model)
    return peft_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trained adapter of the tiny model."""
    trained().save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "task_type", [None, "SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"]
)
def test_exactly_d_numbers_whatever_the_task(task_type: str | None, method: str) -> None:
    base = logits(tiny("Bert"))
    model = adapted(task_type=task_type, method=method)
    shapes = [tuple(p.shape) for p in model.parameters() if p.requires_grad]
    assert shapes == ([(40,)] if method == "did" else [(36,), (4,)])
    assert torch.equal(logits(model), base)
    losses = train(model)
    assert losses[-1] < losses[0]


def test_a_generator() -> None:
    model = adapted(tiny("GPT2", head="LMHeadModel"), task_type="CAUSAL_LM")
    assert model.get_nb_trainable_parameters()[0] == 40
    tokens = batch()["input_ids"][:1, :3]
    assert model.generate(input_ids=tokens, max_new_tokens=2, do_sample=False).shape == (1, 5)


def test_counts(capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny("Bert")
    frozen_part(model)
    D = sum(p.numel() for p in model.parameters())
    model = adapted(model, method="said")
    assert model.get_nb_trainable_parameters() == (40, D + 40)
    model.print_trainable_parameters()
    assert capsys.readouterr().out.startswith(f"trainable params: 40 || all params: {D + 40:,d} ")
    status = model.get_model_status()
    assert status.peft_types == {"default": "D90"} and status.available_adapters == ["default"]


@pytest.mark.parametrize("method", METHODS)
def test_saved_and_loaded(method: str, tmp_path: Path) -> None:
    model = trained(method=method, projection="onehot", scale="rms", seed=7)
    model.save_pretrained(str(tmp_path))
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    assert sum(vector.numel() for vector in load_file(tmp_path / WEIGHTS).values()) == 40
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["peft_type"] == "D90" and settings["scheme"] == "philox-v1"
    loaded = PeftModel.from_pretrained(tiny("Bert"), str(tmp_path))
    assert torch.equal(logits(loaded), logits(model))
    assert loaded.get_nb_trainable_parameters()[0] == 0
    more = PeftModel.from_pretrained(tiny("Bert"), str(tmp_path), is_trainable=True)
    assert more.get_nb_trainable_parameters()[0] == 40
    assert train(more)[-1] < model(**batch()).loss


def test_found_by_its_folder_alone(tmp_path: Path) -> None:
    cast(PreTrainedModel, tiny("Bert")).save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    model = trained(base)
    model.save_pretrained(str(tmp_path / "adapter"))
    loaded = AutoPeftModelForSequenceClassification.from_pretrained(str(tmp_path / "adapter"))
    assert torch.equal(logits(loaded), logits(model))


@pytest.mark.parametrize("method", METHODS)
def test_switched_off_and_on(method: str, tmp_path: Path) -> None:
    base, model = logits(tiny("Bert")), trained(method=method)
    after = logits(model)
    with model.disable_adapter():
        assert torch.equal(logits(model), base)
        with model.disable_adapter():
            assert torch.equal(logits(model), base)
        assert torch.equal(logits(model), base)
        assert not model(**batch()).loss.requires_grad
        assert model.get_nb_trainable_parameters()[0] == 40
        model.save_pretrained(str(tmp_path))
    assert torch.equal(logits(model), after)
    assert torch.equal(logits(PeftModel.from_pretrained(tiny("Bert"), str(tmp_path))), after)
    # z may change while it is off.
    with model.disable_adapter():
        logits(model)
        for vector in model.parameters():
            vector.data.mul_(0.5)
        assert torch.equal(logits(model), base)
    half = logits(model)
    assert not torch.equal(half, after) and not torch.equal(half, base)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated")
@pytest.mark.parametrize("reentrant", [True, False])
def test_base_asked_between_forward_and_backward(reentrant: bool) -> None:
    gradients = []
    for interrupted in (False, True):
        model = trained().train()
        model.get_base_model().gradient_checkpointing_enable({"use_reentrant": reentrant})  # type: ignore[operator]
        loss = model(**batch()).loss
        if interrupted:
            with torch.no_grad(), model.disable_adapter():
                model(**batch())
        loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == 1
    assert torch.equal(gradients[0][0], gradients[1][0])


@pytest.mark.parametrize("method", METHODS)
def test_merged(method: str, tmp_path: Path) -> None:
    original = tiny("Bert")
    names, attributes = [name for name, _ in original.named_parameters()], {*vars(original)}
    model = trained(method=method)
    after = logits(model)
    merged = model.merge_and_unload(safe_merge=True)
    assert type(merged) is type(original)
    assert [name for name, _ in merged.named_parameters()] == names
    assert {*vars(merged)} == attributes
    assert not any(isinstance(module, Subspace) for module in merged.modules())
    assert not merged._forward_pre_hooks and not merged._state_dict_hooks
    torch.testing.assert_close(logits(merged), after)
    cast(PreTrainedModel, merged).save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), logits(merged))


@pytest.mark.parametrize("method", METHODS)
def test_merged_in_place(method: str) -> None:
    """What TRL does to send the weights to vLLM."""
    base, model = logits(tiny("Bert")), trained(method=method)
    after, before = logits(model), [name for name, _ in model.named_parameters()]
    model.merge_adapter(safe_merge=True)
    sent = {
        name.removeprefix("base_model.model."): parameter
        for name, parameter in model.named_parameters()
        if model.prefix not in name
    }
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 40
    assert torch.equal(logits(model), after)
    model.unmerge_adapter()
    assert [name for name, _ in model.named_parameters()] == before
    assert torch.equal(logits(model), after)
    # Disabling the adapter unmerges it.
    model.merge_adapter()
    with model.disable_adapter():
        assert torch.equal(logits(model), base)
        with pytest.raises(D90Error, match="the adapter is disabled"):
            model.merge_adapter()
    assert [name for name, _ in model.named_parameters()] == before
    model.merge_adapter()
    merged = dict(model.merge_and_unload().named_parameters())
    assert {*sent} == {*merged} and [*merged] == [n for n, _ in tiny("Bert").named_parameters()]
    assert all(torch.equal(sent[name], parameter) for name, parameter in merged.items())


def test_not_finite() -> None:
    model = adapted()
    for vector in model.parameters():
        vector.data.fill_(torch.inf)
    with pytest.raises(D90Error, match="not finite"):
        model.merge_adapter(safe_merge=True)
    with pytest.raises(D90Error, match="not finite"):
        model.merge_and_unload(safe_merge=True)


def test_merged_with_ties() -> None:
    tokens = batch()["input_ids"]
    model = adapted(tiny("GPT2", head="LMHeadModel"), task_type="CAUSAL_LM")
    train(model, labels=tokens)
    with torch.no_grad():
        after = model(input_ids=tokens).logits
    merged = cast(Any, model.merge_and_unload())
    assert merged.lm_head.weight is merged.transformer.wte.weight
    torch.testing.assert_close(merged(tokens).logits, after)


def test_unloaded() -> None:
    model = trained()
    with model.disable_adapter():
        base = model.unload()
    assert torch.equal(logits(base), logits(tiny("Bert")))
    assert not hasattr(base, "peft_config")


def other_head(model: nn.Module) -> None:
    cast(Any, model).classifier.weight.data[0, 0] += 1e-6


def other_body(model: nn.Module) -> None:
    cast(Any, model.get_input_embeddings()).weight.data[3].neg_()  # type: ignore[operator]


def half_precision(model: nn.Module) -> None:
    model.to(torch.bfloat16)


def frozen_part(model: nn.Module) -> None:
    model.get_input_embeddings().requires_grad_(False)  # type: ignore[operator]


@pytest.mark.parametrize("change", [other_head, other_body, half_precision, frozen_part])
def test_another_base_is_refused(change: Any, folder: Path) -> None:
    model = tiny("Bert")
    change(model)
    with pytest.raises(D90Error, match="belongs to another model") as error:
        PeftModel.from_pretrained(model, str(folder))
    assert "\n" not in str(error.value)
    assert not hasattr(model, "subspace")


def test_another_dtype_is_named(folder: Path) -> None:
    assert json.loads((folder / "adapter_config.json").read_text())["dtype"] == "float32"
    with pytest.raises(D90Error, match=r"to float32 weights, .* bfloat16\. Load .*=torch.float32"):
        PeftModel.from_pretrained(tiny("Bert").to(torch.bfloat16), str(folder))


def test_a_config_serves_twice() -> None:
    config = D90Config(d=10)
    for seed in range(2):
        model = tiny("Bert")
        initialize(model, {"classifier.weight"}, seed)
        assert torch.equal(logits(get_peft_model(model, config)), logits(model))
    assert config.base is None


def test_head_from_a_seed(tiny_folder: Path, tmp_path: Path) -> None:
    def fresh() -> nn.Module:
        return AutoModelForSequenceClassification.from_pretrained(tiny_folder, num_labels=2)

    inputs = {"input_ids": torch.arange(6).view(2, 3), "labels": torch.tensor([1, 0])}
    model = adapted(fresh(), head_seed=5)
    expected, _ = loading.load(str(tiny_folder), num_labels=2, head_seed=5)
    for slot, tensor in cast(Any, model.get_base_model()).subspace.theta_0.items():
        assert torch.equal(tensor, expected.get_parameter(slot.name))
    train(model, **inputs)
    model.save_pretrained(str(tmp_path))
    # The head of `fresh` is another one each time.
    loaded = PeftModel.from_pretrained(fresh(), str(tmp_path))
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    with pytest.raises(D90Error, match="has no head beside a base model"):
        adapted(nn.Sequential(nn.Linear(9, 9)), head_seed=5)
    with pytest.raises(D90Error, match="head_seed is -1"):
        D90Config(d=3, head_seed=-1)


def test_one_adapter_at_a_time(folder: Path) -> None:
    model = adapted(d=20, method="said", seed=3)
    with pytest.raises(D90Error, match="holds one at a time"):
        model.load_adapter(str(folder), "other")
    assert [*model.peft_config] == ["default"]
    model.delete_adapter("default")
    model.load_adapter(str(folder), "default")
    expected = PeftModel.from_pretrained(tiny("Bert"), str(folder))
    assert torch.equal(logits(model), logits(expected))
    attached = tiny("Bert")
    attach(attached, d=5)
    with pytest.raises(D90Error, match="in a subspace already"):
        adapted(attached)


def test_a_file_that_does_not_fit(tmp_path: Path) -> None:
    trained(method="said").save_pretrained(str(tmp_path))
    vectors = load_file(tmp_path / WEIGHTS)
    save_file({key: z for key, z in vectors.items() if key.endswith("z")}, tmp_path / WEIGHTS)
    with pytest.raises(D90Error, match="the file is damaged"):
        PeftModel.from_pretrained(tiny("Bert"), str(tmp_path))


def test_bad_settings(folder: Path) -> None:
    with pytest.raises(D90Error, match="unknown projection 'fastfod'"):
        adapted(projection="fastfod")
    with pytest.raises(D90Error, match="philox-v0"):
        D90Config(d=3, scheme="philox-v0")
    with pytest.raises(D90Error, match="low_cpu_mem_usage"):
        PeftModel.from_pretrained(tiny("Bert"), str(folder), low_cpu_mem_usage=True)


def test_ddp_leaves_theta_0_alone() -> None:
    model = adapted()
    ignored = model._ddp_params_and_buffers_to_ignore
    theta_0 = [name for name, _ in model.named_buffers() if "theta_0" in name]
    assert len(theta_0) > 20 and {*ignored} == {*theta_0}


def test_trainer_resumes(tmp_path: Path) -> None:
    rows = batch(8)
    examples = [{name: column[i] for name, column in rows.items()} for i in range(8)]

    def run(resume: bool) -> tuple[Trainer, PeftModel]:
        settings = TrainingArguments(
            str(tmp_path),
            max_steps=4,
            save_steps=2,
            per_device_train_batch_size=4,
            learning_rate=0.01,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        model = adapted(method="said")
        trainer = Trainer(model, settings, train_dataset=examples)  # type: ignore[arg-type]
        trainer.train(resume_from_checkpoint=resume or None)
        return trainer, model

    trainer, whole = run(resume=False)
    assert not trainer.model_accepts_loss_kwargs
    saved = load_file(tmp_path / "checkpoint-4" / WEIGHTS)
    assert sum(vector.numel() for vector in saved.values()) == 40
    (tmp_path / "checkpoint-4").rename(tmp_path / "done")
    _, resumed = run(resume=True)
    assert torch.equal(logits(resumed), logits(whole))


def test_without_peft() -> None:
    code = """
import sys
import d90.models.loading, d90.subspace, d90.training
from d90.errors import D90Error
assert "peft" not in sys.modules
sys.modules["peft"] = None
try:
    import d90.peft
except D90Error as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "d90.peft needs the package peft: pip install 'd90[peft]'.\n"


def factors() -> PeftModel:
    torch.manual_seed(0)
    return cast(PeftModel, get_peft_model(tiny("Bert"), LoraConfig(task_type="SEQ_CLS", r=2)))


@pytest.mark.parametrize("method", METHODS)
def test_a_subspace_of_the_factors_of_lora(method: str, tmp_path: Path) -> None:
    model, base = factors(), logits(tiny("Bert"))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    subspace = attach(model, d=40, method=method)
    # P moves LoRA's factors alone: the size of the base model is not in D.
    assert {param_slice.name for param_slice in subspace.layout.slices} == trained
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 40
    assert torch.equal(logits(model), base)
    losses = train(model)
    assert losses[-1] < losses[0]
    assert all(parameter.grad is None for parameter in frozen.values())
    assert {*model.state_dict()} == {f"subspace.{name}" for name, _ in subspace.named_parameters()}

    again = factors()
    attach(again, d=40, method=method)
    again.load_state_dict(model.state_dict())
    after = logits(model)
    assert torch.equal(logits(again), after)
    merge(model)
    model.save_pretrained(str(tmp_path))
    assert torch.equal(logits(PeftModel.from_pretrained(tiny("Bert"), str(tmp_path))), after)


def test_groups_of_lora_are_the_layers() -> None:
    names = [group.name for group in attach(factors(), d=40).layout.groups]
    layers = [f"base_model.model.bert.encoder.layer.{i}" for i in range(len(names) - 1)]
    assert names == [*layers, "head"] and layers


def test_not_mixed_with_other_methods() -> None:
    model = adapted(d=5)
    with pytest.raises(ValueError, match="different peft types"):
        model.add_adapter("lora", LoraConfig())
    with pytest.raises(ValueError, match="not compatible"):
        get_peft_model(tiny("Bert"), D90Config(d=5), mixed=True)
