"""`d90 pretrain`: masked language modeling from scratch, with checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from d90.cli.config import from_file
from d90.cli.parsing import names, whole_numbers, whole_pairs

if TYPE_CHECKING:
    from d90.pretraining.plan import PretrainJob

CORPUS_HELP = (
    "Text: files or folders of .txt, .txt.gz, .jsonl or .parquet (column text), or ids of hub "
    "data sets (NAME or NAME:CONFIG), streamed."
)


def _option(help: str, panel: str, *flags: str, **settings: Any) -> Any:
    return typer.Option(*flags, help=help, rich_help_panel=panel, **settings)


MODEL, TEXT, TRAINING, FILES = "Model", "Text", "Training", "Files"


def _defaults(context: typer.Context, file: Path | None) -> Path | None:
    """As `from_file` has it; a corpus in a file is one name, or several with commas."""
    file = from_file(context, file)
    defaults: dict[str, Any] = dict(context.default_map or {})
    if isinstance(defaults.get("corpus"), str):
        defaults["corpus"] = list(names(defaults["corpus"]))
        context.default_map = defaults
    return file


def pretrain(
    corpus: Annotated[list[str], typer.Argument(help=CORPUS_HELP, metavar="CORPUS...")],
    output: Annotated[
        Path,
        _option("Folder of the run: a new one, or one to go on with.", FILES, "--output", "-o"),
    ],
    size: Annotated[
        str | None,
        _option("nano, micro, mini, small, medium, base or large.", MODEL, show_default="micro"),
    ] = None,
    model_config: Annotated[
        Path | None, _option("TOML or JSON file of RobertaConfig fields, for a size.", MODEL)
    ] = None,
    vocab_size: Annotated[
        int | None,
        _option("Tokens.", MODEL, show_default="4096, from medium on 50265"),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        _option("Folder of a tokenizer, for one trained on the corpus.", MODEL),
    ] = None,
    max_documents: Annotated[int | None, _option("Documents, at most.", TEXT)] = None,
    validation_fraction: Annotated[
        float, _option("Share of the documents that is never trained on.", TEXT)
    ] = 0.01,
    max_length: Annotated[int, _option("Tokens a block.", TEXT)] = 128,
    sequence_length_schedule: Annotated[
        str | None,
        _option(
            "Read blocks as pieces of LENGTH tokens up to update STEP: small models find out much "
            "sooner that neighbors tell of a token.",
            TRAINING,
            metavar="LENGTH:STEP,...",
        ),
    ] = None,
    max_steps: Annotated[int, _option("Updates.", TRAINING)] = 10_000,
    batch_size: Annotated[int, _option("Blocks a forward pass.", TRAINING)] = 64,
    gradient_accumulation_steps: Annotated[int, _option("Batches an update.", TRAINING)] = 1,
    learning_rate: Annotated[
        float | None,
        _option("Peak.", TRAINING, show_default="0.001, wider models less"),
    ] = None,
    warmup_ratio: Annotated[
        float, _option("Share of the steps in which it rises.", TRAINING)
    ] = 0.06,
    seed: Annotated[int, _option("Of weights, order, masks and dropout.", TRAINING)] = 0,
    precision: Annotated[
        str, _option("Autocast: auto (bf16 where the machine has it), bf16 or no.", TRAINING)
    ] = "auto",
    max_minutes: Annotated[
        float | None,
        _option("Stop after so many, with a checkpoint; the same command goes on.", TRAINING),
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        _option("Updates between checkpoints.", FILES, show_default="a tenth of the steps"),
    ] = None,
    checkpoints: Annotated[
        str | None, _option("Or after these updates.", FILES, metavar="N,N,...")
    ] = None,
    eval_every: Annotated[
        int | None,
        _option("Updates between evaluations.", FILES, show_default="a fiftieth of the steps"),
    ] = None,
    max_eval_blocks: Annotated[
        int, _option("Held-out blocks to evaluate on, at most.", FILES)
    ] = 512,
    log_with: Annotated[
        str | None, _option("A tracker of accelerate, such as tensorboard.", FILES)
    ] = None,
    config: Annotated[
        Path | None,
        _option(
            "TOML file with any of these options, same names; the command line wins.",
            FILES,
            callback=_defaults,
            is_eager=True,
        ),
    ] = None,
    dry_run: Annotated[bool, _option("Print size, memory and time, and stop.", FILES)] = False,
    quiet: Annotated[bool, _option("Print the last line only.", FILES)] = False,
) -> None:
    """Pre-train a RoBERTa on CORPUS from scratch: masked language modeling, with checkpoints.

    The same command goes on where it was stopped, at any moment, with the same result.

    Example: d90 pretrain texts/ -o micro --size micro --max-steps 10000
    """
    from d90.cli.output import silence

    steps_listed = None if checkpoints is None else whole_numbers("--checkpoints", checkpoints)
    with silence(quiet):
        from d90.pretraining import plan as job

        wanted = job.plan_pretraining(
            corpus,
            size=size,
            model_config=model_config,
            vocab_size=vocab_size,
            tokenizer=tokenizer,
            validation_fraction=validation_fraction,
            max_documents=max_documents,
            max_steps=max_steps,
            rate=learning_rate,
            checkpoint_every=checkpoint_every,
            checkpoints=steps_listed,
            evaluate_every=eval_every,
            max_length=max_length,
            sequence_length_schedule=()
            if sequence_length_schedule is None
            else whole_pairs("--sequence-length-schedule", sequence_length_schedule),
            batch_size=batch_size,
            gradient_accumulation_steps=gradient_accumulation_steps,
            warmup_ratio=warmup_ratio,
            max_eval_blocks=max_eval_blocks,
            seed=seed,
            precision=precision,
            log_with=log_with,
        )
        if dry_run:
            _show_plan(wanted)
        else:
            _run(wanted, output, max_minutes, quiet)


def _show_plan(job: PretrainJob) -> None:
    from d90.cli.progress.pretrain import show_plan

    show_plan(job, Console())


def _run(job: PretrainJob, folder: Path, minutes: float | None, quiet: bool) -> None:
    from d90.cli.output import command_line
    from d90.cli.progress.pretrain import Display, show
    from d90.pretraining.pretrain import pretrain

    command = command_line()
    with Display(Console(), quiet=quiet) as display:
        summary = pretrain(job, folder, max_minutes=minutes, callback=display, command=command)
    show(summary, folder, Console())
