"""Runs with a known result: learning, collapse, divergence, early stopping, exact resumption."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tests.helpers.trackers import ListTracker
from torch import nn
from torch.nn.utils import parametrize
from transformers import (
    AutoModelForSequenceClassification,
    BartConfig,
    GPT2Config,
    PreTrainedTokenizerFast,
    T5Config,
)

from d90.errors import D90Error
from d90.models import loading
from d90.search.trial import Trial, TrialResult
from d90.subspace import attach, lam_names
from d90.tasks import Task
from d90.training import Progress, TrainConfig, estimate_seconds, subspace_learning_rate
from d90.training import train as train_at
from d90.training.data import TokenizedTask, tokenize
from d90.training.loop import seed_dropout
from d90.training.trainer import Trainer

CONFIG = TrainConfig(epochs=3, batch_size=8)
RATE = 0.02


@pytest.fixture
def data(toy_task: Task, tiny_tokenizer: PreTrainedTokenizerFast) -> TokenizedTask:
    return tokenize(toy_task, tiny_tokenizer)


@pytest.fixture
def new_model(tiny_folder: Path) -> Callable[[], nn.Module]:
    return lambda: loading.load(str(tiny_folder), num_labels=2)[0]


class Constant(nn.Module):
    """Predicts class 0 with a logit that grows by `growth` at each forward pass."""

    def __init__(self, growth: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.growth, self.logit = growth, 0.0

    def forward(self, input_ids: torch.Tensor, **_: torch.Tensor) -> SimpleNamespace:
        self.logit += self.growth
        logits = torch.tensor([self.logit, 0.0]).expand(len(input_ids), 2)
        return SimpleNamespace(logits=logits + 0 * self.weight)


def train(*arguments: Any, learning_rate: float = RATE, **options: Any) -> TrialResult:
    return train_at(*arguments, learning_rate=learning_rate, **options)


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    first, second = weights_of(one), weights_of(other)
    return all(torch.equal(first[name], second[name]) for name in first)


def timeless(result: TrialResult) -> TrialResult:
    return replace(result, seconds=0.0)


def test_a_run_learns_and_reports_every_epoch(data: TokenizedTask, new_model):
    seen: list[Progress] = []
    result = train(new_model(), data, CONFIG, on_progress=seen.append)
    assert result.status == "ok"
    assert result.metric is not None
    assert result.metric > 0.9
    assert result.train_metric is not None
    assert result.metric == max(epoch["metric"] for epoch in result.history)
    assert result.metrics["validation/accuracy"] == result.metric
    assert result.metrics["train/accuracy"] == result.train_metric
    assert set(result.metrics) == {
        f"{split}/{metric}"
        for split in ("validation", "train")
        for metric in ("accuracy", "f1", "macro_f1", "brier", "nll")
    }
    for name in ("brier", "nll"):
        assert result.skills[name] == max(epoch[name] for epoch in result.history) > 0.5
    assert [epoch["step"] for epoch in result.history] == [12, 24, 36]
    assert [progress.step for progress in seen] == list(range(1, 37))
    assert {progress.steps for progress in seen} == {36}
    assert seen[-1].metric == result.history[-1]["metric"]


def test_the_best_epoch_counts_not_the_last(data: TokenizedTask, new_model):
    result = train(new_model(), data, CONFIG)
    best = max(result.history, key=lambda epoch: epoch["metric"])
    assert (result.metric, result.train_metric) == (best["metric"], best["train_metric"])


@pytest.mark.parametrize("killed_at", [None, 7, 25])
def test_the_best_epoch_is_restored(
    data: TokenizedTask, new_model, tmp_path: Path, killed_at: int | None
):
    config = replace(CONFIG, optimizer="sgd", epochs=4)
    epochs: list[dict[str, torch.Tensor]] = []

    def train_once(model: nn.Module, until: int | None) -> TrialResult:
        def watch(progress: Progress) -> None:
            if progress.step % 12 == 0:
                epochs.append({name: p.clone() for name, p in weights_of(model).items()})
            if progress.step == until:
                raise KeyboardInterrupt

        return train(
            model,
            data,
            config,
            learning_rate=0.3,
            on_progress=watch,
            checkpoint_dir=tmp_path,
            checkpoint_every=6,
            keep_best=True,
        )

    if killed_at is not None:
        with pytest.raises(KeyboardInterrupt):
            train_once(new_model(), killed_at)
    model = new_model()
    result = train_once(model, None)
    metrics = [epoch["metric"] for epoch in result.history]
    best = epochs[metrics.index(max(metrics))]
    assert all(torch.equal(p, best[name]) for name, p in weights_of(model).items())


def test_steps_override_epochs(data: TokenizedTask, new_model):
    result = train(new_model(), data, replace(CONFIG, max_steps=15))
    assert [epoch["step"] for epoch in result.history] == [12, 15]


def test_only_parameters_that_require_grad_change(data: TokenizedTask, new_model):
    model = new_model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("classifier"))
    before = weights_of(model)
    train(model, data, replace(CONFIG, max_steps=3))
    moved = {name for name, tensor in weights_of(model).items() if not tensor.equal(before[name])}
    assert moved == {"classifier.weight", "classifier.bias"}


def test_a_constant_prediction_is_a_collapsed_run(data: TokenizedTask):
    result = train(Constant(growth=0.0), data, CONFIG)
    assert result.status == "collapsed"
    assert result.metric is not None
    assert "one class" in result.message


def test_an_infinite_loss_ends_the_run(data: TokenizedTask, new_model):
    config = replace(CONFIG, optimizer="sgd", max_grad_norm=None, warmup_ratio=0.0)
    result = train(new_model(), data, config, learning_rate=1e30)
    assert result.status == "diverged"
    assert result.history == ()
    assert "optimizer steps" in result.message


def test_an_exploding_loss_ends_the_run(data: TokenizedTask):
    result = train(Constant(growth=1.0), data, replace(CONFIG, epochs=10))
    assert result.status == "diverged"
    assert "mean loss" in result.message
    assert len(result.history) < 3


def test_infinite_predictions_end_the_run(data: TokenizedTask):
    result = train(Constant(growth=math.inf), data, CONFIG)
    assert result.status == "diverged"


@pytest.mark.parametrize(("fraction", "steps"), [(0.25, [8, 9, 10]), (0.2, [9, 10])])
def test_a_run_ends_with_the_mean_of_its_last_steps(
    data: TokenizedTask, new_model, fraction: float, steps: list[int]
):
    """Of 10 optimizer steps the last quarter is 3, rounded up; the last evaluation is of it."""

    def run(**options: Any) -> tuple[nn.Module, TrialResult, list[dict[str, torch.Tensor]]]:
        model, seen = new_model(), []
        attach(model, d=30)
        config = replace(CONFIG, max_steps=10, **options)
        result = train(
            model, data, config, d=30, on_progress=lambda _: seen.append(weights_of(model))
        )
        return model, result, seen

    plain, before, seen = run()
    averaged, after, again = run(average_last=fraction)
    z = [step["subspace.z"] for step in seen]
    mean = torch.stack([z[step - 1] for step in steps]).double().mean(0)
    torch.testing.assert_close(
        weights_of(averaged)["subspace.z"].double(), mean, rtol=1e-5, atol=1e-8
    )
    assert torch.equal(again[8]["subspace.z"], z[8])  # Training itself does not change.
    assert not torch.equal(weights_of(plain)["subspace.z"].double(), mean)
    assert after.history[-1]["brier"] != before.history[-1]["brier"]


@pytest.mark.parametrize("killed_at", [4, 7, 9])
def test_a_mean_resumes_exactly(data: TokenizedTask, new_model, tmp_path: Path, killed_at: int):
    config = replace(CONFIG, max_steps=10, average_last=0.5)

    def run(**options: Any) -> tuple[nn.Module, TrialResult]:
        model = new_model()
        attach(model, d=30, method="said")
        return model, train(model, data, config, d=30, keep_best=True, **options)

    def kill(progress: Progress) -> None:
        if progress.step == killed_at:
            raise KeyboardInterrupt

    whole, expected = run()
    folder = {"checkpoint_dir": tmp_path, "checkpoint_every": 3}
    with pytest.raises(KeyboardInterrupt):
        run(on_progress=kill, **folder)
    resumed, result = run(**folder)
    assert same_weights(resumed, whole)
    assert timeless(result) == timeless(expected)


def test_early_stop(data: TokenizedTask):
    result = train(Constant(growth=0.0), data, replace(CONFIG, epochs=10, patience=2))
    assert len(result.history) == 3


def test_gradient_accumulation_matches_the_whole_batch(data: TokenizedTask, new_model):
    model = new_model()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    run = Trainer(model, data, CONFIG, learning_rate=RATE)
    rows = list(range(20))

    def gradient(batches: list[list[int]]) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        loss = float(run._backward(run._batch_losses(batches)))
        return loss, torch.cat([p.grad.reshape(-1) for p in model.parameters()])

    whole_loss, whole = gradient([rows])
    loss, parts = gradient([rows[:7], rows[7:8], rows[8:]])
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_global_generators_do_not_matter(data: TokenizedTask, new_model):
    results = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        results.append(timeless(train(new_model(), data, replace(CONFIG, max_steps=5))))
    assert results[0] == results[1]
    other = train(new_model(), data, replace(CONFIG, max_steps=5), seed=1)
    assert timeless(other) != results[0]


def test_dropout_is_seeded_and_nothing_else():
    random.seed(5)
    expected = random.random()
    random.seed(5)
    seed_dropout(11, torch.device("cpu"))
    masks = torch.rand(100)
    torch.manual_seed(11)
    assert torch.equal(torch.rand(100), masks)
    assert random.random() == expected


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("killed_at", [3, 12, 18])
def test_resume_is_exact(
    data: TokenizedTask, new_model, tmp_path: Path, optimizer: str, killed_at: int
):
    config = replace(CONFIG, epochs=2, optimizer=optimizer, gradient_accumulation_steps=1)
    whole = new_model()
    expected = train(whole, data, config)

    def kill(progress: Progress) -> None:
        if progress.step == killed_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            new_model(),
            data,
            config,
            on_progress=kill,
            checkpoint_dir=tmp_path,
            checkpoint_every=5,
        )
    resumed = new_model()
    seen: list[Progress] = []
    result = train(resumed, data, config, on_progress=seen.append, checkpoint_dir=tmp_path)
    first = {3: 1, 12: 11, 18: 16}[killed_at]
    assert seen[0].step == first
    assert timeless(result) == timeless(expected)
    assert same_weights(resumed, whole)


def test_a_finished_run_is_not_trained_again(data: TokenizedTask, new_model, tmp_path: Path):
    config = replace(CONFIG, epochs=1, gradient_accumulation_steps=5)
    first = train(new_model(), data, config, checkpoint_dir=tmp_path)
    seen: list[Progress] = []
    again = train(new_model(), data, config, on_progress=seen.append, checkpoint_dir=tmp_path)
    assert seen == []
    assert timeless(again) == timeless(first)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_checkpoint_of_another_run(data: TokenizedTask, new_model, tmp_path: Path):
    config = replace(CONFIG, max_steps=1)
    train(new_model(), data, config, checkpoint_dir=tmp_path)
    with pytest.raises(D90Error, match="of another run"):
        train(new_model(), data, config, seed=1, checkpoint_dir=tmp_path)


@pytest.mark.parametrize("damage", ["torn", "foreign"])
def test_damaged_checkpoint(data: TokenizedTask, new_model, tmp_path: Path, damage: str):
    file = tmp_path / "checkpoint.safetensors"
    if damage == "torn":
        file.write_bytes(b"not a checkpoint")
    else:
        save_file({"weight": torch.zeros(1)}, file)
    with pytest.raises(D90Error, match="is damaged"):
        train(new_model(), data, CONFIG, checkpoint_dir=tmp_path)


@pytest.mark.parametrize(
    "run",
    [None, [], {}, {"step": "3", "seconds": 0.0}, {"step": 1, "seconds": 0.0, "epochs": [{}]}],
    ids=["null", "list", "empty", "step", "epochs"],
)
def test_checkpoint_with_another_state(data: TokenizedTask, new_model, tmp_path: Path, run: Any):
    config = replace(CONFIG, max_steps=1)
    train(new_model(), data, config, checkpoint_dir=tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    with safe_open(file, framework="pt") as opened:
        state = json.loads(opened.metadata()["state"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file(tensors, file, metadata={"state": json.dumps({**state, "run": run})})
    with pytest.raises(D90Error, match="is damaged"):
        train(new_model(), data, config, checkpoint_dir=tmp_path)


def test_bf16_autocast_trains(data: TokenizedTask, new_model):
    result = train(new_model(), data, replace(CONFIG, precision="bf16"))
    assert result.metric is not None
    assert result.metric > 0.9


def test_the_learning_rate_is_normalized_in_a_subspace(data: TokenizedTask, new_model):
    model, tracker = new_model(), ListTracker()
    attach(model, d=50)
    config = replace(CONFIG, max_steps=5, log_with=tracker)
    result = train(model, data, config, learning_rate=0.01, seed=3, d=50)
    assert result.trial == Trial(50, 0.01, 3)
    assert tracker.config["learning_rate"] == subspace_learning_rate(0.01, 50)
    assert tracker.config["seed"] == 3


@pytest.mark.parametrize("d", [20, 2000])
def test_lam_has_a_learning_rate_that_does_not_depend_on_d(data: TokenizedTask, new_model, d: int):
    model = new_model()
    subspace = attach(model, d=d, method="said")
    assert subspace.lam is not None
    config = replace(CONFIG, max_steps=1, optimizer="adamw", weight_decay=0.5, warmup_ratio=0.0)
    with torch.no_grad():
        subspace.z.fill_(0.01)  # Else lam has no gradient.
    train(model, data, config, learning_rate=0.01, d=d)
    # The first step of Adam changes every entry by its learning rate; z also decays.
    moved = (subspace.lam.detach() - 1).abs()
    assert moved.tolist() == pytest.approx([0.01] * len(moved), rel=1e-3)
    rate = subspace_learning_rate(0.01, d)
    assert float((subspace.z - 0.01 * (1 - rate * 0.5)).abs().max()) == pytest.approx(
        rate, rel=0.01
    )


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_said_run_resumes_exactly(data: TokenizedTask, new_model, tmp_path: Path, optimizer: str):
    config = replace(CONFIG, max_steps=9, optimizer=optimizer, weight_decay=0.1)

    def run(**options: Any) -> nn.Module:
        model = new_model()
        attach(model, d=30, method="said")
        train(model, data, config, d=30, **options)
        return model

    def kill(progress: Progress) -> None:
        if progress.step == 5:
            raise KeyboardInterrupt

    whole = run()
    folder = {"checkpoint_dir": tmp_path, "checkpoint_every": 4}
    with pytest.raises(KeyboardInterrupt):
        run(on_progress=kill, **folder)
    assert same_weights(run(**folder), whole)
    (lam,) = (p for name, p in whole.named_parameters() if name == "subspace.lam")
    assert float((lam - 1).abs().max()) > 1e-4


def test_lam_is_found_while_it_is_quantized(new_model):
    model = new_model()
    subspace = attach(model, d=30, method="said")
    assert lam_names(model) == ["subspace.lam"]
    parametrize.register_parametrization(subspace, "lam", nn.Identity())
    assert lam_names(model) == ["subspace.parametrizations.lam.original"]
    assert lam_names(new_model()) == []


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_invalid_learning_rates(data: TokenizedTask, new_model, rate: float):
    with pytest.raises(D90Error, match=f"learning_rate {rate}: a number above 0"):
        train(new_model(), data, CONFIG, learning_rate=rate)


def test_trackers_of_accelerate(data: TokenizedTask, new_model):
    tracker = ListTracker()
    result = train(new_model(), data, replace(CONFIG, max_steps=13, log_with=tracker))
    assert tracker.config["learning_rate"] == 0.02
    assert [step for step, values in tracker.lines if "loss" in values] == list(range(1, 14))
    metrics = [values for _, values in tracker.lines if "validation/accuracy" in values]
    assert result.metrics in metrics


def test_tracker_that_is_not_installed(
    data: TokenizedTask, new_model, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    with (
        pytest.warns(UserWarning, match="no supported trackers"),
        pytest.raises(D90Error, match="log_with 'aim': its package is not installed"),
    ):
        train(new_model(), data, replace(CONFIG, log_with="aim"))


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=32),
        BartConfig(
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            eos_token_id=3,
            bos_token_id=2,
            forced_eos_token_id=3,
        ),
        T5Config(
            d_model=16,
            d_kv=8,
            num_layers=1,
            num_heads=2,
            d_ff=32,
            eos_token_id=3,
        ),
    ],
    ids=lambda config: config.model_type,
)
def test_decoders_and_encoder_decoders_train(config, toy_task: Task, tiny_tokenizer):
    config.vocab_size, config.pad_token_id = len(tiny_tokenizer), 0
    config.decoder_start_token_id = 0
    model = AutoModelForSequenceClassification.from_config(config)
    data = tokenize(toy_task, tiny_tokenizer)
    train_split, evaluation = (
        replace(split, columns={"input_ids": split.columns["input_ids"]})
        for split in (data.train, data.evaluation["validation"])
    )
    data = replace(
        data,
        train=train_split,
        train_eval_subset=train_split,
        evaluation={"validation": evaluation},
    )
    result = train(model, data, replace(CONFIG, max_steps=3))
    assert result.status in ("ok", "collapsed")


def test_estimated_seconds_are_those_of_the_run(data: TokenizedTask, new_model):
    predicted = estimate_seconds(new_model(), data, CONFIG, learning_rate=RATE)
    seconds = train(new_model(), data, CONFIG).seconds
    assert seconds / 20 < predicted < seconds * 20
    one_step = replace(CONFIG, max_steps=1)
    assert estimate_seconds(new_model(), data, one_step, learning_rate=RATE) > 0


def test_gradient_checkpointing_changes_nothing_but_memory(data: TokenizedTask, new_model):
    config = replace(CONFIG, max_steps=4)
    plain, checkpointed = new_model(), new_model()
    seen: list[bool] = []
    checkpointed.get_submodule("bert.encoder").register_forward_pre_hook(
        lambda *_: seen.append(checkpointed.is_gradient_checkpointing)
    )
    train(plain, data, config)
    train(checkpointed, data, replace(config, gradient_checkpointing=True))
    # Dropout's masks are drawn again with the activations.
    for name, expected in weights_of(plain).items():
        torch.testing.assert_close(weights_of(checkpointed)[name], expected, rtol=1e-4, atol=1e-6)
    assert seen and all(seen) and not checkpointed.is_gradient_checkpointing
    assert replace(config, gradient_checkpointing=True).to_dict() == config.to_dict()


def test_a_model_without_gradient_checkpointing(data: TokenizedTask):
    with pytest.raises(D90Error, match="Constant has no gradient checkpointing"):
        train(Constant(1.0), data, replace(CONFIG, gradient_checkpointing=True))
