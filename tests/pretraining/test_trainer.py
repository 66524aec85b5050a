"""Runs whose outcome is known: the loss, what is learnt, and the same bits however often killed."""

from __future__ import annotations

import math
import shutil
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
from d90.pretraining.cost import estimate_cost
from d90.pretraining.masking import MaskedBatch, MaskingCollator
from d90.pretraining.model import masked_losses, new_model
from d90.pretraining.plan import PretrainJob
from d90.pretraining.pretrain import PretrainCallback, PretrainSession, Progress, pretrain
from d90.pretraining.summary import Summary
from d90.pretraining.tokenizer import Vocabulary
from d90.pretraining.trainer import PretrainTrainer

from .conftest import Planner

KNOWN = Vocabulary(size=290, start=0, pad=1, end=2, mask=4, special=(0, 1, 2, 3, 4))


@pytest.fixture
def opened(quick: Planner, tmp_path: Path) -> PretrainTrainer:
    """That run before its first update, without dropout."""
    job = quick()
    job = replace(
        job,
        fields={**job.fields, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    )
    return PretrainSession(job, tmp_path, PretrainCallback(), "").run


def timeless(results: tuple[Evaluation, ...]) -> list[Evaluation]:
    return [replace(result, seconds=0.0) for result in results]


def files_of(folder: Path) -> dict[str, bytes]:
    """What must be the same to the bit: every file of every checkpoint."""
    found = [path for path in (folder / "checkpoints").rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_the_loss_is_that_of_transformers(quick: Planner) -> None:
    model = new_model(quick().fields, KNOWN, 16, seed=0).eval()
    blocks = torch.arange(5, 5 + 4 * 32).view(4, 32)
    masked = MaskingCollator(KNOWN.size, KNOWN.mask, KNOWN.special).training(
        blocks, seed=0, first=0
    )
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
    assert first.validation_loss == pytest.approx(math.log(summary.corpus.vocabulary), abs=0.15)
    assert first.perplexity == math.exp(first.validation_loss)


def test_it_learns(quick: Planner, tmp_path: Path) -> None:
    job = quick(max_steps=100, evaluate_every=100, learning_rate=0.01, batch_size=8, checkpoints=())
    first, last = pretrain(job, tmp_path).history
    assert last.train_loss is not None
    # A token of the corpus is one of thirty or so, and the noun decides the verb.
    assert last.train_loss < first.validation_loss - 1.5
    assert last.perplexity < first.perplexity / 10


def test_what_a_run_leaves(finished: tuple[Path, Summary]) -> None:
    folder, summary = finished
    assert sorted(path.name for path in folder.iterdir()) == [
        *("checkpoints", "corpus.json", "loss.png", "loss.svg", "pretraining.json"),
        *("state.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("tokens-train.bin", "tokens-validation.bin"),
    ]
    assert [step for step, _ in checkpoints(folder)] == [0, 5, 12]
    assert [result.step for result in history(folder)] == [0, 4, 5, 8, 12]
    assert history(folder) == summary.history
    assert [result.tokens for result in summary.history] == [0, 256, 320, 512, 768]
    saved = read(folder)
    assert (saved["D"], saved["step"], saved["command"]) == (summary.D, 12, "d90 pretrain")
    assert saved["finished"] is not None
    assert saved["versions"]["precision"] == "no"
    assert saved["settings"]["learning_rate"] == 0.001
    assert saved["corpus"]["documents"] + saved["corpus"]["validation_documents"] == 200
    assert saved["history"][0]["validation_perplexity"] == summary.history[0].perplexity


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


class Killer(PretrainCallback):
    """Interrupts after an update, or before what follows an evaluation."""

    def __init__(self, *, update: int = -1, evaluation: int = -1) -> None:
        self.update, self.evaluation = update, evaluation
        self.first: int | None = None

    def on_progress(self, progress: Progress) -> None:
        self.first = progress.step if self.first is None else self.first
        if progress.step == self.update:
            raise KeyboardInterrupt

    def on_evaluate(self, evaluation: Evaluation) -> None:
        if evaluation.step == self.evaluation:
            raise KeyboardInterrupt


def interrupted(job: PretrainJob, folder: Path, **when: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        pretrain(job, folder, callback=Killer(**when))


def before(step: int, session: PretrainSession) -> bool:
    return session.run.state.step < step


def test_killed_anywhere_it_ends_with_the_same_bits(
    quick: Planner,
    finished: tuple[Path, Summary],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = quick()
    with monkeypatch.context() as patch:  # while the tokens are being written
        patch.setattr("d90.pretraining.dataset.is_validation", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            pretrain(job, tmp_path)
    interrupted(job, tmp_path, evaluation=0)
    interrupted(job, tmp_path, update=3)
    save = PretrainSession._save
    with monkeypatch.context() as patch:  # between a checkpoint and the state
        patch.setattr(
            PretrainSession, "_save", lambda self: save(self) if before(5, self) else 1 // 0
        )
        with pytest.raises(ZeroDivisionError):
            pretrain(job, tmp_path)
    assert [step for step, _ in checkpoints(tmp_path)] == [0, 5]
    interrupted(job, tmp_path, update=7)
    interrupted(job, tmp_path, evaluation=12)
    torch.manual_seed(1)
    callback = Killer()
    summary = pretrain(job, tmp_path, callback=callback)
    assert callback.first == 9
    assert timeless(summary.history) == timeless(finished[1].history)
    assert files_of(tmp_path) == files_of(finished[0])


def test_a_finished_run_is_not_trained_again(
    quick: Planner, finished: tuple[Path, Summary]
) -> None:
    callback = Killer()
    assert pretrain(quick(log_with=None), finished[0], callback=callback) == finished[1]
    assert callback.first is None


def test_killed_between_the_last_state_and_its_summary(
    quick: Planner, finished: tuple[Path, Summary], tmp_path: Path
) -> None:
    folder, summary = finished
    shutil.copytree(folder, tmp_path / "run")
    earlier = replace(summary, finished=None, step=8, history=summary.history[:-1])
    earlier.save(tmp_path / "run")
    again = pretrain(quick(), tmp_path / "run")
    assert again.history == summary.history and again.finished
    assert Summary.load(tmp_path / "run") == again


def test_minutes(quick: Planner, finished: tuple[Path, Summary], tmp_path: Path) -> None:
    stopped = pretrain(quick(), tmp_path, max_minutes=1e-9)
    assert (stopped.step, stopped.finished) == (1, None)
    assert [step for step, _ in checkpoints(tmp_path)] == [0, 1]
    assert stopped.history[-1].step == 1
    pretrain(quick(), tmp_path)
    actual, expected = files_of(tmp_path), files_of(finished[0])
    assert {name: actual[name] for name in expected} == expected
    with pytest.raises(D90Error, match="minutes 0"):
        pretrain(quick(), tmp_path, max_minutes=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.5}, "learning_rate was 0.001 and is now 0.5"),
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"size": "micro"}, "hidden_size was 64 and is now 128"),
        ({"max_documents": 50}, "max_documents was none and is now 50"),
    ],
)
def test_another_setting_is_another_run(
    quick: Planner, finished: tuple[Path, Summary], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(D90Error, match=f"holds another run \\({message}\\)"):
        pretrain(quick(**change), finished[0])


def test_folders_of_something_else(quick: Planner, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(D90Error, match=r"is no pre-training folder and has 'thesis.tex' in it"):
        pretrain(quick(), tmp_path)
    with pytest.raises(D90Error, match="cannot be written"):
        pretrain(quick(), tmp_path / "thesis.tex")


def test_a_tokenizer_of_another_run(
    quick: Planner, finished: tuple[Path, Summary], tmp_path: Path
) -> None:
    job = quick(
        size="micro",
        vocab_size=None,
        tokenizer=finished[0],
        max_steps=1,
        checkpoints=(),
        sequence_length_schedule=(),
    )
    summary = pretrain(job, tmp_path)
    assert summary.corpus == finished[1].corpus
    assert (tmp_path / "tokenizer.json").read_text() == (finished[0] / "tokenizer.json").read_text()
    for change, message in (
        ({"vocab_size": 300}, "vocab_size and tokenizer: give one"),
        ({"tokenizer": tmp_path / "none"}, "expected a folder with a tokenizer.json"),
    ):
        with pytest.raises(D90Error, match=message):
            quick(**{"vocab_size": None, "tokenizer": finished[0], **change})


def test_every_block_once_an_epoch(opened: PretrainTrainer) -> None:
    count = len(opened._train)
    first, second = ([opened._block(e * count + i) for i in range(count)] for e in range(2))
    assert sorted(first) == sorted(second) == list(range(count))
    assert first != second
    # An update across two epochs, after which neither is forgotten too early.
    assert [opened._block(2 * count - 1), opened._block(2 * count)][:1] == second[-1:]


def _gradient_of(parameter: nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad.reshape(-1)


def test_accumulation_gives_the_gradient_of_the_whole(opened: PretrainTrainer) -> None:
    blocks = opened._masked_blocks(0)

    def gradient(batch_size: int) -> tuple[float, torch.Tensor]:
        opened.model.zero_grad()
        opened.config = replace(opened.config, batch_size=batch_size)
        loss = float(opened._backward(opened._batch_losses(blocks, 16)))
        return loss, torch.cat([_gradient_of(p) for p in opened.model.parameters()])

    whole_loss, whole = gradient(4)
    loss, parts = gradient(3)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_no_short_sequence_sees_another(opened: PretrainTrainer) -> None:
    blocks = opened._masked_blocks(0)

    def loss(step: int) -> float:
        length = opened.pretrain_config.sequence_length_at(step)
        return sum(loss.item() for loss in opened._batch_losses(blocks, length))

    for step, length in ((2, 4), (5, 8), (6, 16)):
        sequences = zip(blocks.inputs.split(length, 1), blocks.chosen.split(length, 1), strict=True)
        targets = torch.zeros_like(blocks.inputs)
        targets[blocks.chosen] = blocks.targets
        total = sum(
            masked_losses(opened.model, MaskedBatch(inputs, chosen, tokens[chosen])).sum().item()
            for (inputs, chosen), tokens in zip(sequences, targets.split(length, 1), strict=True)
        )
        assert loss(step) == pytest.approx(total / len(blocks.targets), rel=1e-5)
    assert len({round(loss(step), 6) for step in (0, 3, 6)}) == 3


def test_the_validation_loss_is_always_of_the_same_masks(opened: PretrainTrainer) -> None:
    loss = opened.validation_loss()
    opened.state.step = 5
    torch.manual_seed(9)
    assert opened.validation_loss() == loss
    opened.config = replace(opened.config, batch_size=3)
    assert opened.validation_loss() == pytest.approx(loss, rel=1e-6)


def test_a_loss_that_is_not_finite_ends_the_run(quick: Planner, tmp_path: Path) -> None:
    with pytest.raises(D90Error, match=r"diverged after .* lower learning rate"):
        pretrain(
            quick(
                learning_rate=1e30,
                warmup_ratio=0.0,
                max_steps=5,
                checkpoints=(),
                sequence_length_schedule=(),
            ),
            tmp_path,
        )


def test_too_little_text(quick: Planner, tmp_path: Path) -> None:
    with pytest.raises(D90Error, match=r"the corpus has .* tokens to train on, fewer than a block"):
        pretrain(quick(max_documents=1, max_length=128), tmp_path)


def test_trackers_of_accelerate(quick: Planner, tmp_path: Path) -> None:
    tracker = ListTracker()
    pretrain(
        quick(
            max_steps=3,
            checkpoints=(),
            sequence_length_schedule=(),
            evaluate_every=2,
            log_with=tracker,
        ),
        tmp_path,
    )
    assert tracker.config["batch_size"] == 4
    assert [step for step, values in tracker.lines if "loss" in values] == [1, 2, 3]
    assert [step for step, values in tracker.lines if "perplexity" in values] == [0, 2, 3]


def test_predictions(quick: Planner) -> None:
    cost = estimate_cost(quick(), timed_steps=1)
    assert cost.tokens == 12 * 4 * 16
    assert cost.seconds > 0
    # Weights, gradients and two numbers of Adam's for each.
    assert 16 * cost.D < cost.memory < 64 * cost.D


def test_dropout_is_on_in_training_only(
    opened: PretrainTrainer, quick: Planner, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    run_with = PretrainSession(quick(), tmp_path / "other", PretrainCallback(), "").run
    rates = {m.p for m in run_with.model.modules() if isinstance(m, nn.Dropout)}
    assert rates == {0.1}
    run_with.optimizer_step()
    assert run_with.model.training
    run_with.validation_loss()
    assert not run_with.model.training
