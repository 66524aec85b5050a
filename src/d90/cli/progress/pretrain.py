"""What the terminal shows during pre-training: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from d90.cli.output import format_seconds, print_line
from d90.cli.progress.live import LiveDisplay
from d90.pretraining.checkpoints import Evaluation
from d90.pretraining.config import PretrainConfig
from d90.pretraining.dataset import Corpus
from d90.pretraining.plan import PretrainJob
from d90.pretraining.pretrain import PretrainCallback, Progress
from d90.pretraining.summary import Summary
from d90.training.memory import available_memory


class PretrainProgress(PretrainCallback, LiveDisplay):
    """Optimizer steps done, loss, validation perplexity, tokens per second and the time left.

    `quiet` prints nothing at all.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        super().__init__(console, quiet=quiet)
        self._bars = Bars(
            TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn()
        )
        self._steps = self._bars.add_task("step", total=None, visible=False)
        self._losses, self._speed = Text(), Text()
        self._show_live(Group(self._bars, self._losses, self._speed))
        self._began, self._first, self._tokens = monotonic(), 0, 0
        self._perplexity = ""

    def on_corpus_progress(self, what: str, documents: int, size: int) -> None:
        self._losses.plain = (
            f"reading the corpus for the {what}: {documents:,} documents, {size / 1e6:.1f} MB"
        )

    def on_train_begin(self, job: PretrainJob, D: int, corpus: Corpus, step: int) -> None:
        self._print(
            f"D = {D:,}, vocabulary {corpus.vocabulary:,}; training: {corpus.documents:,} "
            f"documents, {corpus.tokens:,} tokens; validation: {corpus.validation_documents:,} "
            f"documents, {corpus.validation_tokens:,} tokens"
        )
        if step:
            self._print(f"resumed after step {step:,}")
        self._losses.plain = ""
        self._tokens = job.config.tokens_per_step
        self._began, self._first = monotonic(), step
        self._bars.update(self._steps, completed=step, total=job.config.max_steps, visible=True)

    def on_progress(self, progress: Progress) -> None:
        self._bars.update(self._steps, completed=progress.step)
        self._losses.plain = f"loss {progress.loss:.3f}{self._perplexity}"
        seconds = (monotonic() - self._began) / (progress.step - self._first)
        left = format_seconds(seconds * (progress.steps - progress.step))
        self._speed.plain = f"{self._tokens / seconds:,.0f} tokens/s, {left} left"

    def on_evaluate(self, evaluation: Evaluation) -> None:
        self._perplexity = f", validation perplexity {evaluation.perplexity:,.1f}"
        loss = evaluation.train_loss
        train = "      -" if loss is None else f"{loss:7.3f}"
        self._print(
            f"step {evaluation.step:>8,}  loss {train}  validation "
            f"{evaluation.validation_loss:.3f}  perplexity {evaluation.perplexity:,.1f}  "
            f"({format_seconds(evaluation.seconds)})"
        )


def show_summary(summary: Summary, folder: Path) -> None:
    """Print the result of a run in one line."""
    last = summary.history[-1]
    steps = f"{summary.step:,} of {summary.settings['max_steps']:,} steps"
    state = "finished" if summary.finished else "stopped: rerun the command to resume"
    print_line(f"{folder}: validation perplexity {last.perplexity:,.2f} after {steps}, {state}")


def show_cost(job: PretrainJob, console: Console) -> None:
    """Print the size of a run, and its memory and time from a few timed steps."""
    import torch

    from d90.pretraining.cost import estimate_cost

    with console.status("timing a few steps"):
        cost = estimate_cost(job)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = job.config
    count = len(config.checkpoints)
    for line in (
        f"D = {cost.D:,}, vocabulary of at most {job.fields['vocab_size']:,}",
        f"corpus: {', '.join(source.identity for source in job.sources)}",
        f"optimizer steps: {config.max_steps:,} of {config.tokens_per_step:,} tokens, "
        f"{cost.tokens:,} in total",
        *([f"sequence lengths: {_schedule(config)}"] if config.sequence_length_schedule else []),
        f"learning rate: {config.learning_rate:g}",
        f"checkpoints: {count}, {count * 4 * cost.D / 1e9:.2f} GB",
        f"memory: {cost.memory / 1e9:.2f} GB of {available_memory(device) / 1e9:.1f} GB free "
        f"on {device}",
        f"time: {format_seconds(cost.seconds)} without reading the corpus, "
        f"{cost.tokens / cost.seconds:,.0f} tokens/s",
    ):
        print_line(line, console)


def _schedule(config: PretrainConfig) -> str:
    stages = ", ".join(
        f"{length} until step {step:,}" for length, step in config.sequence_length_schedule
    )
    return f"{stages}, then {config.max_length}"
