"""Start or resume a pretraining run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from time import perf_counter

from transformers.utils import logging as transformers_logging

from d90.errors import D90Error
from d90.pretraining.checkpoints import CHECKPOINTS, STATE, Evaluation, checkpoint_name
from d90.pretraining.dataset import PARTS, Corpus, open_blocks
from d90.pretraining.loss_curve import write_figure
from d90.pretraining.model import new_model
from d90.pretraining.plan import PretrainJob
from d90.pretraining.prepare import prepare
from d90.pretraining.summary import Summary, check_folder
from d90.pretraining.tokenizer import FILES, load_tokenizer, vocabulary
from d90.pretraining.trainer import PretrainTrainer
from d90.storage.locks.file import FileLock
from d90.training import Progress
from d90.utils.files import atomic_path

SAVE_SECONDS, MAX_SAVE_FRACTION = 30.0, 0.02
"""Minimum seconds between saves of the state, and maximum fraction of the time spent on them."""


class PretrainCallback:
    """Called on the events of a run; every method does nothing unless overridden."""

    def on_corpus_progress(self, what: str, documents: int, size: int) -> None:
        """Documents of `size` bytes have been read; `what` is `tokenizer` or `tokens`."""

    def on_train_begin(self, job: PretrainJob, D: int, corpus: Corpus, step: int) -> None:
        """Training starts; `step` optimizer steps were done by earlier sessions."""

    def on_progress(self, progress: Progress) -> None:
        """Called after each optimizer step."""

    def on_evaluate(self, evaluation: Evaluation) -> None:
        """Called after each evaluation."""


def pretrain(
    job: PretrainJob,
    folder: Path,
    *,
    max_minutes: float | None = None,
    callback: PretrainCallback | None = None,
    command: str = "",
) -> Summary:
    """Pretrain, or resume the run in the folder.

    Args:
        job: the job.
        folder: of all outputs; `docs/pretraining.md` lists them.
        max_minutes: stop after this many minutes, at an optimizer step, with a checkpoint.
        callback: called on the events of the run.
        command: as the user gave it, for the summary.

    Raises:
        D90Error: the folder contains another run; the corpus cannot be read or is too small for
            one block; the loss is not finite; another process trains in this folder.
    """
    if max_minutes is not None and not 0 < max_minutes < inf:
        raise D90Error(f"max_minutes {max_minutes}: a number above 0 is expected.")
    callback = callback or PretrainCallback()
    check_folder(folder, job)
    with FileLock(folder / ".lock", f"pretraining in '{folder}'"):
        session = PretrainSession(job, folder, callback, command)
        try:
            session.train(max_minutes)
        except FloatingPointError as error:
            raise D90Error(
                f"pretraining diverged after {session.run.state.step} optimizer steps ({error}): "
                "give another folder and a lower learning rate or a longer warm-up."
            ) from error
        finally:
            session.run.close()
        write_figure(session.summary.history, folder)
        return session.summary


class PretrainSession:
    """The part of a run that one process executes.

    Args:
        job: the job.
        folder: of all outputs.
        callback: called on the events of the run.
        command: as the user gave it.
    """

    def __init__(
        self, job: PretrainJob, folder: Path, callback: PretrainCallback, command: str
    ) -> None:
        self._job, self._folder, self._callback = job, folder, callback
        previous = Summary.load(folder)
        corpus = (
            prepare(job, folder, callback.on_corpus_progress)
            if previous is None
            else previous.corpus
        )
        self.run = _open_run(job, folder, corpus)
        self.summary = previous or Summary.new(job, corpus, self.run.D, command)
        if previous is None:
            self.summary.save(folder)
        self.run.resume(folder / STATE)
        self._save_summary()  # It may be older than the state, if the process was killed between.
        callback.on_train_begin(job, self.run.D, corpus, self.run.state.step)
        self._saved_at, self._save_seconds = perf_counter(), 0.0

    def train(self, max_minutes: float | None) -> None:
        """Train to the end, or for `max_minutes`."""
        run = self.run
        stop = None if max_minutes is None else perf_counter() + 60 * max_minutes
        self._evaluate_and_save(last=False)  # The untrained model is a checkpoint too.
        while not run.is_over:
            loss = run.optimizer_step()
            self._callback.on_progress(Progress(run.state.step, run.steps, loss))
            is_last = stop is not None and perf_counter() >= stop
            self._evaluate_and_save(last=is_last)
            if is_last:
                break

    def _evaluate_and_save(self, *, last: bool) -> None:
        """Evaluate, and write the checkpoint and the state that are due; all on the `last` step.

        The state is written last: if the process is killed before, the resumed run repeats the
        step with the same result.
        """
        run = self.run
        is_checkpoint = last or run.state.step in self._job.config.checkpoints
        is_evaluation = (last and not run.is_evaluated) or run.evaluation_is_due
        if is_evaluation:
            self._callback.on_evaluate(run.evaluate())
        if is_checkpoint:
            write_checkpoint(run, self._folder)
        if is_evaluation or self._state_is_old:
            self._save()

    @property
    def _state_is_old(self) -> bool:
        return perf_counter() - self._saved_at > max(
            SAVE_SECONDS, self._save_seconds / MAX_SAVE_FRACTION
        )

    def _save(self) -> None:
        began = perf_counter()
        self.run.save(self._folder / STATE)
        self._save_summary()
        self._saved_at = perf_counter()
        self._save_seconds = self._saved_at - began

    def _save_summary(self) -> None:
        current = self.summary.after(self.run.state, is_over=self.run.is_over)
        if current != self.summary:
            self.summary = current
            current.save(self._folder)


def _open_run(job: PretrainJob, folder: Path, corpus: Corpus) -> PretrainTrainer:
    config = job.config
    tokens = vocabulary(load_tokenizer(folder))
    train, validation = (
        open_blocks(folder, part, corpus, config.max_length, tokens.start, job.validation_fraction)
        for part in PARTS
    )
    model = new_model(job.fields, tokens, config.max_length, config.seed)
    identity = {"corpus": corpus.digest, "tokenizer": corpus.tokenizer}
    return PretrainTrainer(model, tokens, train, validation, config, identity=identity)


def write_checkpoint(run: PretrainTrainer, folder: Path) -> None:
    """Save the model in transformers' format, with its tokenizer, atomically."""
    checkpoints = folder / CHECKPOINTS
    final = checkpoints / checkpoint_name(run.state.step)
    if final.exists():
        return
    checkpoints.mkdir(exist_ok=True)
    with atomic_path(final) as partial, _without_progress_bars():
        run.model.save_pretrained(partial)
        for name in FILES:
            shutil.copy(folder / name, partial / name)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
