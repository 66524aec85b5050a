"""The scripts in `examples/`, each run by its `main` with a tiny model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from examples import accelerate_loop, own_training, trainer
from safetensors.torch import load_file
from tests.helpers import tiny
from torch import nn
from transformers import AutoModelForSequenceClassification

from d90.models.loading import load
from d90.search.summary import Summary
from d90.search.trial import Trial
from d90.subspace import Subspace

D, STEPS = 30, 6


def moved(model: nn.Module) -> bool:
    """Whether exactly D numbers are trained, and have moved theta."""
    subspace = next(module for module in model.modules() if isinstance(module, Subspace))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sum(vector.numel() for vector in trained) == D
    theta = subspace.theta
    return any(not torch.equal(theta[slot], theta_0) for slot, theta_0 in subspace.theta_0.items())


def saved(file: Path) -> int:
    return sum(tensor.numel() for tensor in load_file(file).values())


def write_completions(folder: Path) -> str:
    """Write the toy task of generation as a folder of JSON lines."""
    folder.mkdir()
    task = tiny.toy_generation()
    for name, split in {"train": task.train, **task.evaluation}.items():
        rows = zip(split.texts, split.labels, strict=True)
        lines = [json.dumps({"prompt": prompt, "completion": text}) for (prompt,), text in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder)


def test_trainer(ready_folder: Path, toy_folder: Path, tmp_path: Path) -> None:
    done = trainer.main(str(ready_folder), str(toy_folder), STEPS, D, str(tmp_path))
    assert isinstance(done.model, nn.Module) and moved(done.model)
    assert done.state.global_step == STEPS
    assert math.isfinite(done.state.log_history[-1]["eval_loss"])
    assert saved(tmp_path / "model.safetensors") == D


def test_accelerate(ready_folder: Path, toy_folder: Path) -> None:
    model, losses = accelerate_loop.main(str(ready_folder), str(toy_folder), STEPS, D)
    assert moved(model)
    assert len(losses) == STEPS and all(map(math.isfinite, losses))


def test_peft(ready_folder: Path, toy_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from examples import peft_adapter

    done = peft_adapter.main(str(ready_folder), str(toy_folder), STEPS, D, str(tmp_path))
    assert isinstance(done.model, nn.Module) and moved(done.model)
    assert math.isfinite(done.state.log_history[-1]["train_loss"])
    assert saved(tmp_path / "adapter" / "adapter_model.safetensors") == D
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    base, _ = load(str(ready_folder), num_labels=2)
    tokens = torch.arange(8).view(2, 4)
    with torch.no_grad():
        expected = done.model.eval()(tokens).logits
        torch.testing.assert_close(merged(tokens).logits, expected)
        assert not torch.allclose(base(tokens).logits, expected)


def test_lora_subspace(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from examples import lora_subspace

    model, task = str(tmp_path / "model"), write_completions(tmp_path / "task")
    tiny.write_language_model(tmp_path / "model", "llama")
    done, result = lora_subspace.main(model, task, STEPS, D, rank=2, output=str(tmp_path / "lora"))
    assert (result.trial.d, result.history[-1]["step"]) == (D, STEPS)
    tokens = torch.arange(4, 12).view(2, 4)
    with torch.no_grad():
        expected = done(tokens).logits
        base = load(model, num_labels=None)[0]
        assert not torch.allclose(base(tokens).logits, expected)
        loaded = peft.PeftModel.from_pretrained(base, tmp_path / "lora")
        assert torch.equal(loaded(tokens).logits, expected)
    names = [name for name, p in done.named_parameters() if p.requires_grad]
    assert names and all("lora_" in name for name in names)


def test_sft(tiny_language_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("peft")
    pytest.importorskip("trl")
    from examples import sft

    run, task = tmp_path / "run", write_completions(tmp_path / "task")
    done = sft.main(str(tiny_language_model), task, STEPS, D, 8, str(run))
    assert isinstance(done.model, nn.Module) and moved(done.model)
    assert saved(run / "adapter_model.safetensors") == D
    assert f"{D} parameters: loss " in capsys.readouterr().out


def test_grpo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("peft")
    pytest.importorskip("trl")
    from examples import grpo

    assert grpo.is_right([" 25. This is", " 2 5", " five"], answer=[25, 25, 5]) == [1, 0, 0]
    words = tiny.tokenizer(["+", "=", "0", "1", "2"])
    tiny.write_language_model(tmp_path / "model", "llama", words)
    done = grpo.main(str(tmp_path / "model"), STEPS, D, 1, 8, str(tmp_path / "run"))
    assert isinstance(done.model, nn.Module) and moved(done.model)
    assert f"{D} parameters: reward 0." in capsys.readouterr().out
    assert saved(tmp_path / "run" / "adapter_model.safetensors") == D


def test_grpo_search(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    pytest.importorskip("trl")
    from examples import grpo_search

    words = tiny.tokenizer(["+", "=", *map(str, range(7))])
    model = str(tmp_path / "model")
    tiny.write_language_model(tmp_path / "model", "llama", words)
    for method in ("grpo", "sft"):
        training = grpo_search.Adding(model, method, STEPS, 8, 3, examples="")
        trainer = training.trainer(Trial(D, 0.01), str(tmp_path))
        assert isinstance(trainer.model, nn.Module)
        trained = [p for p in trainer.model.parameters() if p.requires_grad]
        assert [p.numel() for p in trained] == [D]
        assert 0 <= training(Trial(D, 0.01)) <= 1


def test_the_problems_of_training_are_not_those_of_the_evaluation() -> None:
    pytest.importorskip("trl")
    from examples import grpo_search

    trained, scored = (grpo_search.problems(49, training=t) for t in (True, False))
    assert (len(trained), len(scored)) == (2000, 500)
    assert len({*trained, *scored}) == 2500


def test_own_training(tmp_path: Path) -> None:
    store, report = tmp_path / "d90.db", tmp_path / "report"
    summary = own_training.main(str(store), str(report), dims="20,640")
    best = {point.d: point.best for point in summary.curve}
    assert summary.full_metric is not None and summary.threshold is not None
    assert summary.full_metric > 0.9
    assert best[20] < summary.threshold < best[640]
    assert Summary.load(report).objective == "digits-mlp"
