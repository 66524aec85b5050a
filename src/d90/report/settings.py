"""The settings of a study as a table, each with the option that sets it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from d90.report.document import Table

OPTIONS: Mapping[str, str] = {
    "model": "MODEL",
    "task": "TASK",
    "max_length": "--max-length",
    "subspace.method": "--method",
    "subspace.groups": "--groups",
    "subspace.projection": "--projection",
    "subspace.scale": "--scale",
    "training.epochs": "--epochs",
    "training.max_steps": "--max-steps",
    "training.batch_size": "--batch-size",
    "training.gradient_accumulation_steps": "--gradient-accumulation-steps",
    "training.average_last": "--average-last",
    "training.stop_hopeless": "--stop-hopeless",
    "training.precision": "--precision",
    "baseline_training.epochs": "--baseline-epochs",
    "protocol.name": "--protocol",
    "protocol.dims": "--dims",
    "protocol.min_dim": "--min-dim",
    "protocol.max_dim": "--max-dim",
    "protocol.num_dims": "--num-dims",
    "protocol.learning_rates": "--learning-rates",
    "protocol.baseline_learning_rates": "--baseline-learning-rates",
    "protocol.seeds": "--seeds",
    "protocol.target_fraction": "--target-fraction",
    "protocol.criterion_of": "--criterion-of",
    "criterion": "--criterion",
}
"""Setting, nested keys joined by dots -> argument or option of `d90 measure`."""


def settings_table(settings: Mapping[str, Any], options: Mapping[str, str] = OPTIONS) -> Table:
    """One row per setting; the option is None where no option sets it."""
    rows = tuple((key, options.get(key), _text(value)) for key, value in flatten(settings))
    return Table(None, "Settings", ("setting", "option", "value"), rows, terminal_rows=0)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings with nested keys joined by dots.

    >>> list(flatten({"model": "minilm-l6", "training": {"epochs": 4}}))
    [('model', 'minilm-l6'), ('training.epochs', 4)]
    """
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _text(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return None if value is None else str(value)
