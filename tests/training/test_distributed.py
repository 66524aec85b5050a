"""Training in two processes: the same result as in one, and the bytes that they exchange."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.wire.counter import count_bytes, gradient_bytes
from tests.helpers.gloo import error_of, pair
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from d90.models import loading
from d90.rng import philox
from d90.search.trial import TrialResult
from d90.subspace import attach
from d90.tasks import Kind, Task
from d90.training import TrainConfig, train
from d90.training.data import TokenizedTask, tokenize
from d90.training.loop import dropout_seed
from d90.training.trainer import Trainer

D = 20
RATE = 0.02
LENGTHS = (100, 7)
"""Above the first is no example, and above the second one of two batches."""
CONFIG = TrainConfig(max_steps=6, batch_size=8, gradient_accumulation_steps=2, precision="no")


def new_model(folder: str, *, method: str | None = "did", double: bool = False) -> nn.Module:
    """The tiny BERT without dropout, in a subspace of 20 parameters or fully trainable."""
    model = loading.load(folder, num_labels=2)[0]
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if double:
        model.double()
    if method is not None:
        attach(model, d=D, method=method)
    else:
        model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    return model


def trained(run: Trainer) -> dict[str, Any]:
    """Finish a run: its parameters, losses and metrics, and the bytes that it sent."""
    losses = []
    with count_bytes() as sent:
        while not run.is_over:
            losses.append(run.optimizer_step())
            if run.ends_epoch:
                run.evaluate()
    run.close()
    return {
        "parameters": {name: p.detach().clone() for name, p in run.parameters.items()},
        "losses": losses,
        "metrics": run.state.epochs[-1].metrics,
        "sent": sent,
    }


SCENARIOS: dict[str, Callable[[str], tuple[nn.Module, TrainConfig]]] = {
    "did in float64": lambda folder: (new_model(folder, double=True), CONFIG),
    "said": lambda folder: (new_model(folder, method="said"), CONFIG),
    "gradient checkpointing": lambda folder: (
        new_model(folder),
        replace(CONFIG, gradient_checkpointing=True),
    ),
    "full": lambda folder: (
        new_model(folder, method=None),
        replace(CONFIG, optimizer="adamw", weight_decay=0.01),
    ),
    "one example per batch": lambda folder: (
        new_model(folder),
        replace(CONFIG, batch_size=1, gradient_accumulation_steps=3),
    ),
}


class Poisoned(nn.Module):
    """Non-finite predictions for long examples; an evaluation starts with the shortest ones."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        self.weight, self.longest = nn.Parameter(torch.zeros(())), longest

    def forward(self, input_ids: Tensor, **_: Tensor) -> SimpleNamespace:
        bad = input_ids.shape[1] > self.longest and not self.training
        logits = torch.full((len(input_ids), 2), float("nan") if bad else 0.0)
        return SimpleNamespace(logits=logits + 0 * self.weight)


