"""Two processes make the run that one makes: the same numbers, few of them on the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.wire.counter import count_bytes, gradient_bytes
from tests.helpers.gloo import pair
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from d90.distributed.process_group import ProcessGroup, get_process_group
from d90.errors import D90Error
from d90.models import loading
from d90.rng import philox
from d90.subspace import attach
from d90.tasks import Task
from d90.training import TrainConfig
from d90.training.data import TokenizedTask, tokenize
from d90.training.loop import dropout_seed
from d90.training.trainer import Trainer

D = 20
RATE = 0.02
CONFIG = TrainConfig(max_steps=6, batch_size=8, gradient_accumulation_steps=2, precision="no")


def new_model(folder: str, *, method: str | None = "did", double: bool = False) -> nn.Module:
    """The tiny BERT without dropout, in a subspace of 20 numbers or as it is."""
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
    """A run to its end: what was trained, what it says of itself, the bytes that it sent."""
    losses = []
    with count_bytes() as sent:
        while not run.is_over:
            losses.append(run.optimizer_step())
            if run.ends_epoch:
                run.evaluate()
    run.close()
    return {
        "numbers": {name: p.detach().clone() for name, p in run.parameters.items()},
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
    "one text a batch": lambda folder: (
        new_model(folder),
        replace(CONFIG, batch_size=1, gradient_accumulation_steps=3),
    ),
}


class Poisoned(nn.Module):
    """Predicts nothing finite for longer texts; an evaluation's first batch has the shortest."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        self.weight, self.longest = nn.Parameter(torch.zeros(())), longest

    def forward(self, input_ids: Tensor, **_: Tensor) -> SimpleNamespace:
        bad = input_ids.shape[1] > self.longest and not self.training
        logits = torch.full((len(input_ids), 2), float("nan") if bad else 0.0)
        return SimpleNamespace(logits=logits + 0 * self.weight)


def error_of(make: Callable[[], Any]) -> str:
    try:
        make()
    except (D90Error, FloatingPointError) as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def refusals(rank: int, folder: str, data: TokenizedTask) -> dict[str, str]:
    """What each process says where they do not have the same, or one of them cannot go on."""
    other_data = replace(data, train=data.train.subset([rank, *range(1, 96)]))
    other_model = new_model(folder)
    with torch.no_grad():
        other_model.get_buffer("subspace.theta_0_3").flatten()[5] += 1e-6 * rank
    process_group = get_process_group()

    def fail_in_one() -> None:
        with process_group.raise_on_all_ranks():
            if rank == 1:
                raise D90Error("no such folder")

    def fail_in_first() -> None:
        raise D90Error("a damaged file")

    return {
        "settings": error_of(
            lambda: Trainer(new_model(folder), data, CONFIG, learning_rate=RATE + rank)
        ),
        "data": error_of(
            lambda: Trainer(new_model(folder), other_data, CONFIG, learning_rate=RATE)
        ),
        "weights": error_of(lambda: Trainer(other_model, data, CONFIG, learning_rate=RATE)),
        "agreed": error_of(fail_in_one),
        "told": error_of(lambda: process_group.broadcast_object(fail_in_first)),
        "not finite": error_of(Trainer(Poisoned(5), data, CONFIG, learning_rate=RATE).evaluate),
    }


def resumed(rank: int, folder: str, data: TokenizedTask, place: str) -> dict[str, Any]:
    """A run whose first process alone has the checkpoint of an earlier one."""
    run = Trainer(new_model(folder), data, CONFIG, learning_rate=RATE, keep_best=True)
    for _ in range(3):
        run.optimizer_step()
    run.save(Path(place) / f"of-{rank}.safetensors")
    run.close()
    again = Trainer(new_model(folder), data, CONFIG, learning_rate=RATE, keep_best=True)
    again.resume(Path(place) / f"of-{rank}.safetensors")
    return {"began": again.state.step, **trained(again)}


def worker(rank: int, folder: str, data: TokenizedTask, place: str) -> dict[str, Any]:
    runs = {name: trained(new_trainer(name, folder, data)) for name in SCENARIOS}
    return {
        "runs": runs,
        "resumed": resumed(rank, folder, data, place),
        "refusals": refusals(rank, folder, data),
    }


def new_trainer(name: str, folder: str, data: TokenizedTask) -> Trainer:
    model, config = SCENARIOS[name](folder)
    return Trainer(model, data, config, learning_rate=0.002 if name == "full" else RATE)


@pytest.fixture(scope="module")
def data(toy_task: Task, tiny_tokenizer: PreTrainedTokenizerFast) -> TokenizedTask:
    return tokenize(toy_task, tiny_tokenizer)


