"""Tables and figures of several studies, from made-up ones with known answers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import pytest
from rich.console import Console
from tests.helpers.studies import EIGHT, MAJORITY, own, runs, study

from d90.errors import D90Error
from d90.report import Document, render_document, study_document, write_document
from d90.report.document import Figure, Table
from d90.report.paper import published
from d90.report.paper.figure1 import curves
from d90.report.paper.figure2 import Checkpoint, trajectory
from d90.report.paper.figure3 import scaling
from d90.report.paper.figures4_5 import check_runs, description_bits, generalization
from d90.report.paper.table1 import table1
from d90.search.criteria import scored
from d90.search.estimate import estimate
from d90.search.summary import Summary
from d90.search.trial import Trial, TrialResult

SIZES = {"roberta-base": 125_000_000, "roberta-large": 355_000_000, "a/b-c": 10_000_000}


def some(d90s: dict[str, int] | None = None) -> list[Summary]:
    """A study of each model on each of two tasks; the answers are put in by hand."""
    return [
        study(
            runs(EIGHT),
            model=model,
            task=task,
            D=D,
            family=model.partition("-")[0],
            d90=(d90s or {}).get(model, 72),
            examples={"train": 1000, "train_metric": 400, "metric": 400},
        )
        for task in ("mrpc", "data/sst2")
        for model, D in SIZES.items()
    ]


DOCUMENTS: dict[str, Callable[[list[Summary]], Document]] = {
    "table": table1,
    "curves": curves,
    "scaling": scaling,
    "trajectory": lambda studies: trajectory(
        [Checkpoint(100 * i, 50.0 / (i + 1), s) for i, s in enumerate(studies)]
    ),
    "generalization": generalization,
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_are_whole_and_the_same_again(name: str, tmp_path: Path) -> None:
    document = DOCUMENTS[name](some())
    assert document.figures
    for folder in ("a", "b"):
        page = write_document(replace(document, command="d90 x"), tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    expected = {"index.html"} | {f"{t.name}.csv" for t in document.tables}
    expected |= {f"{f.name}.{end}" for f in document.figures for end in ("svg", "png")}
    assert set(files) == expected
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    html = page.read_text()
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org", "")
    for figure in document.figures:
        ElementTree.parse(tmp_path / "a" / f"{figure.name}.svg")


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("studies", [[], [study(runs([]), majority=0.85)]])
def test_no_study_and_one_without_a_d90(name: str, studies: list[Summary], tmp_path: Path) -> None:
    document = DOCUMENTS[name](studies)
    assert document.answer.startswith((f"0 of {len(studies)} studies", "No "))
    reason = "minilm-l6 on mrpc, SAID, is in the tables, not in the figures: no d90"
    expected = (f"{reason} (undefined-baseline)",) if studies else ()
    assert document.warnings == expected
    page = write_document(document, tmp_path).read_text()
    terminal = Console(width=200, file=io.StringIO())
    terminal.print(render_document(document))
    for written in (page, cast(io.StringIO, terminal.file).getvalue()):
        assert document.answer in written
        assert ("undefined-baseline" in written) == bool(studies)
    with (tmp_path / "studies.csv").open(encoding="utf-8") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["undefined-baseline"] * len(
            studies
        )


@pytest.mark.parametrize("name", [*DOCUMENTS, "study"])
def test_every_report_says_once_what_its_accuracies_are(name: str, tmp_path: Path) -> None:
    made = {**DOCUMENTS, "study": lambda studies: study_document(studies[0])}[name](some())
    page = write_document(made, tmp_path).read_text()
    for part in ("chosen on the evaluation split", "the spread over seeds is"):
        assert page.count(part) == 1


def exact(d90: int) -> dict[str, Any]:
    return {"d90": d90, "interval": None}


def test_table_1_has_the_papers_numbers_and_the_reasons() -> None:
    studies = [
        study(
            runs(EIGHT), model="FacebookAI/roberta-large", task="mrpc", method="said", **exact(210)
        ),
        study(
            runs(EIGHT), model="FacebookAI/roberta-large", task="mrpc", method="did", **exact(900)
        ),
        study(runs(EIGHT), model="mine", task="mrpc", method="did", majority=0.73),
    ]
    document = table1(studies, {"big on mrpc, DID": "no memory"})
    table = document.tables[0]
    assert table.columns == ("model", "mrpc SAID", "mrpc DID")
    assert table.rows == (
        ("roberta-large", "210 [207]", "900 [322]"),
        ("mine", None, "trivial-threshold"),
    )
    passing = document.tables[1]
    assert passing.name == "first_passing" and passing.columns == table.columns
    assert passing.rows == (("roberta-large", "72 [207]", "72 [322]"), ("mine", None, "72"))
    assert document.answer == "2 of 4 studies have a d90."
    assert document.sentences[0].startswith("1 of 2 agree with the paper within a factor of 1.157")
    assert document.sentences[0].endswith("first_passing_d, it is 0 of 2.")
    assert "not measured: big on mrpc, DID: no memory" in document.warnings


def test_the_table_of_the_paper_is_complete() -> None:
    assert len(published.D90) == 16
    values = {published.d90(name, "qqp", "did") for name in published.PAPER_NAMES}
    assert values == {9295, 1389, 774}


def test_rows_are_complete_in_csv() -> None:
    text = table1(some()).tables[-1].csv()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 6
    assert (rows[0]["model"], rows[0]["D"], rows[0]["d90"]) == ("roberta-base", "125000000", "72")


def test_scaling_correlates_within_each_task() -> None:
    falling = scaling(some({"a/b-c": 900, "roberta-base": 300, "roberta-large": 100}))
    correlations = next(t for t in falling.tables if t.name == "correlations")
    assert [row[1:3] for row in correlations.rows] == [("mrpc, SAID", -1), ("sst2, SAID", -1)]
    assert "mrpc, SAID: Spearman's rho = -1.00, n = 3: too few models" in falling.answer


def sized(answers: list[tuple[str, int | None]]) -> list[Summary]:
    """Models of growing size with these answers, by status and d90."""
    return [
        study(runs(EIGHT), model=f"m{i}", D=10 ** (i + 5), status=status, d90=d90)
        for i, (status, d90) in enumerate(answers)
    ]


def test_correlations_keep_answers_beyond_the_range_of_d() -> None:
    """Ranks of d90: two above the maximum share 5.5, one at the minimum has 1."""
    answers: list[tuple[str, int | None]] = [
        ("above-maximum", None),
        ("above-maximum", None),
        ("ok", 900),
        ("ok", 300),
        ("at-minimum", None),
        ("ok", 200),
    ]
    document = scaling([*sized(answers), study(runs([]), majority=0.85)])
    (row,) = next(t for t in document.tables if t.name == "correlations").rows
    # Ranks of d90 less 3.5: 2, 2, 0.5, -0.5, -2.5, -1.5; of D: -2.5 to 2.5.
    covariance = -5 - 3 - 0.25 - 0.25 - 3.75 - 3.75
    squares = 4 + 4 + 0.25 + 0.25 + 6.25 + 2.25
    assert row[2] == pytest.approx(covariance / math.sqrt(17 * 17.5)) and squares == 17
    assert row[5:] == (6, 6, "agrees with the claim")
    assert "agrees with the claim" in document.answer


def test_an_interval_with_zero_is_undecided() -> None:
    answers: list[tuple[str, int | None]] = [("ok", d) for d in (400, 900, 300, 500, 200)]
    answer = scaling(sized(answers)).answer
    assert answer.endswith("undecided, consistent with the claim")
    rising = scaling(sized([(status, 1000 - (d or 0)) for status, d in answers])).answer
    assert rising.endswith("undecided")


def models_in(document: Document) -> set[object]:
    table = next(t for t in document.tables if t.name == "correlations")
    return {row[6] for row in table.rows}


def test_studies_of_a_model_are_one_cluster() -> None:
    size = {"train": 1000, "train_metric": 400, "metric": 400}
    names = ("nano", "runs/nano/checkpoints/step-00000800", "mini", "a/b@step1", "a/b@step9")
    studies = [
        study(runs(EIGHT), model=name, d90=100 + 10 * i, examples=size, D=100 + i)
        for i, name in enumerate(names)
    ]
    best = [
        replace(s, trials=(*s.trials, *gap)) for s, gap in zip(studies, different(), strict=True)
    ]
    assert models_in(generalization(best)) == {3}
    assert models_in(scaling(studies)) == {3}
    # Along one run, each checkpoint counts.
    checkpoints = [Checkpoint(100 * i, None, s) for i, s in enumerate(studies)]
    assert models_in(trajectory(checkpoints)) == {5}


def different() -> list[list[TrialResult]]:
    """A best run for each of five studies, of different accuracies."""
    return [
        [TrialResult(Trial(None, 1e-3), "ok", 0.85 + 0.01 * i, 0.95 + 0.001 * i)] for i in range(5)
    ]


def test_a_checkpoint_without_d90_is_in_the_table_with_its_reason() -> None:
    good = study(runs(EIGHT), task="mrpc")
    bad = study(runs([]), task="mrpc", majority=0.85)
    document = trajectory([Checkpoint(0, 900.0, bad), Checkpoint(100, 30.0, good)])
    rows = document.tables[0].rows
    assert [(row[2], row[3], row[7]) for row in rows] == [(0, 900.0, None), (100, 30.0, good.d90)]
    assert rows[0][11] == "undefined-baseline"
    assert "at 100:" in document.figures[0].alt_text
    assert "after 0:" not in document.figures[0].alt_text


def test_generalization_by_hand() -> None:
    results = (
        TrialResult(Trial(None, 1e-4), "ok", 0.8, 1.0),
        TrialResult(Trial(100, 0.01), "ok", 0.75, 0.9),
        TrialResult(Trial(50, 0.01), "ok", 0.6, 0.7),
    )
    summary = study(
        results,
        majority=0.5,
        examples={"train": 1000, "train_metric": 10_000, "metric": 400},
        settings={"training": {"epochs": 4, "batch_size": 32, "max_steps": None}},
    )
    # The run of the bound is the first one tried from d90 on.
    assert 50 < (summary.d90 or 0) <= 100
    # Elias gamma codes of 100 and of seed 0, 256 learning rates and epochs, three criteria.
    bits = 100 * 32 + 13 + 1 + 8 + 8 + 1.584962500721156
    assert description_bits(Trial(100, 0.01)) == pytest.approx(bits)
    tables = {table.name: table for table in generalization([summary]).tables}
    (row,) = tables["generalization"].rows
    assert row[7:10] == ("full", 0.8, 1.0)
    assert row[10] == pytest.approx((1.0 - 0.8) / (1 - 0.8))
    (bound,) = tables["bounds"].rows
    nats = bits * 0.6931471805599453 + 2.995732273553991
    assert bound[5] == pytest.approx(0.1 + (nats / 20_000) ** 0.5)
    assert bound[7] == "no"
    tables = {table.name: table for table in generalization([summary], runs="d90").tables}
    (row,) = tables["generalization"].rows
    assert row[7:10] == ("d = 100", 0.75, 0.9)
    assert row[10] == pytest.approx((0.9 - 0.75) / (1 - 0.75))


def test_the_table_of_bounds_counts_the_bits_of_the_bound() -> None:
    """They do not depend on how many runs the study made."""
    size = {"train": 1000, "train_metric": 10_000}
    for dims in (EIGHT, EIGHT[2:4]):
        summary = study(runs(dims), status="ok", d90=72, examples=size)
        tables = {t.name: t for t in generalization([summary]).tables}
        (row,) = tables["bounds"].rows
        assert row[3] == math.ceil(72 * 32 + 13 + 1 + 8 + 8 + math.log2(3))


def test_generalization_is_of_accuracies() -> None:
    document = generalization([study(runs(EIGHT), metric="f1", model="m", task="t")])
    assert document.warnings == ("m on t is left out: its metric is f1",)
    trained = own(runs(EIGHT))
    document = generalization([study(runs(EIGHT)), trained])
    assert document.warnings == ("digits-mlp is left out: it is no model on a task",)
    (row,) = (row for t in document.tables if t.name == "studies" for row in t.rows[1:])
    assert row[:4] == ("digits-mlp", "", "", None)
    with pytest.raises(D90Error, match="runs 'all': expected best or d90"):
        check_runs("all")


def by_brier(method: str = "did") -> Summary:
    """A study whose trials have a Brier skill of their accuracy above the majority."""
    results = [
        replace(r, skills={"brier": (r.metric or 0.0) - MAJORITY, "nll": 0.2}) for r in runs(EIGHT)
    ]
    answer = estimate(scored(results, "brier"), majority=0.0)
    names = ("full_metric", "threshold", "d90", "interval", "first_passing_d", "band")
    of_study = study(results, model="roberta-base", task="mrpc", method=method, criterion="brier")
    return replace(of_study, **{name: getattr(answer, name) for name in names})


def test_another_criterion_is_named_and_not_compared_with_the_papers_numbers() -> None:
    summary = by_brier()
    papers = study(runs(EIGHT), model="roberta-base", task="mrpc", method="did")
    assert "[1,000]" in str(table1([papers]).tables[0].rows)
    document = table1([summary])
    assert "[1,000]" not in str(document.tables[0].rows)
    assert document.sentences == ()
    assert document.tables[0].title == "d90[brier]"
    assert document.tables[-1].rows[0][document.tables[-1].columns.index("criterion")] == (
        "brier skill"
    )
    one = study_document(summary)
    assert one.answer.startswith("d90[brier] = ")
    assert "brier skill 0.106: 90% of the 0.118 of full fine-tuning" in one.sentences[0]
    best = next(table for table in one.tables if table.title == "Best run at each d")
    assert best.rows[0][1] == pytest.approx(0.802 - MAJORITY)
    assert scaling([summary]).tables[0].title.startswith("d90[brier] by")
    one.figures[0].draw()
    document.figures[0].draw()


def test_a_bound_is_of_an_accuracy() -> None:
    document = generalization([by_brier(), study(runs(EIGHT), criterion_of="gain")])
    assert document.answer == "No study has a d90 in accuracy."
    assert "it measures d90[brier]" in document.warnings[0]
    assert "it measures d90[accuracy gain]" in document.warnings[1]


def test_words_are_escaped_and_narrow_terminals_fit(tmp_path: Path) -> None:
    table = Table("t", "<b>", ("a", "b"), (("<script>", 1),))
    document = Document("T & U", "<i>", tables=(table,), links=(("x", "studies/x/index.html"),))
    html = write_document(document, tmp_path / "a folder").read_text()
    assert "<script>" not in html and "&lt;script&gt;" in html and "T &amp; U" in html
    out = io.StringIO()
    Console(width=40, file=out).print(render_document(table1(some())))
    assert max(map(len, out.getvalue().splitlines())) <= 40


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(D90Error, match="cannot write the report"):
        write_document(Document("t", "a"), tmp_path / "file")


def test_figures_have_captions_and_alternatives() -> None:
    for make in DOCUMENTS.values():
        for figure in make(some()).figures:
            assert isinstance(figure, Figure)
            assert figure.caption.endswith(".") and "72" in figure.alt_text
