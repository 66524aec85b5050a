"""What a person sees of a pre-training run: live on a terminal, a line an evaluation elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from d90.cli.output import format_seconds
from d90.pretraining.checkpoints import Evaluation
from d90.pretraining.config import PretrainConfig
from d90.pretraining.dataset import Corpus
from d90.pretraining.plan import PretrainJob
from d90.pretraining.pretrain import PretrainCallback, Progress
from d90.pretraining.summary import Summary
from d90.training.memory import available_memory


class Display(PretrainCallback, AbstractContextManager["Display"]):
    """Updates done, the loss, the held-out perplexity, tokens a second and the time left.

    Written for 40 columns and more. `quiet` prints nothing at all.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self._bars = Bars(
            TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn()
        )
        self._steps = self._bars.add_task("update", total=None, visible=False)
        self._losses, self._speed = Text(), Text()
        self._live: Live | None = None
        if console.is_terminal and not quiet:
            shown = Group(self._bars, self._losses, self._speed)
            self._live = Live(shown, console=console, transient=True)
        self._began, self._first, self._tokens = monotonic(), 0, 0
        self._perplexity = ""

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def on_corpus_progress(self, what: str, documents: int, size: int) -> None:
        self._losses.plain = f"reading for the {what}: {documents:,} documents, {size / 1e6:.1f} MB"

    def on_train_begin(self, job: PretrainJob, D: int, corpus: Corpus, step: int) -> None:
        self._say(
            f"D = {D:,}, {corpus.vocabulary:,} tokens; {corpus.documents:,} documents with "
            f"{corpus.tokens:,} tokens to train on, {corpus.validation_documents:,} with "
            f"{corpus.validation_tokens:,} held out"
        )
        if step:
            self._say(f"updates done before: {step:,}")
        self._losses.plain = ""
        self._tokens = job.settings.tokens_per_step
        self._began, self._first = monotonic(), step
        self._bars.update(self._steps, completed=step, total=job.settings.max_steps, visible=True)

    def on_progress(self, progress: Progress) -> None:
        self._bars.update(self._steps, completed=progress.step)
        self._losses.plain = f"loss {progress.loss:.3f}{self._perplexity}"
        an_update = (monotonic() - self._began) / (progress.step - self._first)
        left = format_seconds(an_update * (progress.steps - progress.step))
        self._speed.plain = f"{self._tokens / an_update:,.0f} tokens/s, {left} left"

    def on_evaluate(self, evaluation: Evaluation) -> None:
        self._perplexity = f", held-out perplexity {evaluation.perplexity:,.1f}"
        loss = evaluation.train_loss
        train = "      -" if loss is None else f"{loss:7.3f}"
        self._say(
            f"update {evaluation.step:>8,}  loss {train}  held out "
            f"{evaluation.validation_loss:.3f}  perplexity {evaluation.perplexity:,.1f}  "
            f"({format_seconds(evaluation.seconds)})"
        )

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(line, soft_wrap=True, highlight=False, markup=False)


def show(summary: Summary, folder: Path, console: Console) -> None:
    """Print what came of it, in one line."""
    last = summary.history[-1]
    steps = summary.settings["max_steps"]
    how = "done" if summary.finished else f"stopped, the same command goes on ({steps:,} in all)"
    console.print(
        f"{folder}: held-out perplexity {last.perplexity:,.2f} after {summary.step:,} updates: "
        f"{how}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def show_plan(job: PretrainJob, console: Console) -> None:
    """Print the size of a run, and its memory and time from a few timed updates."""
    import torch

    from d90.pretraining.cost import estimate_cost

    with console.status("timing a few updates"):
        found = estimate_cost(job)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = job.settings
    kept = len(settings.checkpoints)
    for line in (
        f"D = {found.D:,}, at most {job.fields['vocab_size']:,} tokens",
        f"corpus: {', '.join(source.identity for source in job.sources)}",
        f"updates: {settings.max_steps:,} of {settings.tokens_per_step:,} tokens, "
        f"{found.tokens:,} in all",
        *([f"pieces: {_pieces(settings)}"] if settings.sequence_length_schedule else []),
        f"learning rate: {settings.learning_rate:g}",
        f"checkpoints: {kept}, {kept * 4 * found.D / 1e9:.2f} GB",
        f"memory: {found.memory / 1e9:.2f} GB of {available_memory(device) / 1e9:.1f} GB free "
        f"on {device}",
        f"time: {format_seconds(found.seconds)} and what it takes to read the corpus, "
        f"{found.tokens / found.seconds:,.0f} tokens/s",
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _pieces(settings: PretrainConfig) -> str:
    stages = ", ".join(
        f"{length} tokens to update {step:,}" for length, step in settings.sequence_length_schedule
    )
    return f"{stages}, then whole blocks of {settings.max_length}"
