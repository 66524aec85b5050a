"""The report in the terminal, and the answer in words."""

from __future__ import annotations

import doctest
import io
import math
from dataclasses import replace
from importlib import import_module

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.helpers.studies import EIGHT, every_kind, runs, study

from d90.report import render_document, study_document, wording
from d90.search.summary import Summary
from d90.search.trial import Trial, TrialResult


def rendered(summary: Summary, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(
        render_document(study_document(summary))
    )
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("kind", every_kind())
def test_every_kind_fits_every_width(kind: str, width: int) -> None:
    summary = every_kind()[kind]
    text = rendered(summary, width)
    assert wording.answer(summary) in text
    assert "…" not in text
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_one_row_per_dimension_with_its_runs() -> None:
    text = rendered(study(runs(EIGHT)), 80)
    row = next(line for line in text.splitlines() if line.strip().startswith("10,000"))
    assert row.split() == ["10,000", "0.808", "0.01", "3/4", "yes"]


def test_a_long_study_is_downsampled_and_keeps_its_answer() -> None:
    summary = every_kind()["grid"]
    text = rendered(summary, 80)
    assert "of 100 rows" in text
    assert any(line.split()[:1] == [str(summary.first_passing_d)] for line in text.splitlines())


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("ok", "d90 = 35"),
        ("above-maximum", "d90 > 30 (above-maximum)"),
        ("at-minimum", "d90 ≤ 500 (at-minimum)"),
        ("trivial-threshold", "no d90 (trivial-threshold)"),
        ("already-satisfied", "d90 = 0 (already-satisfied)"),
        ("undefined-baseline", "no d90 (undefined-baseline)"),
        ("unstable", "no d90 (unstable)"),
        ("optimization-limited", "no d90 (optimization-limited)"),
        ("nothing", "no d90 (undefined-baseline)"),
    ],
)
def test_the_answer_in_words(kind: str, answer: str) -> None:
    summary = every_kind()[kind]
    assert wording.answer(summary) == answer
    assert wording.sentence(summary).endswith(".")


@pytest.mark.parametrize(("passing", "text"), [(1_072, "1,072"), (None, "none")])
def test_the_sentence_has_the_interval_and_the_papers_own_definition(
    passing: int | None, text: str
) -> None:
    summary = study(runs(EIGHT), d90=35, interval=(27, 1_200), first_passing_d=passing)
    expected = f"95% interval: 27 to 1,200. Smallest d tried that passes: {text}."
    assert wording.sentence(summary).endswith(expected)


def test_the_floor_is_named_with_the_scores_at_z_0() -> None:
    initial = {"token_accuracy": 0.25, "nll": 3.5}
    summary = study(runs(EIGHT), reference="majority token", initial=initial)
    facts = {row[0]: row[1] for row in study_document(summary).tables[0].rows}
    assert facts["Majority token"] == "0.684"
    assert facts["At z = 0"] == "token_accuracy 0.250, nll 3.500"
    others = study_document(study(runs(EIGHT))).tables[0].rows
    assert "At z = 0" not in [name for name, _ in others]
    assert wording.floor_name(summary) == "majority"
    assert wording.floor_name(replace(summary, criterion="nll")) == "initial"
    assert wording.floor_name(study(runs(EIGHT), criterion="nll")) == "constant"
    trivial = study(runs(EIGHT), majority=0.73, reference="majority token")
    assert "not above the majority token (0.7300)" in trivial.reason


def test_the_name_follows_the_target_fraction() -> None:
    assert wording.answer(study(runs(EIGHT), target_fraction=0.8)).startswith("d80 = ")


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (None, ""),
        ((27, 72), "27 to 72"),
        ((None, 72), "72 or less"),
        ((1_000, None), "1,000 or more"),
        ((None, None), "any d"),
    ],
)
def test_open_ends_of_the_interval_in_words(
    interval: tuple[int | None, int | None] | None, text: str
) -> None:
    assert wording.interval(study(runs(EIGHT), interval=interval)) == text


def test_numbers_do_not_break_in_a_narrow_terminal() -> None:
    text = rendered(every_kind()["wide"], 40)
    assert any(line.split()[:2] == ["4,000,000", "0.807"] for line in text.splitlines())


def test_nan_metrics_are_dashes() -> None:
    summary = study([*runs([10]), TrialResult(Trial(20, 0.01), "ok", math.nan)])
    row = next(line for line in rendered(summary, 80).splitlines() if line.split()[:1] == ["20"])
    assert row.split() == ["20", "–", "–", "0/1", "–"]


MODULES = ["wording", "curve", "terminal", "document", "settings", "plotting", "study_table"]


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str) -> None:
    assert doctest.testmod(import_module(f"d90.report.{module}")).failed == 0
