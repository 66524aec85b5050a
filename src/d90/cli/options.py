"""Options of `d90 measure` in groups that other commands share (`d90.cli.option_groups`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d90.cli.config import read_defaults
from d90.cli.option_groups import with_options
from d90.cli.parsing import integers, names, numbers
from d90.distributed.launcher import world_size
from d90.search.protocols import BASELINE_LEARNING_RATES, LEARNING_RATES, Protocol, make_protocol

if TYPE_CHECKING:
    from d90.executors import Executor, Runner

MODEL_HELP = (
    "A packaged model (minilm-l6, smollm2-135m), a local checkpoint folder, a GGUF file or a hub "
    "id (NAME@REVISION)."
)
TASK_HELP = (
    "mrpc, qqp, sst2, mnli, anli, yelp, stsb, gsm8k, wordnet-supersense, wordnet-hypernym, "
    "wordnet-lemma, or a folder with train and validation files (JSON lines, CSV, TSV or Parquet)."
)

TEXT_COLUMNS_HELP = "Column of the text, or two columns for pairs."
LABEL_COLUMN_HELP = "Column of the labels."

SUBSPACE, SEARCH, TRAINING, DATA = "Subspace", "Search", "Training", "Data"
FILES, EXECUTION = "Files", "Execution"


def option(help: str, panel: str, *names: str, **settings: Any) -> Any:
    """An option with its help, in a panel of the help page."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **settings)


Method = Annotated[
    str,
    option("did: theta_0 + P z. said: with a trained scale for each group.", SUBSPACE),
]
Config = Annotated[
    Path | None,
    option(
        "TOML file of option values by option name; the command line takes precedence.",
        FILES,
        callback=read_defaults,
        is_eager=True,
    ),
]
Precision = Annotated[
    str, option("Autocast: auto (bf16 where the hardware supports it), bf16 or no.", TRAINING)
]


def _listed(rates: Sequence[float]) -> str:
    return ",".join(f"{rate:g}" for rate in rates)


def subspace_options(
    groups: Annotated[
        str, option("Parameter groups of SAID: layer, module or tensor.", SUBSPACE)
    ] = "layer",
    projection: Annotated[
        str, option("Random projection P: fastfood, onehot, sparse or dense (slow).", SUBSPACE)
    ] = "fastfood",
    scale: Annotated[
        str, option("Scale of each tensor's update: tensor, model, rms or vectors.", SUBSPACE)
    ] = "tensor",
) -> Mapping[str, Any]:
    """Keywords of `d90.experiments.problem.load_problem`."""
    return {"groups": groups, "projection": projection, "scale": scale}


def protocol_options(
    protocol: Annotated[
        str | None,
        option(
            "Which d to try: adaptive (by a model of the curve, until the interval is narrow), "
            "grid, bisect (binary search) or list (those of --dims).",
            SEARCH,
            show_default="list with --dims, else adaptive; grid in table and curves",
        ),
    ] = None,
    dims: Annotated[
        str | None, option("Subspace dimensions d to try.", SEARCH, metavar="D,D,...")
    ] = None,
    min_dim: Annotated[
        int | None, option("Smallest d.", SEARCH, show_default="10; bisect: 100")
    ] = None,
    max_dim: Annotated[
        int | None,
        option("Largest d.", SEARCH, show_default="10000; adaptive: 100000; bisect: 4000000"),
    ] = None,
    num_dims: Annotated[
        int | None, option("Number of d in the grid.", SEARCH, show_default="100")
    ] = None,
    interval_ratio: Annotated[
        float | None,
        option(
            "Ratio of the ends of d90's interval at which adaptive ends.", SEARCH, show_default="2"
        ),
    ] = None,
    budget: Annotated[
        int | None,
        option(
            "Largest number of trials of adaptive, baseline included.", SEARCH, show_default="24"
        ),
    ] = None,
    batch: Annotated[
        int | None,
        option(
            "Trials that adaptive proposes at a time, before it waits for all of them. A study "
            "keeps its default when it is resumed with other workers.",
            SEARCH,
            show_default="the number of workers",
        ),
    ] = None,
    learning_rates: Annotated[
        str | None,
        option(
            "Learning rates of the subspace trials, normalized across d.",
            SEARCH,
            metavar="X,X,...",
            show_default=_listed(LEARNING_RATES),
        ),
    ] = None,
    baseline_learning_rates: Annotated[
        str | None,
        option(
            "Learning rates of the full fine-tuning baseline.",
            SEARCH,
            metavar="X,X,...",
            show_default=_listed(BASELINE_LEARNING_RATES),
        ),
    ] = None,
    baseline_epochs: Annotated[
        int | None,
        option("Epochs of the baseline.", SEARCH, show_default="as --epochs"),
    ] = None,
    seeds: Annotated[
        str,
        option(
            "Seeds of the trials (projection, data order, dropout); of adaptive, the first one.",
            SEARCH,
            metavar="N,N,...",
        ),
    ] = "0",
    target_fraction: Annotated[
        float, option("Fraction of the baseline's metric that counts as reached.", SEARCH)
    ] = 0.9,
    criterion: Annotated[
        str | None,
        option(
            "What trials are scored by: accuracy (the task's metric, like the paper), brier or nll "
            "(skill scores of the probabilities: another quantity, with less noise).",
            SEARCH,
            show_default="the task's metric",
        ),
    ] = None,
    criterion_of: Annotated[
        str,
        option(
            "What --target-fraction is of: metric (like the paper) or gain (of the metric over "
            "that of the best constant prediction).",
            SEARCH,
        ),
    ] = "metric",
) -> ProtocolOptions:
    """The protocol, whose name a command may still choose."""
    given_rates = {
        name: numbers(f"--{name.replace('_', '-')}", text)
        for name, text in (
            ("learning_rates", learning_rates),
            ("baseline_learning_rates", baseline_learning_rates),
        )
        if text is not None
    }
    return ProtocolOptions(
        protocol,
        {
            "dims": None if dims is None else integers("--dims", dims),
            "min_dim": min_dim,
            "max_dim": max_dim,
            "num_dims": num_dims,
            "interval_ratio": interval_ratio,
            "budget": budget,
            "batch": batch,
            "seeds": integers("--seeds", seeds),
            "target_fraction": target_fraction,
            "criterion_of": criterion_of,
            **given_rates,
        },
        baseline_epochs,
        criterion,
    )


