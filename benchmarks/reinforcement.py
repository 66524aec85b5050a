"""Supervised fine-tuning against reinforcement learning: d90 of one skill by both.

    python -m benchmarks.reinforcement run FOLDER
    python -m benchmarks.reinforcement table FOLDER

The small model is pre-trained here, on pages of one to six sums such as `17 + 8 = 25`. The author
of a page is one of four: one adds, one subtracts, one takes the larger term, one adds and writes
the digits backwards. So the model can add, but not by default: on a new page, the first sum is one
with a probability of about 1/4. It is then fine-tuned to add, the first line of a page being the
task, by:

* `grpo`: GRPO, rewarded where the first number that it writes is the sum;
* `sft`: supervised, on answers as the adding author writes them;
* `sft-padded`: supervised, on right answers in a form that no author has, such as `0025`;
* `sft-padded-long`: the same with four times the steps. It was added after the others had run,
  since 150 steps are too few for full fine-tuning on such answers.

All have the same problems and the same evaluation: the fraction of 500 other problems that greedy
decoding gets right, leading zeros allowed.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from datasets import disable_progress_bars
from examples.grpo_search import Adding, problems
from matplotlib.figure import Figure
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

import d90
from benchmarks.markdown import markdown_table
from d90.adapters.codecs import Float32Codec, UniformCodec
from d90.report import plotting, wording, write_report
from d90.search.summary import FILE_NAME, Summary
from d90.utils.files import atomic_write

MAX_TERM = 49
CHARACTERS = ("<pad>", "\n", *"0123456789+=- ")
AUTHORS: tuple[Callable[[int, int], str], ...] = (
    lambda a, b: str(a + b),
    lambda a, b: str(a - b),
    lambda a, b: str(max(a, b)),
    lambda a, b: str(a + b)[::-1],
)
PRETRAINING_STEPS = 4000
PRETRAINING_BATCH = 64
LEARNING_RATE = 2e-3
CONTEXT = 64

BATCH_SIZE = 64
PROTOCOL = d90.AdaptiveProtocol(
    min_dim=1,
    max_dim=30_000,
    learning_rates=(0.004, 0.008, 0.016, 0.032, 0.064),
    baseline_learning_rates=(1e-4, 3e-4, 1e-3),
)


class Method(NamedTuple):
    """How the model is fine-tuned.

    Attributes:
        kind: the `method` of `Adding`.
        answer: the format of the answers that it learns from.
        steps: of training.
    """

    kind: str
    answer: str = ""
    steps: int = 150


METHODS: Mapping[str, Method] = {
    "grpo": Method("grpo"),
    "sft": Method("sft", " {}"),
    "sft-padded": Method("sft", " {:04d}"),
    "sft-padded-long": Method("sft", " {:04d}", steps=600),
}

FACTORS = (1, 2, 4)
"""Of d90: the d at which z is rounded."""

ROUNDED_SEEDS = (1000, 1001, 1002)
"""Of their own, three runs each."""

ROUNDINGS = (0, 127, 31, 15, 7, 3, 1)
"""Steps from 0 to the largest entry of z; 0 keeps it."""

MODEL, STORE, ROUNDED = "model", "d90.db", "rounded.jsonl"


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each character; a line ends the text."""
    model = Tokenizer(WordLevel({c: i for i, c in enumerate(CHARACTERS)}, unk_token="<pad>"))
    model.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    model.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token="<pad>",
        eos_token="\n",
        model_input_names=["input_ids", "attention_mask"],
    )


