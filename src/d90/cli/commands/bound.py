"""`d90 bound`: what the bytes of a task file prove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from d90.cli.adapter_options import BaseModel, BatchSize, File, rows_shown, rows_table, say
from d90.cli.options import TASK_HELP
from d90.cli.output import silence

if TYPE_CHECKING:
    pass


def bound(
    file: File,
    *,
    task: Annotated[str, typer.Option(help=f"Whose training split it was trained on. {TASK_HELP}")],
    delta: Annotated[float, typer.Option(help="How often a bound may fail.")] = 0.05,
    base: BaseModel = None,
    batch_size: BatchSize = 64,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Bound the error of a task file on texts like those of TASK, from its length in bits.

    The model that the file means is run on the whole training split. Every choice that was made
    with sight of it is paid for in bits; what has to be fixed before is listed.

    Example: d90 bound sst2.safetensors --task sst2
    """
    with silence(as_json):
        from d90 import adapters
        from d90.adapters.certificate import certify
        from d90.adapters.model import load
        from d90.adapters.predict import check_classes, predict
        from d90.bounds.check import check_delta
        from d90.tasks import load_task

        check_delta(delta)
        found = adapters.load_adapter(file)
        data = load_task(task, text_columns=found.task.text_columns)
        check_classes(found, data)
        model = load(base, found)
        validation = data.evaluation[data.primary]
        wrong = {}
        for name, split in (("train", data.train), ("validation", validation)):
            with rows_shown(f"running the {name} split") as on_rows:
                answers = predict(model, split, batch_size=batch_size, on_rows=on_rows)
            wrong[name] = sum(a != b for a, b in zip(answers, split.labels, strict=True))
    certificate = certify(
        found,
        wrong=wrong["train"],
        examples=len(data.train),
        majority_error=1 - data.train.majority,
        validation_error=wrong["validation"] / len(validation),
        delta=delta,
    )
    if as_json:
        print(certificate.to_json())
        return
    _show(certificate)


def _show(certificate) -> None:
    from d90.adapters.certificate import Certificate

    assert isinstance(certificate, Certificate)
    paid = rows_table("paid for", "bits")
    for payment in certificate.code_lengths:
        paid.add_row(payment.choice, f"{payment.bits:,.1f}")
    paid.add_row("in all", f"{certificate.bits:,.1f}")
    errors = rows_table("error", "")
    errors.add_row(f"train, {certificate.examples:,} examples", f"{certificate.error:.4f}")
    errors.add_row("validation", f"{certificate.validation_error:.4f}")
    errors.add_row("majority class", f"{certificate.majority_error:.4f}")
    bounds = rows_table(f"bound, holds with probability {1 - certificate.delta:g}", "", "")
    for name, value in certificate.bounds.items():
        bounds.add_row(name, f"{value:.4f}", "vacuous" if certificate.is_vacuous(value) else "")
    say(paid, "", errors, "", bounds, "")
    say("fixed before the training data is seen, or the bounds do not hold:")
    for line in certificate.fixed:
        say(f"  {line}")
    say(certificate.sentence())