@dataclass(frozen=True)
class ProtocolOptions:
    """The protocol as the command line describes it.

    Attributes:
        name: of the protocol; None where it was not given.
        arguments: the other arguments of `d90.search.protocols.make_protocol`.
        baseline_epochs: of the baseline; None to train it as long as the subspace trials.
        criterion: what trials are scored by; None for the task's metric.
    """

    name: str | None
    arguments: Mapping[str, Any]
    baseline_epochs: int | None
    criterion: str | None

    def make(self, default: str = "adaptive") -> Protocol:
        """The protocol that was named; without a name, `list` where dims are given, or `default`.

        Raises:
            D90Error: as `d90.search.protocols.make_protocol`.
        """
        inferred = default if self.arguments["dims"] is None else "list"
        return make_protocol(inferred if self.name is None else self.name, **self.arguments)


def training_options(
    epochs: Annotated[int, option("Passes over the training split.", TRAINING)] = 4,
    max_steps: Annotated[
        int | None, option("Optimizer steps; overrides --epochs.", TRAINING)
    ] = None,
    batch_size: Annotated[int, option("Examples per forward pass.", TRAINING)] = 32,
    gradient_accumulation_steps: Annotated[
        int, option("Batches accumulated per optimizer step.", TRAINING)
    ] = 1,
    gradient_checkpointing: Annotated[
        bool,
        option(
            "Recompute activations in the backward pass: less memory, a third more time.",
            TRAINING,
            "--gradient-checkpointing",
        ),
    ] = False,
    average_last: Annotated[
        float | None,
        option(
            "End a subspace trial with the mean of its parameters over this last fraction of its "
            "steps, such as 0.25.",
            TRAINING,
            show_default="no mean",
        ),
    ] = None,
    stop_hopeless: Annotated[
        bool,
        option(
            "End a subspace trial half way if it predicts one class only, there and after a "
            "quarter of its steps.",
            TRAINING,
            "--stop-hopeless",
        ),
    ] = False,
    max_length: Annotated[int, option("Maximum number of tokens per example.", TRAINING)] = 128,
    dtype: Annotated[
        str, option("Weight dtype; overrides the checkpoint's.", TRAINING)
    ] = "float32",
    precision: Precision = "auto",
) -> TrainingOptions:
    """How a trial is trained."""
    settings = {
        "epochs": epochs,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "gradient_checkpointing": gradient_checkpointing,
        "precision": precision,
        "average_last": average_last,
        "stop_hopeless": stop_hopeless,
    }
    return TrainingOptions(settings, {"max_length": max_length, "dtype": dtype})


@dataclass(frozen=True)
class TrainingOptions:
    """Training as the command line describes it.

    Attributes:
        config: arguments of `d90.training.TrainConfig`.
        inputs: other keywords of `d90.experiments.problem.load_problem`: `max_length` and `dtype`.
    """

    config: Mapping[str, Any]
    inputs: Mapping[str, Any]

    def keywords(self, protocol: ProtocolOptions | None = None) -> dict[str, Any]:
        """Keywords of `d90.experiments.problem.load_problem`; torch is loaded.

        Args:
            protocol: how many epochs the baseline has, and what trials are scored by; None for a
                command without a search.

        Raises:
            D90Error: as `TrainConfig`.
        """
        from d90.training import TrainConfig

        training = TrainConfig(**self.config)
        baseline = training.for_baseline()
        if protocol is not None and protocol.baseline_epochs is not None:
            baseline = replace(baseline, epochs=protocol.baseline_epochs, max_steps=None)
        criterion = {} if protocol is None else {"criterion": protocol.criterion}
        keywords = {"training": training, "baseline_training": baseline}
        return {**keywords, **self.inputs, **criterion}