def network() -> LlamaForCausalLM:
    """A Llama of 3 layers and width 96, with random weights of a fixed seed."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(CHARACTERS),
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
        )
    )


def page(rng: random.Random) -> str:
    """Up to six sums of one author."""
    author = rng.choice(AUTHORS)
    terms = [(rng.randint(0, MAX_TERM), rng.randint(0, MAX_TERM)) for _ in range(rng.randint(1, 6))]
    return "".join(f"{a} + {b} = {author(a, b)}\n" for a, b in terms)


def batch(rng: random.Random, encode: Mapping[str, int]) -> Tensor:
    """Token numbers of pages, each from its start, cut to `CONTEXT` and padded with 0."""
    rows = [[encode[c] for c in page(rng)][:CONTEXT] for _ in range(PRETRAINING_BATCH)]
    return torch.tensor([row + [0] * (CONTEXT - len(row)) for row in rows])


def pretrain(folder: Path) -> None:
    """Write the pre-trained model to the folder, and print its loss now and then."""
    model, rng = network(), random.Random(0)
    encode = {c: i for i, c in enumerate(CHARACTERS)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=PRETRAINING_STEPS
    )
    for step in range(PRETRAINING_STEPS):
        tokens = batch(rng, encode)
        loss = model(
            input_ids=tokens,
            attention_mask=(tokens != 0).long(),
            labels=tokens.masked_fill(tokens == 0, -100),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 500 == 0:
            done = f"step {step + 1:,} of {PRETRAINING_STEPS:,}"
            print(f"pre-training: {done}, loss {loss.item():.3f}", flush=True)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def objective(folder: Path, name: str) -> Adding:
    """What a trial of a method trains."""
    kind, answer, steps = METHODS[name]
    model = str(folder / MODEL)
    return Adding(model, kind, steps, BATCH_SIZE, MAX_TERM, examples="", answer=answer)


def measure(folder: Path, name: str) -> Summary:
    """d90 by one method; its report is written to a folder of its name."""
    training = objective(folder, name)
    summary = d90.search(
        training,
        name=name,
        settings={**asdict(training), "model": f"pre-trained for {PRETRAINING_STEPS} steps"},
        protocol=PROTOCOL,
        metric="exact_match",
        floor=training.pretrained_score(),
        floor_name="pretrained model",
        D=sum(parameter.numel() for parameter in network().parameters()),
        evaluation_size=len(problems(MAX_TERM, training=False)),
        store=folder / STORE,
    )
    write_report(summary, folder / name)
    print(f"{name}: {wording.cell(summary)}, {len(summary.trials)} trials", flush=True)
    return summary


class Coded(NamedTuple):
    """A run whose z was rounded.

    Attributes:
        method: a key of `METHODS`.
        d, seed: of the run.
        steps: z is a multiple of its largest entry divided by this; 0 is float32.
        size: of the coded z in bytes.
        score: of the model with it.
    """

    method: str
    d: int
    seed: int
    steps: int
    size: int
    score: float


def round_runs(folder: Path, name: str, summary: Summary) -> list[Coded]:
    """Train at d90 and above, and score z rounded more and more."""
    if summary.d90 is None:
        return []
    near = [
        result
        for result in summary.trials
        if result.trial.d and summary.d90 / 2 <= result.trial.d <= summary.d90 * 2
    ]
    rate = max(near, key=lambda result: result.metric or 0).trial.learning_rate
    training, rows = objective(folder, name), []
    for d in (math.ceil(summary.d90 * factor) for factor in FACTORS):
        for seed in ROUNDED_SEEDS:
            with TemporaryDirectory() as run:
                trainer = training.trainer(d90.Trial(d, rate, seed), run)
                trainer.train()
            rows += [Coded(name, d, seed, *of) for of in _rounded(training, trainer.model)]
    return rows


def _rounded(training: Adding, model: Any) -> Iterator[tuple[int, int, float]]:
    """For each number of steps: it, the size of z and the score."""
    (z,) = (parameter for parameter in model.parameters() if parameter.requires_grad)
    values = z.detach().cpu().numpy().copy()
    for steps in ROUNDINGS:
        codec = UniformCodec(float(abs(values).max()) / steps) if steps else Float32Codec()
        data = codec.encode(values)
        with torch.no_grad():
            z.copy_(torch.from_numpy(codec.decode(data, len(values))))
        yield steps, len(data), training.score(model)


def load(folder: Path) -> dict[str, Summary]:
    """The summaries of the methods that have been measured."""
    return {
        name: Summary.load(folder / name)
        for name in METHODS
        if (folder / name / FILE_NAME).exists()
    }


def table(folder: Path) -> str:
    """d90 of each method, and the fewest bytes of z whose mean score over the seeds passes."""
    rows: list[tuple[object, ...]] = [
        ("method", "trials", "z = 0", "full", "d90", "bytes of z", "at d", "steps"),
    ]
    for name, summary in load(folder).items():
        coded = [row for row in _read(folder / ROUNDED) if row.method == name]
        fewest = smallest_that_passes(coded, summary.threshold or math.inf)
        rows.append(
            (
                *(name, len(summary.trials), f"{summary.majority:.3f}"),
                *(f"{summary.full_metric or math.nan:.3f}", wording.cell(summary)),
                *(fewest or ("none passes" if coded else "not measured", "", "")),
            )
        )
    return markdown_table(rows)


def smallest_that_passes(coded: Sequence[Coded], threshold: float) -> tuple[str, int, int] | None:
    """Bytes, d and steps of the rounding whose mean score passes with the fewest bytes."""
    cells = {(row.d, row.steps) for row in coded}
    passing = []
    for d, steps in cells:
        rows = [row for row in coded if (row.d, row.steps) == (d, steps)]
        if fmean(row.score for row in rows) >= threshold:
            passing.append((fmean(row.size for row in rows), d, steps))
    if not passing:
        return None
    size, d, steps = min(passing)
    return f"{size:.0f}", d, steps


def draw(summaries: Mapping[str, Summary]) -> Figure:
    """The score against d by each method: trials, the posterior's median and its band.

    Trials that count as collapsed are hollow.
    """
    figure = Figure(figsize=(3.3, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    plotting.log_axis(axes, "x", (1,))
    axes.set_xlabel("d (trained parameters)")
    axes.set_ylabel("fraction of right sums")
    look = zip(summaries.items(), plotting.COLORS, plotting.MARKERS, strict=False)
    for (name, summary), color, marker in look:
        axes.plot(
            [point.d for point in summary.curve],
            [point.best for point in summary.curve],
            marker,
            color=color,
            markersize=3,
            linestyle="none",
            label=name,
        )
        excluded = [r for r in summary.scored_trials if not r.is_valid and r.trial.d]
        axes.plot(
            [result.trial.d or 0 for result in excluded],
            [math.nan if result.metric is None else result.metric for result in excluded],
            marker,
            color=color,
            markersize=3,
            markerfacecolor="none",
            linestyle="none",
        )
        if summary.band:
            d, low, median, high = zip(*summary.band, strict=True)
            axes.plot(d, median, color=color, linewidth=1)
            axes.fill_between(d, low, high, color=color, alpha=0.15, linewidth=0)
        if summary.threshold is not None:
            axes.axhline(summary.threshold, color=color, linewidth=0.6, linestyle=":")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def run(folder: Path) -> None:
    """Pre-train, measure each method and round; what is there already is kept."""
    disable_progress_bars()
    disable_progress_bar()
    if not (folder / MODEL / "config.json").exists():
        pretrain(folder / MODEL)
    for name in METHODS:
        summary = measure(folder, name)
        if any(row.method == name for row in _read(folder / ROUNDED)):
            continue
        with (folder / ROUNDED).open("a", encoding="utf-8") as file:
            file.writelines(
                f"{json.dumps(row._asdict())}\n" for row in round_runs(folder, name, summary)
            )


def _read(file: Path) -> list[Coded]:
    if not file.exists():
        return []
    return [Coded(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """`run` or `table`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("folder", type=Path, help="of the results")
    options = parser.parse_args()
    if options.command == "run":
        run(options.folder)
    found = load(options.folder)
    atomic_write(options.folder / "curves.svg", plotting.svg(lambda: draw(found)).encode())
    atomic_write(options.folder / "curves.png", plotting.png(lambda: draw(found)))
    print(table(options.folder))


if __name__ == "__main__":
    main()
