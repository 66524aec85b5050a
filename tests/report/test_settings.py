"""The settings of a study as a table: flat, each with the option that sets it."""

from __future__ import annotations

import typer
from typer.main import get_command

from d90.cli.commands.measure import measure
from d90.report.settings import OPTIONS, settings_table

SETTINGS = {
    "model": "minilm-l6",
    "subspace": {"method": "said"},
    "training": {"gradient_accumulation_steps": 2, "max_steps": None, "weight_decay": 0.0},
    "protocol": {"dims": [10, 20]},
}


def test_nested_settings_are_rows_with_their_options() -> None:
    table = settings_table(SETTINGS)
    assert table.columns == ("setting", "option", "value")
    assert table.rows == (
        ("model", "MODEL", "minilm-l6"),
        ("subspace.method", "--method", "said"),
        ("training.gradient_accumulation_steps", "--gradient-accumulation-steps", "2"),
        ("training.max_steps", "--max-steps", None),
        ("training.weight_decay", None, "0.0"),
        ("protocol.dims", "--dims", "10, 20"),
    )


def test_every_option_is_one_of_the_command() -> None:
    app = typer.Typer()
    app.command()(measure)
    parameters = get_command(app).params
    names = {name for p in parameters for name in (*p.opts, p.metavar or "")}
    assert set(OPTIONS.values()) <= names
