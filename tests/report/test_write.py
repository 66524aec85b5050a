"""The files of a report: complete, reproducible to the byte, escaped, loading nothing."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.helpers.studies import OWN, every_kind, runs, study

from d90.errors import D90Error
from d90.report import write_report
from d90.report.study import TRIAL_COLUMNS, trials_table
from d90.search.summary import Summary
from d90.search.trial import Trial, TrialResult

FILES = {"summary.json", "trials.csv", "curve.png", "curve.svg", "index.html"}


class Page(HTMLParser):
    """The elements, attributes and text of a page, its open elements, the rows of each table."""

    VOID = ("meta", "link", "br", "img", "path", "use", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.table = ""
        self.rows: dict[str, int] = {}
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "div" and dict(attrs).get("role") == "region":
            self.table = dict(attrs)["aria-label"] or ""
        elif tag == "tr":
            self.rows[self.table] = self.rows.get(self.table, 0) + 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(summary: Summary, folder: Path) -> str:
    return write_report(summary, folder).read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", every_kind())
def test_every_kind_of_study_is_written_completely(kind: str, tmp_path: Path) -> None:
    summary = every_kind()[kind]
    path = write_report(summary, tmp_path / "new" / "folder")
    more = {"narrowing.png", "narrowing.svg"} if summary.history else set()
    assert {file.name for file in path.parent.iterdir()} == FILES | more
    assert (path.parent / "curve.png").read_bytes().startswith(b"\x89PNG")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert summary.status in page.text
    assert page.rows["Runs"] == len(summary.trials) + 1
    model = f"minilm-l6 (D = {summary.D or 0:,})"
    facts = (model, "layer (m = 8)", "fastfood", "--epochs", "d90 measure")
    assert all((fact in page.text) is not bool(summary.objective) for fact in facts)


@pytest.mark.parametrize(("kind", "size"), [("own", " (D = 4,810)"), ("own-without-D", "")])
def test_the_page_of_an_own_training_names_it_and_no_model(
    kind: str, size: str, tmp_path: Path
) -> None:
    text = page_of(every_kind()[kind], tmp_path)
    assert f"<h1>{OWN}</h1>" in text and f"{OWN}{size}" in text
    (instead,) = re.findall(r"Training \d+ parameters(.*?) reaches score", text)
    assert instead == (" instead of 4,810" if size else "")
    assert not re.search(r"None|--dims|DID|epoch|accurac", text)


def test_reading_and_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_report(every_kind()["unstable"], tmp_path / "a")
    second = write_report(Summary.load(first.parent), tmp_path / "b")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert second.parent == tmp_path / "b"


def test_hostile_text_is_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\"'&</style>]]>"
    result = TrialResult(Trial(10, 0.01), "failed", message=hostile)
    summary = study(
        [*runs([20]), result],
        model=hostile,
        task=hostile,
        metric="<b>$x$</b>",
        reason=hostile,
        warnings=(hostile,),
        command=hostile,
        settings={hostile: hostile},
        versions={hostile: hostile},
    )
    text = page_of(summary, tmp_path)
    page = Page(text)
    assert not {"script", "b"} & {tag for tag, _ in page.tags}
    assert "<script" not in text
    assert page.text.count(hostile) >= 8


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    text = page_of(every_kind()["seeds"], tmp_path)
    for tag, attributes in Page(text).tags:
        assert tag not in {"script", "link", "img", "iframe", "object"}
        for key, value in attributes.items():
            if key in {"href", "src", "xlink:href", "srcset", "action"}:
                assert (value or "").startswith("#"), (tag, key, value)
    assert not re.search(r"url\((?!#)|@import", text)
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }, "names of XML vocabularies, and no address"


def test_trials_csv_keeps_full_precision() -> None:
    message = 'line, "quoted"\nand a second line'
    results = [*runs([10, 2_000]), TrialResult(Trial(3, 1 / 3, 7), "failed", message=message)]
    rows = list(csv.DictReader(io.StringIO(trials_table(results).csv())))
    assert tuple(rows[0]) == TRIAL_COLUMNS
    assert [_result(row) for row in rows] == results


def _result(row: dict[str, str]) -> TrialResult:
    def number(text: str) -> float | None:
        return float(text) if text else None

    trial = Trial(
        int(row["d"]) if row["d"] else None, float(row["learning_rate"]), int(row["seed"])
    )
    return TrialResult(
        trial,
        row["status"],  # type: ignore[arg-type]
        number(row["metric"]),
        number(row["train_metric"]),
        float(row["seconds"]),
        message=row["message"],
    )


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(D90Error, match="cannot write the report"):
        write_report(every_kind()["ok"], tmp_path / "file" / "report")


def test_needs_neither_torch_nor_pyplot() -> None:
    code = (
        "import sys, d90.report\n"
        "print([name for name in ('torch', 'transformers', 'matplotlib.pyplot') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