class Length(nn.Module):
    """Predicts class 1 for examples above a length; an evaluation is sorted by length."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        self.weight, self.longest = nn.Parameter(torch.zeros(())), longest

    def forward(self, input_ids: Tensor, **_: Tensor) -> SimpleNamespace:
        is_long = input_ids.shape[1] > self.longest
        logits = torch.tensor([0.0, 1.0] if is_long else [1.0, 0.0]).expand(len(input_ids), 2)
        return SimpleNamespace(logits=logits + 0 * self.weight)


def hopeless(data: TokenizedTask, longest: int) -> TrialResult:
    config = replace(CONFIG, stop_hopeless=True)
    return train(Length(longest), data, config, learning_rate=RATE, d=1)


def errors(rank: int, folder: str, data: TokenizedTask) -> dict[str, str]:
    """The errors of each process if their inputs differ, or if one of them fails."""
    other_data = replace(data, train=data.train.subset([rank, *range(1, 96)]))
    other_model = new_model(folder)
    with torch.no_grad():
        other_model.get_buffer("subspace.theta_0_3").flatten()[5] += 1e-6 * rank
    return {
        "settings": error_of(
            lambda: Trainer(new_model(folder), data, CONFIG, learning_rate=RATE + rank)
        ),
        "data": error_of(
            lambda: Trainer(new_model(folder), other_data, CONFIG, learning_rate=RATE)
        ),
        "weights": error_of(lambda: Trainer(other_model, data, CONFIG, learning_rate=RATE)),
        "not finite": error_of(Trainer(Poisoned(5), data, CONFIG, learning_rate=RATE).evaluate),
    }


def resumed(rank: int, folder: str, data: TokenizedTask, place: str) -> dict[str, Any]:
    """A resumed run, whose checkpoint only the main process loads."""
    run = Trainer(new_model(folder), data, CONFIG, learning_rate=RATE, keep_best=True)
    for _ in range(3):
        run.optimizer_step()
    run.save(Path(place) / f"of-{rank}.safetensors")
    run.close()
    resumed_run = Trainer(new_model(folder), data, CONFIG, learning_rate=RATE, keep_best=True)
    resumed_run.resume(Path(place) / f"of-{rank}.safetensors")
    return {"first_step": resumed_run.state.step, **trained(resumed_run)}


def worker(rank: int, folder: str, data: TokenizedTask, place: str) -> dict[str, Any]:
    runs = {name: trained(new_trainer(name, folder, data)) for name in SCENARIOS}
    return {
        "runs": runs,
        "resumed": resumed(rank, folder, data, place),
        "errors": errors(rank, folder, data),
        "hopeless": {longest: hopeless(data, longest).message for longest in LENGTHS},
    }


def new_trainer(name: str, folder: str, data: TokenizedTask) -> Trainer:
    model, config = SCENARIOS[name](folder)
    return Trainer(model, data, config, learning_rate=0.002 if name == "full" else RATE)


@pytest.fixture(scope="module")
def data(toy_task: Task, tiny_tokenizer: PreTrainedTokenizerFast) -> TokenizedTask:
    return tokenize(toy_task, tiny_tokenizer)


@pytest.fixture(scope="module")
def results(
    data: TokenizedTask, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Mapping[str, Any]]:
    """The results of both processes."""
    return pair().run(worker, str(tiny_folder), data, str(tmp_path_factory.mktemp("checkpoints")))


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_match_one(results, data, tiny_folder: Path, name: str) -> None:
    one = trained(new_trainer(name, str(tiny_folder), data))
    first, second = (result["runs"][name] for result in results)
    exact = name == "did in float64"
    rtol, atol = (1e-9, 1e-12) if exact else (2e-3, 2e-5)
    for parameter, expected in one["parameters"].items():
        assert torch.equal(first["parameters"][parameter], second["parameters"][parameter])
        torch.testing.assert_close(first["parameters"][parameter], expected, rtol=rtol, atol=atol)
    assert first["losses"] == second["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert first["metrics"] == second["metrics"] == pytest.approx(one["metrics"], rel=1e-3)
    for metric in ("accuracy", "f1", "macro_f1"):
        assert first["metrics"][f"validation/{metric}"] == one["metrics"][f"validation/{metric}"]


def test_the_compared_parameters_change(results) -> None:
    for result in results[0]["runs"].values():
        moved = [p for name, p in result["parameters"].items() if name != "unused"]
        assert max(float(p.abs().max()) for p in moved) > 1e-3
    # A weight without a gradient does not change, though AdamW decays the others.
    assert results[0]["runs"]["full"]["parameters"]["unused"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "size"), [("did in float64", 8), ("said", 4), ("one example per batch", 4)]
)
def test_an_optimizer_step_sends_the_gradient_and_the_loss(
    results, tiny_folder: Path, name: str, size: int
) -> None:
    sent = results[0]["runs"][name]["sent"]
    assert gradient_bytes(sent) == 6 * (D + 1) * size
    # One byte per example, a flag and two losses of a batch, for the evaluation split and
    # `train_eval_subset`. Once, one byte per parameter: whether it has a gradient.
    batches = math.ceil(
        64 / (Kind.evaluation_factor * SCENARIOS[name](str(tiny_folder))[1].batch_size)
    )
    predictions = 2 * (64 + 1 + 8 * batches)
    assert sent["all_reduce_max"] == predictions + len(results[0]["runs"][name]["parameters"])
    assert set(sent) == {"all_gather", "all_reduce_max"}


def test_full_fine_tuning_sends_every_weight(results, tiny_folder: Path) -> None:
    weights = sum(p.numel() for p in new_model(str(tiny_folder), method=None).parameters())
    assert gradient_bytes(results[1]["runs"]["full"]["sent"]) == 6 * (weights - 3 + 1) * 4


def test_only_the_main_process_needs_the_checkpoint(results) -> None:
    first, second = (result["resumed"] for result in results)
    whole = results[0]["runs"]
    assert (first["first_step"], second["first_step"]) == (3, 3)
    for result in (first, second):
        # The same run, but for gradient checkpointing.
        expected = whole["gradient checkpointing"]["parameters"]["subspace.z"]
        torch.testing.assert_close(
            result["parameters"]["subspace.z"], expected, rtol=2e-3, atol=2e-5
        )
    assert torch.equal(first["parameters"]["subspace.z"], second["parameters"]["subspace.z"])


@pytest.mark.parametrize("what", ["settings", "data", "weights"])
def test_processes_that_differ_are_refused(results, what: str) -> None:
    first, second = (result["errors"][what] for result in results)
    assert first == second
    assert first.startswith(f"D90Error: process 1 has other {what} than process 0")


def test_a_non_finite_prediction_in_one_process_stops_all(results) -> None:
    for errors in (result["errors"] for result in results):
        assert errors["not finite"] == "FloatingPointError: a prediction is not finite"


def test_what_is_hopeless_is_so_in_every_process(results, data) -> None:
    """One class in one process and another in the other are two: the run goes on."""
    expected = {longest: hopeless(data, longest).message for longest in LENGTHS}
    stopped, whole = expected.values()
    assert stopped.startswith("after 3 of 6 optimizer steps") and not whole
    for result in results:
        assert result["hopeless"] == expected


def test_dropout_seeds_are_fixed_and_differ_between_processes() -> None:
    words = philox.words(7, philox.Stream.DATA, 3, 4, block=2**40 + 1)
    assert dropout_seed(7, 3, rank=0) == int(words)
    assert len({dropout_seed(7, 3, rank) for rank in range(100)}) == 100