@pytest.fixture(scope="module")
def both(
    data: TokenizedTask, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Mapping[str, Any]]:
    """What the two processes found."""
    return pair().run(worker, str(tiny_folder), data, str(tmp_path_factory.mktemp("checkpoints")))


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_make_the_run_of_one(both, data, tiny_folder: Path, name: str) -> None:
    one = trained(new_trainer(name, str(tiny_folder), data))
    first, second = (found["runs"][name] for found in both)
    exact = name == "did in float64"
    rtol, atol = (1e-9, 1e-12) if exact else (2e-3, 2e-5)
    for number, want in one["numbers"].items():
        assert torch.equal(first["numbers"][number], second["numbers"][number]), number
        torch.testing.assert_close(first["numbers"][number], want, rtol=rtol, atol=atol)
    assert first["losses"] == second["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert first["metrics"] == second["metrics"] == one["metrics"]


def test_numbers_that_move_are_compared(both) -> None:
    for found in both[0]["runs"].values():
        moved = [p for name, p in found["numbers"].items() if name != "unused"]
        assert max(float(p.abs().max()) for p in moved) > 1e-3
    # A weight without a gradient is left alone, though AdamW decays the others.
    assert both[0]["runs"]["full"]["numbers"]["unused"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "size"), [("did in float64", 8), ("said", 4), ("one text a batch", 4)]
)
def test_an_update_sends_d_numbers_and_the_loss(both, name: str, size: int) -> None:
    sent = both[0]["runs"][name]["sent"]
    assert gradient_bytes(sent) == 6 * (D + 1) * size
    # A byte a text and a flag, for the evaluation split and the part of the training split.
    # Once, a byte per parameter: whether it has a gradient.
    assert sent["all_reduce_max"] == 2 * (64 + 1) + len(both[0]["runs"][name]["numbers"])
    assert set(sent) == {"all_gather", "all_reduce_max"}


def test_full_fine_tuning_sends_every_weight(both, tiny_folder: Path) -> None:
    weights = sum(p.numel() for p in new_model(str(tiny_folder), method=None).parameters())
    assert gradient_bytes(both[1]["runs"]["full"]["sent"]) == 6 * (weights - 3 + 1) * 4


def test_only_the_first_process_needs_the_checkpoint(both) -> None:
    first, second = (found["resumed"] for found in both)
    whole = both[0]["runs"]
    assert (first["began"], second["began"]) == (3, 3)
    for found in (first, second):
        # Gradient checkpointing is off in it, and it is the same run but for that.
        want = whole["gradient checkpointing"]["numbers"]["subspace.z"]
        torch.testing.assert_close(found["numbers"]["subspace.z"], want, rtol=2e-3, atol=2e-5)
    assert torch.equal(first["numbers"]["subspace.z"], second["numbers"]["subspace.z"])


@pytest.mark.parametrize("what", ["settings", "data", "weights"])
def test_processes_that_differ_are_refused(both, what: str) -> None:
    first, second = (found["refusals"][what] for found in both)
    assert first == second
    assert first.startswith(f"D90Error: process 1 has other {what} than process 0")


def test_what_stops_one_process_stops_all(both) -> None:
    for found in (found["refusals"] for found in both):
        assert found["agreed"] == "D90Error: process 1: no such folder"
        assert found["told"] == "D90Error: a damaged file"
        assert found["not finite"] == "FloatingPointError: a prediction is not finite"


def test_dropout_is_that_of_today_in_the_first_process_and_another_in_each() -> None:
    words = philox.words(7, philox.Stream.DATA, 3, 4, block=2**40 + 1)
    assert dropout_seed(7, 3, rank=0) == int(words)
    assert len({dropout_seed(7, 3, rank) for rank in range(100)}) == 100


def test_shares_are_all_of_it_once() -> None:
    rows = [5, 3, 9, 1, 7]
    shares = [ProcessGroup(rank, 3).shard(rows) for rank in range(3)]
    assert sorted(row for share in shares for row in share) == sorted(rows)
    assert [len(share) for share in shares] == [2, 2, 1]
    assert ProcessGroup(2, 3).shard([1, 2]) == []


def test_alone_nothing_is_sent() -> None:
    alone = get_process_group()
    vector = torch.arange(3.0)
    alone.all_reduce_sum(vector)
    assert vector.tolist() == [0.0, 1.0, 2.0]
    assert alone.broadcast_object(lambda: {"a": 1}) == {"a": 1}
    assert alone.all_gather_object("me") == ["me"]
    assert (alone.world_size, alone.is_main_process) == (1, True)
    with pytest.raises(D90Error, match="as it was"), alone.raise_on_all_ranks():
        raise D90Error("as it was")
