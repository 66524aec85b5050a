"""Checkpoints of pre-training as points of Figure 2: where they stand, and under which name."""

from __future__ import annotations

from tests.helpers.studies import EIGHT, runs, study

from d90.experiments.trajectory import label_checkpoints
from d90.report.paper.figure2 import trajectory


def test_a_series_of_models_keeps_its_order_and_names() -> None:
    models = ["org/model@step1000", "org/model@step2000", "runs/final/"]
    summaries = [study(runs(EIGHT), model=model) for model in reversed(models)]
    points = label_checkpoints(models, summaries)
    assert [(point.step, point.label) for point in points] == [
        (2, "final"),
        (1, "step2000"),
        (0, "step1000"),
    ]
    document = trajectory(points)
    assert [row[2] for row in document.tables[0].rows] == ["step1000", "step2000", "final"]
    (drawing,) = (figure.draw() for figure in document.figures)
    axes = drawing.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "step1000",
        "step2000",
        "final",
    ]
    assert axes.get_xlabel() == "checkpoint"
