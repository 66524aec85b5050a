"""The model as a function of z under other people's training code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from scripts.families import batch, tiny
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from d90.subspace import Subspace, attach

METHODS = ("did", "said")


def randomize(subspace: Subspace) -> None:
    with torch.no_grad():
        for vector in subspace.parameters():
            vector.add_(torch.linspace(-0.2, 0.3, len(vector)))


def gradient(model: nn.Module) -> list[Tensor]:
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return gradients


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("family", ["Bert", "T5", "GPT2"])
def test_gradient_checkpointing_of_transformers(family: str, method: str, reentrant: bool) -> None:
    model, inputs = tiny(family), batch()
    randomize(attach(model, d=40, method=method))
    model.train()
    model(**inputs).loss.backward()
    expected = gradient(model)
    assert callable(model.gradient_checkpointing_enable)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model(**inputs).loss.backward()
    for got, want in zip(gradient(model), expected, strict=True):
        torch.testing.assert_close(got, want)


def test_compile() -> None:
    torch.compiler.reset()
    model, inputs = tiny("Bert", num_hidden_layers=1), batch()
    randomize(attach(model, d=40, method="said"))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        model(**inputs).loss.backward()
        expected = gradient(model)
        compiled(**inputs).loss.backward()
        # An eager pass after a compiled one must not lean on the compiled backward.
        loss = model(**inputs).loss
        for got, want in zip(gradient(model), expected, strict=True):
            torch.testing.assert_close(got, want)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch.testing.assert_close(compiled(**inputs).loss, model(**inputs).loss)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_accelerate(precision: str, tmp_path: Path) -> None:
    model = tiny("Bert")
    subspace = attach(model, d=40, method="said")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    model, optimizer = accelerator.prepare(model, optimizer)
    inputs = batch()
    losses = []
    for step in range(6):
        with accelerator.accumulate(model):
            loss = model(**inputs).loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        if step == 2:
            accelerator.save_state(str(tmp_path))
    assert losses[-1] < losses[0]
    accelerator.load_state(str(tmp_path))
    again = model(**inputs).loss
    assert again.item() == losses[3]
    assert sum(p.numel() for p in subspace.parameters()) == 40


class Rows(Dataset):
    """The same few sentences, over and over."""

    def __init__(self, rows: int) -> None:
        self.batch = batch(rows)

    def __len__(self) -> int:
        return len(self.batch["labels"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: column[index] for name, column in self.batch.items()}


class Steps(TrainerCallback):
    """Counts the steps that were really made."""

    made = 0

    def on_step_end(self, *given: Any, **more: Any) -> None:
        self.made += 1


def trained(
    folder: Path, *, resume: bool = False, steps: int = 4, **options: Any
) -> tuple[Trainer, nn.Module]:
    model = tiny("Bert")
    attach(model, d=30, method="said")
    settings = TrainingArguments(
        str(folder),
        max_steps=4,
        learning_rate=0.01,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        save_strategy="steps",
        save_steps=2,
        max_grad_norm=0.0,
        optim="sgd",
        seed=3,
        **options,
    )
    counter = Steps()
    trainer = Trainer(
        model, settings, train_dataset=Rows(12), eval_dataset=Rows(4), callbacks=[counter]
    )
    trainer.train(resume_from_checkpoint=resume or None)
    assert counter.made == steps
    return trainer, model


def test_trainer_accumulates_and_resumes(tmp_path: Path) -> None:
    whole, model = trained(tmp_path / "whole", per_device_train_batch_size=6)
    parts, other = trained(
        tmp_path / "parts",
        per_device_train_batch_size=2,
        gradient_accumulation_steps=3,
    )
    assert not whole.model_accepts_loss_kwargs
    assert [p.numel() for p in model.parameters()] == [26, 4]
    for left, right in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)
    assert parts.evaluate()["eval_loss"] == pytest.approx(whole.evaluate()["eval_loss"], rel=1e-4)
    # The last two of the four steps again, from what was saved after two.
    (tmp_path / "whole/checkpoint-4").rename(tmp_path / "done")
    _, resumed = trained(tmp_path / "whole", resume=True, steps=2, per_device_train_batch_size=6)
    for left, right in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(left, right)
