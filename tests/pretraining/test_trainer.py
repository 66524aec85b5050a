"""Runs whose outcome is known: the loss, what is learnt, and the same bits however often killed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers.trackers import ListTracker
from torch import nn

from d90.errors import D90Error
from d90.models import loading
from d90.pretraining.checkpoints import Evaluation, checkpoints, history, read
from d90.pretraining.cost import predict
from d90.pretraining.masking import Masked, Masker
from d90.pretraining.model import masked_losses, new_model
from d90.pretraining.plan import Pretraining
from d90.pretraining.pretrain import Listener, Progress, Session, run
from d90.pretraining.summary import Summary
from d90.pretraining.tokenizer import Vocabulary
from d90.pretraining.trainer import Run

from .conftest import Planner

KNOWN = Vocabulary(size=290, start=0, pad=1, end=2, mask=4, special=(0, 1, 2, 3, 4))


@pytest.fixture
def opened(quick: Planner, tmp_path: Path) -> Run:
    """That run before its first update, without dropout."""
    job = quick()
    job = replace(
        job,
        fields={**job.fields, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    )
    return Session(job, tmp_path, Listener(), "").run


def timeless(records: tuple[Evaluation, ...]) -> list[Evaluation]:
    return [replace(record, seconds=0.0) for record in records]


def files_of(folder: Path) -> dict[str, bytes]:
    """What must be the same to the bit: every file of every checkpoint."""
    found = [path for path in (folder / "checkpoints").rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_the_loss_is_that_of_transformers(quick: Planner) -> None:
    model = new_model(quick().fields, KNOWN, 16, seed=0).eval()
    blocks = torch.arange(5, 5 + 4 * 32).view(4, 32)
    masked = Masker(KNOWN.size, KNOWN.mask, KNOWN.special).training(blocks, seed=0, first=0)
    labels = torch.where(masked.chosen, blocks, -100)
    with torch.no_grad():
        expected = model(input_ids=masked.inputs, labels=labels).loss
        found = masked_losses(model, masked)
    assert len(found) == 4 * 5
    torch.testing.assert_close(found.mean(), expected)


def test_weights_are_a_function_of_the_seed(quick: Planner) -> None:
    def weights(seed: int, noise: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(noise)
        return new_model(quick().fields, KNOWN, 16, seed).state_dict()

    first, again, other = weights(0, 1), weights(0, 2), weights(1, 1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    table = "roberta.embeddings.word_embeddings.weight"
    assert not torch.equal(first[table], other[table])
    assert first[table][KNOWN.pad].abs().max() == 0
    assert float(first[table].std()) == pytest.approx(0.02, rel=0.02)


def test_an_untrained_model_knows_nothing(finished: tuple[Path, Summary]) -> None:
    _, summary = finished
    first = summary.history[0]
    assert (first.step, first.tokens, first.train_loss) == (0, 0, None)
    assert first.held_out_loss == pytest.approx(math.log(summary.corpus.vocabulary), abs=0.15)
    assert first.perplexity == math.exp(first.held_out_loss)


def test_it_learns(quick: Planner, tmp_path: Path) -> None:
    job = quick(steps=100, evaluate_every=100, rate=0.01, batch_size=8, checkpoints=())
    first, last = run(job, tmp_path).history
    assert last.train_loss is not None
    # A token of the corpus is one of thirty or so, and the noun decides the verb.
    assert last.train_loss < first.held_out_loss - 1.5
    assert last.perplexity < first.perplexity / 10


def test_what_a_run_leaves(finished: tuple[Path, Summary]) -> None:
    folder, summary = finished
    assert sorted(path.name for path in folder.iterdir()) == [
        *(".lock", "checkpoints", "corpus.json", "loss.png", "loss.svg", "pretraining.json"),
        *("state.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("tokens-held-out.bin", "tokens-train.bin"),
    ]
    assert [step for step, _ in checkpoints(folder)] == [0, 5, 12]
    assert [record.step for record in history(folder)] == [0, 4, 5, 8, 12]
    assert history(folder) == summary.history
    assert [record.tokens for record in summary.history] == [0, 256, 320, 512, 768]
    found = read(folder)
    assert (found["D"], found["step"], found["command"]) == (summary.D, 12, "d90 pretrain")
    assert found["finished"] is not None
    assert found["versions"]["precision"] == "no"
    assert found["settings"]["learning_rate"] == 0.001
    assert found["corpus"]["documents"] + found["corpus"]["held_out_documents"] == 200
    assert found["history"][0]["held_out_perplexity"] == summary.history[0].perplexity


def test_checkpoints_are_models_to_fine_tune(finished: tuple[Path, Summary]) -> None:
    folder, summary = finished
    bodies = []
    for _, checkpoint in checkpoints(folder):
        model, tokenizer = loading.load(str(checkpoint), num_labels=2)
        assert len(tokenizer) == summary.corpus.vocabulary
        assert loading.longest_input(model, tokenizer) == 128
        inputs = tokenizer("the cat sleeps", "the dog", return_tensors="pt")
        assert torch.isfinite(model(**inputs).logits).all()
        bodies.append(model.get_parameter("roberta.encoder.layer.0.output.dense.weight"))
    assert not torch.equal(bodies[0], bodies[1])
    assert not torch.equal(bodies[1], bodies[2])


class Killer(Listener):
    """Interrupts after an update, or before what follows an evaluation."""

    def __init__(self, *, update: int = -1, evaluation: int = -1) -> None:
        self.update, self.evaluation = update, evaluation
        self.first: int | None = None

    def progressed(self, progress: Progress) -> None:
        self.first = progress.step if self.first is None else self.first
        if progress.step == self.update:
            raise KeyboardInterrupt

    def evaluated(self, evaluation: Evaluation) -> None:
        if evaluation.step == self.evaluation:
            raise KeyboardInterrupt


def interrupted(job: Pretraining, folder: Path, **when: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(job, folder, listener=Killer(**when))


def before(step: int, session: Session) -> bool:
    return session.run.state.step < step


def test_killed_anywhere_it_ends_with_the_same_bits(
    quick: Planner,
    finished: tuple[Path, Summary],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = quick()
    with monkeypatch.context() as patch:  # while the tokens are being written
        patch.setattr("d90.pretraining.dataset.is_held_out", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            run(job, tmp_path)
    interrupted(job, tmp_path, evaluation=0)
    interrupted(job, tmp_path, update=3)
    save = Session._save
    with monkeypatch.context() as patch:  # between a checkpoint and the state
        patch.setattr(Session, "_save", lambda self: save(self) if before(5, self) else 1 // 0)
        with pytest.raises(ZeroDivisionError):
            run(job, tmp_path)
    assert [step for step, _ in checkpoints(tmp_path)] == [0, 5]
    interrupted(job, tmp_path, update=7)
    interrupted(job, tmp_path, evaluation=12)
    torch.manual_seed(1)
    listener = Killer()
    summary = run(job, tmp_path, listener=listener)
    assert listener.first == 9
    assert timeless(summary.history) == timeless(finished[1].history)
    assert files_of(tmp_path) == files_of(finished[0])


def test_a_finished_run_is_not_trained_again(
    quick: Planner, finished: tuple[Path, Summary]
) -> None:
    listener = Killer()
    assert run(quick(log_with=None), finished[0], listener=listener) == finished[1]
    assert listener.first is None


def test_minutes(quick: Planner, finished: tuple[Path, Summary], tmp_path: Path) -> None:
    stopped = run(quick(), tmp_path, minutes=1e-9)
    assert (stopped.step, stopped.finished) == (1, None)
    assert [step for step, _ in checkpoints(tmp_path)] == [0, 1]
    assert stopped.history[-1].step == 1
    run(quick(), tmp_path)
    found, expected = files_of(tmp_path), files_of(finished[0])
    assert {name: found[name] for name in expected} == expected
    with pytest.raises(D90Error, match="minutes 0"):
        run(quick(), tmp_path, minutes=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.5}, "learning_rate was 0.001 and is now 0.5"),
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"size": "micro"}, "hidden_size was 64 and is now 128"),
        ({"document_limit": 50}, "document_limit was none and is now 50"),
    ],
)
def test_another_setting_is_another_run(
    quick: Planner, finished: tuple[Path, Summary], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(D90Error, match=f"holds another run \\({message}\\)"):
        run(quick(**change), finished[0])


def test_folders_of_something_else(quick: Planner, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(D90Error, match=r"is no pre-training folder and has 'thesis.tex' in it"):
        run(quick(), tmp_path)
    with pytest.raises(D90Error, match="cannot be written"):
        run(quick(), tmp_path / "thesis.tex")


def test_a_tokenizer_of_another_run(
    quick: Planner, finished: tuple[Path, Summary], tmp_path: Path
) -> None:
    job = quick(
        size="micro", vocab_size=None, tokenizer=finished[0], steps=1, checkpoints=(), pieces=()
    )
    summary = run(job, tmp_path)
    assert summary.corpus == finished[1].corpus
    assert (tmp_path / "tokenizer.json").read_text() == (finished[0] / "tokenizer.json").read_text()
    for change, message in (
        ({"vocab_size": 300}, "vocab_size and tokenizer: give one"),
        ({"tokenizer": tmp_path / "none"}, "expected a folder with a tokenizer.json"),
    ):
        with pytest.raises(D90Error, match=message):
            quick(**{"vocab_size": None, "tokenizer": finished[0], **change})


def test_every_block_once_an_epoch(opened: Run) -> None:
    count = len(opened._train)
    first, second = ([opened._block(e * count + i) for i in range(count)] for e in range(2))
    assert sorted(first) == sorted(second) == list(range(count))
    assert first != second
    # An update across two epochs, after which neither is forgotten too early.
    assert [opened._block(2 * count - 1), opened._block(2 * count)][:1] == second[-1:]


def _gradient_of(parameter: nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad.reshape(-1)


def test_accumulation_gives_the_gradient_of_the_whole(opened: Run) -> None:
    blocks = opened._masked_blocks(0)

    def gradient(batch_size: int) -> tuple[float, torch.Tensor]:
        opened.model.zero_grad()
        opened.settings = replace(opened.settings, batch_size=batch_size, clip=None)
        loss, _ = opened._gradient(blocks)
        return loss, torch.cat([_gradient_of(p) for p in opened.model.parameters()])

    whole_loss, whole = gradient(4)
    loss, parts = gradient(3)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_no_piece_sees_another(opened: Run) -> None:
    blocks = opened._masked_blocks(0)

    def loss(step: int) -> float:
        opened.state.step = step
        return opened._gradient(blocks)[0]

    for step, length in ((2, 4), (5, 8), (6, 16)):
        pieces = zip(blocks.inputs.split(length, 1), blocks.chosen.split(length, 1), strict=True)
        targets = torch.zeros_like(blocks.inputs)
        targets[blocks.chosen] = blocks.targets
        total = sum(
            masked_losses(opened.model, Masked(inputs, chosen, wanted[chosen])).sum().item()
            for (inputs, chosen), wanted in zip(pieces, targets.split(length, 1), strict=True)
        )
        assert loss(step) == pytest.approx(total / len(blocks.targets), rel=1e-5)
    assert len({round(loss(step), 6) for step in (0, 3, 6)}) == 3


def test_the_held_out_loss_is_always_of_the_same_masks(opened: Run) -> None:
    loss = opened.held_out_loss()
    opened.state.step = 5
    torch.manual_seed(9)
    assert opened.held_out_loss() == loss
    opened.settings = replace(opened.settings, batch_size=3)
    assert opened.held_out_loss() == pytest.approx(loss, rel=1e-6)


def test_a_loss_that_is_not_finite_ends_the_run(quick: Planner, tmp_path: Path) -> None:
    with pytest.raises(D90Error, match=r"diverged after .* lower learning rate"):
        run(quick(rate=1e30, warmup=0.0, steps=5, checkpoints=(), pieces=()), tmp_path)


def test_too_little_text(quick: Planner, tmp_path: Path) -> None:
    with pytest.raises(D90Error, match=r"the corpus has .* tokens to train on, fewer than a block"):
        run(quick(document_limit=1, max_length=128), tmp_path)


def test_trackers_of_accelerate(quick: Planner, tmp_path: Path) -> None:
    tracker = ListTracker()
    run(quick(steps=3, checkpoints=(), pieces=(), evaluate_every=2, log_with=tracker), tmp_path)
    assert tracker.config["batch_size"] == 4
    assert [step for step, values in tracker.lines if "loss" in values] == [1, 2, 3]
    assert [step for step, values in tracker.lines if "perplexity" in values] == [0, 2, 3]


def test_predictions(quick: Planner) -> None:
    found = predict(quick(), updates=1)
    assert found.tokens == 12 * 4 * 16
    assert found.seconds > 0
    # Weights, gradients and two numbers of Adam's for each.
    assert 16 * found.D < found.memory < 64 * found.D


def test_dropout_is_on_in_training_only(opened: Run, quick: Planner, tmp_path: Path) -> None:
    run_with = Session(quick(), tmp_path / "other", Listener(), "").run
    rates = {m.p for m in run_with.model.modules() if isinstance(m, nn.Dropout)}
    assert rates == {0.1}
    run_with.update()
    assert run_with.model.training
    run_with.held_out_loss()
    assert not run_with.model.training
