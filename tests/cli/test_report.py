"""`d90 report`: the same files again, from `summary.json`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.helpers.studies import every_kind

from d90.report import write_report

from .conftest import Command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_report(every_kind()["ok"], tmp_path / "a report")
    return tmp_path / "a report"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_same_files_again(d90: Command, folder: Path) -> None:
    before = contents(folder)
    for file in folder.iterdir():
        if file.name != "summary.json":
            file.unlink()
    result = d90("report", "a report")
    assert (result.code, result.err) == (0, "")
    assert contents(folder) == before
    assert result.out.splitlines()[-1] == "report: a report/index.html"


def test_another_output(d90: Command, folder: Path) -> None:
    result = d90("report", "a report/summary.json", "--output", "some/where", "--quiet")
    assert result.code == 0
    assert result.out.startswith("d90 = ")
    assert result.out.count("\n") == 1
    assert contents(Path("some/where")) == contents(folder)


def test_unwritable_output(d90: Command, folder: Path) -> None:
    Path("file").write_text("not a folder")
    result = d90("report", folder, "--output", "file/out")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "cannot write the report to 'file/out'" in result.err
