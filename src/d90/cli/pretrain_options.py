"""Options of `d90 pretrain` in groups, each made into keywords of `plan_pretraining`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from d90.cli.options import FILES, TRAINING, Precision, option
from d90.cli.parsing import integer_pairs, integers

MODEL, TEXT = "Model", "Text"

CORPUS_HELP = (
    "Text: files or folders of .txt, .txt.gz, .jsonl or .parquet (column text), or hub ids of data "
    "sets (NAME or NAME:CONFIG), which are streamed."
)


def model_options(
    size: Annotated[
        str | None,
        option("nano, micro, mini, small, medium, base or large.", MODEL, show_default="micro"),
    ] = None,
    model_config: Annotated[
        Path | None, option("TOML or JSON file of RobertaConfig fields; replaces --size.", MODEL)
    ] = None,
    vocab_size: Annotated[
        int | None,
        option("Vocabulary size.", MODEL, show_default="4096; from medium on: 50265"),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        option("Folder of a tokenizer; by default one is trained on the corpus.", MODEL),
    ] = None,
    max_documents: Annotated[int | None, option("Maximum number of documents.", TEXT)] = None,
    validation_fraction: Annotated[
        float, option("Fraction of the documents held out for validation.", TEXT)
    ] = 0.01,
    max_length: Annotated[int, option("Tokens per block.", TEXT)] = 128,
) -> Mapping[str, Any]:
    """The model and its text."""
    return {
        "size": size,
        "model_config": model_config,
        "vocab_size": vocab_size,
        "tokenizer": tokenizer,
        "max_documents": max_documents,
        "validation_fraction": validation_fraction,
        "max_length": max_length,
    }


def optimizer_options(
    sequence_length_schedule: Annotated[
        str | None,
        option(
            "Split blocks into sequences of LENGTH tokens until optimizer step STEP. Small models "
            "leave their first plateau much sooner on short sequences.",
            TRAINING,
            metavar="LENGTH:STEP,...",
        ),
    ] = None,
    max_steps: Annotated[int, option("Optimizer steps.", TRAINING)] = 10_000,
    batch_size: Annotated[int, option("Blocks per forward pass.", TRAINING)] = 64,
    gradient_accumulation_steps: Annotated[
        int, option("Batches accumulated per optimizer step.", TRAINING)
    ] = 1,
    learning_rate: Annotated[
        float | None,
        option("Peak learning rate.", TRAINING, show_default="0.001; less for wide models"),
    ] = None,
    warmup_ratio: Annotated[
        float, option("Fraction of the steps with a rising learning rate.", TRAINING)
    ] = 0.06,
    seed: Annotated[
        int, option("Seed of initialization, data order, masks and dropout.", TRAINING)
    ] = 0,
    precision: Precision = "auto",
) -> Mapping[str, Any]:
    """How the model is trained."""
    schedule = ()
    if sequence_length_schedule is not None:
        schedule = integer_pairs("--sequence-length-schedule", sequence_length_schedule)
    return {
        "sequence_length_schedule": schedule,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "learning_rate": learning_rate,
        "warmup_ratio": warmup_ratio,
        "seed": seed,
        "precision": precision,
    }


def checkpoint_options(
    checkpoint_every: Annotated[
        int | None,
        option("Steps between checkpoints.", FILES, show_default="a tenth of --max-steps"),
    ] = None,
    checkpoints: Annotated[
        str | None,
        option(
            "Steps to save checkpoints after; replaces --checkpoint-every.",
            FILES,
            metavar="N,N,...",
        ),
    ] = None,
    eval_every: Annotated[
        int | None,
        option("Steps between evaluations.", FILES, show_default="a fiftieth of --max-steps"),
    ] = None,
    max_eval_blocks: Annotated[
        int, option("Maximum number of validation blocks per evaluation.", FILES)
    ] = 512,
    log_with: Annotated[
        str | None, option("Experiment tracker of Accelerate, such as tensorboard.", FILES)
    ] = None,
) -> Mapping[str, Any]:
    """Checkpoints, evaluations and logs."""
    return {
        "checkpoint_every": checkpoint_every,
        "checkpoints": None if checkpoints is None else integers("--checkpoints", checkpoints),
        "evaluate_every": eval_every,
        "max_eval_blocks": max_eval_blocks,
        "log_with": log_with,
    }
