"""`d90 tune`: fine-tune with d parameters and write them to an adapter."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d90.cli.option_groups import with_options
from d90.cli.options import (
    FILES,
    MODEL_HELP,
    SUBSPACE,
    TASK_HELP,
    TRAINING,
    Method,
    TrainingOptions,
    data_options,
    option,
    subspace_options,
    training_options,
)
from d90.cli.output import print_line, rows_table, silence
from d90.cli.terminal import Terminal
from d90.distributed.launcher import rank
from d90.search.criteria import short_reference
from d90.utils.files import check_output_file

if TYPE_CHECKING:
    from d90.experiments.tune import AdapterTuner, CodecChoice

BITS_HELP = (
    "Bits per parameter: 32, 16, 1 to 7 (a k-means codebook, entropy-coded), or auto: the smallest "
    "adapter within --tolerance."
)


@with_options(subspace=subspace_options, training=training_options, data=data_options)
def tune(
    model: Annotated[str, typer.Argument(help=MODEL_HELP, metavar="MODEL")],
    task: Annotated[str, typer.Argument(help=TASK_HELP, metavar="TASK")],
    *,
    output: Annotated[Path, option("File to write.", FILES, "--output", "-o")],
    d: Annotated[int, option("Number of trained parameters.", SUBSPACE, "--dim", "-d")] = 200,
    method: Method = "did",
    seed: Annotated[int, option("Seed of the projection, data order and dropout.", SUBSPACE)] = 0,
    learning_rate: Annotated[
        float, option("Peak learning rate, normalized across d.", TRAINING)
    ] = 0.008,
    bits: Annotated[str, option(BITS_HELP, FILES)] = "16",
    tolerance: Annotated[
        float, option("Loss of the metric that --bits auto accepts.", FILES)
    ] = 0.005,
    qat_epochs: Annotated[
        int, option("Epochs of quantization-aware training for each codebook.", FILES)
    ] = 0,
    quiet: Annotated[bool, option("Print only the last line.", FILES)] = False,
    subspace: Mapping[str, Any],
    training: TrainingOptions,
    data: Mapping[str, Any],
) -> None:
    """Fine-tune MODEL on TASK with d parameters and write them to an adapter of about a kilobyte.

    The adapter holds the seed of the projection, a fingerprint of the model and the parameters of
    the best epoch. Rerun the command to resume.

    Example: d90 tune minilm-l6 wordnet-hypernym -d 1000 --projection onehot -o hypernym.safetensors
    """
    with silence(quiet):
        from d90.distributed.process_group import raise_on_all_ranks
        from d90.experiments.problem import load_problem
        from d90.experiments.tune import AdapterTuner, check_choice, check_run

        check_choice(bits, tolerance, qat_epochs)
        with raise_on_all_ranks():
            if rank() == 0:
                check_output_file(output)
        check_run(d, learning_rate, seed)
        problem = load_problem(
            model,
            task,
            method=method,
            dims=[d],
            **subspace,
            **training.keywords(),
            **data,
        )
        tuner = AdapterTuner(
            problem, d=d, learning_rate=learning_rate, seed=seed, qat_epochs=qat_epochs
        )
        with _locked(output):
            _tune(tuner, output, bits, tolerance, quiet)


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Two commands with one output would write each other's checkpoints: the second is refused."""
    from d90.distributed.process_group import raise_on_all_ranks
    from d90.storage.locks.file import FileLock

    is_stream = output.exists() and not output.is_file()
    file = output if is_stream else Path(os.path.realpath(output))
    with ExitStack() as stack:
        with raise_on_all_ranks():
            if rank() == 0:
                file.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(file.with_name(f".{file.name}.lock"), f"d90 tune -o '{output}'")
                stack.enter_context(lock)
        yield


def _tune(tuner: AdapterTuner, output: Path, bits: str, tolerance: float, quiet: bool) -> None:
    from d90.cli.progress.tune import TuneProgress

    folder = tuner.checkpoint_folder(output)
    with TuneProgress(quiet=quiet or rank() > 0) as progress:
        progress.on_train_begin(tuner)
        adapter = tuner.train(folder=folder, on_progress=progress.on_progress)
        choice = tuner.choose_codec(
            adapter, bits, tolerance=tolerance, on_try=progress.on_codec_trial
        )
    if rank() > 0:
        return
    size = choice.file.save(output)
    shutil.rmtree(folder, ignore_errors=True)
    if not quiet:
        _show(tuner, adapter.task.metric_value, choice, show_trials=bits == "auto")
    name = tuner.metric_name
    print_line(f"{output}: d = {tuner.trial.d:,}, {size:,} bytes, {name} {choice.metric:.4f}")


def _show(tuner: AdapterTuner, float32: float, choice: CodecChoice, *, show_trials: bool) -> None:
    if show_trials:
        table = rows_table("codec", "bytes", tuner.metric_name, "kept")
        for trial in choice.tried:
            kept = "yes" if trial.kept else "no"
            table.add_row(trial.name, f"{trial.size:,}", f"{trial.metric:.4f}", kept)
        Terminal().print(table)
    problem = tuner.problem
    print_line(
        f"float32 {float32:.4f}, {short_reference(problem.reference)} {problem.majority:.4f}"
    )
    if tuner.result is not None and tuner.result.status in ("collapsed", "stopped"):
        print_line(
            f"warning: the model {problem.kind.collapse}: try another learning rate or a larger d."
        )