def data_options(
    max_train_samples: Annotated[
        int | None, option("Maximum number of training examples.", DATA)
    ] = None,
    max_eval_samples: Annotated[
        int | None, option("Maximum number of evaluation examples.", DATA)
    ] = None,
    task_kind: Annotated[
        str | None,
        option("classification, regression or generation.", DATA, show_default="found by the data"),
    ] = None,
    metric: Annotated[
        str | None,
        option(
            "accuracy, f1 or macro_f1; of regression pearson, spearman or r2; of generation "
            "token_accuracy, exact_match or choice_accuracy.",
            DATA,
            show_default="the first of them",
        ),
    ] = None,
    text_columns: Annotated[
        str | None,
        option(
            TEXT_COLUMNS_HELP,
            DATA,
            metavar="NAME,NAME",
            show_default="found by name",
        ),
    ] = None,
    label_column: Annotated[
        str | None, option(LABEL_COLUMN_HELP, DATA, show_default="label")
    ] = None,
    answer_pattern: Annotated[
        str | None,
        option(
            "Regular expression: exact_match compares what its last match (its first group) "
            "selects in the decoded text and in the completion.",
            DATA,
            metavar="REGEX",
            show_default="the whole completion; that of gsm8k",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        option("Most tokens decoded for --answer-pattern.", DATA, show_default="256"),
    ] = None,
    chat_template: Annotated[
        str | None,
        option(
            "Chat template of the column messages: a file, or the text itself.",
            DATA,
            metavar="FILE|TEXT",
            show_default="the tokenizer's",
        ),
    ] = None,
    head_seed: Annotated[int, option("Seed of the head's initialization.", DATA)] = 0,
) -> Mapping[str, Any]:
    """Keywords of `d90.experiments.problem.load_problem`."""
    return {
        "max_train_samples": max_train_samples,
        "max_eval_samples": max_eval_samples,
        "task_kind": task_kind,
        "metric": metric,
        "text_columns": None if text_columns is None else names(text_columns),
        "label_column": label_column,
        "answer_pattern": answer_pattern,
        "max_new_tokens": max_new_tokens,
        "chat_template": chat_template,
        "head_seed": head_seed,
    }


def run_options(
    store: Annotated[
        str, option("Where finished trials are stored: an SQLite file or a database URL.", FILES)
    ] = "d90.db",
    output: Annotated[
        Path | None, option("Folder of the report.", FILES, show_default="reports/NAME")
    ] = None,
    config: Config = None,
    dry_run: Annotated[
        bool, option("Print the trials with their memory and time, without training.", FILES)
    ] = False,
    quiet: Annotated[bool, option("Print only the answer.", FILES)] = False,
    executor: Annotated[
        str,
        option(
            "Where trials run: serial (this process), processes (several) or ray (a cluster).",
            EXECUTION,
        ),
    ] = "serial",
    workers: Annotated[
        int | None,
        option(
            "Number of trials at once, for processes and ray.",
            EXECUTION,
            show_default="one per core, at most 4 per GPU; ray: as many as there is room for",
        ),
    ] = None,
    address: Annotated[
        str | None,
        option(
            "Address of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT.",
            EXECUTION,
            show_default="RAY_ADDRESS, else a new local cluster",
        ),
    ] = None,
    cpus_per_trial: Annotated[float, option("CPU cores per trial, for ray.", EXECUTION)] = 1,
    gpus_per_trial: Annotated[
        float | None,
        option("GPUs per trial, for ray.", EXECUTION, show_default="1 if the cluster has GPUs"),
    ] = None,
) -> RunOptions:
    """Where trials run and are stored, where the report goes, and what is printed."""
    execution = {
        "name": executor,
        "workers": workers,
        "address": address,
        "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial,
    }
    return RunOptions(store, output, dry_run, quiet, execution)


@dataclass(frozen=True)
class RunOptions:
    """Where trials run and are stored, where the report goes, and what is printed.

    Attributes:
        store: a path or a database URL.
        output: folder of the report; None for one under `reports/`.
        dry_run: print the cost and train nothing.
        quiet: print the answer and nothing else.
        execution: arguments of `d90.executors.make_executor`.
    """

    store: str
    output: Path | None
    dry_run: bool
    quiet: bool
    execution: Mapping[str, Any]

    def check(self) -> None:
        """Check the executor's arguments, before anything is loaded.

        Raises:
            D90Error: as `d90.executors.check_execution`.
        """
        from d90.executors import check_execution

        check_execution(world_size=world_size(), **self.execution)

    def make_executor(self, runner: Runner) -> Executor:
        """The executor of a study's trials.

        Raises:
            D90Error: as `d90.executors.make_executor`.
        """
        from d90.executors import make_executor

        return make_executor(runner=runner, **self.execution)


study_options = with_options(
    subspace=subspace_options,
    protocol=protocol_options,
    training=training_options,
    data=data_options,
    run=run_options,
)
"""Decorator of the commands that measure: all groups of options, by the name of the argument."""
