"""`d90 bound`: a bound on the test error of an adapter, from its length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from d90.cli.adapter_options import AdapterFile, AsJson, BaseModel, BatchSize, progress_bar
from d90.cli.options import TASK_HELP
from d90.cli.output import print_line, rows_table, silence
from d90.cli.terminal import Terminal

if TYPE_CHECKING:
    from d90.adapters.certificate import Certificate


def bound(
    file: AdapterFile,
    *,
    task: Annotated[str, typer.Option(help=f"The task that it was trained on: {TASK_HELP}")],
    delta: Annotated[
        float, typer.Option(help="Probability with which each bound may fail.")
    ] = 0.05,
    base: BaseModel = None,
    batch_size: BatchSize = 64,
    as_json: AsJson = False,
) -> None:
    """Bound the test error of an adapter by its description length.

    The model is evaluated on the whole training split. Every choice that was made after seeing it
    is paid for in bits; what must be fixed beforehand is listed.

    Example: d90 bound sst2.safetensors --task sst2
    """
    with silence(as_json):
        from d90 import adapters
        from d90.adapters.certificate import certify, check_is_classifier
        from d90.adapters.model import load
        from d90.adapters.predict import check_task, predict
        from d90.bounds.check import check_delta
        from d90.tasks import load_task

        check_delta(delta)
        adapter = adapters.load_adapter(file)
        check_is_classifier(adapter)
        data = load_task(task, text_columns=adapter.task.text_columns)
        check_task(adapter, data)
        model = load(base, adapter)
        validation = data.evaluation[data.primary]
        wrong = {}
        for name, split in (("train", data.train), ("validation", validation)):
            with progress_bar(f"evaluating the {name} split", quiet=as_json) as on_rows:
                labels = predict(model, split, batch_size=batch_size, on_rows=on_rows)
            wrong[name] = sum(a != b for a, b in zip(labels, split.labels, strict=True))
    certificate = certify(
        adapter,
        wrong=wrong["train"],
        examples=len(data.train),
        majority_error=1 - data.train.majority,
        validation_error=wrong["validation"] / len(validation),
        delta=delta,
    )
    if as_json:
        print(certificate.to_json())
    else:
        _show(certificate)


def _show(certificate: Certificate) -> None:
    lengths = rows_table("description length", "bits")
    for part in certificate.code_lengths:
        lengths.add_row(part.choice, f"{part.bits:,.1f}")
    lengths.add_row("total", f"{certificate.bits:,.1f}")
    errors = rows_table("error", "")
    errors.add_row(f"train, {certificate.examples:,} examples", f"{certificate.error:.4f}")
    errors.add_row("validation", f"{certificate.validation_error:.4f}")
    errors.add_row("majority class", f"{certificate.majority_error:.4f}")
    bounds = rows_table(f"bound, holds with probability {1 - certificate.delta:g}", "", "")
    for name, value in certificate.bounds.items():
        bounds.add_row(name, f"{value:.4f}", "vacuous" if certificate.is_vacuous(value) else "")
    console = Terminal()
    for table in (lengths, errors, bounds):
        console.print(table)
        console.print()
    print_line("The bounds hold only if these were fixed before seeing the training data:", console)
    for line in certificate.fixed:
        print_line(f"  {line}", console)
    print_line(certificate.sentence(), console)
