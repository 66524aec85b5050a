"""The options of a measurement, in groups that commands share (`d90.cli.option_groups.takes`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d90.cli.config import from_file
from d90.cli.parsing import names, rates, whole_numbers
from d90.search.protocols import BASELINE_LEARNING_RATES, LEARNING_RATES, Protocol, make_protocol

if TYPE_CHECKING:
    from d90.executors import Executor, TrialRunner

MODEL_HELP = "minilm-l6, a folder with config.json and safetensors, or a hub id."
TASK_HELP = (
    "mrpc, qqp, sst2, mnli, anli, yelp, wordnet-supersense, wordnet-hypernym, or a folder with "
    "train and validation files (JSON lines, CSV, TSV, Parquet)."
)

SUBSPACE, SEARCH, TRAINING, DATA = "Subspace", "Search", "Training", "Data"
FILES, EXECUTION = "Files", "Execution"


def option(help: str, panel: str, **settings: Any) -> Any:
    """An option with its help, in a panel of the help page."""
    return typer.Option(help=help, rich_help_panel=panel, **settings)


def _listed(rates: Sequence[float]) -> str:
    return ",".join(f"{rate:g}" for rate in rates)


def subspace_options(
    groups: Annotated[str, option("SAID scales: layer, module or tensor.", SUBSPACE)] = "layer",
    projection: Annotated[
        str, option("P: fastfood, onehot, sparse or dense (slow).", SUBSPACE)
    ] = "fastfood",
    scale: Annotated[
        str, option("How far each tensor moves: tensor, model, rms or vectors.", SUBSPACE)
    ] = "tensor",
) -> Mapping[str, Any]:
    """Keywords of `d90.experiments.study.plan`."""
    return {"groups": groups, "projection": projection, "scale": scale}


def search_options(
    protocol: Annotated[
        str | None,
        option(
            "Which d to try: a grid, bisect (binary search) or list (--dims).",
            SEARCH,
            show_default="list with --dims, else grid; bisect in scaling and trajectory",
        ),
    ] = None,
    dims: Annotated[str | None, option("The d to try.", SEARCH, metavar="D,D,...")] = None,
    min_dim: Annotated[
        int | None, option("Smallest d.", SEARCH, show_default="10, bisect 100")
    ] = None,
    max_dim: Annotated[
        int | None, option("Largest d.", SEARCH, show_default="10000, bisect 4000000")
    ] = None,
    num_dims: Annotated[int | None, option("d in the grid.", SEARCH, show_default="100")] = None,
    learning_rates: Annotated[
        str | None,
        option(
            "Of the subspace runs; they mean the same at every d.",
            SEARCH,
            metavar="X,X,...",
            show_default=_listed(LEARNING_RATES),
        ),
    ] = None,
    baseline_learning_rates: Annotated[
        str | None,
        option(
            "Of full fine-tuning, the baseline.",
            SEARCH,
            metavar="X,X,...",
            show_default=_listed(BASELINE_LEARNING_RATES),
        ),
    ] = None,
    baseline_epochs: Annotated[
        int | None,
        option("Passes of full fine-tuning.", SEARCH, show_default="as the subspace runs"),
    ] = None,
    seeds: Annotated[
        str,
        option("Projection seeds; two or more give an interval.", SEARCH, metavar="N,N,..."),
    ] = "0",
    target_fraction: Annotated[
        float, option("Share of the full metric that counts as reached.", SEARCH)
    ] = 0.9,
) -> Search:
    """The search, whose protocol a command may still choose."""
    own_rates = {
        name: rates(f"--{name.replace('_', '-')}", text)
        for name, text in (
            ("learning_rates", learning_rates),
            ("baseline_learning_rates", baseline_learning_rates),
        )
        if text is not None
    }
    return Search(
        protocol,
        {
            "dims": None if dims is None else whole_numbers("--dims", dims),
            "min_dim": min_dim,
            "max_dim": max_dim,
            "num_dims": num_dims,
            "seeds": whole_numbers("--seeds", seeds),
            "target_fraction": target_fraction,
            **own_rates,
        },
        baseline_epochs,
    )


@dataclass(frozen=True)
class Search:
    """What the command line says of the protocol.

    Attributes:
        name: of the protocol; None where it was not given.
        options: the other arguments of `d90.search.protocols.make`.
        baseline_epochs: of the baseline; None as the subspace runs.
    """

    name: str | None
    options: Mapping[str, Any]
    baseline_epochs: int | None

    def protocol(self, default: str = "grid") -> Protocol:
        """The protocol: `list` where there are dimensions, else the default, unless one was named.

        Raises:
            D90Error: as `d90.search.protocols.make`.
        """
        chosen = default if self.options["dims"] is None else "list"
        return make_protocol(self.name or chosen, **self.options)


def training_options(
    epochs: Annotated[int, option("Passes over the training split.", TRAINING)] = 4,
    max_steps: Annotated[int | None, option("Updates, in place of epochs.", TRAINING)] = None,
    batch_size: Annotated[int, option("Texts a step.", TRAINING)] = 32,
    gradient_accumulation_steps: Annotated[int, option("Batches an update.", TRAINING)] = 1,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing",
            help="Less memory, a third more time, the same result.",
            rich_help_panel=TRAINING,
        ),
    ] = False,
    max_length: Annotated[int, option("Tokens a text or pair, at most.", TRAINING)] = 128,
    dtype: Annotated[
        str, option("Of the weights, whatever the checkpoint holds.", TRAINING)
    ] = "float32",
    precision: Annotated[
        str, option("Autocast: auto (bf16 where the machine has it), bf16 or no.", TRAINING)
    ] = "auto",
) -> Training:
    """How runs are trained."""
    settings = {
        "epochs": epochs,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "gradient_checkpointing": gradient_checkpointing,
        "precision": precision,
    }
    return Training(settings, {"max_length": max_length, "dtype": dtype})


@dataclass(frozen=True)
class Training:
    """What the command line says of the runs.

    Attributes:
        settings: arguments of `d90.training.TrainConfig`.
        shape: keywords of `d90.experiments.study.plan` on the model and its inputs.
    """

    settings: Mapping[str, Any]
    shape: Mapping[str, Any]

    def keywords(self, baseline_epochs: int | None = None) -> dict[str, Any]:
        """Keywords of `d90.experiments.study.plan`; torch is loaded.

        The baseline is trained like the subspace runs, but with AdamW, and longer if
        `baseline_epochs` says so.

        Raises:
            D90Error: as `TrainConfig`.
        """
        from d90.training import TrainConfig

        training = TrainConfig(1.0, **self.settings)
        full = replace(training, optimizer="adamw", weight_decay=0.01)
        if baseline_epochs is not None:
            full = replace(full, epochs=baseline_epochs, max_steps=None)
        return {"training": training, "baseline_training": full, **self.shape}


def data_options(
    max_train_samples: Annotated[int | None, option("Training rows, at most.", DATA)] = None,
    max_eval_samples: Annotated[int | None, option("Evaluation rows, at most.", DATA)] = None,
    metric: Annotated[str | None, option("accuracy, f1 or macro_f1.", DATA)] = None,
    text_columns: Annotated[
        str | None,
        option(
            "One column, or two for pairs.",
            DATA,
            metavar="NAME,NAME",
            show_default="found by name",
        ),
    ] = None,
    label_column: Annotated[
        str | None, option("Of the classes.", DATA, show_default="label")
    ] = None,
    head_seed: Annotated[int, option("Of the new classification head.", DATA)] = 0,
) -> Mapping[str, Any]:
    """Keywords of `d90.experiments.study.plan`."""
    return {
        "max_train_samples": max_train_samples,
        "max_eval_samples": max_eval_samples,
        "metric": metric,
        "text_columns": None if text_columns is None else names(text_columns),
        "label_column": label_column,
        "head_seed": head_seed,
    }


def file_options(
    store: Annotated[
        str, option("Finished runs: a file (SQLite) or a database URL.", FILES)
    ] = "d90.db",
    output: Annotated[
        Path | None, option("Folder of the report.", FILES, show_default="under reports/")
    ] = None,
    config: Annotated[
        Path | None,
        option(
            "TOML file with any of these options, same names; the command line wins.",
            FILES,
            callback=from_file,
            is_eager=True,
        ),
    ] = None,
    dry_run: Annotated[bool, option("Print the trials, memory and time, and stop.", FILES)] = False,
    quiet: Annotated[bool, option("Print the answer only.", FILES)] = False,
    executor: Annotated[
        str,
        option(
            "Where runs are made: local (in this process), processes (several) or ray (a cluster).",
            EXECUTION,
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        option(
            "Runs at once, of processes and ray.",
            EXECUTION,
            show_default="one a core, or all that a cluster has room for",
        ),
    ] = None,
    address: Annotated[
        str | None,
        option(
            "Of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT.",
            EXECUTION,
            show_default="RAY_ADDRESS, else one started here",
        ),
    ] = None,
    cpus_per_trial: Annotated[float, option("Cores of a run, of ray.", EXECUTION)] = 1,
    gpus_per_trial: Annotated[float, option("GPUs of a run, of ray.", EXECUTION)] = 0,
) -> Files:
    """Where runs are made and kept, where reports go; what is printed."""
    execution = {
        "name": executor,
        "workers": workers,
        "address": address,
        "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial,
    }
    return Files(store, output, dry_run, quiet, execution)


@dataclass(frozen=True)
class Files:
    """Where runs and reports are kept, and what is printed.

    Attributes:
        store: a path or a database URL.
        output: folder of the report; None for one under `reports/`.
        plan: only say what would run.
        quiet: print the answer and nothing else.
        execution: arguments of `d90.executors.make`.
    """

    store: str
    output: Path | None
    dry_run: bool
    quiet: bool
    execution: Mapping[str, Any]

    def make_executor(self, runner: TrialRunner) -> Executor:
        """Where the runs of a study are made.

        Raises:
            D90Error: as `d90.executors.make`.
        """
        from d90.executors import make_executor

        return make_executor(runner=runner, **self.execution)
