"""The trainers of TRL with `peft_config=D90Config(...)`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from tests.helpers.tiny import toy_generation, write_language_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from d90.errors import D90Error

pytest.importorskip("peft", reason="peft is not installed: pip install 'd90[trl]'")
pytest.importorskip("trl", reason="trl is not installed: pip install 'd90[trl]'")

from peft import AutoPeftModelForCausalLM, PeftModel
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from d90.peft import D90Config

D, STEPS = 13, 4
TOKENS = torch.arange(4, 12).view(2, 4)


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=TOKENS).logits


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def saved(folder: Path) -> int:
    vectors = load_file(folder / "adapter_model.safetensors")
    return sum(vector.numel() for vector in vectors.values())


def rows(*columns: str) -> Dataset:
    split = toy_generation().train
    prompts = [prompt for (prompt,) in split.texts]
    data = {"prompt": prompts, "completion": [f" {text}" for text in split.labels]}
    return Dataset.from_dict({column: data[column] for column in columns})


def settings(output: Path, more: dict[str, Any]) -> dict[str, Any]:
    """In float32, since bf16's autocast stays around the forward pass of a trained model."""
    return {
        "output_dir": str(output),
        "max_steps": STEPS,
        "save_steps": STEPS // 2,
        "logging_steps": 1,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.05,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        **more,
    }


def sft(model: Any, output: Path, **more: Any) -> SFTTrainer:
    return SFTTrainer(
        model,
        args=SFTConfig(**settings(output, more)),
        train_dataset=rows("prompt", "completion"),
        peft_config=D90Config(d=D, task_type="CAUSAL_LM"),
    )


def number_of_good(completions: list[str], **_: Any) -> list[float | None]:
    return [float(text.count("good")) for text in completions]


def grpo(model: Any, output: Path, peft: bool = True, **more: Any) -> GRPOTrainer:
    more = {"num_generations": 4, "max_completion_length": 6, "beta": 0.04, **more}
    return GRPOTrainer(
        model,
        reward_funcs=number_of_good,
        args=GRPOConfig(**settings(output, more)),
        train_dataset=rows("prompt"),
        peft_config=D90Config(d=D, task_type="CAUSAL_LM") if peft else None,
    )


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / request.param
    write_language_model(folder, request.param)
    return str(folder)


llama_only = pytest.mark.parametrize("base", ["llama"], indirect=True)


def load(base: str, **settings: Any) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(base, **settings)


@pytest.mark.parametrize("trainer_of", [sft, grpo], ids=["sft", "grpo"])
def test_trained_saved_loaded_resumed_merged(trainer_of: Any, base: str, tmp_path: Path) -> None:
    trainer = trainer_of(base, tmp_path)
    assert trainer.args.gradient_checkpointing  # TRL's default.
    trainer.train()
    model = cast(PeftModel, trainer.model)
    after, theta_0 = logits(model), logits(load(base))
    assert count(model) == D
    assert not torch.allclose(after, theta_0)
    with model.disable_adapter():
        assert torch.equal(logits(model), theta_0)

    done = tmp_path / f"checkpoint-{STEPS}"
    assert saved(done) == D
    assert torch.equal(logits(PeftModel.from_pretrained(load(base), str(done))), after)
    assert torch.equal(logits(AutoPeftModelForCausalLM.from_pretrained(str(done))), after)

    done.rename(tmp_path / "done")
    resumed = trainer_of(base, tmp_path)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == STEPS
    assert torch.equal(logits(resumed.model), after)

    merged = cast(PreTrainedModel, model.merge_and_unload())
    merged.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(load(str(tmp_path / "merged"))), after)


@llama_only
def test_sft_learns(base: str, tmp_path: Path) -> None:
    trainer = sft(base, tmp_path, max_steps=30, save_strategy="no")
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_the_reference_of_grpo_is_theta_0(base: str, tmp_path: Path) -> None:
    trainer = grpo(base, tmp_path, disable_dropout=True)
    trainer.train()
    first, *others = [entry["kl"] for entry in trainer.state.log_history if "kl" in entry]
    assert first == 0  # z is 0 until the first step has ended.
    assert all(kl > 0 for kl in others)


@llama_only
def test_defaults(base: str, tmp_path: Path) -> None:
    """bf16, by autocast: z and theta_0 stay in float32."""
    trainer = sft(base, tmp_path, bf16=None)
    assert trainer.args.bf16
    trainer.train()
    model = cast(PeftModel, trainer.model)
    assert {vector.dtype for vector in model.parameters()} == {torch.float32}
    loaded = PeftModel.from_pretrained(load(base), str(tmp_path / f"checkpoint-{STEPS}"))
    for name, vector in model.state_dict().items():
        assert vector.any() and torch.equal(loaded.state_dict()[name], vector)


@llama_only
def test_a_checkpoint_in_bf16(base: str, tmp_path: Path) -> None:
    """TRL trains it in float32 unless told otherwise, and transformers loads it in bf16."""
    load(base, dtype=torch.bfloat16).save_pretrained(tmp_path / "base")
    for file in Path(base).glob("tokenizer*"):
        (tmp_path / "base" / file.name).write_bytes(file.read_bytes())
    trainer = sft(str(tmp_path / "base"), tmp_path)
    trainer.train()
    done = str(tmp_path / f"checkpoint-{STEPS}")
    assert json.loads(Path(done, "adapter_config.json").read_text())["dtype"] == "float32"
    with pytest.raises(D90Error, match=r"Load the model with dtype=torch\.float32"):
        AutoPeftModelForCausalLM.from_pretrained(done)
    loaded = AutoPeftModelForCausalLM.from_pretrained(done, dtype=torch.float32)
    assert torch.equal(logits(loaded), logits(cast(nn.Module, trainer.model)))


@llama_only
def test_from_supervised_to_reinforcement(base: str, tmp_path: Path) -> None:
    """An adapter is trained further where it is, or merged and followed by a second one."""
    sft(base, tmp_path / "sft").train()
    done = str(tmp_path / "sft" / f"checkpoint-{STEPS}")
    adapter = PeftModel.from_pretrained(load(base), done, is_trainable=True)
    before = logits(adapter)
    with pytest.raises(D90Error, match="holds one at a time"):
        grpo(adapter, tmp_path, peft=False)  # TRL's reference would be a copy of the adapter.
    trainer = grpo(adapter, tmp_path, peft=False, beta=0)
    trainer.train()
    assert trainer.model is adapter and count(adapter) == D
    assert not torch.equal(logits(adapter), before)

    merged = PeftModel.from_pretrained(load(base), done).merge_and_unload()
    start = logits(merged)
    trainer = grpo(merged, tmp_path)
    trainer.train()
    model = cast(PeftModel, trainer.model)
    assert count(model) == D and not torch.equal(logits(model), start)
    with model.disable_adapter():
        assert torch.equal(logits(model), start)
