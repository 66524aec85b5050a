"""`d90 pretrain`: masked language modelling from scratch, with checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from d90.cli.config import from_file
from d90.cli.parsing import names, whole_numbers, whole_pairs

if TYPE_CHECKING:
    from d90.pretraining.plan import Pretraining

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
    document_limit: Annotated[int | None, _option("Documents, at most.", TEXT)] = None,
    held_out: Annotated[
        float, _option("Share of the documents that is never trained on.", TEXT)
    ] = 0.01,
    max_length: Annotated[int, _option("Tokens a block.", TEXT)] = 128,
    pieces: Annotated[
        str | None,
        _option(
            "Read blocks as pieces of LENGTH tokens up to update STEP: small models find out much "
            "sooner that neighbours tell of a token.",
            TRAINING,
            metavar="LENGTH:STEP,...",
        ),
    ] = None,
    steps: Annotated[int, _option("Updates.", TRAINING)] = 10_000,
    batch_size: Annotated[int, _option("Blocks a forward pass.", TRAINING)] = 64,
    accumulation: Annotated[int, _option("Batches an update.", TRAINING)] = 1,
    learning_rate: Annotated[
        float | None,
        _option("Peak.", TRAINING, show_default="0.001, wider models less"),
    ] = None,
    warmup: Annotated[float, _option("Share of the steps in which it rises.", TRAINING)] = 0.06,
    seed: Annotated[int, _option("Of weights, order, masks and dropout.", TRAINING)] = 0,
    precision: Annotated[
        str, _option("Autocast: auto (bf16 where the machine has it), bf16 or no.", TRAINING)
    ] = "auto",
    minutes: Annotated[
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
    eval_blocks: Annotated[int, _option("Held-out blocks to evaluate on, at most.", FILES)] = 512,
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
    plan: Annotated[bool, _option("Print size, memory and time, and stop.", FILES)] = False,
    quiet: Annotated[bool, _option("Print the last line only.", FILES)] = False,
) -> None:
    """Pre-train a RoBERTa on CORPUS from scratch: masked language modelling, with checkpoints.

    The same command goes on where it was stopped, at any moment, with the same result.

    Example: d90 pretrain texts/ -o micro --size micro --steps 10000
    """
    from d90.cli.output import silence

    steps_listed = None if checkpoints is None else whole_numbers("--checkpoints", checkpoints)
    with silence(quiet):
        from d90.pretraining import plan as job

        wanted = job.plan(
            corpus,
            size=size,
            model_config=model_config,
            vocab_size=vocab_size,
            tokenizer=tokenizer,
            held_out=held_out,
            document_limit=document_limit,
            steps=steps,
            rate=learning_rate,
            checkpoint_every=checkpoint_every,
            checkpoints=steps_listed,
            evaluate_every=eval_every,
            max_length=max_length,
            pieces=() if pieces is None else whole_pairs("--pieces", pieces),
            batch_size=batch_size,
            accumulation=accumulation,
            warmup=warmup,
            evaluation_blocks=eval_blocks,
            seed=seed,
            precision=precision,
            log_with=log_with,
        )
        if plan:
            _show_plan(wanted)
        else:
            _run(wanted, output, minutes, quiet)


def _show_plan(job: Pretraining) -> None:
    from d90.cli.pretrain_progress import show_plan

    show_plan(job, Console())


def _run(job: Pretraining, folder: Path, minutes: float | None, quiet: bool) -> None:
    from d90.cli.output import command_line
    from d90.cli.pretrain_progress import Display, show
    from d90.pretraining.pretrain import run

    command = command_line()
    with Display(Console(), quiet=quiet) as display:
        summary = run(job, folder, minutes=minutes, listener=display, command=command)
    show(summary, folder, Console())
